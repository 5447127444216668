"""Pictures from files, as a viewer shows them."""

import pathlib
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps

from keras_interp.typing import PathLike, Size

# Background of transparent pixels.
BACKGROUND = (255, 255, 255)


def load_picture(path: PathLike, image_size: Size | None = None, channels: int = 3) -> np.ndarray:
    """Opens a picture as a viewer shows it, as an array of pixels in 0..255.

    Its orientation tag is followed. Gray 16-bit pictures are scaled from the full 16-bit range to 0..255; transparent pixels
    become white. A picture whose proportions differ from `image_size` is cropped about its center.

    Args:
        path: path of a file that Pillow can read.
        image_size: (height, width) of the array; defaults to the picture's own.
        channels: 3 for colors, 1 for gray.

    Returns:
        A uint8 array (height, width, channels).

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for a file, named in the message, that is not a picture, damaged, too large, or has values of unknown range
            (32-bit integers, floats).

    Examples:

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> Image.fromarray(np.full((20, 30), 65535, "uint16")).save(folder + "/bright.png")
    >>> load_picture(folder + "/bright.png", (8, 8)).max()
    np.uint8(255)
    """
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels}")
    try:
        with Image.open(path) as image:
            image = _opaque(ImageOps.exif_transpose(_of_known_range(image)))
            image = image.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large for a picture. Received: {error}") from error
    # Pillow's errors for damaged files depend on the format.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError) as error:
        reason = "not a picture in a known format" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f"{path} cannot be opened as a picture. Received: {reason}") from error
    if image_size is not None:
        height, width = image_size
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[..., None] if channels == 1 else pixels


def _of_known_range(image):
    """The picture, scaled from 16 bits to 8 if necessary."""
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not sixteen:
        if image.mode in ("I", "F"):
            raise ValueError(f"a picture of mode {image.mode!r}, whose values have no known range")
        return image
    values = np.asarray(image).astype("int64")
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"values in {values.min()}..{values.max()} in a picture of 16 bits")
    scaled = Image.fromarray(np.rint(values / 257).astype("uint8"))
    scaled.info = dict(image.info)
    if orientation := image.getexif().get(0x0112):
        scaled.getexif()[0x0112] = orientation
    return scaled


def _opaque(image):
    """The picture without transparency."""
    if not (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)


def load_pictures(paths: Iterable[PathLike], image_size: Size, channels: int = 3) -> tuple[np.ndarray, list, dict]:
    """Opens several pictures, see `load_picture`; unreadable ones do not stop the others.

    Args:
        paths: paths of the files.
        image_size, channels: as for `load_picture`.

    Returns:
        A uint8 array (n, height, width, channels) of those that could be opened, their paths, and {path: message} of the
        others.
    """
    pixels, names, faults = [], [], {}
    for path in map(pathlib.Path, paths):
        try:
            pixels.append(load_picture(path, image_size, channels))
            names.append(path)
        except (OSError, ValueError) as error:
            faults[path] = str(error)
    return np.stack(pixels) if pixels else np.zeros((0, *image_size, channels), "uint8"), names, faults
