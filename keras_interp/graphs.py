"""Copies and views of functional graphs, and their outputs."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_interp.guards import require_one_process


def predict_all(view: keras.Model, inputs: Any, batch_size: int) -> Any:
    """The outputs of a view of a model for any number of inputs.

    On one device, where JAX would spread its batches over several: a last, smaller batch would not divide by their number.
    Raises as `require_one_process` does, where anything is spread.
    """
    distribution = keras.distribution.distribution() if keras.backend.backend() == "jax" else None
    if distribution is None:
        return view.predict(inputs, batch_size, verbose=0)
    require_one_process("Outputs are computed")
    keras.distribution.set_distribution(None)
    try:
        return view.predict(inputs, batch_size, verbose=0)
    finally:
        keras.distribution.set_distribution(distribution)


def keep_views(model: keras.Model, **views: Any) -> None:
    """Keeps further models of the same layers as attributes, past Keras's tracking, which would count each weight twice."""
    model.__dict__.update(views)


def set_weights(model: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """As `model.set_weights`, also for layers that keep what they compute from their weights, as an adapted `Normalization`.

    Args:
        model: a built `keras.Model` or layer.
        weights: list of arrays, those of `get_weights` of another one.

    Raises:
        ValueError: for another number of weights, or other shapes.
    """
    model.set_weights(weights)
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
