"""How class-specific the last filters of a classifier are (sections 4.1 to 4.4 and appendices B to D of the LSG paper).

Everything here works on arrays: pooled features (n, filters), kernel (filters, classes) and bias (classes,) of the last dense
layer, gate (classes, filters). A plain network can be measured beside a gated one by all that does not take a gate.
"""

import dataclasses
import importlib

import numpy as np

from keras_interp.checks import check_array, check_classes
from keras_interp.metrics.classification import confusion_matrix, log_softmax, recall

# --- What the gate says.


def gate_density(gate):
    """Mean magnitude of the gate's entries, ‖G‖₁ / (classes · filters): the "L1 Norm" of Table 1.

    Args:
        gate: float array (classes, filters) with entries in [0, 1].

    Returns:
        A float in [1/classes, 1] for a gate whose columns have a largest entry of 1; lower is sparser, more class-specific.

    Raises:
        ValueError: for an array that is not a matrix, or NaN.

    Example:

    >>> gate_density(np.array([[1.0, 0.5], [0.0, 1.0]]))
    0.625
    """
    return float(np.abs(check_array("gate", gate, ("classes", "filters"))).mean())


@dataclasses.dataclass(frozen=True)
class FilterOwnership:
    """How the filters are distributed over the classes.

    Attributes:
        owned: integers (classes,), the filters that each class has to itself.
        shared: number of all other filters.
    """

    owned: np.ndarray
    shared: int


def owned_filters(gate, threshold=0.5):
    """Counts the filters that one class has to itself, and the shared ones (section 4.4, the rule of section 3.3).

    A filter belongs to a class when exactly one entry of its column is at least `threshold`; else it counts as shared. The
    paper finds about 6 of 64 for each class of CIFAR-10, and 10% shared.

    Args:
        gate: float array (classes, filters) with entries in [0, 1].
        threshold: h of the paper, in (0, 1].

    Returns:
        A `FilterOwnership`, whose counts add up to the number of filters; fewer shared filters are more class-specific.

    Raises:
        ValueError: for an array that is not a matrix, NaN, or a threshold outside (0, 1].

    Example:

    >>> owned_filters(np.array([[1.0, 0.1, 1.0], [0.0, 1.0, 0.8]]))
    FilterOwnership(owned=array([1, 1]), shared=1)
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"`threshold` must lie in (0, 1]. Received: threshold={threshold}")
    high = check_array("gate", gate, ("classes", "filters")) >= threshold
    alone = high.sum(axis=0) == 1
    return FilterOwnership(owned=high[:, alone].sum(axis=1), shared=int((~alone).sum()))


def class_filters(gate, threshold=0.5):
    """The filters that the gate passes for each class: the ones that section 4.2 masks for a gated network.

    Args:
        gate: float array (classes, filters) with entries in [0, 1].
        threshold: entries above it count; the paper does not state its value.

    Returns:
        Booleans (classes, filters). A filter may belong to several classes.

    Raises:
        ValueError: for an array that is not a matrix, or NaN.

    Example:

    >>> class_filters(np.array([[1.0, 0.1], [0.5, 1.0]]))
    array([[ True, False],
           [False,  True]])
    """
    return check_array("gate", gate, ("classes", "filters")) > threshold


# --- What the features say, with or without a gate.


def class_means(pooled, labels, num_classes):
    """Mean activation of each filter over the examples of each class.

    Args:
        pooled: float array (n, filters).
        labels: integers (n,) in [0, num_classes).
        num_classes: number of classes.

    Returns:
        float64 array (classes, filters); the row of a class without examples is NaN.

    Raises:
        ValueError: for shapes that do not fit, NaN, or labels out of range.
        TypeError: for labels that are not integers.

    Example:

    >>> class_means(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), np.array([0, 0, 1]), num_classes=2)
    array([[2., 0.],
           [0., 5.]])
    """
    pooled = check_array("pooled", pooled, ("n", "filters"))
    labels = check_classes(labels, num_classes, len(pooled))
    members = np.arange(num_classes)[:, None] == labels
    counts = members.sum(axis=1, keepdims=True)
    return np.where(counts, members.astype(pooled.dtype) @ pooled / np.maximum(counts, 1), np.nan)


def most_active_filters(pooled, labels, num_classes, count):
    """The filters with the largest mean activation for each class, A_c of Table 2: what to mask in a network without a gate.

    Args:
        pooled: float array (n, filters).
        labels: integers (n,) in [0, num_classes).
        num_classes: number of classes.
        count: filters for each class, m of the paper: 6 of the 64 of ResNet-20, 25 of the 256 of AlexNet.

    Returns:
        Booleans (classes, filters), `count` in each row; none for a class without examples. A filter may belong to several
        classes.

    Raises:
        ValueError: for shapes that do not fit, NaN, labels out of range, or a count not in [1, filters].
        TypeError: for labels that are not integers.

    Example:

    >>> most_active_filters(np.array([[1.0, 0.0], [0.0, 5.0]]), np.array([0, 1]), num_classes=2, count=1)
    array([[ True, False],
           [False,  True]])
    """
    return _largest_of_rows(class_means(pooled, labels, num_classes), count)


def _largest_of_rows(means, count):
    if not 1 <= count <= means.shape[1]:
        raise ValueError(f"`count` must lie in [1, {means.shape[1]}]. Received: count={count}")
    largest = np.zeros(means.shape, bool)
    np.put_along_axis(largest, np.argsort(-means, axis=1, kind="stable")[:, :count], True, axis=1)
    return largest & ~np.isnan(means)


# --- Who suffers when filters are masked: section 4.2, Figure 4.


def masked_predictions(pooled, kernel, bias, mask):
    """Predicted classes when some filters are set to zero.

    Args:
        pooled: float array (n, filters).
        kernel: float array (filters, classes) of the last dense layer.
        bias: float array (classes,) of the last dense layer.
        mask: booleans (filters,), True for the filters that are set to zero.

    Returns:
        Integers (n,).

    Raises:
        ValueError: for shapes that do not fit, NaN, or a mask that is not boolean.

    Example:

    >>> masked_predictions(np.array([[3.0, 1.0]]), np.eye(2), np.zeros(2), np.array([True, False]))
    array([1])
    """
    pooled, kernel, bias = _check_head(pooled, kernel, bias)
    mask = check_array("mask", mask, (pooled.shape[1],), "bool")
    return (pooled @ (kernel * ~mask[:, None]) + bias).argmax(axis=1)


def masked_confusion(pooled, kernel, bias, labels, mask):
    """Confusion matrix when some filters are set to zero, as drawn in Figure 4.

    Args:
        pooled: float array (n, filters).
        kernel: float array (filters, classes) of the last dense layer.
        bias: float array (classes,) of the last dense layer.
        labels: integers (n,) in [0, classes).
        mask: booleans (filters,), True for the filters that are set to zero; those of several classes are joined with `|`.

    Returns:
        float64 array (classes, classes), rows true and columns predicted, in [0, 1]; each row sums to 1, or is NaN for a class
        without examples. Filters are class-specific where only the masked classes' diagonal entries fall.

    Raises:
        ValueError: for shapes that do not fit, NaN, labels out of range, or a mask that is not boolean.
        TypeError: for labels that are not integers.

    Example:

    >>> features, labels = np.eye(2), np.array([0, 1])
    >>> masked_confusion(features, np.eye(2), np.zeros(2), labels, np.array([False, True]))
    array([[1., 0.],
           [1., 0.]])
    """
    return confusion_matrix(masked_predictions(pooled, kernel, bias, mask), labels, len(bias))


@dataclasses.dataclass(frozen=True)
class MaskingEffect:
    """Recalls with every filter at work, and with each class's own filters set to zero; NaN for classes without examples.

    Attributes:
        base_recall: float64 (classes,) in [0, 1], no filter masked.
        masked_recall: float64 (classes, classes) in [0, 1], row c: recalls with the filters of class c masked.
    """

    base_recall: np.ndarray
    masked_recall: np.ndarray

    @property
    def own_recall(self):
        """Recall of each class without its own filters, (classes,); near zero where its filters alone speak for it."""
        return np.diagonal(self.masked_recall)

    @property
    def drop(self):
        """Recall lost, (classes, classes) in [-1, 1]: row, whose filters are masked; column, who suffers. Class-specific
        filters have a large diagonal and little beside it."""
        return self.base_recall - self.masked_recall

    @property
    def other_drop(self):
        """Largest recall that any other class loses to each class's mask, (classes,) in [-1, 1]; lower is more specific."""
        others = np.where(np.eye(len(self.drop), dtype=bool) | np.isnan(self.drop), -np.inf, self.drop)
        return others.max(axis=1)


def masking_effect(pooled, kernel, bias, labels, class_masks):
    """Masks each class's filters in turn and measures every class's recall (section 4.2, in one figure per pair of classes).

    Args:
        pooled: float array (n, filters).
        kernel: float array (filters, classes) of the last dense layer.
        bias: float array (classes,) of the last dense layer.
        labels: integers (n,) in [0, classes).
        class_masks: booleans (classes, filters), each class's own filters, from `class_filters` or `most_active_filters`.

    Returns:
        A `MaskingEffect`.

    Raises:
        ValueError: for shapes that do not fit, NaN, labels out of range, or masks that are not boolean.
        TypeError: for labels that are not integers.

    Example:

    >>> features, labels = np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([0, 1])
    >>> effect = masking_effect(features, np.eye(2), np.zeros(2), labels, np.eye(2, dtype=bool))
    >>> effect.drop
    array([[1., 0.],
           [0., 1.]])
    """
    pooled, kernel, bias = _check_head(pooled, kernel, bias)
    class_masks = check_array("class_masks", class_masks, kernel.shape[::-1], "bool")
    none = np.zeros(len(kernel), bool)
    recalls = [recall(masked_predictions(pooled, kernel, bias, m), labels, len(bias)) for m in (none, *class_masks)]
    return MaskingEffect(base_recall=recalls[0], masked_recall=np.stack(recalls[1:]))


def _check_head(pooled, kernel, bias):
    pooled = check_array("pooled", pooled, ("n", "filters"))
    kernel = check_array("kernel", kernel, (pooled.shape[1], "classes"))
    return pooled, kernel, check_array("bias", bias, kernel.shape[1:])


# --- Features against gate rows: section 4.2, Figure 5, appendices B and D.


def feature_gate_similarity(pooled, gate, labels, predictions):
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
        ValueError: for shapes that do not fit, NaN, or class numbers out of range.
        TypeError: for labels or predictions that are not integers.

    Example:

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
        # The inner product is linear: the mean over examples may be taken first.
        means = class_means(pooled[chosen], labels[chosen], len(gate)) if chosen.any() else np.full(gate.shape, np.nan)
        similarities.append(means @ gate.T)
    return tuple(similarities)


def cluster_centers(pooled, num_clusters, seed=0):
    """Clusters features by k-means (appendix D, Figure 9).

    Args:
        pooled: float array (n, filters).
        num_clusters: number of clusters; the paper takes the number of classes.
        seed: seed of the ten starts, of which the best is kept.

    Returns:
        float64 array (clusters, filters) of centres, and integers (n,), the cluster of each example.

    Raises:
        ImportError: without scikit-learn.
        ValueError: for an array that is not a matrix, NaN, or more clusters than examples.

    Example:

    >>> centers, assignments = cluster_centers(np.array([[0.0, 0.0], [0.0, 2.0], [9.0, 1.0]]), num_clusters=2)
    >>> centers[np.argsort(centers[:, 0])]
    array([[0., 1.],
           [9., 1.]])
    """
    pooled = check_array("pooled", pooled, ("n", "filters"))
    if not 1 <= num_clusters <= len(pooled):
        raise ValueError(f"`num_clusters` must lie in [1, {len(pooled)}]. Received: num_clusters={num_clusters}")
    model = _evaluation_extra("sklearn.cluster").KMeans(num_clusters, n_init=10, random_state=seed).fit(pooled)
    return model.cluster_centers_, model.labels_


def cluster_agreement(assignments, labels):
    """Adjusted Rand index between clusters and classes: pairs of examples that both treat alike, corrected for chance.

    Args:
        assignments: integers (n,), cluster numbers in any order.
        labels: integers (n,).

    Returns:
        A float in [-0.5, 1]: 1 for clusters that are the classes, about 0 by chance; higher is better.

    Raises:
        ImportError: without scikit-learn.
        ValueError: for no examples, or another number of labels than assignments.

    Example:

    >>> cluster_agreement(np.array([1, 1, 0]), np.array([0, 0, 1]))
    1.0
    """
    assignments, labels = np.asarray(assignments), np.asarray(labels)
    if assignments.ndim != 1 or assignments.shape != labels.shape or not labels.size:
        raise ValueError(
            "`assignments` and `labels` must have the same shape (n,) and not be empty. "
            f"Received: shapes {assignments.shape} and {labels.shape}"
        )
    return float(_evaluation_extra("sklearn.metrics").adjusted_rand_score(labels, assignments))


def match_centers(centers, gate):
    """Brings cluster centres into the order of the gate rows that they resemble most (appendix D, Figure 9 beside Figure 8).

    One centre for each row, by the assignment with the largest sum of cosines. A row or centre of zeros has a cosine of 0.

    Args:
        centers: float array (classes, filters), from `cluster_centers`.
        gate: float array (classes, filters) with entries in [0, 1].

    Returns:
        The reordered centres, float64 (classes, filters), and the mean cosine of centres and rows, a float in [-1, 1] ([0, 1]
        for features that are not negative); higher is more class-specific.

    Raises:
        ImportError: without SciPy.
        ValueError: for shapes that do not fit, or NaN.

    Example:

    >>> ordered, cosine = match_centers(np.array([[0.0, 3.0], [2.0, 0.0]]), np.eye(2))
    >>> ordered, round(cosine, 6)
    (array([[2., 0.],
           [0., 3.]]), 1.0)
    """
    gate = check_array("gate", gate, ("classes", "filters"))
    centers = check_array("centers", centers, gate.shape)
    cosines = _unit_rows(gate) @ _unit_rows(centers).T
    rows, order = _evaluation_extra("scipy.optimize").linear_sum_assignment(cosines, maximize=True)
    return centers[order], float(cosines[rows, order].mean())


# --- Correlation of filters: section 4.4, Figure 7 and Table 2.


def filter_correlation(conv_kernel):
    """Correlation of each pair of filters: the inner product of their weights, each scaled to length 1 (Figure 7).

    The paper speaks of inner products alone; its figure's range shows that they are normalised. A filter of zeros correlates 0
    with every filter, itself included.

    Args:
        conv_kernel: float array (..., filters), as the (height, width, in, filters) of a Keras convolution.

    Returns:
        float64 array (filters, filters), symmetric, in [-1, 1], with ones on the diagonal. Fewer large entries beside the
        diagonal mean less redundancy.

    Raises:
        ValueError: for an array of one axis, or NaN.

    Example:

    >>> filter_correlation(np.array([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0]]))
    array([[1., 0., 1.],
           [0., 1., 0.],
           [1., 0., 1.]])
    """
    conv_kernel = np.asarray(conv_kernel)
    if conv_kernel.ndim < 2:
        raise ValueError(f"`conv_kernel` must have the shape (..., filters). Received: shape={conv_kernel.shape}")
    flat = conv_kernel.reshape(-1, conv_kernel.shape[-1])
    unit = _unit_rows(check_array("conv_kernel", flat, ("weights", "filters")).T)
    return np.clip(unit @ unit.T, -1.0, 1.0)


def correlated_share(correlation, thresholds):
    """Share of the correlation matrix's elements above each threshold, the curve of Figure 7e.

    All elements count, as in the paper: at a threshold below 1 the diagonal alone is a share of 1/filters.

    Args:
        correlation: float array (filters, filters), from `filter_correlation`.
        thresholds: float or array of them.

    Returns:
        float64 in [0, 1], shaped like `thresholds`; lower is less redundant.

    Raises:
        ValueError: for an array that is not a matrix, or NaN.

    Example:

    >>> correlated_share(np.array([[1.0, 0.4], [0.4, 1.0]]), np.array([0.3, 0.5]))
    array([1. , 0.5])
    """
    values = np.sort(check_array("correlation", correlation, ("filters", "filters")), axis=None)
    return 1 - np.searchsorted(values, thresholds, side="right") / values.size


def inter_class_filter_correlation(correlation, class_means, count, include_shared=True):
    """Mean correlation of the filters that different classes activate most, C_IC of Table 2.

    The mean of C[k, k'] over all ordered pairs of classes c ≠ c', k among the `count` filters with the largest mean activation
    for c, k' among those for c'. A filter that is dominant for both classes enters with its correlation to itself, 1; leaving
    these pairs out tells shared filters from similar ones. Reports 0.1648 (plain) and 0.1022 (gated) for ResNet-20.

    Args:
        correlation: float array (filters, filters), from `filter_correlation`.
        class_means: float array (classes, filters), from `class_means`. Classes whose row is NaN are left out.
        count: filters for each class, m of the paper: 6 for ResNet-20, 25 for AlexNet.
        include_shared: whether pairs of a filter with itself count, as in the paper.

    Returns:
        A float in [-1, 1]; lower is more class-specific. NaN where there is no pair to take the mean of.

    Raises:
        ValueError: for shapes that do not fit, NaN in the correlation, or a count not in [1, filters].

    Example:

    >>> correlation, means = np.array([[1.0, 0.2], [0.2, 1.0]]), np.array([[5.0, 0.0], [1.0, 3.0]])
    >>> inter_class_filter_correlation(correlation, means, count=1)
    0.2
    """
    means = np.asarray(class_means, "float64")
    num_filters = means.shape[-1] if means.ndim == 2 else "filters"
    check_array("class_means", np.nan_to_num(means), ("classes", num_filters))
    correlation = check_array("correlation", correlation, (num_filters, num_filters))
    groups = _largest_of_rows(means, count).astype("float64")
    # Over ordered pairs of classes c ≠ c', how often each pair of filters (k, k') occurs.
    totals = groups.sum(axis=0)
    pairs = np.outer(totals, totals) - groups.T @ groups
    if not include_shared:
        np.fill_diagonal(pairs, 0)
    return float((pairs * correlation).sum() / pairs.sum()) if pairs.any() else float("nan")


def _unit_rows(matrix):
    """Rows scaled to length 1; rows of zeros stay zero."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(lengths, lengths, 1)


# --- Mutual information: the MIS of the follow-up paper (CSG, ECCV 2020).


@dataclasses.dataclass(frozen=True)
class MutualInformation:
    """Mutual information of single filters with single classes.

    Attributes:
        matrix: float64 (classes, filters), in nats, at least 0.
    """

    matrix: np.ndarray

    @property
    def per_filter(self):
        """What each filter tells of the class that it tells most of, (filters,)."""
        return self.matrix.max(axis=0)

    @property
    def score(self):
        """MIS, the mean of `per_filter`; higher is more class-specific."""
        return float(self.per_filter.mean())


def mutual_information_score(pooled, labels, num_classes, max_examples=2000, seed=0):
    """Mutual information of each filter's activation with "the image is of class c", estimated by nearest neighbours.

    MIS = mean_k max_c MI(a_k; [y = c]), scikit-learn's estimator. 2,000 examples of 10 classes and 256 filters take about half
    a minute, 10,000 twice that. The maximum picks up the estimator's noise: features that tell nothing score about 0.01 at
    2,000 examples.

    Args:
        pooled: float array (n, filters).
        labels: integers (n,) in [0, num_classes).
        num_classes: number of classes.
        max_examples: where there are more, so many are drawn at random without replacement.
        seed: seed of the draw and of the estimator's noise against ties.

    Returns:
        A `MutualInformation` with `score`, `per_filter` and `matrix`: nats, in [0, ln 2], at most .325 for one of ten equally
        frequent classes (apart from the estimator's error); higher is more class-specific.

    Raises:
        ImportError: without scikit-learn.
        ValueError: for shapes that do not fit, NaN, labels out of range, or fewer than 4 examples to take.
        TypeError: for labels that are not integers.

    Example:

    >>> labels = np.arange(200) % 2
    >>> features = np.stack([labels + np.linspace(0, 0.1, 200), np.zeros(200)], axis=1)
    >>> mutual_information_score(features, labels, num_classes=2).per_filter.round(1)
    array([0.7, 0. ])
    """
    pooled = check_array("pooled", pooled, ("n", "filters"))
    labels = check_classes(labels, num_classes, len(pooled))
    if min(max_examples, len(pooled)) < 4:
        raise ValueError(
            f"The estimator needs at least 4 examples. Received: max_examples={max_examples}, {len(pooled)} examples"
        )
    if len(pooled) > max_examples:
        drawn = np.random.default_rng(seed).choice(len(pooled), max_examples, replace=False)
        pooled, labels = pooled[drawn], labels[drawn]
    estimate = _evaluation_extra("sklearn.feature_selection").mutual_info_classif
    return MutualInformation(np.stack([estimate(pooled, labels == c, random_state=seed) for c in range(num_classes)]))


def require_evaluation_extra():
    """Raises an `ImportError` that tells how to install scikit-learn and SciPy where they are missing."""
    for module in ("sklearn.cluster", "scipy.optimize"):
        _evaluation_extra(module)


def _evaluation_extra(module):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs scikit-learn and SciPy: pip install 'keras-interp[evaluate]'. Received: {error}"
        ) from error


# --- Filter ambiguity: Eq. 2, Table 1.


@dataclasses.dataclass(frozen=True)
class FilterAmbiguity:
    """A minimum of Eq. 2.

    Attributes:
        phi: the metric Φ, cross-entropy plus weighted sparsity term, at least 0; lower is more class-specific.
        cross_entropy: the gated path's mean cross-entropy, in nats.
        gate: float64 (classes, filters), the gate that was found.
    """

    phi: float
    cross_entropy: float
    gate: np.ndarray


def filter_ambiguity(
    pooled,
    kernel,
    bias,
    labels,
    gate=None,
    sparsity_weight=2.0,
    target_density=None,
    steps=300,
    learning_rate=0.1,
):
    """Filter ambiguity Φ of Eq. 2: how well the frozen network classifies when each class may use few filters.

    Φ = min over G of CE_G + a · |density(G) − s|, with the largest entry of each column 1 and all in [0, 1]; the logits of
    CE_G are (a_i ⊙ G_{y_i}) W + b. The paper states neither a nor s; Table 1 fits a = 2 on the mean density and s near
    1/classes. Φ of one network alone proves little: the gate knows the label, so Φ is small for many a plain network too.

    The search is projected subgradient descent over all examples at once, from a gate of ones and, where given, from `gate`;
    the best iterate counts. Its first half projects as Algorithm 1 does, dividing each column by its largest entry. That keeps
    the classes of a filter in the race, but is biased towards open gates; the second half raises the largest entry to 1 alone,
    the nearest point that the constraint allows. The constraint is not convex: what is found is an upper bound of the minimum,
    in small cases equal to it or some hundredths above. Deterministic; a few seconds for 10,000 examples and 256 filters.

    Args:
        pooled: float array (n, filters).
        kernel: float array (filters, classes) of the last dense layer.
        bias: float array (classes,) of the last dense layer.
        labels: integers (n,) in [0, classes).
        gate: None, or a trained gate (classes, filters) in [0, 1] to start from as well, so that Φ is at most its objective.
        sparsity_weight: a, on the mean density; on the sum norm it is a / (classes · filters).
        target_density: s, on the mean density; by default 1/classes, the least that the constraint allows.
        steps: steps of each descent.
        learning_rate: first step size, for entries of the gate counted in units of the density; it falls linearly to 0.

    Returns:
        A `FilterAmbiguity`.

    Raises:
        ValueError: for shapes that do not fit, NaN, labels out of range, no steps, or a gate with entries outside [0, 1] or a
            column of zeros.
        TypeError: for labels that are not integers.

    Example:

    >>> features, labels = np.array([[9.0, 0.0], [0.0, 9.0]]), np.array([0, 1])
    >>> found = filter_ambiguity(features, np.eye(2), np.zeros(2), labels)
    >>> round(found.phi, 3), found.gate
    (0.0, array([[1., 0.],
           [0., 1.]]))
    """
    pooled, kernel, bias = _check_head(pooled, kernel, bias)
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
    for gate in starts:
        for step in range(steps + 1):
            entropy, gradient = _gated_cross_entropy(blocks, kernel, bias, gate)
            excess = float(gate.mean()) - target
            phi = entropy + sparsity_weight * abs(excess)
            if best is None or phi < best.phi:
                best = FilterAmbiguity(phi, entropy, gate)
            # Gradients shrink with the number of entries that share the density; undone, one rate serves any width.
            gradient = gradient * gate.size + sparsity_weight * np.sign(excess)
            moved = gate - learning_rate * (1 - step / steps) * gradient
            if 2 * step < steps:
                largest = moved.max(axis=0)
                moved /= np.where(largest > 0, largest, 1)
            np.put_along_axis(moved, moved.argmax(axis=0)[None], 1.0, axis=0)
            gate = np.clip(moved, 0, 1)
    return best


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
