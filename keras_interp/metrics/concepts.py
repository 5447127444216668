"""Metrics of explanations by a few concepts: faithfulness to the network, orthogonality and locality.

Paper: "Embedding Deep Networks into Visual Explanations", section 4.1 and Algorithm 1. An x-feature is one dimension of the
explanation space; its heatmap shows the pixels that it comes from. Heatmaps are (images, features, h, w) and not negative.
"""

import dataclasses

import numpy as np

from keras_interp.checks import check_array
from keras_interp.metrics.localization import boxes_to_masks, upsample_bilinear
from keras_interp.typing import ArrayLike, Size

# --- Faithfulness.


@dataclasses.dataclass(frozen=True)
class LogitFaithfulness:
    """Errors of predictions of a logit, all in [0, ∞).

    Attributes:
        error: mean absolute error, F_reg of the paper, in the unit of the logit; lower is better.
        relative_error: the same over the standard deviation of the logit over all images, to compare networks; NaN if the
            logit is the same for all images.
        constant_error: mean absolute error of the best constant, the median of the measured logits. An explanation with a
            larger error has learned nothing about these images.
    """

    error: float
    relative_error: float
    constant_error: float


def logit_faithfulness(predictions: ArrayLike, logits: ArrayLike, mask: ArrayLike | None = None) -> LogitFaithfulness:
    """Compares predictions of one logit with the network's (F_reg of the paper).

    Args:
        predictions: float array (n,), ŷ: the logit as rebuilt from the x-features.
        logits: float array (n,), y: the network's logit of the target.
        mask: booleans (n,), the images to measure, as the positive ones; None for all. The standard deviation is always over
            all.

    Returns:
        A `LogitFaithfulness`.

    Raises:
        ValueError: for arrays of other shapes, (n, 1) included, NaN, or a mask that is not booleans or empty.

    Examples:

    >>> logit_faithfulness(np.array([1.0, 3.0, 9.0]), np.array([0.0, 4.0, 8.0]), mask=np.array([False, True, True]))
    LogitFaithfulness(error=1.0, relative_error=0.30618621784789724, constant_error=2.0)
    """
    logits = check_array("logits", logits, ("n",))
    predictions = check_array("predictions", predictions, logits.shape)
    mask = _checked_mask(mask, len(logits))
    measured = logits[mask]
    error = float(np.abs(predictions[mask] - measured).mean())
    return LogitFaithfulness(
        error=error,
        relative_error=error / float(logits.std()) if np.ptp(logits) else float("nan"),
        constant_error=float(np.abs(measured - np.median(measured)).mean()),
    )


def decision_faithfulness(predictions: ArrayLike, logits: ArrayLike, target: int, mask: ArrayLike | None = None) -> float:
    """Share of images whose predicted class stays the same when the logit of a class is replaced (F_cls of the paper).

    Most negative images keep their class whatever the prediction: the share on positive images tells more.

    Args:
        predictions: float array (n,), ŷ: the logit of class `target` as rebuilt from the x-features.
        logits: float array (n, classes) of the network, for two classes or more. Of equal logits the lower class wins.
        target: index of the class.
        mask: booleans (n,), the images to measure, as the positive ones; None for all.

    Returns:
        A float in [0, 1]; higher is better.

    Raises:
        ValueError: for arrays of other shapes, NaN, a single class, a target out of range, or a mask that is not booleans or
            empty.

    Examples:

    >>> decision_faithfulness(np.array([0.5, 2.0]), np.array([[3.0, 1.0], [0.0, 1.0]]), target=0)
    0.0
    """
    logits = check_array("logits", logits, ("n", "classes"))
    predictions = check_array("predictions", predictions, (len(logits),))
    if logits.shape[1] < 2:
        raise ValueError(f"`logits` must have two classes or more. Received: shape={logits.shape}")
    if not 0 <= target < logits.shape[1]:
        raise ValueError(f"`target` must lie in [0, {logits.shape[1]}). Received: target={target}")
    replaced = logits.copy()
    replaced[:, target] = predictions
    unchanged = logits.argmax(axis=1) == replaced.argmax(axis=1)
    return float(unchanged[_checked_mask(mask, len(logits))].mean())


# --- Orthogonality.


@dataclasses.dataclass(frozen=True)
class Orthogonality:
    """Overlap of the heatmaps of x-features. NaN if all features are dead.

    Both decrease with fewer live features, to 0 for a single one: compare at equal numbers of dead ones.

    Attributes:
        excess_norm: O1 = ‖P‖_F − √n for the correlation matrix P of n live features, in [0, n − √n]; lower is better, 0 for
            uncorrelated features.
        negative_log_determinant: O2 = −log det P, in [0, ∞]; lower is better, 0 for uncorrelated features, ∞ where one is a
            linear function of others.
        dead: number of features with constant heatmaps, as zero. They have no correlation and are excluded from both.
    """

    excess_norm: float
    negative_log_determinant: float
    dead: int


def orthogonality(maps: ArrayLike, ridge: float = 0.0) -> Orthogonality:
    """Correlates the heatmaps of x-features over all pixels of all images (O1 and O2 of the paper).

    All pixels of all images together are the observations, so that maps with a larger sum count more; give maps that are
    normalized, as the paper's, to count all images alike. For the user study, with counts of how often features were found on
    each part (features, parts), give `counts[None, :, None]`.

    Args:
        maps: float array (images, features, h, w).
        ridge: share ε of the unit matrix that is mixed into P for O2, (P + εI) / (1 + ε), at least 0. A small one, as 1e-6,
            keeps O2 finite, as for means over several explanations; the paper has none.

    Returns:
        An `Orthogonality`.

    Raises:
        ValueError: for an array of the wrong rank, NaN, or a negative ridge.

    Examples:

    >>> apart = np.eye(4).reshape(1, 4, 2, 2)[:, :2]
    >>> result = orthogonality(np.concatenate([apart, apart[:, :1], 0 * apart[:, :1]], axis=1))
    >>> round(result.excess_norm, 4), result.negative_log_determinant, result.dead
    (0.6013, inf, 1)
    """
    if not ridge >= 0:
        raise ValueError(f"`ridge` must be at least 0. Received: ridge={ridge}")
    maps = check_array("maps", maps, ("images", "features", "h", "w"))
    vectors = np.moveaxis(maps, 1, 0).reshape(maps.shape[1], -1)
    # The range, not the variance, which rounding can leave slightly above zero.
    live = vectors[np.ptp(vectors, axis=1) > 0]
    dead = len(vectors) - len(live)
    if not len(live):
        return Orthogonality(float("nan"), float("nan"), dead)
    centered = live - live.mean(axis=1, keepdims=True)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    correlations = centered @ centered.T
    eigenvalues = (np.linalg.eigvalsh(correlations) + ridge) / (1 + ridge)
    # Rounding leaves a zero eigenvalue within this distance of zero, on either side.
    singular = eigenvalues[0] <= len(live) * np.finfo(float).eps * eigenvalues[-1]
    return Orthogonality(
        excess_norm=float(np.linalg.norm(correlations) - np.sqrt(len(live))),
        negative_log_determinant=float("inf") if singular else float(-np.log(eigenvalues).sum() + 0.0),
        dead=dead,
    )


# --- Locality.


def voronoi_cells(parts: ArrayLike, visible: ArrayLike, boxes: ArrayLike | None, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Assigns every pixel of an object's box to the nearest visible part (Algorithm 1 of the paper).

    The weight of a pixel falls linearly with the distance from its part: 1 at the pixel of the cell that is closest to the
    part, and 0 at the farthest, since wide cells would otherwise collect background. The paper states neither the scaling of
    distances to [0, 1] nor the weight of context pixels; here the latter is 1.

    Args:
        parts: float array (n, parts, 2), row and column of each part, in pixels of the image: (0, 0) is the first pixel's
            center. Those of hidden parts are ignored, but must be finite.
        visible: booleans (n, parts), at least one part for each image. Hidden parts have no cell; of parts in the same place
            only the first has one.
        boxes: integers (n, 4): top, left, bottom, right in pixels, bottom and right exclusive; None where images are cropped
            to the object, so that there is no context.
        size: (height, width) of the images.

    Returns:
        cells: integers (n, height, width): the number of the part, or `parts` for the context outside the box.
        weights: float64 array (n, height, width) in [0, 1].

    Raises:
        ValueError: for arrays of other shapes, NaN, boxes that are empty or reach beyond the image, parts of which none is
            visible, or a `visible` that is not booleans.

    Examples:

    >>> parts, visible = np.array([[[0, 0], [0, 2]]]), np.array([[True, True]])
    >>> cells, weights = voronoi_cells(parts, visible, np.array([[0, 0, 1, 4]]), (1, 5))
    >>> cells.tolist(), weights.tolist()
    ([[[0, 0, 1, 1, 2]]], [[[1.0, 0.0, 1.0, 0.0, 1.0]]])
    """
    parts, visible, inside = _checked_parts(parts, visible, boxes, size)
    cells, weights = zip(*map(_image_cells, parts, visible, inside))
    return np.stack(cells), np.stack(weights)


def part_histograms(maps: ArrayLike, parts: ArrayLike, visible: ArrayLike, boxes: ArrayLike | None, size: Size) -> np.ndarray:
    """Distribution of each x-feature's heat over the parts and the context outside the box (Algorithm 1 of the paper).

    Every heatmap is enlarged to the size of the images and divided by its sum, so that it is a distribution over pixels, and
    the pixels' weights of `voronoi_cells` are applied.

    Args:
        maps: float array (n, features, h, w), at least 0.
        parts: float array (n, parts, 2), row and column of each part, as for `voronoi_cells`.
        visible: booleans (n, parts), at least one part for each image.
        boxes: integers (n, 4), as for `voronoi_cells`, or None.
        size: (height, width) of the images, at least (h, w).

    Returns:
        float64 array (n, features, parts + 1) in [0, 1], the last column the context. Rows sum to 1 at most, less as heat is
        farther from the parts; the row of a map without heat is 0.

    Raises:
        ValueError: as for `voronoi_cells`, and for negative heat or a size smaller than the maps'.

    Examples:

    >>> heat = np.array([[[[3.0, 0.0, 0.0, 1.0]]]])
    >>> part_histograms(heat, np.array([[[0, 0], [0, 2]]]), np.ones((1, 2), bool), np.array([[0, 0, 1, 3]]), (1, 4)).tolist()
    [[[0.75, 0.0, 0.25]]]
    """
    parts, visible, inside = _checked_parts(parts, visible, boxes, size)
    maps = check_heat(maps, len(parts))
    histograms = np.zeros((*maps.shape[:2], parts.shape[1] + 1))
    for number, image_maps in enumerate(maps):
        cells, weights = _image_cells(parts[number], visible[number], inside[number])
        heat = upsample_bilinear(image_maps, size).reshape(len(image_maps), -1).astype("float64")
        sums = heat.sum(axis=1, keepdims=True)
        shares = np.divide(heat, sums, out=np.zeros_like(heat), where=sums > 0)
        members = np.zeros((cells.size, parts.shape[1] + 1))
        members[np.arange(cells.size), cells.ravel()] = weights.ravel()
        histograms[number] = shares @ members
    return histograms


def locality(histograms: ArrayLike) -> np.ndarray:
    """Entropy of the distribution of each x-feature's heat over parts (section 4.1 of the paper).

    About the logarithm of the number of parts that a feature covers: 0 for heat on one part alone, ln(cells) for heat spread
    evenly, 2.77 for 15 parts and the context. Histograms are averaged over the images, then normalized to sum 1.

    Args:
        histograms: float array (images, features, cells), at least 0: of `part_histograms`, or `counts[None]` from a user
            study, how often each feature was found on each part (features, cells).

    Returns:
        float64 array (features,) in nats, in [0, ln(cells)]; lower is more local. NaN for a feature without heat.

    Raises:
        ValueError: for an array of another rank, NaN, or negative values.

    Examples:

    >>> locality(np.array([[[1.0, 0.0], [0.5, 0.0]], [[1.0, 0.0], [0.0, 0.5]]])).round(4).tolist()
    [0.0, 0.6931]
    """
    histograms = check_array("histograms", histograms, ("images", "features", "cells"))
    if histograms.min() < 0:
        raise ValueError(f"`histograms` must not be negative. Received: {histograms.min()}")
    totals = histograms.sum(axis=0)
    with np.errstate(invalid="ignore"):
        shares = totals / totals.sum(axis=1, keepdims=True)
    # ln 1 in place of ln 0, whose share is 0. Adding 0 turns -0 into 0.
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1) + 0.0


def check_heat(maps: ArrayLike, count: int | str) -> np.ndarray:
    """Returns heatmaps (count, features, h, w) as float32, or raises as `check_array` and for negative values."""
    maps = check_array("maps", maps, (count, "features", "h", "w"), "float32")
    if maps.min() < 0:
        raise ValueError(f"Heatmaps must not be negative. Received: {maps.min()}")
    return maps


def _image_cells(parts, visible, inside):
    """Cells and weights (height, width) of one image, as `voronoi_cells`."""
    numbers = np.flatnonzero(visible)
    rows, columns = np.nonzero(inside)
    distances = np.hypot(rows - parts[numbers, :1], columns - parts[numbers, 1:])
    nearest, distance = distances.argmin(axis=0), distances.min(axis=0)
    closest, farthest = np.full(len(numbers), np.inf), np.zeros(len(numbers))
    np.minimum.at(closest, nearest, distance)
    np.maximum.at(farthest, nearest, distance)
    beyond, spread = distance - closest[nearest], (farthest - closest)[nearest]
    cells, weights = np.full(inside.shape, len(parts)), np.ones(inside.shape)
    cells[inside] = numbers[nearest]
    # The pixels of a cell that are all equally far have the weight 1.
    weights[inside] = 1 - np.divide(beyond, spread, out=np.zeros_like(beyond), where=spread > 0)
    return cells, weights


def _checked_parts(parts, visible, boxes, size):
    """Returns parts, which are visible, and booleans (n, height, width) that are True inside the boxes, or raises."""
    parts = check_array("parts", parts, ("n", "parts", 2))
    visible = check_array("visible", visible, parts.shape[:2], "bool")
    blind = np.flatnonzero(~visible.any(axis=1))
    if blind.size:
        raise ValueError(f"Every image must have a visible part. Received: none in images {blind[:8].tolist()}")
    boxes = np.tile([0, 0, *size], (len(parts), 1)) if boxes is None else check_array("boxes", boxes, (len(parts), 4))
    return parts, visible, boxes_to_masks(boxes, size)


def _checked_mask(mask, count):
    mask = np.ones(count, bool) if mask is None else check_array("mask", mask, (count,), "bool")
    if not mask.any():
        raise ValueError(f"`mask` must mark at least one image. Received: none of {count}")
    return mask
