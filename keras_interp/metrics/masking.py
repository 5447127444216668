"""Effects of masking the filters of a class, on this class and on the others."""

import dataclasses

import numpy as np

from keras_interp.checks import check_array, check_classes
from keras_interp.metrics.classification import confusion_matrix, recall
from keras_interp.numerics import group_means
from keras_interp.typing import ArrayLike


def class_means(pooled: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
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

    Examples:

    >>> class_means(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), np.array([0, 0, 1]), num_classes=2)
    array([[2., 0.],
           [0., 5.]])
    """
    pooled = check_array("pooled", pooled, ("n", "filters"))
    labels = check_classes(labels, num_classes, len(pooled))
    return group_means(pooled, labels[:, None] == np.arange(num_classes))


def most_active_filters(pooled: ArrayLike, labels: ArrayLike, num_classes: int, count: int) -> np.ndarray:
    """Mask of the filters with the largest mean activation for each class, A_c of Table 2, for networks without a gate.

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

    Examples:

    >>> most_active_filters(np.array([[1.0, 0.0], [0.0, 5.0]]), np.array([0, 1]), num_classes=2, count=1)
    array([[ True, False],
           [False,  True]])
    """
    return largest_of_rows(class_means(pooled, labels, num_classes), count)


def largest_of_rows(means: np.ndarray, count: int) -> np.ndarray:
    if not 1 <= count <= means.shape[1]:
        raise ValueError(f"`count` must lie in [1, {means.shape[1]}]. Received: count={count}")
    largest = np.zeros(means.shape, bool)
    np.put_along_axis(largest, np.argsort(-means, axis=1, kind="stable")[:, :count], True, axis=1)
    return largest & ~np.isnan(means)


def masked_predictions(pooled: ArrayLike, kernel: ArrayLike, bias: ArrayLike, mask: ArrayLike) -> np.ndarray:
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

    Examples:

    >>> masked_predictions(np.array([[3.0, 1.0]]), np.eye(2), np.zeros(2), np.array([True, False]))
    array([1])
    """
    pooled, kernel, bias = check_head(pooled, kernel, bias)
    mask = check_array("mask", mask, (pooled.shape[1],), "bool")
    return (pooled @ (kernel * ~mask[:, None]) + bias).argmax(axis=1)


def masked_confusion(pooled: ArrayLike, kernel: ArrayLike, bias: ArrayLike, labels: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """Confusion matrix when some filters are set to zero, as drawn in Figure 4.

    Args:
        pooled: float array (n, filters).
        kernel: float array (filters, classes) of the last dense layer.
        bias: float array (classes,) of the last dense layer.
        labels: integers (n,) in [0, classes).
        mask: booleans (filters,), True for the filters that are set to zero; those of several classes are joined with `|`.

    Returns:
        float64 array (classes, classes), rows true and columns predicted, in [0, 1]; each row sums to 1, or is NaN for a class
        without examples. Filters are class-specific if only the masked classes' diagonal entries fall.

    Raises:
        ValueError: for shapes that do not fit, NaN, labels out of range, or a mask that is not boolean.
        TypeError: for labels that are not integers.

    Examples:

    >>> features, labels = np.eye(2), np.array([0, 1])
    >>> masked_confusion(features, np.eye(2), np.zeros(2), labels, np.array([False, True]))
    array([[1., 0.],
           [1., 0.]])
    """
    return confusion_matrix(masked_predictions(pooled, kernel, bias, mask), labels, len(np.asarray(bias)))


@dataclasses.dataclass(frozen=True)
class MaskingEffect:
    """Recalls with all filters, and with each class's own filters set to zero; NaN for classes without examples.

    Attributes:
        base_recall: float64 (classes,) in [0, 1], no filter masked.
        masked_recall: float64 (classes, classes) in [0, 1], row c: recalls with the filters of class c masked.
    """

    base_recall: np.ndarray
    masked_recall: np.ndarray

    @property
    def own_recall(self) -> np.ndarray:
        """Recall of each class without its own filters, (classes,); near zero if only its own filters support it."""
        return np.diagonal(self.masked_recall)

    @property
    def drop(self) -> np.ndarray:
        """Recall lost, (classes, classes) in [-1, 1]: the row's filters are masked, the column is affected. Class-specific
        filters have a large diagonal and small other entries."""
        return self.base_recall - self.masked_recall

    @property
    def other_drop(self) -> np.ndarray:
        """Largest recall that any other class loses to each class's mask, (classes,) in [-1, 1]; lower is more specific."""
        others = np.where(np.eye(len(self.drop), dtype=bool) | np.isnan(self.drop), -np.inf, self.drop)
        return others.max(axis=1)


def masking_effect(
    pooled: ArrayLike, kernel: ArrayLike, bias: ArrayLike, labels: ArrayLike, class_masks: ArrayLike
) -> MaskingEffect:
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

    Examples:

    >>> features, labels = np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([0, 1])
    >>> effect = masking_effect(features, np.eye(2), np.zeros(2), labels, np.eye(2, dtype=bool))
    >>> effect.drop
    array([[1., 0.],
           [0., 1.]])
    """
    pooled, kernel, bias = check_head(pooled, kernel, bias)
    class_masks = check_array("class_masks", class_masks, kernel.shape[::-1], "bool")
    none = np.zeros(len(kernel), bool)
    recalls = [recall(masked_predictions(pooled, kernel, bias, m), labels, len(bias)) for m in (none, *class_masks)]
    return MaskingEffect(base_recall=recalls[0], masked_recall=np.stack(recalls[1:]))


def check_head(pooled: ArrayLike, kernel: ArrayLike, bias: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pooled = check_array("pooled", pooled, ("n", "filters"))
    kernel = check_array("kernel", kernel, (pooled.shape[1], "classes"))
    return pooled, kernel, check_array("bias", bias, kernel.shape[1:])
