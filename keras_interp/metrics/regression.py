"""Regression metrics: functions of predictions and targets."""

import numpy as np

from keras_interp.checks import check_array
from keras_interp.typing import ArrayLike


def root_mean_squared_error(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Square root of the mean squared difference of predictions and targets, in their unit.

    Args:
        predictions: float array (n,) or (n, 1).
        targets: float array (n,).

    Returns:
        A float in [0, ∞); lower is better.

    Raises:
        ValueError: for arrays whose shapes do not fit, no examples, or NaN.

    Examples:

    >>> root_mean_squared_error(np.array([[1.0], [4.0]]), np.array([1.0, 2.0])).round(4).item()
    1.4142
    """
    targets = check_array("targets", targets, ("n",))
    predictions = check_array("predictions", np.reshape(predictions, -1), (len(targets),))
    return np.sqrt(np.mean((predictions - targets) ** 2))
