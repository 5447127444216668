"""Start of explanation modules from the classifier's own hidden layer, pruned for each class and grouped."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers


def prune_units(
    units: np.ndarray, logits: np.ndarray, weights: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Units that a least-squares fit of logits needs most, by backward elimination of those that add least.

    Args:
        units: activations (n, units).
        logits: logits to rebuild (n,).
        weights: weights (n,) of the examples.
        count: largest number of units to keep.

    Returns:
        Indices (kept,) of the remaining units, their slopes (kept,) and the intercept of the fit.
    """
    shares = weights / weights.sum()
    center, mean = shares @ units, shares @ logits
    scaled = units - center
    scaled *= np.sqrt(shares)[:, None]
    gram = (scaled.T @ scaled).astype("float64")
    moments = scaled.T @ (np.sqrt(shares) * (logits - mean))
    # A small ridge term, for units that are never active.
    gram += 1e-4 * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))
    kept = np.arange(len(gram))
    while True:
        inverse = np.linalg.inv(gram[np.ix_(kept, kept)])
        slopes = inverse @ moments[kept]
        if len(kept) <= count:
            return kept, slopes, mean - center[kept] @ slopes
        # Growth of the squared error without a unit, with the others refitted. An eighth of the units is removed at once.
        costs = slopes**2 / np.diag(inverse)
        gone = min(len(kept) - count, max(len(kept) // 8, 1))
        kept = kept[np.sort(np.argsort(costs)[gone:])]


def clusters(patterns: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Cluster indices (n,) of patterns (n, dimensions), clustered by direction."""
    if min(count, len(patterns)) < 2:
        return np.zeros(len(patterns), int)
    from sklearn.cluster import KMeans

    directions = patterns / np.maximum(np.linalg.norm(patterns, axis=1, keepdims=True), 1e-12)
    return KMeans(min(count, len(patterns)), n_init=3, random_state=seed).fit_predict(directions)  # pyright: ignore[reportArgumentType]


def check_start(classifier: keras.Model, layer: str, num_features: int, hidden_units: Sequence[int]) -> None:
    """Raises if modules cannot start from the classifier."""
    hidden_layer(classifier, layer)
    if num_features < 2 or min(hidden_units, default=0) < num_features:
        raise ValueError(
            "`start='classifier'` needs at least two x-features, and hidden layers of at least as many units. "
            f"Received: num_features={num_features}, hidden_units={hidden_units}"
        )


def hidden_layer(classifier: keras.Model, layer: str) -> keras.Layer:
    """The Dense layer with ReLU between a layer and the logits, if these three follow each other."""
    explained, tensor, passed = classifier.get_layer(layer).output, classifier.outputs[0], []
    while tensor is not explained:
        operation, node, _ = tensor._keras_history
        passed.append(operation)
        # Only this call: a layer may have others.
        sources = operation._inbound_nodes[node].input_tensors
        if len(sources) != 1:
            break
        tensor = sources[0]
    # Layers that change only the shape, or act only in training.
    between = [one for one in passed if not isinstance(one, (layers.Dropout, layers.Flatten, layers.Identity))]
    between = [one for one in between if not (isinstance(one, layers.Activation) and _function_name(one) == "linear")]
    functions = [_function_name(one) for one in between]
    dense = [one for one in between if isinstance(one, layers.Dense)]
    own_activation = len(between) == 2 and functions == ["linear", "relu"]
    as_layer = functions == ["linear", "relu", "linear"] and isinstance(between[1], (layers.ReLU, layers.Activation))
    # A Dense layer may also act at each position of a feature map.
    kernels: list[Any] = [one.kernel for one in dense]
    if (
        tensor is explained
        and len(dense) == 2
        and (own_activation or as_layer)
        and (kernels[0].shape[0], kernels[1].shape[0]) == (kernels[1].shape[1], np.prod(explained.shape[1:]))
    ):
        return dense[1]
    raise ValueError(
        "`start='classifier'` needs a layer followed by one hidden Dense layer with ReLU and the logits. "
        f"Received: layer={layer!r}, with logits that come from {', '.join(one.name for one in reversed(passed))}"
    )


def _function_name(operation):
    """Name of a layer's activation function; "" if it has none, or not a plain function."""
    if isinstance(operation, layers.ReLU):
        return "relu" if operation.max_value is None and not operation.negative_slope and not operation.threshold else ""
    return getattr(getattr(operation, "activation", None), "__name__", "")
