"""First layers of our backbones, which scale raw inputs inside the model."""

import keras
import numpy as np
from keras import layers

from keras_interp.checks import check_inputs
from keras_interp.typing import Tensor

# Mean and standard deviation of the CIFAR-10 training pixels, in units of 0..255.
MEAN = (125.3, 122.95, 113.87)
STANDARD_DEVIATION = (62.99, 62.09, 66.7)


def pixel_normalization(inputs: Tensor) -> Tensor:
    """Raw RGB or gray pixels (0..255) to about zero mean and unit deviation per channel.

    Args:
        inputs: tensor (batch, height, width, channels) with 3 channels or 1; a gray one has the mean of the three colors'
            statistics.

    Raises:
        ValueError: for the wrong rank or number of channels.
    """
    shape = tuple(inputs.shape[1:])
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise ValueError(f"`input_shape` must be (height, width, 3), or 1 for gray images. Received: input_shape={shape}")
    mean, deviation = np.array(MEAN), np.array(STANDARD_DEVIATION)
    if shape[-1] == 1:
        mean, deviation = mean.mean(keepdims=True), deviation.mean(keepdims=True)
    return layers.Normalization(mean=mean.tolist(), variance=(deviation**2).tolist(), name="preprocessing")(inputs)


def unit_scaling() -> keras.Layer:
    """A layer from raw pixels (0..255) to [0, 1]."""
    return layers.Rescaling(1 / 255, name="preprocessing")


def column_scaling(rows: np.ndarray, allow_constant: bool = False) -> keras.Layer:
    """A layer that gives each column of a table zero mean and unit deviation; columns of zeros and ones stay unchanged.

    Args:
        rows: the training rows (n, columns), whose means and deviations become constants of the layer.
        allow_constant: whether a column may be constant, and is then 0 in training.

    Returns:
        A `keras.layers.Normalization`.

    Raises:
        ValueError: for rows with NaN or infinite values, or a column that is constant.

    Examples:

    >>> layer = column_scaling(np.array([[1.0, 0.0], [3.0, 1.0]]))
    >>> np.asarray(layer(np.array([[1.0, 1.0]]))).round(3).tolist()
    [[-1.0, 1.0]]
    """
    rows = check_inputs(rows, (None, None)).astype("float64")
    mean, variance = rows.mean(axis=0), rows.var(axis=0)
    binary = ((rows == 0) | (rows == 1)).all(axis=0)
    constant = np.flatnonzero((variance == 0) & ~binary)
    if constant.size and not allow_constant:
        raise ValueError(f"A column must not be constant. Received: constant columns {constant.tolist()}")
    mean, variance = np.where(binary, 0.0, mean), np.where(binary | (variance == 0), 1.0, variance)
    return layers.Normalization(mean=mean.tolist(), variance=variance.tolist(), name="preprocessing")
