"""Classification metrics: functions of logits, predictions and labels."""

import numpy as np

from keras_interp.checks import check_array, check_classes, check_labels
from keras_interp.numerics import log_softmax
from keras_interp.typing import ArrayLike


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share of examples whose largest logit is that of their label (Table 1 of the LSG paper, and everywhere else).

    Args:
        logits: float array (n, classes).
        labels: integers (n,) in [0, classes).

    Returns:
        A float in [0, 1]; higher is better.

    Raises:
        ValueError: for arrays whose shapes do not fit, no examples, NaN, or labels out of range.
        TypeError: for labels that are not integers.

    Examples:

    >>> accuracy(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
    0.6666666666666666
    """
    logits = check_array("logits", logits, ("n", "classes"))
    labels = check_classes(labels, logits.shape[1], len(logits))
    return float((logits.argmax(axis=1) == labels).mean())


def top_k_accuracy(logits: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """Share of examples whose label is among the k largest logits (Table 1 of the Dynamic-K paper, with k = 5).

    Args:
        logits: float array (n, classes).
        labels: integers (n,) in [0, classes).
        k: number of logits, in [1, classes]. Ties go to the lower class.

    Returns:
        A float in [0, 1]; higher is better.

    Raises:
        ValueError: as for `accuracy`, and for a k outside its range.
        TypeError: for labels that are not integers.

    Examples:

    >>> top_k_accuracy(np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]]), np.array([1, 0]), k=2)
    0.5
    """
    logits = check_array("logits", logits, ("n", "classes"))
    labels = check_classes(labels, logits.shape[1], len(logits))
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"`k` must lie in [1, {logits.shape[1]}]. Received: k={k}")
    largest = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((largest == labels[:, None]).any(axis=1).mean())


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative logarithm of the label's softmax probability, in nats.

    The "Cross Entropy" of the LSG paper's Table 1, 6.9 at an accuracy of .90, is too large for this mean: it is probably a sum
    over batches.

    Args:
        logits: float array (n, classes).
        labels: integers (n,) in [0, classes).

    Returns:
        A float in [0, ∞); lower is better, ln(classes) for uniform predictions.

    Raises:
        ValueError: for arrays whose shapes do not fit, no examples, NaN, or labels out of range.
        TypeError: for labels that are not integers.

    Examples:

    >>> round(cross_entropy(np.zeros((3, 10)), np.array([0, 4, 9])), 4)
    2.3026
    """
    logits = check_array("logits", logits, ("n", "classes"))
    labels = check_classes(labels, logits.shape[1], len(logits))
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def confusion_matrix(predictions: ArrayLike, labels: ArrayLike, num_classes: int, normalize: bool = True) -> np.ndarray:
    """Counts or shares of examples by true class (row) and predicted class (column), as in Figure 4 of the LSG paper.

    Args:
        predictions: integers (n,) in [0, num_classes).
        labels: integers (n,) in [0, num_classes).
        num_classes: number of classes.
        normalize: whether to divide each row by its sum. The row of a class without examples is then NaN.

    Returns:
        An array (classes, classes): float64 rows in [0, 1] that sum to 1, or integer counts. A large diagonal is good.

    Raises:
        ValueError: for another number of predictions than labels, no examples, or labels out of range.
        TypeError: for predictions or labels that are not integers.

    Examples:

    >>> confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), num_classes=2)
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    predictions = check_labels(predictions, num_classes)
    labels = check_classes(labels, num_classes, len(predictions))
    # int64: small integer labels would overflow in the product.
    pairs = labels.astype("int64") * num_classes + predictions
    counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    if not normalize:
        return counts
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals, counts / np.maximum(totals, 1), np.nan)


def recall(predictions: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Share of each class's examples that are predicted as that class, the diagonal of the normalized confusion matrix.

    Args:
        predictions: integers (n,) in [0, num_classes).
        labels: integers (n,) in [0, num_classes).
        num_classes: number of classes.

    Returns:
        float64 array (classes,) in [0, 1], NaN for a class without examples; higher is better.

    Raises:
        ValueError: for another number of predictions than labels, no examples, or labels out of range.
        TypeError: for predictions or labels that are not integers.

    Examples:

    >>> recall(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), num_classes=2)
    array([0.5, 1. ])
    """
    return np.diagonal(confusion_matrix(predictions, labels, num_classes)).copy()
