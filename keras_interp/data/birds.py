"""Photos of birds with bounding boxes and part locations."""

import dataclasses

import numpy as np

from keras_interp.checks import check_inputs, check_labels
from keras_interp.data.arrays import ArrayDataset
from keras_interp.data.sources import _image_size, _import_tfds, _prepared_builder, _require_features, _resize
from keras_interp.typing import PathLike, Size

# The parts of CUB-200-2011, in its order.
PARTS = (
    "back",
    "beak",
    "belly",
    "breast",
    "crown",
    "forehead",
    "left eye",
    "left leg",
    "left wing",
    "nape",
    "right eye",
    "right leg",
    "right wing",
    "tail",
    "throat",
)


@dataclasses.dataclass(frozen=True)
class BirdDataset:
    """A split of CUB-200-2011 in memory. Places are float32 pixels of `images`, from the upper left corner, x before y.

    Attributes:
        images: uint8 array (n, height, width, 3) of pixels in 0..255.
        labels: integers, int32 array (n,).
        parts: array (n, parts, 2) of the x and y of each part: (0, 0) if it is not visible. A part may lie outside the box,
            and outside an image that is cropped to it.
        visible: boolean array (n, parts).
        boxes: bounding boxes, array (n, 4) of left, top, right, bottom: (0, 0, width, height) for an image cropped to it.
        class_names: names of the classes, in the order of the numbers.
        part_names: names of the parts.
        name: name of the dataset and split.

    Raises:
        ValueError: for arrays of the wrong shape, or labels out of range.
        TypeError: for labels that are not integers.

    Examples:

    >>> images, labels = np.zeros((3, 8, 8, 3), "uint8"), np.array([0, 1, 1])
    >>> parts, visible, boxes = np.ones((3, 2, 2), "float32"), np.ones((3, 2), bool), np.tile(np.float32([0, 0, 8, 8]), (3, 1))
    >>> birds = BirdDataset(images, labels, parts, visible, boxes, ("wren", "jay"), ("beak", "tail"))
    >>> jays = birds[birds.labels == 1]
    >>> jays.parts.shape, jays.to_dataset().inputs.shape
    ((2, 2, 2), (2, 8, 8, 3))
    """

    images: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    class_names: tuple
    part_names: tuple = PARTS
    name: str = ""

    def __post_init__(self):
        images = check_inputs(self.images, (None, None, None, 3))
        object.__setattr__(self, "labels", check_labels(self.labels, len(self.class_names)))
        count, parts = len(images), len(self.part_names)
        shapes = {"labels": (count,), "parts": (count, parts, 2), "visible": (count, parts), "boxes": (count, 4)}
        for field, expected in shapes.items():
            if np.shape(getattr(self, field)) != expected:
                raise ValueError(
                    f"`{field}` of {count} images with {parts} parts must have the shape {expected}. "
                    f"Received: shape={np.shape(getattr(self, field))}"
                )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, part):
        """A slice, a mask or an index array of the examples, as a dataset."""
        fields = ("images", "labels", "parts", "visible", "boxes")
        return dataclasses.replace(self, **{field: getattr(self, field)[part] for field in fields})

    def to_dataset(self) -> ArrayDataset:
        """The images and labels, for training and measuring, as an `ArrayDataset`."""
        return ArrayDataset(self.images, self.labels, self.class_names, self.name)


def load_birds(
    name: str, split: str = "train", data_dir: PathLike | None = None, image_size: Size | None = None, crop: bool = False
) -> BirdDataset:
    """Loads a split of CUB-200-2011 into memory, with the places of the parts.

    Locations follow the image: the crop's offset is subtracted, and the rest multiplied by new size / old size, as in the
    reduced dataset. Images are resized as in `data.load`.

    Args:
        name: "caltech_birds2011_parts", or "caltech_birds2011_mini", the reduced dataset of images that are cropped to the
            bounding box and squashed to 128x128; or any with their features `image`, `label`, `parts/xy`, `parts/visible` and
            optionally `bbox`.
        split: split, in the notation of TFDS: "train", "test[:100]".
        data_dir: folder of the prepared datasets; defaults to `TFDS_DATA_DIR`, then TFDS's own default.
        image_size: (height, width) to resize images to, whatever their proportions. It must be given where sizes vary.
        crop: whether to crop images to the bounding box. Images of a dataset without boxes are cropped already.

    Returns:
        A `BirdDataset`.

    Raises:
        FileNotFoundError: when the dataset has not been prepared there, with the command that does it.
        ValueError: for a dataset without these features, sizes that vary, or an unknown split.
    """
    builder = _prepared_builder(name, data_dir)
    _require_features(builder, {"image", "label", "parts/xy", "parts/visible"})
    resized = _image_size(builder, image_size)
    import tensorflow as tf

    def convert(example):
        image, visible = example["image"], example["parts/visible"]
        size = tf.cast(tf.shape(image)[1::-1], "float32")
        window = tf.concat([tf.zeros(2), size], axis=0)
        box = tf.gather(example["bbox"], (1, 0, 3, 2)) * tf.tile(size, (2,)) if "bbox" in example else window
        if crop:
            start = tf.minimum(tf.round(box[:2]), size - 1)
            window = box = tf.concat([start, tf.maximum(tf.round(box[2:]), start + 1)], axis=0)
            left, top, right, bottom = tf.unstack(tf.cast(window, "int32"))
            image = image[top:bottom, left:right]
        corner, scale = window[:2], tf.constant(resized[::-1], "float32") / (window[2:] - window[:2])
        parts = tf.where(visible[:, None], (example["parts/xy"] - corner) * scale, 0.0)
        box = (box - tf.tile(corner, (2,))) * tf.tile(scale, (2,))
        return _resize(image, resized), tf.cast(example["label"], "int32"), parts, visible, box

    # By default TFDS caches all decoded images of a small dataset.
    examples = builder.as_dataset(split=split, read_config=_import_tfds().ReadConfig(try_autocache=False))
    examples = examples.map(convert, num_parallel_calls=tf.data.AUTOTUNE)
    # Filled one by one, since a single batch would hold the images twice.
    arrays = [np.empty((len(examples), *spec.shape), spec.dtype.as_numpy_dtype) for spec in examples.element_spec]
    for number, example in enumerate(examples.as_numpy_iterator()):
        for array, value in zip(arrays, example):
            array[number] = value
    return BirdDataset(*arrays, class_names=tuple(builder.info.features["label"].names), name=f"{builder.name} {split}")
