"""Pictures from files are what a viewer shows."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_interp.data import load_picture
from keras_interp.data.pictures import load_pictures


@pytest.fixture
def scene(rng):
    """A picture (6, 10, 3) whose corners tell how it lies."""
    return rng.integers(0, 256, (6, 10, 3), dtype="uint8")


# By the Exif standard: how the stored pixels are turned for viewing.
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("tag", TURNS)
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_the_orientation_tag_is_followed(scene, tmp_path, tag, ending):
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(scene).save(tmp_path / f"photo.{ending}", exif=exif)
    np.testing.assert_array_equal(load_picture(tmp_path / f"photo.{ending}"), TURNS[tag](scene))


def test_a_jpeg_with_a_tag_is_a_jpeg_turned_by_hand(scene, tmp_path):
    large = np.kron(scene, np.ones((16, 16, 1), "uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(large).save(tmp_path / "tagged.jpg", exif=exif, quality=95)
    Image.fromarray(np.rot90(large, -1)).save(tmp_path / "turned.jpg", quality=95)
    tagged, turned = (load_picture(tmp_path / f"{name}.jpg", (32, 32)).astype(int) for name in ("tagged", "turned"))
    assert np.abs(tagged - turned).mean() < 3


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled(tmp_path, ending):
    values = np.array([[0, 257, 32768, 65535]] * 3, "uint16")
    Image.fromarray(values).save(tmp_path / f"deep.{ending}")
    grey = load_picture(tmp_path / f"deep.{ending}", channels=1)
    assert grey.shape == (3, 4, 1) and grey[0, :, 0].tolist() == [0, 1, 128, 255]
    np.testing.assert_array_equal(load_picture(tmp_path / f"deep.{ending}"), np.repeat(grey, 3, axis=-1))


def test_a_deep_picture_keeps_its_orientation(tmp_path):
    values = np.arange(24, dtype="uint16").reshape(4, 6) * 2570
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(values).save(tmp_path / "deep.png", exif=exif)
    np.testing.assert_array_equal(load_picture(tmp_path / "deep.png", channels=1)[..., 0], np.rot90(values // 257))


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_values_without_a_known_range_are_refused_by_name(tmp_path, dtype):
    Image.fromarray(np.full((4, 4), 70_000, dtype)).save(tmp_path / "raw.tiff")
    with pytest.raises(ValueError, match=r"raw\.tiff .*no known range"):
        load_picture(tmp_path / "raw.tiff")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_lie_on_white(tmp_path, mode):
    rgba = np.zeros((4, 4, 4), "uint8")
    rgba[:2] = (200, 200, 200, 255)
    rgba[2, :, 3] = 128
    picture = Image.fromarray(rgba).quantize() if mode == "P" else Image.fromarray(rgba).convert(mode)
    picture.save(tmp_path / "clear.png")
    pixels = load_picture(tmp_path / "clear.png")
    assert np.abs(pixels[0, 0].astype(int) - 200).max() <= 2 and np.abs(pixels[2, 0].astype(int) - 127).max() <= 2
    assert pixels[3].min() >= 253


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "HSV", "P"])
def test_other_modes(scene, tmp_path, mode):
    picture = Image.fromarray(scene).convert(mode)
    ending = {"CMYK": "tiff"}.get(mode, "png")
    if mode == "HSV":
        picture = picture.convert("RGB")
    picture.save(tmp_path / f"picture.{ending}")
    np.testing.assert_array_equal(load_picture(tmp_path / f"picture.{ending}"), np.asarray(picture.convert("RGB")))


def test_size_and_channels(scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / "scene.png")
    assert load_picture(tmp_path / "scene.png", (4, 4)).shape == (4, 4, 3)
    with pytest.raises(ValueError, match="channels=4"):
        load_picture(tmp_path / "scene.png", channels=4)


def huge_png(path, side):
    """A PNG that says it has side x side pixels, and holds next to nothing."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def test_bad_files_are_named_and_do_not_stop_the_others(scene, tmp_path):
    for name in ("one.png", "two.png"):
        Image.fromarray(scene).save(tmp_path / name)
    whole = (tmp_path / "one.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    huge_png(tmp_path / "huge.png", 20_000)
    names = ["torn.png", "one.png", "text.jpg", "huge.png", "empty.png", "folder.png", "missing.png", "two.png"]
    pixels, found, faults = load_pictures([tmp_path / name for name in names], (4, 4))
    assert pixels.shape == (2, 4, 4, 3) and [path.name for path in found] == ["one.png", "two.png"]
    assert {path.name for path in faults} == set(names) - {"one.png", "two.png"}
    for path, message in faults.items():
        assert path.name in message and "BytesIO" not in message
    assert "too large" in faults[tmp_path / "huge.png"]
    with pytest.raises(FileNotFoundError):
        load_picture(tmp_path / "missing.png")
