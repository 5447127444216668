import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from keras_interp import data
from keras_interp.data.birds import PARTS

pytest.importorskip("tensorflow_datasets")
import tensorflow_datasets as tfds

from keras_interp.data import caltech_birds
from keras_interp.data.caltech_birds import FOLDER, read_birds

NAME, MINI = "caltech_birds2011_parts", "caltech_birds2011_mini"
CLASS_NAMES = ("Red_Wren", "St._Anna_Jay")
HIDDEN = PARTS.index("left eye")
# Dots in the red, green and blue of an image. The tail lies outside the box.
DOTS = {"beak": 0, "belly": 1, "tail": 2}


@dataclasses.dataclass(frozen=True)
class Photo:
    """A made-up photo: an image of a split has its label for itself."""

    name: str
    label: int
    training: int
    size: tuple  # width, height
    box: tuple  # x, y, width, height
    dots: tuple  # x and y of the parts in DOTS
    mode: str = "RGB"

    def parts(self):
        """The lines of `part_locs.txt`: the parts without a dot at (7, their number), and one that is hidden."""
        places = {name: (7.0, float(number)) for number, name in enumerate(PARTS)} | dict(zip(DOTS, self.dots))
        return [(0.0, 0.0, 0) if name == PARTS[HIDDEN] else (*places[name], 1) for name in PARTS]

    def draw(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", self.size)
        for channel, (x, y) in enumerate(self.dots):
            color = tuple(255 * (channel == other) for other in range(3)) if self.mode == "RGB" else (200, 200, 200)
            ImageDraw.Draw(image).rectangle((x - 2, y - 2, x + 2, y + 2), fill=color)
        image.convert(self.mode).save(path, quality=95, **({"subsampling": 0} if self.mode == "RGB" else {}))


WREN = Photo("001.Red_Wren/Red_Wren_0001_11.jpg", 0, 1, (120, 80), (20.0, 10.0, 60.0, 40.0), ((50, 30), (30, 44), (100, 60)))
# A box with fractions, and one that reaches beyond the image.
JAY = Photo("002.St._Anna_Jay/Jay_1.jpg", 1, 1, (64, 100), (10.4, 19.6, 40.2, 70.2), ((20, 30), (40, 80), (58, 10)))
GREY = Photo("001.Red_Wren/Grey_2.jpg", 0, 0, (70, 70), (5.0, 5.0, 60.0, 60.0), ((30, 40), (50, 20), (10, 10)), "L")
LAST = Photo("002.St._Anna_Jay/Jay_2.jpg", 1, 0, (60, 60), (-3.0, 20.0, 40.0, 90.0), ((20, 30), (30, 50), (50, 10)))
PHOTOS = (WREN, JAY, GREY, LAST)


def write_folder(parent):
    """Writes `CUB_200_2011` into a folder, and returns it."""
    folder = parent / FOLDER
    photos = list(enumerate(PHOTOS, 1))
    tables = {
        "classes.txt": [(number, f"{number:03}.{name}") for number, name in enumerate(CLASS_NAMES, 1)],
        "images.txt": [(number, photo.name) for number, photo in photos],
        "image_class_labels.txt": [(number, photo.label + 1) for number, photo in photos],
        "train_test_split.txt": [(number, photo.training) for number, photo in photos],
        "bounding_boxes.txt": [(number, *photo.box) for number, photo in photos],
        "parts/parts.txt": list(enumerate(PARTS, 1)),
        "parts/part_locs.txt": [(number, part, *row) for number, photo in photos for part, row in enumerate(photo.parts(), 1)],
    }
    (folder / "parts").mkdir(parents=True)
    for name, rows in tables.items():
        (folder / name).write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    for photo in PHOTOS:
        photo.draw(folder / "images" / photo.name)
    return folder


def write_archive(path, folder):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, FOLDER)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def center(channel):
    """The (x, y) of the middle of what is bright, from the upper left corner."""
    rows, columns = np.indices(channel.shape) + 0.5
    weights = np.where(channel > 60, channel, 0).astype(float)
    assert weights.any()
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


def by_label(dataset):
    """The examples in the order of their labels, as a data set."""
    return dataset[np.argsort(dataset.labels)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def own_folder(folder, tmp_path):
    """A copy, to be broken."""
    return pathlib.Path(shutil.copytree(folder, tmp_path / "manual" / FOLDER))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, folder):
    """A folder with the made-up archive, prepared."""
    prepared = tmp_path_factory.mktemp("prepared")
    data.prepare(NAME, prepared, folder.parent)
    return prepared


# --- The builder.


@pytest.mark.parametrize("own", [True, False])
def test_features(prepared, own):
    # With our class, and as a process that has not imported it reads the files.
    builder = tfds.builder(NAME, data_dir=prepared) if own else tfds.builder_from_directory(prepared / NAME / "1.0.0")
    assert tuple(builder.info.features["label"].names) == CLASS_NAMES
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {"train": 2, "test": 2}
    examples = {split: list(builder.as_dataset(split=split).as_numpy_iterator()) for split in ("train", "test")}
    found = {example["image/filename"].decode(): example for split in examples.values() for example in split}
    assert {example["image/filename"].decode() for example in examples["train"]} == {WREN.name, JAY.name}
    for photo in PHOTOS:
        example = found[photo.name]
        width, height = photo.size
        assert example["image"].shape == (height, width, 3) and example["label"] == photo.label
        rows = np.array(photo.parts())
        np.testing.assert_array_equal(example["parts/xy"], rows[:, :2])
        np.testing.assert_array_equal(example["parts/visible"], rows[:, 2])
        assert example["parts/xy"].dtype == np.float32 and example["parts/visible"].dtype == bool
        x, y, box_width, box_height = photo.box
        edges = np.clip([y / height, x / width, (y + box_height) / height, (x + box_width) / width], 0, 1)
        np.testing.assert_allclose(example["bbox"], edges, rtol=1e-6)
    grey = found[GREY.name]["image"]
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


def test_an_archive_must_have_the_declared_checksum(folder, tmp_path, monkeypatch):
    manual = tmp_path / "manual"
    manual.mkdir()
    digest = write_archive(manual / "CUB_200_2011.tgz", folder)
    with pytest.raises(ValueError, match=f"must have the sha256 {caltech_birds.SHA256}. Received: {digest}"):
        data.prepare(NAME, tmp_path / "data", manual)
    monkeypatch.setattr(caltech_birds, "SHA256", digest)
    data.prepare(NAME, tmp_path / "data", manual)
    assert len(data.load_birds(NAME, "test", tmp_path / "data", (16, 16))) == 2


def test_without_a_manual_folder_it_is_downloaded(folder, tmp_path, monkeypatch):
    asked, path = [], tfds.core.Path(tmp_path / "download.tgz")
    monkeypatch.setattr(caltech_birds, "SHA256", write_archive(path, folder))
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, url: asked.append(url) or path)
    data.prepare(NAME, tmp_path / "data")
    assert asked == [caltech_birds.URL]
    assert len(data.load_birds(NAME, "train", tmp_path / "data", (16, 16))) == 2


@pytest.mark.parametrize("name", caltech_birds.TABLES)
def test_a_missing_table_is_named(own_folder, name):
    (own_folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"must hold {name}. Received: no file .*{name}"):
        read_birds(own_folder)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("bounding_boxes.txt", "2 10.4 19.6 40.2", "columns must be <image_id> <x> <y> <width> <height>. Received: '2 10.4"),
        ("bounding_boxes.txt", "2 10.4 19.6 40.2 70.2 5", "columns must be .* Received: '2 10.4 19.6 40.2 70.2 5'"),
        ("bounding_boxes.txt", "2 10.4 19.6 nan 70.2", "columns must be .* Received: '2 10.4 19.6 nan 70.2'"),
        ("images.txt", "2", "columns must be <image_id> <image_name>. Received: '2'"),
        ("images.txt", "", "columns must be <image_id> <image_name>. Received: ''"),
        ("train_test_split.txt", "2 2", "columns must be <image_id> <is_training_image>. Received: '2 2'"),
        ("parts/part_locs.txt", "1 2 50 30", "columns must be <image_id> <part_id> <x> <y> <visible>. Received: '1 2 50 30'"),
        ("image_class_labels.txt", "1 1", "an id must have one line. Received: a second one, '1 1'"),
    ],
)
def test_a_wrong_line_is_named(own_folder, name, line, message):
    path = own_folder / name
    path.write_text("\n".join(replace_second(path, line)))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}, line 2: .*{message}"):
        data.prepare(NAME, own_folder.parent, own_folder.parent)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("bounding_boxes.txt", "9 1 1 1 1", r"bounding_boxes.txt must .* a table that lacks \[\(2,\)\] and has \[\(9,\)\]"),
        ("parts/part_locs.txt", "1 16 5 3 1", r"of images.txt and part, .* lacks \[\(1, 2\)\] and has \[\(1, 16\)\]"),
        ("parts/parts.txt", "2 bill", r"must have the parts \['back', 'beak'.* Received: \['back', 'bill'"),
        ("image_class_labels.txt", "2 3", "must have the class ids of classes.txt. Received: 3 for image 2"),
        ("classes.txt", "5 005.Owl", "must have the class ids of classes.txt. Received: 2 for image 2"),
        ("classes.txt", "2 002.Red_Wren", "label names are duplicated"),
    ],
)
def test_tables_that_do_not_fit_each_other(own_folder, name, line, message):
    path = own_folder / name
    path.write_text("\n".join(replace_second(path, line)))
    with pytest.raises(ValueError, match=message):
        data.prepare(NAME, own_folder.parent, own_folder.parent)


def test_a_split_without_images(own_folder):
    path = own_folder / "train_test_split.txt"
    path.write_text(path.read_text().replace(" 0", " 1"))
    with pytest.raises(ValueError, match=r"images of both splits. Received: \{'train': 4, 'test': 0\}"):
        read_birds(own_folder)


def replace_second(path, line):
    first, _, *rest = path.read_text().splitlines()
    return [first, line, *rest]


def test_a_missing_or_broken_image_is_named(own_folder):
    path = own_folder / "images" / JAY.name
    path.write_bytes(b"not a picture")
    with pytest.raises(OSError, match=f"cannot identify image file.*{JAY.name}"):
        data.prepare(NAME, own_folder.parent, own_folder.parent)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"images.txt names a file that must exist. Received: no file .*{JAY.name}"):
        data.prepare(NAME, own_folder.parent, own_folder.parent)


def test_a_box_must_overlap_its_image(own_folder):
    path = own_folder / "bounding_boxes.txt"
    path.write_text(path.read_text().replace("10.4 19.6", "64.0 19.6"))
    with pytest.raises(ValueError, match=rf"inside the image of 64x100 pixels. Received: \(64.0, .*\) for {JAY.name}"):
        data.prepare(NAME, own_folder.parent, own_folder.parent)


def test_tables_of_other_systems_and_underscores(own_folder):
    path = own_folder / "parts/parts.txt"
    path.write_bytes(path.read_bytes().replace(b"left eye", b"left_eye").replace(b"\n", b" \r\n"))
    class_names, splits = read_birds(str(own_folder))
    assert tuple(class_names) == CLASS_NAMES and len(splits["train"]) == 2


# --- Loading with places.


@pytest.mark.parametrize("size", [(40, 60), (128, 128), (33, 90)])
@pytest.mark.parametrize("crop", [True, False])
def test_dots_are_found_at_their_parts(prepared, size, crop):
    birds = by_label(data.load_birds(NAME, "train", prepared, size, crop))
    assert birds.images.shape == (2, *size, 3) and birds.images.dtype == np.uint8
    assert birds.class_names == CLASS_NAMES and birds.part_names == PARTS and birds.name == f"{NAME} train"
    assert birds.labels.tolist() == [0, 1] and birds.labels.dtype == np.int32
    assert birds.parts.dtype == birds.boxes.dtype == np.float32 and birds.visible.dtype == bool
    # Of a box with fractions the nearest pixels are cropped.
    windows = [(20, 10, 80, 50), (10, 20, 51, 90)] if crop else [(0, 0, 120, 80), (0, 0, 64, 100)]
    for number, (photo, (left, top, right, bottom)) in enumerate(zip((WREN, JAY), windows)):
        scale = np.array([size[1] / (right - left), size[0] / (bottom - top)])
        for name, channel in DOTS.items():
            place = birds.parts[number, PARTS.index(name)]
            if crop and name == "tail":
                assert not ((0 <= place) & (place < size[::-1])).all()
                assert birds.images[number, ..., channel].max() < 60
            else:
                # A location is that of a pixel's corner, and the dot is around the pixel's middle.
                np.testing.assert_allclose(center(birds.images[number, ..., channel]), place + 0.5 * scale, atol=0.35)
        x, y, width, height = photo.box
        edges = np.array([0, 0, *size[::-1]]) if crop else np.array([x, y, x + width, y + height]) * np.tile(scale, 2)
        np.testing.assert_allclose(birds.boxes[number], edges, atol=1e-3)
        rows = np.array(photo.parts())
        expected = np.where(rows[:, 2:], (rows[:, :2] - [left, top]) * scale, 0)
        np.testing.assert_allclose(birds.parts[number], expected, atol=1e-3)
        np.testing.assert_array_equal(birds.visible[number], rows[:, 2])
        assert not birds.visible[number, HIDDEN]


def test_an_unscaled_crop_is_a_copy(prepared):
    crop = by_label(data.load_birds(NAME, "train", prepared, (40, 60), crop=True))
    whole = by_label(data.load_birds(NAME, "train", prepared, (80, 120)))
    np.testing.assert_array_equal(crop.images[0], whole.images[0, 10:50, 20:80])
    np.testing.assert_array_equal(whole.boxes[0], [20, 10, 80, 50])


def test_a_box_beyond_the_image_ends_at_its_edge(prepared):
    birds = by_label(data.load_birds(NAME, "test", prepared, (60, 60)))
    np.testing.assert_allclose(birds.boxes[1], [0, 20, 37, 60], atol=1e-3)
    grey = birds.images[0]
    np.testing.assert_array_equal(grey[..., 0], grey[..., 1])


def test_boxes_thinner_than_a_pixel(own_folder):
    path = own_folder / "bounding_boxes.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["1 119.6 0.2 5 0.2", "2 0.2 99.7 9 9", *lines[2:]]))
    data.prepare(NAME, own_folder.parent, own_folder.parent)
    birds = data.load_birds(NAME, "train", own_folder.parent, (8, 8), crop=True)
    np.testing.assert_array_equal(birds.boxes, [[0, 0, 8, 8]] * 2)
    assert np.isfinite(birds.parts).all()


def test_plain_classification(prepared):
    for load in (data.load, data.load_birds):
        with pytest.raises(ValueError, match=r"several sizes: give `image_size`. Received: image_size=None"):
            load(NAME, "train", prepared)
    dataset = data.load(NAME, "train", prepared, image_size=(24, 32))
    birds = data.load_birds(NAME, "train", prepared, (24, 32))
    same = birds.to_dataset()
    assert isinstance(same, data.ArrayDataset) and dataset.class_names == same.class_names == CLASS_NAMES
    np.testing.assert_array_equal(dataset.inputs, same.inputs)
    np.testing.assert_array_equal(dataset.targets, same.targets)
    assert dataset.name == same.name


class ToyBirds(tfds.core.GeneratorBasedBuilder):
    """Made up: the features of the reduced set, whose images are cropped already, and which has no boxes."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = tfds.core.Path(__file__)
    parts = {
        "parts/xy": tfds.features.Tensor(shape=(15, 2), dtype=np.float32),
        "parts/visible": tfds.features.Tensor(shape=(15,), dtype=np.bool_),
    }
    birds = None  # set by the test

    def _info(self):
        features = {"image": tfds.features.Image(shape=(40, 60, 3)), "label": tfds.features.ClassLabel(names=CLASS_NAMES)}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features | self.parts))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, label in enumerate(self.birds.labels):
            parts = {"parts/xy": self.birds.parts[number], "parts/visible": self.birds.visible[number]}
            yield number, {"image": self.birds.images[number], "label": label, **{name: parts[name] for name in self.parts}}


class ToyWithoutParts(ToyBirds):
    """Made up."""

    parts = {}


def test_a_data_set_of_cropped_images(prepared, tmp_path, monkeypatch):
    expected = by_label(data.load_birds(NAME, "train", prepared, (40, 60), crop=True))
    monkeypatch.setattr(ToyBirds, "birds", expected)
    ToyBirds(data_dir=tmp_path).download_and_prepare()
    for crop in (True, False):
        birds = by_label(data.load_birds("toy_birds", "train", tmp_path, crop=crop))
        for field in ("images", "labels", "parts", "visible", "boxes"):
            np.testing.assert_array_equal(getattr(birds, field), getattr(expected, field))
    half = by_label(data.load_birds("toy_birds", "train", tmp_path, (20, 30)))
    np.testing.assert_allclose(half.parts, expected.parts / 2)
    np.testing.assert_array_equal(half.boxes, [[0, 0, 30, 20]] * 2)


def test_a_data_set_must_have_parts_and_be_prepared(prepared, tmp_path, monkeypatch):
    command = f"keras-interp prepare {NAME} --data-dir {tmp_path}"
    with pytest.raises(FileNotFoundError, match=re.escape(command)):
        data.load_birds(NAME, "train", tmp_path)
    monkeypatch.setattr(ToyBirds, "birds", data.load_birds(NAME, "train", prepared, (40, 60)))
    ToyWithoutParts(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(ValueError, match=r"must have the features \['image', 'label', 'parts/visible', 'parts/xy'\]"):
        data.load_birds("toy_without_parts", "train", tmp_path)
    with pytest.raises(ValueError, match="Unknown split 'validation'"):
        data.load_birds(NAME, "validation", prepared, (8, 8))


def test_files_with_random_access(folder, tmp_path):
    data.prepare(NAME, tmp_path, folder.parent, random_access=True)
    inputs, targets = data.load_lazily(NAME, "test", tmp_path, (16, 16)).read(slice(None))
    assert inputs.shape == (2, 16, 16, 3) and sorted(targets) == [0, 1]


# --- The arrays.


def toy_birds(**changes):
    count = 4
    arrays = {
        "images": np.arange(count, dtype="uint8")[:, None, None, None] + np.zeros((1, 8, 8, 3), "uint8"),
        "labels": np.array([0, 1, 1, 0]),
        "parts": np.zeros((count, 15, 2), "float32"),
        "visible": np.ones((count, 15), bool),
        "boxes": np.tile(np.float32([0, 0, 8, 8]), (count, 1)),
    }
    return data.BirdDataset(**{**arrays, "class_names": CLASS_NAMES, "name": "toy", **changes})


def test_parts_of_a_data_set():
    birds = toy_birds()
    for part, numbers in ((slice(1, 3), [1, 2]), (birds.labels == 0, [0, 3]), (np.array([3, 1]), [3, 1])):
        chosen = birds[part]
        assert len(chosen) == 2 and chosen.images[:, 0, 0, 0].tolist() == numbers
        assert chosen.labels.tolist() == birds.labels[numbers].tolist() and chosen.name == "toy"
        assert chosen.parts.shape == (2, 15, 2) and chosen.boxes.shape == (2, 4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": np.zeros((4, 8, 8))}, ValueError, r"Received: shape=\(4, 8, 8\)"),
        ({"labels": [0, 1]}, ValueError, r"`labels` of 4 images with 15 parts must .* \(4,\). Received: shape=\(2,\)"),
        ({"labels": [0, 1, 2, 0]}, ValueError, r"Received: \[2\]"),
        ({"labels": [0.0, 1, 1, 0]}, TypeError, "Received: dtype=float64"),
        ({"parts": np.zeros((4, 15))}, ValueError, r"`parts` .* \(4, 15, 2\). Received: shape=\(4, 15\)"),
        ({"visible": np.ones((4, 14), bool)}, ValueError, r"`visible` .* Received: shape=\(4, 14\)"),
        ({"boxes": np.zeros((3, 4))}, ValueError, r"`boxes` .* Received: shape=\(3, 4\)"),
        ({"part_names": ("beak",)}, ValueError, r"`parts` of 4 images with 1 parts must .* \(4, 1, 2\)"),
    ],
)
def test_arrays_that_do_not_fit(changes, error, message):
    with pytest.raises(error, match=message):
        toy_birds(**changes)


# --- The reduced data set.


@pytest.fixture(scope="module")
def mini():
    if not (pathlib.Path(os.environ["TFDS_DATA_DIR"]) / MINI).is_dir():
        pytest.skip(f"{MINI} is not in TFDS_DATA_DIR")
    return data.load_birds(MINI, "test")


@pytest.mark.data
def test_reduced_set(mini):
    assert mini.images.shape == (2903, 128, 128, 3) and len(mini.class_names) == len(np.unique(mini.labels)) == 100
    np.testing.assert_array_equal(mini.boxes, np.tile([0, 0, 128, 128], (2903, 1)))
    assert (mini.parts[~mini.visible] == 0).all() and mini.parts.min() >= 0 and mini.parts.max() <= 128
    share = mini.visible.mean(axis=0)
    assert share[PARTS.index("beak")] > 0.98 and share[PARTS.index("left eye")] < 0.6
    plain = data.load(MINI, "test")
    np.testing.assert_array_equal(plain.inputs, mini.images)
    np.testing.assert_array_equal(plain.targets, mini.labels)
    assert "Downy_Woodpecker" in plain.class_names


@pytest.mark.data
def test_reduced_set_in_another_size(mini):
    small = data.load_birds(MINI, "test[:20]", image_size=(64, 32), crop=True)
    assert small.images.shape == (20, 64, 32, 3)
    np.testing.assert_allclose(small.parts, mini.parts[:20] * (0.25, 0.5), rtol=1e-6)
    np.testing.assert_array_equal(small.boxes[0], [0, 0, 32, 64])
    assert len(data.load(MINI, "train")) == 2999
