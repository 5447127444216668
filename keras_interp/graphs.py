"""Copies and views of functional graphs, and their outputs."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_interp.guards import require_one_process


def predict_all(view: keras.Model, inputs: Any, batch_size: int) -> Any:
    """Outputs of a view of a model for any number of inputs.

    Runs on one device: JAX would spread batches over several, and a smaller last batch might not divide evenly. Raises as
    `require_one_process` if several processes are running.
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
    """Keeps further models of the same layers as attributes, bypassing Keras's tracking, which would count weights twice."""
    model.__dict__.update(views)


def set_weights(model: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Like `model.set_weights`, also for layers that cache values computed from their weights, as an adapted `Normalization`.

    Args:
        model: a built `keras.Model` or layer.
        weights: list of arrays, from `get_weights` of another one.

    Raises:
        ValueError: for weights that differ in number or shape.
    """
    model.set_weights(weights)
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
