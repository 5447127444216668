"""Shared numerics: group means, log probabilities, enlarged maps."""

import numpy as np

from keras_interp.typing import ArrayLike


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax probabilities over the last axis, without overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def group_means(values: np.ndarray, attributes: ArrayLike) -> np.ndarray:
    """Means of values over the examples with each attribute.

    Args:
        values: float array (n, columns).
        attributes: 0 or 1 (n, attributes).

    Returns:
        A float array (attributes, columns), NaN for an attribute that no example has.

    Examples:

    >>> group_means(np.array([[1.0], [3.0], [5.0]]), [[1, 0], [1, 1], [0, 1]]).tolist()
    [[2.0], [4.0]]
    """
    members = np.asarray(attributes, "float32").T
    with np.errstate(invalid="ignore"):
        return members @ values / members.sum(axis=1, keepdims=True)
