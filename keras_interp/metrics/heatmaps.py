"""Faithfulness of heatmaps: the network's response to images with only, or all but, the pixels that they point to.

Papers: "Embedding Deep Networks into Visual Explanations", Tables 2(b) and 3 (masked and inpainted images) and Figure 10
(constant shift); Kindermans et al., "The (Un)reliability of Saliency Methods", 2017; Petsiuk et al., "RISE: Randomized Input
Sampling for Explanation of Black-box Models", BMVC 2018 (deletion and insertion).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from rich.progress import track

from keras_interp.checks import check_array
from keras_interp.extras import require_evaluation_extra
from keras_interp.metrics.classification import accuracy
from keras_interp.metrics.concepts import check_heat
from keras_interp.metrics.localization import target_confidences, upsample_bilinear
from keras_interp.typing import ArrayLike

# --- Masked and inpainted images.

# γ of the paper's Table 3.
THRESHOLDS = (0.01, 0.05, 0.1, 0.3)


def masked_images(images: ArrayLike, maps: ArrayLike, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """Keeps the pixels that heatmaps point to and inpaints the others (Tables 2b and 3 of the paper).

    A pixel is kept if at least one of the image's heatmaps, enlarged to the image, reaches γ times its maximum there. A
    heatmap of zeros keeps nothing, and an image without kept pixels becomes black. Inpainting (Navier-Stokes, OpenCV) does not
    see the other pixels.

    Args:
        images: array (n, height, width, channels) of pixels in 0..255, one channel or three; rounded to integers.
        maps: float array (n, features, h, w), at least 0: heatmaps of all x-features, or one for a direct explanation.
        thresholds: numbers γ in (0, 1].

    Returns:
        uint8 array (thresholds, n, height, width, channels).

    Raises:
        ValueError: for shapes that do not fit, NaN, pixels outside 0..255, negative heat, or thresholds outside (0, 1].
        ImportError: if OpenCV is missing.

    Examples:

    >>> images = np.array([[[[8.0], [8.0], [200.0]]]])
    >>> masked_images(images, np.array([[[[1.0, 0.5, 0.0]]]]), thresholds=[0.3])[0, 0, :, :, 0].tolist()
    [[8, 8, 8]]
    """
    images = _checked_pixels(images)
    maps = check_heat(maps, len(images))
    kept = _kept_pixels(maps, images.shape[1:3], thresholds)
    return np.stack([[_inpaint(image, mask) for image, mask in zip(images, masks)] for masks in kept])


@dataclasses.dataclass(frozen=True)
class MaskedAccuracy:
    """Accuracy on images reduced to the pixels that heatmaps point to, all in [0, 1].

    Attributes:
        original: accuracy on the unchanged images.
        masked: float64 (thresholds,), accuracy on the masked and inpainted images; higher is better.
        kept: float64 (thresholds,), mean share of kept pixels. More pixels are easier: compare at equal shares.
    """

    original: float
    masked: np.ndarray
    kept: np.ndarray


def masked_accuracy(
    predict: Callable[[np.ndarray], ArrayLike],
    images: ArrayLike,
    maps: ArrayLike,
    labels: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
) -> MaskedAccuracy:
    """Classifies images reduced to the pixels that heatmaps point to (Tables 2b and 3 of the paper); see `masked_images`.

    Args:
        predict: function from float32 images (n, height, width, channels) in 0..255 to logits (n, classes), as in
            `lambda images: model.predict(images, verbose=0)`.
        images: array (n, height, width, channels) of pixels in 0..255, one channel or three.
        maps: float array (n, features, h, w), at least 0.
        labels: integers (n,), the true classes.
        thresholds: numbers γ in (0, 1].

    Returns:
        A `MaskedAccuracy`.

    Raises:
        ValueError: as for `masked_images`, and for logits of the wrong shape or labels out of range.
        TypeError: for labels that are not integers.
        ImportError: if OpenCV is missing.

    Examples:

    >>> images = np.array([[[[200.0], [8.0]]], [[[0.0], [8.0]]]])
    >>> predict = lambda images: np.stack([images.max(axis=(1, 2, 3)), 0 * images[:, 0, 0, 0] + 100], axis=1)
    >>> maps = np.array([[[[0.0, 1.0]]], [[[0.0, 1.0]]]])
    >>> masked_accuracy(predict, images, maps, np.array([0, 1]), thresholds=[0.5])
    MaskedAccuracy(original=1.0, masked=array([0.5]), kept=array([0.5]))
    """
    images = _checked_pixels(images)
    maps = check_heat(maps, len(images))
    kept = _kept_pixels(maps, images.shape[1:3], thresholds)
    original = accuracy(predict(images.astype("float32")), labels)
    masked = []
    for masks in kept:
        inpainted = np.stack([_inpaint(image, mask) for image, mask in zip(images, masks)])
        masked.append(accuracy(predict(inpainted.astype("float32")), labels))
    return MaskedAccuracy(original, np.array(masked), kept.mean(axis=(1, 2, 3)))


# --- Constant shift of the input.


@dataclasses.dataclass(frozen=True)
class HeatmapAgreement:
    """Similarity of two heatmaps of each image and feature.

    Attributes:
        correlation: float64 (images, features) in [-1, 1], of the two maps' pixels; higher is more similar, and NaN if a map
            is constant.
        difference: float64 (images, features) in [0, ∞], ‖a − b‖ / ‖a‖ over the pixels; lower is more similar.
    """

    correlation: np.ndarray
    difference: np.ndarray


def heatmap_agreement(maps: ArrayLike, others: ArrayLike) -> HeatmapAgreement:
    """Compares heatmaps before and after a change that should not matter, as the constant shift of Figure 10.

    Add a constant to the images and compensate for it in the bias of the first layer (`shifted_bias`): the network computes
    the same from shifted inputs, and a reliable method gives the same heatmaps (Kindermans et al.).

    Args:
        maps: float array (images, features, h, w), of the original network and images.
        others: float array (images, features, h, w), of the changed ones.

    Returns:
        A `HeatmapAgreement`: a correlation of 1 and a difference of 0 for heatmaps that did not change.

    Raises:
        ValueError: for arrays of other shapes, or NaN.

    Examples:

    >>> map = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> result = heatmap_agreement(map, 2 * map)
    >>> result.correlation.round(4).tolist(), result.difference.tolist()
    ([[1.0]], [[1.0]])
    """
    maps = check_array("maps", maps, ("images", "features", "h", "w"))
    others = check_array("others", others, maps.shape)
    first, second = (array.reshape(*array.shape[:2], -1) for array in (maps, others))
    change, size = np.linalg.norm(first - second, axis=-1), np.linalg.norm(first, axis=-1)
    centered = [array - array.mean(axis=-1, keepdims=True) for array in (first, second)]
    constant = (np.ptp(first, axis=-1) == 0) | (np.ptp(second, axis=-1) == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (centered[0] * centered[1]).sum(axis=-1) / np.prod(np.linalg.norm(centered, axis=-1), axis=0)
        return HeatmapAgreement(
            correlation=np.where(constant, np.nan, np.clip(correlation, -1, 1)),
            difference=np.where(change == 0, 0.0, change / size),
        )


def shifted_bias(kernel: ArrayLike, bias: ArrayLike, shift: ArrayLike) -> np.ndarray:
    """Bias of a first layer that compensates for a constant added to the inputs (Kindermans et al.).

    Exact for dense layers and for convolutions without padding. A convolution that pads with zeros must pad with `shift`
    instead: the border differs otherwise.

    Args:
        kernel: float array (..., inputs, outputs), of a dense or convolutional layer.
        bias: float array (outputs,).
        shift: float array (inputs,) or a number, the constant that is added to each input channel.

    Returns:
        float64 array (outputs,): bias − Σ kernel · shift.

    Raises:
        ValueError: for arrays whose shapes do not fit, or NaN.

    Examples:

    >>> shifted_bias(np.array([[1.0], [2.0]]), np.array([0.5]), 10.0).tolist()
    [-29.5]
    """
    kernel = check_array("kernel", kernel, (*["size"] * (np.ndim(kernel) - 2), "inputs", "outputs"))
    inputs, outputs = kernel.shape[-2:]
    bias = check_array("bias", bias, (outputs,))
    shift = check_array("shift", shift if np.ndim(shift) else np.full(inputs, shift), (inputs,))
    return bias - shift @ kernel.reshape(-1, inputs, outputs).sum(axis=0)


# --- Deletion and insertion.


@dataclasses.dataclass(frozen=True)
class PixelCurves:
    """Softmax probability of the target while pixels are deleted or inserted, hottest first.

    Attributes:
        shares: float64 (steps + 1,), the share of deleted or inserted pixels, from 0 to 1.
        deletion: float64 (n, steps + 1) in [0, 1], from the image to one of its mean color.
        insertion: float64 (n, steps + 1) in [0, 1], from the blurred image to the image.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self) -> np.ndarray:
        """Area under each image's deletion curve, float64 (n,) in [0, 1]; lower is better."""
        return self._area(self.deletion)

    @property
    def insertion_area(self) -> np.ndarray:
        """Area under each image's insertion curve, float64 (n,) in [0, 1]; higher is better."""
        return self._area(self.insertion)

    def _area(self, curves):
        return (curves[:, :-1] + curves[:, 1:]) / 2 @ np.diff(self.shares)


def pixel_curves(
    predict: Callable[[np.ndarray], ArrayLike],
    images: ArrayLike,
    maps: ArrayLike,
    targets: ArrayLike,
    steps: int = 50,
    blur: float = 5.0,
    progress: bool = True,
) -> PixelCurves:
    """Deletes and inserts pixels by their heat and records the probability of the target (Petsiuk et al.).

    Deleted pixels get the mean color of their own image. The blurred image is that of a Gaussian cut off at its standard
    deviation: the authors' 11x11 window for the default of 5 pixels, on images of 224x224. Ties go to the first pixel in
    reading order. Curves depend on the model: compare heatmaps with each other, and with noise, on one model.

    Args:
        predict: function from float32 images (n, height, width, channels) in 0..255 to logits (n, classes), as in `lambda
            images: model.predict(images, verbose=0)`. It is called twice for each step, with all images.
        images: array (n, height, width, channels) of pixels in 0..255.
        maps: float array (n, h, w), heatmaps of the targets; they may be negative.
        targets: integers (n,), the classes that the maps explain.
        steps: number of equal steps from no pixel to all, in [1, height · width].
        blur: standard deviation in pixels, positive.
        progress: whether to show a progress bar.

    Returns:
        A `PixelCurves`.

    Raises:
        ValueError: for shapes that do not fit, NaN, targets out of range, or steps or a blur out of range.
        TypeError: for targets that are not integers.
        ImportError: if SciPy is missing.

    Examples:

    >>> images = np.zeros((1, 2, 2, 1))
    >>> images[0, 0, 0] = 40.0
    >>> brightness = lambda images: np.stack([images.max(axis=(1, 2, 3)), 0 * images[:, 0, 0, 0] + 20], axis=1)
    >>> curves = pixel_curves(brightness, images, images[..., 0], np.array([0]), steps=4, progress=False)
    >>> curves.deletion.round(2).tolist(), curves.deletion_area.round(3).tolist()
    ([[1.0, 0.0, 0.0, 0.0, 0.0]], [0.125])
    """
    images = check_array("images", images, ("n", "height", "width", "channels"), "float32")
    maps = check_array("maps", maps, (len(images), "h", "w"), "float32")
    pixels = images[0, :, :, 0].size
    if not 1 <= steps <= pixels:
        raise ValueError(f"`steps` must lie in [1, {pixels}]. Received: steps={steps}")
    if not blur > 0:
        raise ValueError(f"`blur` must be positive. Received: blur={blur}")
    require_evaluation_extra()
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(images, sigma=blur, truncate=1, axes=(1, 2))
    means = images.mean(axis=(1, 2), keepdims=True)
    heat = upsample_bilinear(maps, images.shape[1:3]).reshape(len(images), -1)
    ranks = np.empty(heat.shape, "int64")
    np.put_along_axis(ranks, np.argsort(-heat, axis=1, kind="stable"), np.arange(pixels)[None], axis=1)
    ranks = ranks.reshape(*images.shape[:3], 1)
    counts = np.round(np.linspace(0, pixels, steps + 1)).astype(int)
    deletion, insertion = [], []
    for count in track(counts, "Deleting and inserting pixels", disable=not progress):
        first = ranks < count
        deletion.append(target_confidences(predict, np.where(first, means, images), targets))
        insertion.append(target_confidences(predict, np.where(first, images, blurred), targets))
    return PixelCurves(counts / pixels, np.stack(deletion, axis=1), np.stack(insertion, axis=1))


def _kept_pixels(maps, size, thresholds):
    """Booleans (thresholds, n, height, width), True if a map of the image reaches the share of its maximum."""
    # float32 like the heat, so that heat of exactly γ is kept.
    thresholds = check_array("thresholds", thresholds, ("thresholds",), "float32")
    if not ((0 < thresholds) & (thresholds <= 1)).all():
        raise ValueError(f"`thresholds` must lie in (0, 1]. Received: thresholds={thresholds.tolist()}")
    heights = []
    for image_maps in maps:
        heat = upsample_bilinear(image_maps, size)
        peaks = heat.max(axis=(1, 2), keepdims=True)
        heights.append(np.divide(heat, peaks, out=np.zeros_like(heat), where=peaks > 0).max(axis=0))
    return np.stack(heights) >= thresholds[:, None, None, None]


def _inpaint(image, kept):
    """Image (height, width, channels) of uint8, whose pixels outside `kept` (height, width) follow from the others."""
    if not kept.any():
        return np.zeros_like(image)
    try:
        import cv2
    except ImportError as error:
        raise ImportError(f"This needs OpenCV: pip install 'keras-interp[inpaint]'. Received: {error}") from error
    # OpenCV treats border pixels as known and would reveal hidden ones, so a border outside the image is added. Its
    # Navier-Stokes method continues constants exactly; Telea's drifts.
    padded, hidden = np.pad(image, ((1, 1), (1, 1), (0, 0))), np.pad(~kept, 1, constant_values=True)
    filled = cv2.inpaint(padded, hidden.astype("uint8"), 3, cv2.INPAINT_NS)
    return filled[1:-1, 1:-1].reshape(image.shape)


def _checked_pixels(images):
    images = check_array("images", images, ("n", "height", "width", "channels"), "float32")
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"`images` must have one channel or three. Received: shape={images.shape}")
    if images.min() < 0 or images.max() > 255:
        raise ValueError(f"`images` must hold pixels in 0..255. Received: values in [{images.min()}, {images.max()}]")
    return np.rint(images).astype("uint8")
