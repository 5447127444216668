"""Effects of dropping neurons: loss of accuracy on a neuron's category, and the categories where neurons are active.

Paper: "XNet: Towards Training Explainable Neural Networks", section 3. A drop loss rises with the scale of the logits alone;
accuracy does not.
"""

import numpy as np

from keras_interp.checks import check_array, check_attributes, check_labels
from keras_interp.numerics import group_means
from keras_interp.typing import ArrayLike


def accuracy_costs(logits: ArrayLike, dropped_logits: ArrayLike, labels: ArrayLike, attributes: ArrayLike) -> np.ndarray:
    """Accuracy on each category that the network loses without each neuron.

    Args:
        logits: float array (n, classes), of the whole network.
        dropped_logits: float array (neurons, n, classes), without each neuron.
        labels: integers (n,).
        attributes: 0 or 1 (n, attributes): membership of each example in each category.

    Returns:
        float array (attributes, neurons) in [-1, 1]; negative where accuracy rises. NaN for a category without examples.

    Raises:
        ValueError: for arrays of other shapes, NaN, labels out of range, or attributes that are not 0 or 1.

    Examples:

    >>> logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    >>> accuracy_costs(logits, logits[None, :, ::-1], [0, 0], [[1, 0], [0, 1]]).tolist()
    [[1.0], [-1.0]]
    """
    logits = check_array("logits", logits, ("n", "classes"))
    dropped_logits = check_array("dropped_logits", dropped_logits, ("neurons", *logits.shape))
    labels = check_labels(labels, logits.shape[1])
    attributes = _checked_attributes(attributes, len(logits), len(labels))
    right = logits.argmax(axis=-1) == labels
    dropped_right = dropped_logits.argmax(axis=-1) == labels
    return group_means(right.astype(float)[:, None] - dropped_right.T, attributes)


def activation_shares(neurons: ArrayLike, attributes: ArrayLike) -> np.ndarray:
    """Mean activation of each neuron on each category, as a share of the neuron's sum over the categories (Figure 2).

    Args:
        neurons: float array (n, neurons) of activations, at least 0.
        attributes: 0 or 1 (n, attributes).

    Returns:
        float array (attributes, neurons) whose columns sum to 1; zeros for a neuron that is inactive on all categories, NaN
        for a category without examples.

    Raises:
        ValueError: for negative activations, NaN, arrays of other shapes, or attributes that are not 0 or 1.

    Examples:

    >>> activation_shares(np.array([[3.0, 0.0], [1.0, 2.0]]), np.eye(2)).tolist()
    [[0.75, 0.0], [0.25, 1.0]]
    """
    neurons = check_array("neurons", neurons, ("n", "neurons"))
    if neurons.size and neurons.min() < 0:
        raise ValueError(f"Activations must not be negative. Received: {neurons.min()}")
    means = group_means(neurons, _checked_attributes(attributes, len(neurons), len(neurons)))
    sums = np.nansum(means, axis=0)
    return means / np.where(sums > 0, sums, 1.0)


def group_accuracies(logits: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> np.ndarray:
    """Accuracy on each of several groups of examples, as those of a protected attribute.

    Args:
        logits: float array (n, classes).
        labels: integers (n,).
        groups: 0 or 1 (n, groups): membership in each group; groups may overlap.

    Returns:
        float array (groups,) in [0, 1]; NaN for an empty group.

    Raises:
        ValueError: for arrays of other shapes, NaN, labels out of range, or groups that are not 0 or 1.

    Examples:

    >>> group_accuracies(np.array([[2.0, 0.0], [0.0, 2.0]]), [0, 0], [[1, 0], [1, 1]]).tolist()
    [0.5, 0.0]
    """
    logits = check_array("logits", logits, ("n", "classes"))
    labels = check_labels(labels, logits.shape[1])
    groups = _checked_attributes(groups, len(logits), len(labels))
    return group_means((logits.argmax(axis=-1) == labels).astype(float)[:, None], groups)[:, 0]


def _checked_attributes(attributes, count, labels):
    attributes = check_attributes(attributes, np.shape(attributes)[-1] if np.ndim(attributes) else 0)
    if len(attributes) != count or labels != count:
        raise ValueError(
            f"There must be one label and one row of attributes for each of {count} examples. "
            f"Received: {labels} labels, {len(attributes)} rows"
        )
    return attributes
