"""Multilayer perceptrons, for tables and small images."""

from collections.abc import Callable, Sequence

import keras
from keras import layers

from keras_interp.typing import Shape


def mlp(
    hidden_units: Sequence[int],
    input_shape: Shape,
    preprocessing: keras.Layer | None = None,
    activation: str | Callable = "relu",
    name: str = "mlp",
) -> keras.Model:
    """Dense layers; an image is flattened.

    Args:
        hidden_units: number of units of each hidden layer.
        input_shape: shape of one input: (columns,) or (height, width, channels).
        preprocessing: a layer that scales the inputs, see `preprocessing.scaling`, or None.
        activation: activation of the hidden layers.
        name: name of the model.

    Returns:
        A functional `keras.Model` from inputs to the last hidden units (batch, hidden_units[-1]).

    Examples:

    >>> mlp((300, 100), input_shape=(28, 28, 1)).output_shape
    (None, 100)
    """
    inputs = keras.Input(input_shape, name="inputs")
    x = inputs if preprocessing is None else preprocessing(inputs)
    if len(input_shape) > 1:
        x = layers.Flatten(name="flatten")(x)
    for number, units in enumerate(hidden_units, start=1):
        x = layers.Dense(units, activation, name=f"hidden{number}")(x)
    return keras.Model(inputs, x, name=name)
