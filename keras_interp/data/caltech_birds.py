"""CUB-200-2011 with part locations, which TFDS's own `caltech_birds2011` leaves out, for TensorFlow Datasets.

Importing this module imports TFDS and registers the dataset `caltech_birds2011_parts` there. `data.prepare` does that, and
downloads the archive or takes what is in its `manual_dir`. So does TFDS's own command, where apache-beam and mlcroissant are
installed:

    tfds build caltech_birds2011_parts --imports keras_interp.data.caltech_birds --data_dir DIR [--manual_dir DIR]
"""

import contextlib
import hashlib
import math
import re
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from keras_interp.data.birds import PARTS
from keras_interp.typing import PathLike

# As TFDS has them for `caltech_birds2011`.
URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1"
SHA256 = "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081"
FOLDER = "CUB_200_2011"  # in the archive
ARCHIVE = f"{FOLDER}.tgz"


class CaltechBirds2011Parts(tfds.core.GeneratorBasedBuilder):
    """Caltech-UCSD Birds-200-2011: 11,788 photos of 200 categories of birds, with bounding boxes and the places of 15 parts.

    The split is the official one. `parts/xy` are pixels (x, y) of the image, (0, 0) for parts that are not visible. Parts, in
    order: back, beak, belly, breast, crown, forehead, left eye, left leg, left wing, nape, right eye, right leg, right wing,
    tail, throat.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Optional: {ARCHIVE}, or its folder {FOLDER}, that is put here replaces the download."
    # TFDS would find it itself, but with importlib_resources, which it does not install (tensorflow/datasets#11212).
    code_path = tfds.core.Path(__file__)

    def _info(self):
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(),  # named by the archive
                    "bbox": tfds.features.BBoxFeature(),
                    "parts/xy": tfds.features.Tensor(shape=(len(PARTS), 2), dtype=np.float32),
                    "parts/visible": tfds.features.Tensor(shape=(len(PARTS),), dtype=np.bool_),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.vision.caltech.edu/datasets/cub_200_2011/",
            citation="Wah, Branson, Welinder, Perona and Belongie. The Caltech-UCSD Birds-200-2011 Dataset. Technical Report "
            "CNS-TR-2011-001, California Institute of Technology, 2011.",
        )

    def _split_generators(self, dl_manager):
        class_names, splits = read_birds(_find_folder(dl_manager))
        features: Any = self.info.features
        features["label"].names = class_names
        return {split: self._generate_examples(birds) for split, birds in splits.items()}

    def _generate_examples(self, birds):
        for bird in birds:
            with Image.open(bird["image"]) as image:
                size = image.size
            yield bird["image/filename"], {**bird, "bbox": _relative(bird, size)}


def _find_folder(dl_manager):
    """The folder with the tables and images: the user's own, or that of the archive, whose checksum must match."""
    path = None
    with contextlib.suppress(AssertionError):  # TFDS raises this if the folder is missing or empty.
        if (dl_manager.manual_dir / FOLDER).is_dir():
            return dl_manager.manual_dir / FOLDER
        path = dl_manager.manual_dir / ARCHIVE
    if path is None or not path.exists():
        path = dl_manager.download(URL)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ValueError(f"{ARCHIVE} of {URL} must have the sha256 {SHA256}. Received: {digest} of {path}")
    return dl_manager.extract(path) / FOLDER


def _flag(field):
    return bool(("0", "1").index(field))


# The columns of the tables, as the archive's README names them, and their types. A last column of text may have spaces.
TABLES = {
    "classes.txt": ("<class_id> <class_name>", int, str),
    "images.txt": ("<image_id> <image_name>", int, str),
    "image_class_labels.txt": ("<image_id> <class_id>", int, int),
    "train_test_split.txt": ("<image_id> <is_training_image>", int, _flag),
    "bounding_boxes.txt": ("<image_id> <x> <y> <width> <height>", int, float, float, float, float),
    "parts/parts.txt": ("<part_id> <part_name>", int, str),
    "parts/part_locs.txt": ("<image_id> <part_id> <x> <y> <visible>", int, int, float, float, _flag),
}


def read_birds(folder: PathLike) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
    """Reads the tables of CUB-200-2011.

    Args:
        folder: path of the folder that holds `images.txt`, `images/` and the other files of `TABLES`.

    Returns:
        The names of the classes, without their numbers; and the lists of examples {"train": [...], "test": [...]}. An example
        is a dict of the features as the builder stores them, but for "image", the path of the file, and "bbox", which is
        (x, y, width, height) in pixels.

    Raises:
        FileNotFoundError: for a table that is missing, or an image that `images.txt` names and that is not there.
        ValueError: for a line without the columns, an id that a table lacks, has twice, or has beyond the others, other
            parts than `PARTS`, or a split without images.
    """
    folder = tfds.core.Path(folder)
    classes, images, parts = (_read_table(folder, name) for name in ("classes.txt", "images.txt", "parts/parts.txt"))
    part_names = tuple(name.replace("_", " ") for (name,) in parts.values())
    if part_names != PARTS:
        raise ValueError(f"{folder / 'parts/parts.txt'} must have the parts {list(PARTS)}. Received: {list(part_names)}")
    labels, flags, boxes = (
        _read_table(folder, name, images) for name in ("image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt")
    )
    locations = _read_table(folder, "parts/part_locs.txt", {(*image, *part) for image in images for part in parts})
    numbers = {class_id: number for number, (class_id,) in enumerate(classes)}
    splits = {"train": [], "test": []}
    for image, (name,) in images.items():
        path, (class_id,), (is_training,) = folder / "images" / name, labels[image], flags[image]
        if not path.is_file():
            raise FileNotFoundError(f"images.txt names a file that must exist. Received: no file {path}")
        if class_id not in numbers:
            raise ValueError(
                f"{folder / 'image_class_labels.txt'} must have the class ids of classes.txt. Received: {class_id} for image "
                f"{image[0]}"
            )
        x, y, visible = np.array([locations[*image, *part] for part in parts]).T
        splits["train" if is_training else "test"].append(
            {
                "image": path,
                "image/filename": name,
                "label": numbers[class_id],
                "bbox": boxes[image],
                "parts/xy": np.stack([x, y], axis=1).astype("float32"),
                "parts/visible": visible.astype(bool),
            }
        )
    if not all(splits.values()):
        counts = {split: len(birds) for split, birds in splits.items()}
        raise ValueError(f"{folder / 'train_test_split.txt'} must have images of both splits. Received: {counts}")
    return [re.sub(r"^\d+\.", "", name) for (name,) in classes.values()], splits


def _read_table(folder, name, expected=None):
    """The rows of a table as {ids: values}, with the `expected` ids, or with one id in a row and any."""
    path, (columns, *types) = folder / name, TABLES[name]
    if not path.is_file():
        raise FileNotFoundError(f"The folder {FOLDER} must hold {name}. Received: no file {path}")
    num_ids = len(next(iter(expected or [("id",)])))
    rows = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            fields = zip(types, line.strip().split(maxsplit=len(types) - 1), strict=True)
            row = tuple(parse(field) for parse, field in fields)
            if not all(math.isfinite(value) for value in row if not isinstance(value, str)):
                raise ValueError
        except ValueError:
            raise ValueError(f"{path}, line {number}: the columns must be {columns}. Received: {line!r}") from None
        if row[:num_ids] in rows:
            raise ValueError(f"{path}, line {number}: an id must have one line. Received: a second one, {line!r}")
        rows[row[:num_ids]] = row[num_ids:]
    if expected is not None and rows.keys() != set(expected):
        lacking, unknown = sorted(set(expected) - rows.keys()), sorted(rows.keys() - set(expected))
        raise ValueError(
            f"{path} must have a line for each image of images.txt{' and part' if num_ids == 2 else ''}, and no others. "
            f"Received: a table that lacks {lacking[:8]} and has {unknown[:8]} beyond them"
        )
    return rows


def _relative(bird, size):
    """The box of an example, in shares of the image: where a box reaches beyond it, the part inside."""
    x, y, width, height = bird["bbox"]
    left, right = (min(max(edge / size[0], 0.0), 1.0) for edge in (x, x + width))
    top, bottom = (min(max(edge / size[1], 0.0), 1.0) for edge in (y, y + height))
    if left >= right or top >= bottom:
        raise ValueError(
            f"A bounding box (x, y, width, height) must have an area inside the image of {size[0]}x{size[1]} pixels. "
            f"Received: {bird['bbox']} for {bird['image/filename']}"
        )
    return tfds.features.BBox(ymin=top, xmin=left, ymax=bottom, xmax=right)
