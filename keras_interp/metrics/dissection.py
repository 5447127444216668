"""Network Dissection: the concept that each unit of a layer detects (Bau et al., CVPR 2017, section 2).

The Dynamic-K paper uses it to measure the interpretability of the units of the last feature maps (section 4.2, Figure 5).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_interp.checks import check_array
from keras_interp.data.segmentation import SegmentationDataset
from keras_interp.metrics.localization import upsample_bilinear

# Values in an array of enlarged maps, 4 MB in float32, which stays in the cache.
_CHUNK = 2**20


@dataclasses.dataclass(frozen=True)
class Dissection:
    """Overlap of the most active regions of each unit with each concept.

    Attributes:
        thresholds: float32 (units,), T_k of the paper: a unit is active where its enlarged map is above it.
        iou: float64 (units, concepts) in [0, 1], IoU_{k,c}: 0 for a unit that is never active, NaN for a concept that never
            occurs, and for label 0, which stands for pixels without a label.
        concepts: names of the concepts, by label number.
    """

    thresholds: np.ndarray
    iou: np.ndarray
    concepts: tuple

    @property
    def best(self) -> np.ndarray:
        """Index of the concept with the largest IoU for each unit, integers (units,); -1 if all are 0."""
        known = np.nan_to_num(self.iou, nan=-1.0)
        return np.where(known.max(axis=1) > 0, known.argmax(axis=1), -1)

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of the best concept of each unit, a tuple; "" if there is none."""
        return tuple(self.concepts[number] if number >= 0 else "" for number in self.best)

    @property
    def scores(self) -> np.ndarray:
        """IoU of the best concept of each unit, float64 (units,) in [0, 1]; higher is more interpretable."""
        return np.nan_to_num(self.iou, nan=0.0).max(axis=1)

    @property
    def mean(self) -> float:
        """Mean score of all units, a float in [0, 1]."""
        return float(self.scores.mean())

    def top_mean(self, count: int = 100) -> float:
        """Mean score of the `count` units with the largest scores, a float in [0, 1].

        Raises:
            ValueError: for a count not in [1, units].
        """
        if not 1 <= count <= len(self.scores):
            raise ValueError(f"`count` must lie in [1, {len(self.scores)}]. Received: count={count}")
        return float(np.sort(self.scores)[-count:].mean())

    def detectors(self, threshold: float = 0.04) -> float:
        """Share of units whose score is above `threshold`, a float in [0, 1]: those that the paper calls concept detectors."""
        return float((self.scores > threshold).mean())


def dissect(
    model: Any, dataset: SegmentationDataset, quantile: float = 0.005, batch_size: int = 64, progress: bool = True
) -> Dissection:
    """Compares the most active regions of every unit with every concept (sections 2.2 and 2.3 of Network Dissection).

    The threshold T of a unit is the smallest of its values over all positions of all images' feature maps for which the share
    of larger values is at most `quantile`: exact, not estimated. Maps are enlarged bilinearly to the label maps, with each
    value at the center of its cell, and the unit is active where they are above T. IoU is the number of pixels, over all
    images, that are active and labeled with the concept, divided by those that are either. As in the paper, the images are
    those with a label of the concept's category; with one category all that have a label.

    Reads the data and runs the model twice, so memory holds only one batch, and twice the values above T for each unit.

    Args:
        model: one of our classifiers, for its last feature maps; or a `keras.Model` or another function from the dataset's
            images (n, height, width, channels) to feature maps (n, h, w, units). It must be deterministic.
        dataset: a `keras_interp.data.segmentation.SegmentationDataset`, whose label maps are at least as large as the feature
            maps.
        quantile: share of positions where a unit is active, in (0, 1).
        batch_size: images in a batch.
        progress: whether to show a progress bar.

    Returns:
        A `Dissection`.

    Raises:
        TypeError: for a model that cannot be called, a different type of dataset, or labels that are not integers.
        ValueError: for feature maps or label maps of other shapes, NaN activations, labels without a concept, no labeled
            pixel, or a quantile outside (0, 1).

    Examples:

    >>> from keras_interp.data.segmentation import SegmentationDataset
    >>> images = np.zeros((2, 4, 4, 1))
    >>> images[0, :, :2] = 1.0
    >>> dataset = SegmentationDataset.from_arrays(images, images[..., 0].astype(int), ("unlabelled", "window"))
    >>> result = dissect(lambda images: np.concatenate([images, -images], axis=-1), dataset, quantile=0.25, progress=False)
    >>> result.labels, result.scores
    (('window', ''), array([1., 0.]))
    """
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"`quantile` must lie in (0, 1). Received: quantile={quantile}")
    if not hasattr(dataset, "batches"):
        raise TypeError(f"`dataset` must be a SegmentationDataset. Received: {type(dataset).__name__}")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    features = _feature_function(model)
    with Progress(*columns, disable=not progress) as bar:
        thresholds = _thresholds(_maps(features, dataset, batch_size, bar, "Thresholds"), len(dataset), quantile)
        overlaps = _Overlaps(thresholds, len(dataset.concepts), dataset.categories)
        for maps, labels in _maps(features, dataset, batch_size, bar, "Overlaps"):
            for image_maps, image_labels in zip(maps, labels):
                overlaps.add(image_maps, image_labels)
    return Dissection(thresholds, overlaps.iou(), tuple(dataset.concepts))


def _feature_function(model):
    """A function from images to feature maps as an array."""
    if hasattr(model, "features"):
        return lambda images: model.features(images)[0]
    if not callable(model):
        raise TypeError(
            "`model` must be one of our classifiers, or a function from images to feature maps. "
            f"Received: {type(model).__name__}"
        )
    call = model.predict_on_batch if isinstance(model, keras.Model) else model
    return lambda images: ops.convert_to_numpy(call(images))


def _maps(features, dataset, batch_size, bar, name):
    """Yields feature maps (n, h, w, units) as float32, and labels, of each batch."""
    task = bar.add_task(name, total=len(dataset))
    shape = ("h", "w", "units")
    for images, labels in dataset.batches(batch_size):
        maps = check_array("features of the model", features(images), (len(images), *shape), "float32")
        shape = maps.shape[1:]
        rows, columns = labels.shape[-2:]
        if rows < shape[0] or columns < shape[1]:
            raise ValueError(
                "Label maps must be at least as large as the feature maps. "
                f"Received: label maps of {rows}x{columns} under maps of {shape[0]}x{shape[1]}"
            )
        yield maps, labels
        bar.advance(task, len(images))


def _thresholds(batches, num_images, quantile):
    """Smallest value of each unit that at most the share `quantile` of its values exceeds, float32 (units,).

    It is the (k + 1)-th largest of N values for k = ⌊quantile · N⌋. N is known beforehand, so the k + 1 largest so far are all
    that has to be kept: an exact result, for 512 units and 3,873 maps of 4x4 from less than 10 MB.
    """
    kept = None
    for maps, _ in batches:
        values = maps.reshape(-1, maps.shape[-1])
        if kept is None:
            num_values = num_images * maps[0, :, :, 0].size
            # Rounded for products like 0.29 · 100, which is slightly below 29.
            count = min(int(round(quantile * num_values, 6)) + 1, num_values)
            # Negative, so that the largest values are the first after partitioning; with as much room again, so that it is
            # done once for so many values. Units first, for a partition in place along contiguous memory.
            kept, filled = np.empty((maps.shape[-1], count + max(count, 4096)), "float32"), 0
        while len(values):
            room = kept.shape[1] - filled
            kept[:, filled : filled + len(values)] = -values[:room].T
            filled += min(room, len(values))
            values = values[room:]
            if filled == kept.shape[1]:
                kept.partition(count - 1, axis=1)
                filled = count
    return -np.partition(kept[:, :filled], count - 1, axis=1)[:, count - 1]  # pyright: ignore[reportOptionalSubscript]


class _Overlaps:
    """Adds up the pixels of active regions, of concepts, and of both, image by image.

    Args:
        thresholds: float array (units,).
        num_concepts: number of concepts, with label 0.
        categories: category of each concept.
    """

    def __init__(self, thresholds: np.ndarray, num_concepts: int, categories: Sequence[str]) -> None:
        self.thresholds = thresholds
        _, self.category = np.unique(categories, return_inverse=True)
        # Sums of integers, exact in float64.
        self.both = np.zeros((len(thresholds), num_concepts))
        self.labeled = np.zeros(num_concepts)
        self.active = np.zeros((len(thresholds), self.category.max() + 1))

    def add(self, maps: np.ndarray, labels: np.ndarray) -> None:
        """Adds maps (h, w, units) and labels (rows, columns) or (layers, rows, columns) of an image."""
        size = labels.shape[-2:]
        layers = labels.reshape(-1, size[0] * size[1])
        present = np.flatnonzero(np.bincount(layers.ravel().astype("int64", copy=False)))
        present = present[present > 0]
        if not present.size:
            return
        # A pixel shows a concept once, even if several layers label it.
        shown = (layers[:, None] == present[:, None].astype(labels.dtype)).any(axis=0).astype("float32")
        self.labeled[present] += shown.sum(axis=1, dtype="float64")
        # Interpolation does not exceed the largest value. With .5% of the positions active, few units are left.
        units = np.flatnonzero(maps.max(axis=(0, 1)) > self.thresholds)
        categories = np.unique(self.category[present])
        step = max(1, _CHUNK // layers.shape[1])
        for part in (units[start : start + step] for start in range(0, len(units), step)):
            # Above zero once T is taken off: rounding then cannot lift the map above T between two values that equal it.
            above = (maps[:, :, part] - self.thresholds[part]).transpose(2, 0, 1)
            masks = (upsample_bilinear(above, size) > 0).reshape(len(part), -1).astype("float32")
            self.both[np.ix_(part, present)] += masks @ shown.T
            self.active[np.ix_(part, categories)] += masks.sum(axis=1, keepdims=True)

    def iou(self) -> np.ndarray:
        """Intersection over union, float64 (units, concepts)."""
        if not self.labeled.any():
            raise ValueError(f"There must be a labeled pixel. Received: only labels 0 of {len(self.labeled)} concepts")
        union = self.active[:, self.category] + self.labeled - self.both
        return np.where(self.labeled, self.both / np.maximum(union, 1), np.nan)
