"""Where explanation modules can start: the classifier's own hidden layer, pruned for each class and grouped."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers


def prune_units(
    units: np.ndarray, logits: np.ndarray, weights: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """The units that a least-squares fit of logits needs most, by backward elimination: always those go that add least.

    Args:
        units: activations (n, units).
        logits: what they rebuild (n,).
        weights: weights (n,) of the examples.
        count: how many stay, where there are more.

    Returns:
        Numbers (kept,) of the units that stay, their slopes (kept,) and the intercept of the fit.
    """
    shares = weights / weights.sum()
    center, mean = shares @ units, shares @ logits
    scaled = units - center
    scaled *= np.sqrt(shares)[:, None]
    gram = (scaled.T @ scaled).astype("float64")
    moments = scaled.T @ (np.sqrt(shares) * (logits - mean))
    # A little ridge, for units that are never active.
    gram += 1e-4 * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))
    kept = np.arange(len(gram))
    while True:
        inverse = np.linalg.inv(gram[np.ix_(kept, kept)])
        slopes = inverse @ moments[kept]
        if len(kept) <= count:
            return kept, slopes, mean - center[kept] @ slopes
        # What the squared error grows by without a unit, with the others fitted anew. An eighth of the units go at once.
        costs = slopes**2 / np.diag(inverse)
        gone = min(len(kept) - count, max(len(kept) // 8, 1))
        kept = kept[np.sort(np.argsort(costs)[gone:])]


def clusters(patterns: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Numbers (n,) of the clusters of patterns (n, dimensions) by their directions."""
    if min(count, len(patterns)) < 2:
        return np.zeros(len(patterns), int)
    from sklearn.cluster import KMeans

    directions = patterns / np.maximum(np.linalg.norm(patterns, axis=1, keepdims=True), 1e-12)
    return KMeans(min(count, len(patterns)), n_init=3, random_state=seed).fit_predict(directions)  # pyright: ignore[reportArgumentType]


def check_start(classifier: keras.Model, layer: str, num_features: int, hidden_units: Sequence[int]) -> None:
    """Raises where modules cannot start from the classifier."""
    hidden_layer(classifier, layer)
    if num_features < 2 or min(hidden_units, default=0) < num_features:
        raise ValueError(
            "`start='classifier'` needs two x-features or more, and hidden layers of as many units at least. "
            f"Received: num_features={num_features}, hidden_units={hidden_units}"
        )


def hidden_layer(classifier: keras.Model, layer: str) -> keras.Layer:
    """The Dense layer with ReLU between a layer and the logits, where these three follow each other."""
    explained, tensor, passed = classifier.get_layer(layer).output, classifier.outputs[0], []
    while tensor is not explained:
        operation, node, _ = tensor._keras_history
        passed.append(operation)
        # Of this call: a layer may have others.
        sources = operation._inbound_nodes[node].input_tensors
        if len(sources) != 1:
            break
        tensor = sources[0]
    # What changes nothing but the shape, or changes only in training.
    between = [one for one in passed if not isinstance(one, (layers.Dropout, layers.Flatten, layers.Identity))]
    between = [one for one in between if not (isinstance(one, layers.Activation) and _function_name(one) == "linear")]
    functions = [_function_name(one) for one in between]
    dense = [one for one in between if isinstance(one, layers.Dense)]
    own_activation = len(between) == 2 and functions == ["linear", "relu"]
    as_layer = functions == ["linear", "relu", "linear"] and isinstance(between[1], (layers.ReLU, layers.Activation))
    # A Dense layer may also be at each place of a feature map.
    kernels: list[Any] = [one.kernel for one in dense]
    if (
        tensor is explained
        and len(dense) == 2
        and (own_activation or as_layer)
        and (kernels[0].shape[0], kernels[1].shape[0]) == (kernels[1].shape[1], np.prod(explained.shape[1:]))
    ):
        return dense[1]
    raise ValueError(
        "`start='classifier'` needs a layer that is followed by one hidden Dense layer with ReLU, and the logits. "
        f"Received: layer={layer!r}, with logits that come from {', '.join(one.name for one in reversed(passed))}"
    )


def _function_name(operation):
    """Name of the activation function of a layer, "" for none or one of another form."""
    if isinstance(operation, layers.ReLU):
        return "relu" if operation.max_value is None and not operation.negative_slope and not operation.threshold else ""
    return getattr(getattr(operation, "activation", None), "__name__", "")
