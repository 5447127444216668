"""Localization by class activation maps (section 4.3 of the LSG paper), measured with masks or the model's own confidence.

The maps are those of `Explanation.class_activation_map`, (n, h, w) at the resolution of the last feature maps. Every function
here enlarges them bilinearly to the size of the masks or images first.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_interp.checks import check_array, check_classes
from keras_interp.numerics import log_softmax
from keras_interp.typing import ArrayLike, Size


def upsample_bilinear(maps: ArrayLike, size: Size) -> np.ndarray:
    """Enlarges maps by bilinear interpolation between pixel centers; beyond the outermost centers the edge value goes on.

    The same as `keras.ops.image.resize` without antialiasing, as two small matrix products.

    Args:
        maps: float array (n, h, w).
        size: (height, width) of the result, at least (h, w).

    Returns:
        float32 array (n, height, width), within the range of each map.

    Raises:
        ValueError: for the wrong rank, NaN, or a size smaller than the maps'.

    Examples:

    >>> upsample_bilinear(np.array([[[0.0, 1.0]]]), (1, 4))
    array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    maps = check_array("maps", maps, ("n", "h", "w"), "float32")
    if len(size) != 2 or size[0] < maps.shape[1] or size[1] < maps.shape[2]:
        raise ValueError(f"`size` must be (height, width), at least {maps.shape[1:]}. Received: size={size}")
    rows, columns = (_interpolation_matrix(old, new) for old, new in zip(maps.shape[1:], size))
    return rows @ maps @ columns.T


def boxes_to_masks(boxes: ArrayLike, size: Size) -> np.ndarray:
    """Turns bounding boxes into object masks.

    Args:
        boxes: integers (n, 4): top, left, bottom, right in pixels, bottom and right exclusive.
        size: (height, width) of the masks.

    Returns:
        Booleans (n, height, width), True inside the box.

    Raises:
        ValueError: for the wrong shape, or boxes that are empty or reach beyond the image.

    Examples:

    >>> boxes_to_masks(np.array([[0, 1, 2, 3]]), (2, 4)).astype(int)
    array([[[0, 1, 1, 0],
            [0, 1, 1, 0]]])
    """
    top, left, bottom, right = check_array("boxes", boxes, ("n", 4)).T[:, :, None]
    height, width = size
    if ((top < 0) | (left < 0) | (bottom > height) | (right > width) | (top >= bottom) | (left >= right)).any():
        raise ValueError(
            f"`boxes` must hold top < bottom and left < right within (0, 0, {height}, {width}). "
            f"Received: boxes={np.asarray(boxes).tolist()}"
        )
    rows, columns = np.arange(height), np.arange(width)
    return ((top <= rows) & (rows < bottom))[:, :, None] & ((left <= columns) & (columns < right))[:, None, :]


def cam_iou(maps: ArrayLike, masks: ArrayLike, top_share: float = 0.3) -> np.ndarray:
    """Overlap of each map's highest pixels with the object: intersection over union, one value per image.

    The follow-up of the LSG paper (CSG, ECCV 2020) takes the top 30% and calls an image localized above .3. Exactly the share
    of pixels is taken; ties go to the first in reading order.

    Args:
        maps: float array (n, h, w), class activation maps.
        masks: booleans (n, height, width), True on the object; each with at least one pixel.
        top_share: share of pixels to take, in (0, 1).

    Returns:
        float64 array (n,) in [0, 1]; higher is better. An object whose area differs from `top_share` cannot reach 1.

    Raises:
        ValueError: for shapes that do not fit, NaN, masks that are empty or not booleans, or a share outside (0, 1).

    Examples:

    >>> cam_iou(np.array([[[9.0, 8.0], [1.0, 0.0]]]), np.array([[[True, False], [False, False]]]), top_share=0.5)
    array([0.5])
    """
    maps, masks = _maps_like_masks(maps, masks)
    top = _top_pixels(maps, top_share)
    return (top & masks).sum(axis=(1, 2)) / (top | masks).sum(axis=(1, 2))


def pointing_game(maps: ArrayLike, masks: ArrayLike) -> float:
    """Share of images whose highest pixel of the map lies on the object; no margin around the object.

    Args:
        maps: float array (n, h, w), class activation maps.
        masks: booleans (n, height, width), True on the object, or see `boxes_to_masks`; each with at least one pixel.

    Returns:
        A float in [0, 1]; higher is better. Maps of noise score about the objects' mean share of the image.

    Raises:
        ValueError: for shapes that do not fit, NaN, or masks that are empty or not booleans.

    Examples:

    >>> pointing_game(np.array([[[9.0, 8.0], [1.0, 0.0]]]), np.array([[[True, False], [False, False]]]))
    1.0
    """
    maps, masks = _maps_like_masks(maps, masks)
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    return float(masks.reshape(len(masks), -1)[np.arange(len(masks)), highest].mean())


@dataclasses.dataclass(frozen=True)
class CamFaithfulness:
    """Mean softmax probability of the target, in [0, 1], over images shown whole or in part.

    Attributes:
        original: for the unchanged images.
        kept: with only the map's highest pixels kept; higher is better.
        removed: with the map's highest pixels removed; lower is better.
    """

    original: float
    kept: float
    removed: float

    @property
    def lost(self) -> float:
        """Probability lost with the map's highest pixels, `original` − `removed`, in [-1, 1]; higher is better."""
        return self.original - self.removed


def cam_faithfulness(
    predict: Callable[[np.ndarray], ArrayLike], images: ArrayLike, maps: ArrayLike, targets: ArrayLike, top_share: float = 0.3
) -> CamFaithfulness:
    """Tests whether the model's decision depends on the pixels that a map points to; needs no object masks.

    Removed pixels get the mean color of their own image. This is a deletion and insertion test at one share instead of a
    curve. Compare models only at similar `original`, and with a noise map: an unsure model has little to lose.

    Args:
        predict: function from float32 images (n, height, width, channels) in 0..255 to logits (n, classes), as in
            `lambda images: model.predict(images, verbose=0)`.
        images: array (n, height, width, channels) of pixels in 0..255.
        maps: float array (n, h, w), class activation maps of the targets.
        targets: integers (n,), the classes that the maps explain.
        top_share: share of pixels that the map points to, in (0, 1).

    Returns:
        A `CamFaithfulness`.

    Raises:
        ValueError: for shapes that do not fit, NaN, targets out of range, or a share outside (0, 1).
        TypeError: for targets that are not integers.

    Examples:

    >>> images = np.zeros((1, 2, 2, 1))
    >>> images[0, 0, 0] = 4.0
    >>> brightness = lambda images: np.stack([images.max(axis=(1, 2, 3)), 0 * images[:, 0, 0, 0]], axis=1)
    >>> cam_faithfulness(brightness, images, images[..., 0], np.array([0]), top_share=0.25)
    CamFaithfulness(original=0.9820137900379085, kept=0.9820137900379085, removed=0.7310585786300049)
    """
    images = check_array("images", images, ("n", "height", "width", "channels"), "float32")
    maps = check_array("maps", maps, (len(images), "h", "w"), "float32")
    top = _top_pixels(upsample_bilinear(maps, images.shape[1:3]), top_share)[..., None]
    means = images.mean(axis=(1, 2), keepdims=True)

    def confidence(images):
        return float(target_confidences(predict, images, targets).mean())

    return CamFaithfulness(
        original=confidence(images),
        kept=confidence(np.where(top, images, means)),
        removed=confidence(np.where(top, means, images)),
    )


def target_confidences(predict: Callable[[np.ndarray], ArrayLike], images: np.ndarray, targets: ArrayLike) -> np.ndarray:
    """Softmax probabilities (n,) of the targets, or raises for logits or targets that do not fit the images."""
    logits = check_array("predict(images)", predict(images), (len(images), "classes"))
    labels = check_classes(targets, logits.shape[1], len(logits))
    return np.exp(log_softmax(logits)[np.arange(len(labels)), labels])


def _interpolation_matrix(old, new):
    """The float32 matrix (new, old) that interpolates linearly from `old` to `new` pixel centers."""
    centers = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    # A pixel's weight falls from 1 at its center to 0 at its neighbor's.
    return np.maximum(0, 1 - np.abs(centers[:, None] - np.arange(old))).astype("float32")


def _top_pixels(maps, top_share):
    """Booleans like `maps`, True on the given share of each map's highest pixels (at least one)."""
    if not 0.0 < top_share < 1.0:
        raise ValueError(f"`top_share` must lie in (0, 1). Received: top_share={top_share}")
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(top_share * flat.shape[1]))
    top = np.zeros(flat.shape, bool)
    np.put_along_axis(top, np.argsort(-flat, axis=1, kind="stable")[:, :count], True, axis=1)
    return top.reshape(maps.shape)


def _maps_like_masks(maps, masks):
    masks = check_array("masks", masks, ("n", "height", "width"), "bool")
    maps = check_array("maps", maps, (len(masks), "h", "w"), "float32")
    empty = np.flatnonzero(~masks.any(axis=(1, 2)))
    if empty.size:
        raise ValueError(f"Every mask must mark at least one pixel. Received: no pixels in masks {empty[:8].tolist()}")
    return upsample_bilinear(maps, masks.shape[1:]), masks
