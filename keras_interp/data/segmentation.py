"""Images with pixels labeled with concepts, read batch by batch, for Network Dissection."""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_interp.data.pictures import load_picture
from keras_interp.data.sources import _import_tfds, _prepared_builder, _resize
from keras_interp.typing import PathLike, Size


@dataclasses.dataclass(frozen=True)
class SegmentationDataset:
    """Images with label maps, read repeatedly in batches without holding all of them in memory.

    Attributes:
        concepts: names; a pixel of label c shows `concepts[c]`. Label 0, whatever its name, marks pixels without a label.
        num_images: number of images.
        read: function of a batch size that starts over and yields pairs (images, labels), see `batches`.
        categories: the category of each concept, as "object" or "color"; defaults to one for all.
        name: name of the dataset and split.

    Raises:
        ValueError: for no images, no concepts, or a number of categories that differs from the concepts.
    """

    concepts: Sequence[str]
    num_images: int
    read: Callable
    categories: Sequence[str] = ()
    name: str = ""

    def __post_init__(self):
        object.__setattr__(self, "concepts", tuple(self.concepts))
        object.__setattr__(self, "categories", tuple(self.categories) or ("",) * len(self.concepts))
        if self.num_images < 1:
            raise ValueError(f"There must be at least one image. Received: {self.num_images} images in {self.name!r}")
        if len(self.concepts) < 2 or len(self.categories) != len(self.concepts):
            raise ValueError(
                "There must be at least one concept after the name of label 0, and one category for each name. "
                f"Received: {len(self.concepts)} names, {len(self.categories)} categories"
            )

    @classmethod
    def from_arrays(
        cls, images: np.ndarray, labels: np.ndarray, concepts: Sequence[str], categories: Sequence[str] = (), name: str = ""
    ) -> SegmentationDataset:
        """A dataset of arrays.

        Args:
            images: array (n, height, width, channels) of pixels in 0..255.
            labels: integers (n, rows, columns), or (n, layers, rows, columns) if a pixel shows several concepts; the label
                maps may differ from the images in resolution.
            concepts, categories, name: see the class.

        Raises:
            ValueError: for label maps and images that differ in number, or no images.

        Examples:

        >>> images, labels = np.zeros((3, 8, 8, 3), "uint8"), np.ones((3, 4, 4), int)
        >>> dataset = SegmentationDataset.from_arrays(images, labels, ("unlabelled", "sky"))
        >>> [labels.shape for images, labels in dataset.batches(2)]
        [(2, 4, 4), (1, 4, 4)]
        """
        if len(images) != len(labels):
            raise ValueError(
                f"There must be one label map for each image. Received: {len(images)} images, {len(labels)} label maps"
            )

        def read(batch_size):
            for start in range(0, len(images), batch_size):
                yield images[start : start + batch_size], labels[start : start + batch_size]

        return cls(concepts, len(images), read, categories, name)

    def __len__(self):
        return self.num_images

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Reads the data once.

        Args:
            batch_size: images in a batch; the last one may be smaller.

        Yields:
            Pairs of images (n, height, width, channels) and integer labels (n, rows, columns) or (n, layers, rows, columns).

        Raises:
            ValueError: for a batch size below 1, label maps that do not fit the images or each other, labels without a
                concept, or a number of images that is not `num_images`.
            TypeError: for labels that are not integers.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
        count, size = 0, None
        for images, labels in self.read(batch_size):
            images, labels = np.asarray(images), np.asarray(labels)
            if labels.dtype.kind not in "ui":
                raise TypeError(f"Label maps must be integers. Received: dtype={labels.dtype}")
            size = size or labels.shape[-2:]
            if labels.ndim not in (3, 4) or len(labels) != len(images) or labels.shape[-2:] != size or not labels.size:
                raise ValueError(
                    f"The label maps of n={len(images)} images must have the shape (n, rows, columns) or (n, layers, rows, "
                    f"columns), with the same rows and columns in all batches. Received: shape={labels.shape}"
                    + (f" after rows and columns {size}" if count else "")
                )
            if labels.min() < 0 or labels.max() >= len(self.concepts):
                bad = np.unique(labels[(labels < 0) | (labels >= len(self.concepts))])
                raise ValueError(f"Labels must be indices of the {len(self.concepts)} concepts. Received: {bad[:8].tolist()}")
            count += len(images)
            yield images, labels
        if count != self.num_images:
            raise ValueError(f"There must be {self.num_images} images, as announced. Received: {count} images")


def load_segmentation(
    name: str,
    split: str = "test",
    data_dir: PathLike | None = None,
    image_size: Size | None = None,
    label_size: Size | None = None,
) -> SegmentationDataset:
    """Opens a dataset of TensorFlow Datasets that has the features `image` and `segmentation`, a label map with names.

    Args:
        name: name of the dataset, as "places_objects_mini".
        split: split, in the notation of TFDS: "test", "test[:100]".
        data_dir: folder of the prepared datasets; defaults to `TFDS_DATA_DIR`, then TFDS's own default.
        image_size: (height, width) to resize images to, the model's input size.
        label_size: (rows, columns) to resize label maps to, by nearest neighbor. Sizes must be given where they vary.

    Returns:
        A `SegmentationDataset` that reads and decodes on the fly.

    Raises:
        FileNotFoundError: when the dataset has not been prepared there, with the command that does it.
        ValueError: for a dataset without these features, sizes that vary, or an unknown split.
    """
    builder = _prepared_builder(name, data_dir)
    features = builder.info.features
    concepts = getattr(features["segmentation"], "names", None) if {"image", "segmentation"} <= set(features) else None
    if not concepts:
        raise ValueError(
            f"{name!r} must have the features `image`, and `segmentation` with names of its labels. Received: {list(features)}"
        )
    sizes = {"image_size": (image_size, features["image"].shape), "label_size": (label_size, features["segmentation"].shape)}
    for argument, (size, shape) in sizes.items():
        if size is None and None in shape[:2]:
            raise ValueError(f"{name!r} has several sizes: give `{argument}`. Received: {argument}=None")

    def read(batch_size):
        import tensorflow as tf

        def resize(example):
            image, labels = example["image"], example["segmentation"]
            if image_size is not None:
                image = _resize(image, image_size)
            if label_size is not None:
                labels = tf.image.resize(labels, label_size, method="nearest")
            return image, labels[..., 0]

        tfds = _import_tfds()
        examples = builder.as_dataset(
            split=split,
            decoders=tfds.decode.PartialDecoding({"image": True, "segmentation": True}),
            # By default TFDS caches all decoded images of a small dataset, for each pass again.
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        examples = examples.map(resize, num_parallel_calls=tf.data.AUTOTUNE)
        return examples.batch(batch_size).prefetch(1).as_numpy_iterator()

    return SegmentationDataset(concepts, builder.info.splits[split].num_examples, read, name=f"{name} {split}")


_NOT_CATEGORIES = ("image", "split", "ih", "iw", "sh", "sw")


def load_broden(
    folder: PathLike,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    image_size: Size | None = None,
    label_size: Size | None = None,
) -> SegmentationDataset:
    """Opens a folder in the format of Broden, the broadly and densely labeled dataset of Network Dissection.

    The folder holds `index.csv`, with one row for each image (`image, split, ih, iw, sh, sw` and a column for each category),
    `label.csv` (`number, name, category`), and the files under `images/`. A field of a category holds, with semicolons between
    them, names of label maps, which are PNG files with the label number red + 256 · green, and numbers of labels that apply to
    the whole image.

    Args:
        folder: the folder.
        split: "train", "val", ...; defaults to all images.
        categories: names of the categories to read; defaults to all. Images without a label in any of them are skipped.
        image_size: (height, width) to resize images to, the model's input size.
        label_size: (rows, columns) to resize label maps to, by nearest neighbor. Sizes must be given where they vary.

    Returns:
        A `SegmentationDataset` with labels (n, layers, rows, columns). A label in several categories counts for the one with
        the highest frequency in `label.csv`.

    Raises:
        FileNotFoundError: for a folder without these files, or a missing file that they name.
        ValueError: for tables without the columns, an unknown category, no images, sizes that vary, labels without a name; and
            while reading, for label maps of another size than `index.csv` has, or that are not RGB.
    """
    folder = pathlib.Path(folder)
    index = _read_table(folder / "index.csv", _NOT_CATEGORIES)
    columns = [column for column in index[0] if column not in _NOT_CATEGORIES] if index else []
    categories = columns if categories is None else list(categories)
    if not set(categories) <= set(columns):
        raise ValueError(f"`categories` must be some of {columns}. Received: categories={categories}")
    concepts, category_of = _read_labels(folder / "label.csv", categories)
    rows = []
    for row in index:
        labels = [label for category in categories for label in (row[category] or "").split(";") if label]
        if labels and split in (None, row["split"]):
            rows.append((row["image"], _size(row, "ih", "iw"), labels, _size(row, "sh", "sw")))
    picture_size = image_size or _common_size("image_size", {row[1] for row in rows})
    map_size = label_size or _common_size("label_size", {row[3] for row in rows})
    _check_rows(folder, rows, len(concepts))

    def read(batch_size):
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            images = np.stack([_read_image(folder / "images" / name, picture_size) for name, *_ in batch])
            layers = np.zeros((len(batch), max(len(labels) for _, _, labels, _ in batch), *map_size), "uint16")
            for number, (_, _, labels, size) in enumerate(batch):
                for layer, label in enumerate(labels):
                    whole = label.isdecimal()
                    path = folder / "images" / label
                    layers[number, layer] = int(label) if whole else _read_label_map(path, size, map_size)
            yield images, layers

    return SegmentationDataset(concepts, len(rows), read, category_of, f"{folder.name} {split or 'all'}")


def _read_table(path, columns):
    if not path.is_file():
        raise FileNotFoundError(f"A folder in the format of Broden must hold {path.name}. Received: no file {path}")
    with open(path, newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        missing = set(columns) - set(table.fieldnames or ())
        if missing:
            raise ValueError(f"{path} must have the columns {', '.join(columns)}. Received: {table.fieldnames}")
        return list(table)


def _read_labels(path, categories):
    """Names of the labels, and for each the category in which it is most frequent."""
    names, category_of = {0: "unlabelled"}, {}
    for row in _read_table(path, ("number", "name", "category")):
        frequencies = {name: int(count or 0) for name, count in re.findall(r"([^;(]+)(?:\((\d+)\))?", row["category"] or "")}
        names[int(row["number"])] = row["name"]
        category_of[int(row["number"])] = max(categories, key=lambda name: frequencies.get(name, -1), default="")
    numbers = range(max(names) + 1)
    return tuple(names.get(number, "") for number in numbers), tuple(category_of.get(number, "") for number in numbers)


def _size(row, height, width):
    return int(row[height]), int(row[width])


def _common_size(argument, sizes) -> Any:
    if len(sizes) > 1:
        raise ValueError(f"The sizes vary: give `{argument}`. Received: {argument}=None, and {len(sizes)} sizes in index.csv")
    return next(iter(sizes), None)


def _check_rows(folder, rows, num_concepts):
    """Checks all files and labels before any work is done."""
    maps = (label for _, _, labels, _ in rows for label in labels if not label.isdecimal())
    for name in (*(row[0] for row in rows), *maps):
        if not os.path.isfile(folder / "images" / name):
            raise FileNotFoundError(f"index.csv names a file that must exist. Received: no file {folder / 'images' / name}")
    bad = {int(label) for _, _, labels, _ in rows for label in labels if label.isdecimal() and int(label) >= num_concepts}
    if bad:
        raise ValueError(f"Labels must be indices of the {num_concepts} concepts in label.csv. Received: {sorted(bad)[:8]}")


def _read_image(path, size):
    with Image.open(path) as image:
        if image.getexif().get(0x0112, 1) != 1:
            raise ValueError(
                f"{path} must lie as its label map does. Received: an orientation tag, which the label map has none of: turn "
                "the picture and save it without the tag"
            )
    image = Image.fromarray(load_picture(path))
    return np.asarray(image if image.size == size[::-1] else image.resize(size[::-1], Image.Resampling.BILINEAR))


def _read_label_map(path, expected, size):
    with Image.open(path) as image:
        if image.size != expected[::-1] or image.mode not in ("RGB", "RGBA"):
            raise ValueError(
                f"{path} must be an RGB image of {expected} rows and columns. Received: {image.size[::-1]}, mode {image.mode}"
            )
        image = image if image.size == size[::-1] else image.resize(size[::-1], Image.Resampling.NEAREST)
        red, green = np.moveaxis(np.asarray(image, "uint16"), -1, 0)[:2]
    return red + 256 * green
