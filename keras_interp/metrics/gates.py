"""Metrics of gate matrices (label-sensitive gates)."""

import dataclasses

import numpy as np

from keras_interp.checks import check_array, check_classes
from keras_interp.extras import evaluation_extra
from keras_interp.metrics.filters import unit_rows
from keras_interp.metrics.masking import check_head, class_means
from keras_interp.numerics import log_softmax
from keras_interp.typing import ArrayLike


def gate_density(gate: ArrayLike) -> float:
    """Mean magnitude of the gate's entries, ‖G‖₁ / (classes · filters): the "L1 Norm" of Table 1.

    Args:
        gate: float array (classes, filters) with entries in [0, 1].

    Returns:
        A float in [1/classes, 1] for a gate whose columns have a largest entry of 1; lower is sparser, more class-specific.

    Raises:
        ValueError: for an array that is not a matrix, or NaN.

    Examples:

    >>> gate_density(np.array([[1.0, 0.5], [0.0, 1.0]]))
    0.625
    """
    return float(np.abs(check_array("gate", gate, ("classes", "filters"))).mean())


@dataclasses.dataclass(frozen=True)
class FilterOwnership:
    """Distribution of the filters over the classes.

    Attributes:
        owned: integers (classes,), the number of filters exclusive to each class.
        shared: number of all other filters.
    """

    owned: np.ndarray
    shared: int


def owned_filters(gate: ArrayLike, threshold: float = 0.5) -> FilterOwnership:
    """Counts the filters exclusive to one class, and the shared ones (section 4.4, the rule of section 3.3).

    A filter belongs to a class when exactly one entry of its column is at least `threshold`; else it counts as shared. The
    paper finds about 6 of 64 for each class of CIFAR-10, and 10% shared.

    Args:
        gate: float array (classes, filters) with entries in [0, 1].
        threshold: h of the paper, in (0, 1].

    Returns:
        A `FilterOwnership`, whose counts add up to the number of filters; fewer shared filters are more class-specific.

    Raises:
        ValueError: for an array that is not a matrix, NaN, or a threshold outside (0, 1].

    Examples:

    >>> owned_filters(np.array([[1.0, 0.1, 1.0], [0.0, 1.0, 0.8]]))
    FilterOwnership(owned=array([1, 1]), shared=1)
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"`threshold` must lie in (0, 1]. Received: threshold={threshold}")
    high = check_array("gate", gate, ("classes", "filters")) >= threshold
    alone = high.sum(axis=0) == 1
    return FilterOwnership(owned=high[:, alone].sum(axis=1), shared=int((~alone).sum()))


def class_filters(gate: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """Mask of the filters that the gate passes for each class, which section 4.2 masks for a gated network.

    Args:
        gate: float array (classes, filters) with entries in [0, 1].
        threshold: entries above it count; the paper does not state its value.

    Returns:
        Booleans (classes, filters). A filter may belong to several classes.

    Raises:
        ValueError: for an array that is not a matrix, or NaN.

    Examples:

    >>> class_filters(np.array([[1.0, 0.1], [0.5, 1.0]]))
    array([[ True, False],
           [False,  True]])
    """
    return check_array("gate", gate, ("classes", "filters")) > threshold


def feature_gate_similarity(
    pooled: ArrayLike, gate: ArrayLike, labels: ArrayLike, predictions: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Mean inner product of the features of one class with the gate row of another, S_y^c of appendix B and Figure 5.

    Args:
        pooled: float array (n, filters).
        gate: float array (classes, filters) with entries in [0, 1].
        labels: integers (n,) in [0, classes).
        predictions: integers (n,) in [0, classes).

    Returns:
        Two float64 arrays (classes, classes), over the true positives and over the false negatives: row y, the class of the
        images, column c, the gate row. Rows without examples are NaN. Unbounded, in the units of the features; class-specific
        filters have a dominant diagonal over the true positives.

    Raises:
        ValueError: for shapes that do not fit, NaN, or labels out of range.
        TypeError: for labels or predictions that are not integers.

    Examples:

    >>> features, labels = np.array([[2.0, 0.0], [0.0, 4.0], [3.0, 1.0]]), np.array([0, 1, 1])
    >>> correct, wrong = feature_gate_similarity(features, np.eye(2), labels, predictions=np.array([0, 1, 0]))
    >>> correct
    array([[2., 0.],
           [0., 4.]])
    >>> wrong
    array([[nan, nan],
           [ 3.,  1.]])
    """
    gate = check_array("gate", gate, ("classes", "filters"))
    pooled = check_array("pooled", pooled, ("n", gate.shape[1]))
    labels, predictions = (check_classes(classes, len(gate), len(pooled)) for classes in (labels, predictions))
    correct = labels == predictions
    similarities = []
    for chosen in (correct, ~correct):
        # The inner product is linear, so take the mean over examples first.
        means = class_means(pooled[chosen], labels[chosen], len(gate)) if chosen.any() else np.full(gate.shape, np.nan)
        similarities.append(means @ gate.T)
    return tuple(similarities)


def match_centers(centers: ArrayLike, gate: ArrayLike) -> tuple[np.ndarray, float]:
    """Reorders cluster centers to match the most similar gate rows (appendix D, Figures 8 and 9).

    One center for each row, by the assignment with the largest sum of cosines. A row or center of zeros has a cosine of 0.

    Args:
        centers: float array (classes, filters), from `cluster_centers`.
        gate: float array (classes, filters) with entries in [0, 1].

    Returns:
        The reordered centers, float64 (classes, filters), and the mean cosine of centers and rows, a float in [-1, 1] ([0, 1]
        for features that are not negative); higher is more class-specific.

    Raises:
        ImportError: without SciPy.
        ValueError: for shapes that do not fit, or NaN.

    Examples:

    >>> ordered, cosine = match_centers(np.array([[0.0, 3.0], [2.0, 0.0]]), np.eye(2))
    >>> ordered, round(cosine, 6)
    (array([[2., 0.],
           [0., 3.]]), 1.0)
    """
    gate = check_array("gate", gate, ("classes", "filters"))
    centers = check_array("centers", centers, gate.shape)
    cosines = unit_rows(gate) @ unit_rows(centers).T
    rows, order = evaluation_extra("scipy.optimize").linear_sum_assignment(cosines, maximize=True)
    return centers[order], float(cosines[rows, order].mean())


@dataclasses.dataclass(frozen=True)
class FilterAmbiguity:
    """A minimum of Eq. 2.

    Attributes:
        phi: the metric Φ, cross-entropy plus weighted sparsity term, at least 0; lower is more class-specific.
        cross_entropy: the gated path's mean cross-entropy, in nats.
        gate: float64 (classes, filters), the gate found.
    """

    phi: float
    cross_entropy: float
    gate: np.ndarray


def filter_ambiguity(
    pooled: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike,
    labels: ArrayLike,
    gate: ArrayLike | None = None,
    sparsity_weight: float = 2.0,
    target_density: float | None = None,
    steps: int = 300,
    learning_rate: float = 0.1,
) -> FilterAmbiguity:
    """Filter ambiguity Φ of Eq. 2: the loss of the frozen network when each class may use only few filters.

    Φ = min over G of CE_G + a · |density(G) − s|, with the largest entry of each column 1 and all in [0, 1]; the logits of
    CE_G are (a_i ⊙ G_{y_i}) W + b. The paper states neither a nor s; Table 1 fits a = 2 on the mean density and s near
    1/classes. Φ of a single network proves little: the gate knows the label, so Φ is small for many plain networks too.

    The search is projected subgradient descent over all examples at once, from a gate of ones and from `gate` if given; the
    best iterate counts. Its first half projects as Algorithm 1 does, dividing each column by its largest entry. That keeps all
    classes of a filter in play, but is biased towards open gates; the second half raises the largest entry to 1 alone, the
    nearest point that the constraint allows. The constraint is not convex: the result is an upper bound of the minimum, in
    small cases equal to it or a few hundredths above. Deterministic; a few seconds for 10,000 examples and 256 filters.

    Args:
        pooled: float array (n, filters).
        kernel: float array (filters, classes) of the last dense layer.
        bias: float array (classes,) of the last dense layer.
        labels: integers (n,) in [0, classes).
        gate: None, or a trained gate (classes, filters) in [0, 1] as an additional start, so that Φ is at most its objective.
        sparsity_weight: a, on the mean density; on the sum norm it is a / (classes · filters).
        target_density: s, on the mean density; defaults to 1/classes, the minimum under the constraint.
        steps: steps of each descent.
        learning_rate: first step size, for entries of the gate counted in units of the density; it falls linearly to 0.

    Returns:
        A `FilterAmbiguity`.

    Raises:
        ValueError: for shapes that do not fit, NaN, labels out of range, no steps, or a gate with entries outside [0, 1] or a
            column of zeros.
        TypeError: for labels that are not integers.

    Examples:

    >>> features, labels = np.array([[9.0, 0.0], [0.0, 9.0]]), np.array([0, 1])
    >>> found = filter_ambiguity(features, np.eye(2), np.zeros(2), labels)
    >>> round(found.phi, 3), found.gate
    (0.0, array([[1., 0.],
           [0., 1.]]))
    """
    pooled, kernel, bias = check_head(pooled, kernel, bias)
    labels = check_classes(labels, len(bias), len(pooled))
    if steps < 1 or learning_rate <= 0:
        raise ValueError(
            f"`steps` must be at least 1 and `learning_rate` positive. Received: steps={steps}, learning_rate={learning_rate}"
        )
    starts = [np.ones(kernel.shape[::-1])]
    if gate is not None:
        gate = check_array("gate", gate, kernel.shape[::-1])
        if gate.min() < 0 or gate.max() > 1 or not gate.max(axis=0).all():
            raise ValueError(
                "`gate` must have entries in [0, 1] and no column of zeros. Received: entries in "
                f"[{gate.min()}, {gate.max()}], {np.count_nonzero(gate.max(axis=0) == 0)} columns of zeros"
            )
        starts.append(gate / gate.max(axis=0))
    target = 1 / len(bias) if target_density is None else target_density
    blocks = [pooled[labels == c] for c in range(len(bias))]
    best = None
    for found in starts:
        for step in range(steps + 1):
            entropy, gradient = _gated_cross_entropy(blocks, kernel, bias, found)
            excess = float(found.mean()) - target
            phi = entropy + sparsity_weight * abs(excess)
            if best is None or phi < best.phi:
                best = FilterAmbiguity(phi, entropy, found)
            # Gradients shrink with the number of entries that share the density; undone, one rate serves any width.
            gradient = gradient * found.size + sparsity_weight * np.sign(excess)
            moved = found - learning_rate * (1 - step / steps) * gradient
            if 2 * step < steps:
                largest = moved.max(axis=0)
                moved /= np.where(largest > 0, largest, 1)
            np.put_along_axis(moved, moved.argmax(axis=0)[None], 1.0, axis=0)
            found = np.clip(moved, 0, 1)
    return best  # pyright: ignore[reportReturnType]


def _gated_cross_entropy(blocks, kernel, bias, gate):
    """Mean cross-entropy of the gated path and its gradient with respect to the gate; `blocks` are the features by class."""
    total, gradient = 0.0, np.empty(gate.shape)
    for c, features in enumerate(blocks):
        if not len(features):
            gradient[c] = 0
            continue
        logarithms = log_softmax(features @ (gate[c][:, None] * kernel) + bias)
        total -= logarithms[:, c].sum()
        residual = np.exp(logarithms)
        residual[:, c] -= 1
        gradient[c] = ((features.T @ residual) * kernel).sum(axis=1)
    num_examples = sum(map(len, blocks))
    return float(total / num_examples), gradient / num_examples
