"""Images read on demand, for datasets larger than memory."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_interp.data.arrays import ArrayDataset, sha256_of
from keras_interp.typing import Size

# Shares of the area, and ratios of width to height, of random crops (Szegedy et al., 2015, as widely used since).
CROP_AREAS, CROP_RATIOS, CROP_TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
# The test-time crop is this share of the shorter side: 224 pixels of 256.
CENTER_SHARE = 7 / 8


class LazyDataset:
    """Counterpart of `ArrayDataset` for images read and decoded batch by batch: random crops in training, else the center.

    It has no attributes.

    `data.Batches` takes it for `model.fit`; several `workers` of `Batches` read in parallel.

    Args:
        source: sequence of {"image": uint8 array (height, width, 3), "label": class index} with random access: a data source
            of TFDS, see `load_lazily`, or a list. Images may have several sizes.
        crop_size: (height, width) of the crops.
        class_names: names of the classes.
        name: name of the dataset and split.
        numbers: indices of the source's examples to take, in order; defaults to all.

    Raises:
        ValueError: for no examples, or no class names.

    Examples:

    >>> images = [{"image": np.zeros((20, 30, 3), "uint8"), "label": 1}] * 4
    >>> inputs, targets = LazyDataset(images, (8, 8), ("cat", "dog")).read(slice(0, 2))
    >>> inputs.shape, targets.tolist()
    ((2, 8, 8, 3), [1, 1])
    """

    def __init__(
        self, source: Any, crop_size: Size, class_names: Sequence[str], name: str = "", numbers: np.ndarray | None = None
    ) -> None:
        self.source = source
        self.crop_size: Any = tuple(crop_size)
        self.class_names = tuple(class_names)
        self.name = name
        self._numbers = np.arange(len(source)) if numbers is None else np.asarray(numbers)
        if not len(self) or not self.class_names:
            raise ValueError(f"A dataset needs examples and classes. Received: {len(self)} examples, classes={class_names}")

    def __len__(self):
        return len(self._numbers)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return (*self.crop_size, 3)

    def __getitem__(self, part):
        """A slice or an index array of the examples, as a dataset."""
        return LazyDataset(self.source, self.crop_size, self.class_names, self.name, self._numbers[part])

    def fingerprint(self) -> str:
        """Sha256 of the examples' indices, the class names, and up to 1,000 examples spread over the data, as a string.

        More would mean decoding all data.
        """
        sample = self.read(np.unique(np.linspace(0, len(self) - 1, 1000).astype(int)))
        return sha256_of(json.dumps([self.class_names, self.crop_size]), self._numbers, *sample)

    def read(self, part: slice | np.ndarray, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Reads a slice or an index array of the examples.

        Args:
            part: slice or integers (n,).
            rng: a `numpy.random.Generator` for random crops, scaled to the crop size; None for the center of each image.

        Returns:
            uint8 array (n, height, width, 3) and int32 labels (n,).

        Raises:
            ValueError: for a label without a class name, or an image of the wrong type.
        """
        numbers = self._numbers[part]
        draws = None if rng is None else rng.random((len(numbers), CROP_TRIES, 4))
        inputs, targets = np.empty((len(numbers), *self.input_shape), "uint8"), np.empty(len(numbers), "int32")
        for row, number in enumerate(numbers):
            example = self.source[int(number)]
            image, targets[row] = np.asarray(example["image"]), example["label"]
            if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
                raise ValueError(
                    f"Images must be uint8 arrays (height, width, 3). Received: image {number} of {self.name!r} with "
                    f"shape={image.shape}, dtype={image.dtype}"
                )
            if not 0 <= targets[row] < len(self.class_names):
                raise ValueError(
                    f"Labels must lie in [0, {len(self.class_names)}). Received: {targets[row]} for image {number} of "
                    f"{self.name!r}"
                )
            height, width = image.shape[:2]
            box = _center_box(height, width, self.crop_size) if draws is None else _random_box(height, width, draws[row])
            crop = Image.fromarray(image).resize(self.crop_size[::-1], Image.Resampling.BILINEAR, box)
            inputs[row] = np.asarray(crop)
        return inputs, targets

    def to_arrays(self) -> ArrayDataset:
        """The centers of all images, in memory, as an `ArrayDataset`."""
        return ArrayDataset(*self.read(slice(None)), self.class_names, self.name)


def _center_box(height, width, crop_size):
    """The centered box (left, top, right, bottom) of the crop's proportions that is `CENTER_SHARE` of the image."""
    scale = CENTER_SHARE * min(height / crop_size[0], width / crop_size[1])
    crop_height, crop_width = scale * crop_size[0], scale * crop_size[1]
    # In whole pixels, so that a crop without scaling is a copy.
    top, left = round((height - crop_height) / 2), round((width - crop_width) / 2)
    return left, top, min(left + crop_width, width), min(top + crop_height, height)


def _random_box(height, width, draws):
    """A box of random area, proportions and place: the first of several tries that fits, else a centered square."""
    area = height * width * (CROP_AREAS[0] + (CROP_AREAS[1] - CROP_AREAS[0]) * draws[:, 0])
    ratio = np.exp(math.log(CROP_RATIOS[0]) + math.log(CROP_RATIOS[1] / CROP_RATIOS[0]) * draws[:, 1])
    widths, heights = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
    fits = np.flatnonzero((widths <= width) & (heights <= height) & (widths > 0) & (heights > 0))
    if not len(fits):
        return _center_box(height, width, (1, 1))
    chosen = fits[0]
    left, top = np.floor(draws[chosen, 2:] * (width - widths[chosen] + 1, height - heights[chosen] + 1))
    return left, top, left + widths[chosen], top + heights[chosen]
