"""Weights that go from one model to another of the same graph."""


def set_weights(model, weights):
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
