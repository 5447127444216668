"""Class-specificity of a classifier's last filters (sections 4.1 to 4.4 and appendices B to D of the LSG paper).

Everything here works on arrays: pooled features (n, filters), kernel (filters, classes) and bias (classes,) of the last dense
layer, gate (classes, filters). Metrics that take no gate apply to plain networks too.
"""

import dataclasses

import numpy as np

from keras_interp.checks import check_array, check_classes
from keras_interp.extras import evaluation_extra
from keras_interp.metrics.masking import largest_of_rows
from keras_interp.typing import ArrayLike


def cluster_centers(pooled: ArrayLike, num_clusters: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clusters features by k-means (appendix D, Figure 9).

    Args:
        pooled: float array (n, filters).
        num_clusters: number of clusters; the paper takes the number of classes.
        seed: seed for the ten starts, of which the best is kept.

    Returns:
        float64 array (clusters, filters) of centers, and integers (n,), the cluster of each example.

    Raises:
        ImportError: without scikit-learn.
        ValueError: for an array that is not a matrix, NaN, or more clusters than examples.

    Examples:

    >>> centers, assignments = cluster_centers(np.array([[0.0, 0.0], [0.0, 2.0], [9.0, 1.0]]), num_clusters=2)
    >>> centers[np.argsort(centers[:, 0])]
    array([[0., 1.],
           [9., 1.]])
    """
    pooled = check_array("pooled", pooled, ("n", "filters"))
    if not 1 <= num_clusters <= len(pooled):
        raise ValueError(f"`num_clusters` must lie in [1, {len(pooled)}]. Received: num_clusters={num_clusters}")
    model = evaluation_extra("sklearn.cluster").KMeans(num_clusters, n_init=10, random_state=seed).fit(pooled)
    return model.cluster_centers_, model.labels_


def cluster_agreement(assignments: ArrayLike, labels: ArrayLike) -> float:
    """Adjusted Rand index between clusters and classes: agreement on pairs of examples, corrected for chance.

    Args:
        assignments: integers (n,), cluster indices in any order.
        labels: integers (n,).

    Returns:
        A float in [-0.5, 1]: 1 for clusters equal to the classes, about 0 by chance; higher is better.

    Raises:
        ImportError: without scikit-learn.
        ValueError: for no examples, or another number of labels than assignments.

    Examples:

    >>> cluster_agreement(np.array([1, 1, 0]), np.array([0, 0, 1]))
    1.0
    """
    assignments, labels = np.asarray(assignments), np.asarray(labels)
    if assignments.ndim != 1 or assignments.shape != labels.shape or not labels.size:
        raise ValueError(
            "`assignments` and `labels` must have the same shape (n,) and not be empty. "
            f"Received: shapes {assignments.shape} and {labels.shape}"
        )
    return float(evaluation_extra("sklearn.metrics").adjusted_rand_score(labels, assignments))


def filter_correlation(conv_kernel: ArrayLike) -> np.ndarray:
    """Correlation of each pair of filters: the inner product of their weights, each scaled to length 1 (Figure 7).

    The paper only mentions inner products; its figure's range shows that they are normalized. A filter of zeros has
    correlation 0 with every filter, including itself.

    Args:
        conv_kernel: float array (..., filters), as the (height, width, in, filters) of a Keras convolution.

    Returns:
        float64 array (filters, filters), symmetric, in [-1, 1], with ones on the diagonal. Fewer large off-diagonal entries
        mean less redundancy.

    Raises:
        ValueError: for an array of one axis, or NaN.

    Examples:

    >>> filter_correlation(np.array([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0]]))
    array([[1., 0., 1.],
           [0., 1., 0.],
           [1., 0., 1.]])
    """
    conv_kernel = np.asarray(conv_kernel)
    if conv_kernel.ndim < 2:
        raise ValueError(f"`conv_kernel` must have the shape (..., filters). Received: shape={conv_kernel.shape}")
    flat = conv_kernel.reshape(-1, conv_kernel.shape[-1])
    unit = unit_rows(check_array("conv_kernel", flat, ("weights", "filters")).T)
    return np.clip(unit @ unit.T, -1.0, 1.0)


def correlated_share(correlation: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """Share of the correlation matrix's elements above each threshold, the curve of Figure 7e.

    All elements count, as in the paper: at a threshold below 1 the diagonal alone is a share of 1/filters.

    Args:
        correlation: float array (filters, filters), from `filter_correlation`.
        thresholds: float or array of them.

    Returns:
        float64 in [0, 1], shaped like `thresholds`; lower is less redundant.

    Raises:
        ValueError: for an array that is not a matrix, or NaN.

    Examples:

    >>> correlated_share(np.array([[1.0, 0.4], [0.4, 1.0]]), np.array([0.3, 0.5]))
    array([1. , 0.5])
    """
    values = np.sort(check_array("correlation", correlation, ("filters", "filters")), axis=None)
    return 1 - np.searchsorted(values, thresholds, side="right") / values.size


def inter_class_filter_correlation(
    correlation: ArrayLike, class_means: ArrayLike, count: int, include_shared: bool = True
) -> float:
    """Mean correlation of the filters that different classes activate most, C_IC of Table 2.

    The mean of C[k, k'] over all ordered pairs of classes c ≠ c', k among the `count` filters with the largest mean activation
    for c, k' among those for c'. A filter that is dominant for both classes enters with its correlation to itself, 1; leaving
    these pairs out tells shared filters from similar ones. Reports 0.1648 (plain) and 0.1022 (gated) for ResNet-20.

    Args:
        correlation: float array (filters, filters), from `filter_correlation`.
        class_means: float array (classes, filters), from `class_means`. Classes with a NaN row are ignored.
        count: filters for each class, m of the paper: 6 for ResNet-20, 25 for AlexNet.
        include_shared: whether pairs of a filter with itself count, as in the paper.

    Returns:
        A float in [-1, 1]; lower is more class-specific. NaN if there is no pair.

    Raises:
        ValueError: for shapes that do not fit, NaN in the correlation, or a count not in [1, filters].

    Examples:

    >>> correlation, means = np.array([[1.0, 0.2], [0.2, 1.0]]), np.array([[5.0, 0.0], [1.0, 3.0]])
    >>> inter_class_filter_correlation(correlation, means, count=1)
    0.2
    """
    means = np.asarray(class_means, "float64")
    num_filters = means.shape[-1] if means.ndim == 2 else "filters"
    check_array("class_means", np.nan_to_num(means), ("classes", num_filters))
    correlation = check_array("correlation", correlation, (num_filters, num_filters))
    groups = largest_of_rows(means, count).astype("float64")
    # Over ordered pairs of classes c ≠ c', how often each pair of filters (k, k') occurs.
    totals = groups.sum(axis=0)
    pairs = np.outer(totals, totals) - groups.T @ groups
    if not include_shared:
        np.fill_diagonal(pairs, 0)
    return float((pairs * correlation).sum() / pairs.sum()) if pairs.any() else float("nan")


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; rows of zeros stay zero."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(lengths, lengths, 1)


@dataclasses.dataclass(frozen=True)
class MutualInformation:
    """Mutual information of single filters with single classes.

    Attributes:
        matrix: float64 (classes, filters), in nats, at least 0.
    """

    matrix: np.ndarray

    @property
    def per_filter(self) -> np.ndarray:
        """Largest information of each filter on any class, (filters,)."""
        return self.matrix.max(axis=0)

    @property
    def score(self) -> float:
        """MIS, the mean of `per_filter`; higher is more class-specific."""
        return float(self.per_filter.mean())


def mutual_information_score(
    pooled: ArrayLike, labels: ArrayLike, num_classes: int, max_examples: int = 2000, seed: int = 0
) -> MutualInformation:
    """Mutual information of each filter's activation with "the image is of class c", estimated by nearest neighbors.

    MIS = mean_k max_c MI(a_k; [y = c]), scikit-learn's estimator. 2,000 examples of 10 classes and 256 filters take about half
    a minute, 10,000 twice that. The maximum picks up the estimator's noise: uninformative features score about 0.01 at 2,000
    examples.

    Args:
        pooled: float array (n, filters).
        labels: integers (n,) in [0, num_classes).
        num_classes: number of classes.
        max_examples: largest number of examples; if there are more, a random subset is drawn without replacement.
        seed: seed for the draw and for the estimator's tie-breaking noise.

    Returns:
        A `MutualInformation` with `score`, `per_filter` and `matrix`: nats, in [0, ln 2], at most .325 for one of ten equally
        frequent classes (apart from the estimator's error); higher is more class-specific.

    Raises:
        ImportError: without scikit-learn.
        ValueError: for shapes that do not fit, NaN, labels out of range, or fewer than 4 examples.
        TypeError: for labels that are not integers.

    Examples:

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
    estimate = evaluation_extra("sklearn.feature_selection").mutual_info_classif
    return MutualInformation(np.stack([estimate(pooled, labels == c, random_state=seed) for c in range(num_classes)]))
