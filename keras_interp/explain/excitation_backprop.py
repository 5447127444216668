"""Excitation backprop: the lower neurons, down to the pixels, that cause the activation of an upper neuron.

Paper: Zhang et al., "Top-down Neural Attention by Excitation Backprop" (ECCV 2016). A winner is drawn among the upper
neurons; each winner j draws one of its children, a lower neuron i, with a probability in proportion to x_i · w⁺_ij, its
activation times the positive part of its weight. The marginal winning probability (MWP) of a lower neuron is the probability
that it is drawn in the end. From layer to layer it is computed top down:

    P(i) = Σ_j P(j) · x_i · w⁺_ij / Σ_k x_k · w⁺_kj
"""

import keras
import numpy as np
from keras import ops

from keras_interp.checks import check_inputs
from keras_interp.explain.excitation_graph import Graph, float32_twins, links, weights_of
from keras_interp.graphs import set_weights
from keras_interp.typing import ArrayLike


def excitation_backprop(
    model: keras.Model,
    images: ArrayLike,
    start: str,
    neurons: ArrayLike | None = None,
    priors: ArrayLike | None = None,
    end: str | None = None,
    contrastive: bool = False,
    sum_channels: bool = True,
    batch_size: int = 32,
) -> np.ndarray:
    """Marginal winning probabilities, or contrastive ones, from neurons of one layer to an earlier layer or the input.

    To query the same layers repeatedly, create one `ExcitationBackprop`, which also has the details; it compiles once.

    Args:
        model: a functional or sequential `keras.Model` with one input.
        images: array (n, height, width, channels) as the model takes it, or rows (n, columns).
        start: name of the layer to start from.
        neurons: indices of neurons of `start`, integers (k,) or (n, k), see `ExcitationBackprop.__call__`.
        priors: instead of `neurons`, probabilities (n, k, *shape of the output of `start`).
        end: name of the layer to end at; defaults to the model's input.
        contrastive: whether to compute c-MWP.
        sum_channels: whether to add up the channels of maps.
        batch_size: number of maps to compute at once.

    Returns:
        float32 array (n, k, h, w); (n, k, h, w, channels) without the sum; (n, k, features) where `end` has no maps.

    Raises:
        TypeError, ValueError: as for `ExcitationBackprop`.

    Examples:

    >>> from keras import layers
    >>> classifier = keras.Sequential([
    ...     keras.Input((16, 16, 3)),
    ...     layers.Conv2D(4, 3, activation="relu", name="convolution"),
    ...     layers.GlobalAveragePooling2D(),
    ...     layers.Dense(10, activation="softmax", name="predictions"),
    ... ])
    >>> images = np.random.default_rng(0).random((2, 16, 16, 3))
    >>> maps = excitation_backprop(classifier, images, "predictions", neurons=[3, 5], end="convolution")
    >>> maps.shape
    (2, 2, 14, 14)
    """
    propagation = ExcitationBackprop(model, start, end, contrastive, sum_channels)
    return propagation(images, neurons, priors, batch_size)


class ExcitationBackprop:
    """Excitation backprop between two layers of a network, compiled once; an object to be called with images.

    Rules of the layers on the way:

    - Weights (`Dense`, `Conv2D`, `DepthwiseConv2D`, `SeparableConv2D`) share it out by the formula above, without the bias. A
      batch normalization straight after them is folded into the weights. Activations below zero count as zero.
    - `Add`, `Average`, and average pooling, also global, are sums with positive weights: by the same formula.
    - Maximum pooling, also global, `Flatten`, `Reshape`, `Concatenate`, `ZeroPadding2D` and the like hand it to the one input
      that the output is a copy of.
    - A batch normalization elsewhere, `Rescaling` and `Normalization` hand it to their one input if it is positive and its
      weight too.
    - Activations that keep signs (linear, ReLU and its variants, ELU, tanh) and dropout leave it unchanged. Leaky ones pass
      values below zero, which the layer above counts as zero. The activation of `start` itself is ignored, so it may be a
      softmax.

    The probability of a winner without an active child of positive weight ends there, so the total is at most 1. It is also
    less than 1 if some paths bypass `end`, as inside a residual block. Preprocessed pixels may be negative and are then never
    drawn: a layer after the first few is a better `end` than the input.

    The contrastive MWP (c-MWP) is the difference between the MWP of a neuron and that of its dual, the neuron with all weights
    negated: both are computed for the layer just below the weights of `start`, their difference is propagated on from there,
    and at the end, after the sum over the channels, negative values become zero. Just below the weights the sum over all
    neurons is zero, so ending there with one pixel leaves nothing to see.

    Everything is computed in float32, whatever the model's dtype policy. Nested models are traversed, and their layers are
    found by name. The weights are those at the time of the call.

    Args:
        model: a functional or sequential `keras.Model` with one input.
        start: name of the layer to start from.
        end: name of the layer to end at; defaults to the model's input.
        contrastive: whether to compute c-MWP. The layer `start`, or the one whose output it activates or reshapes, must have
            weights.
        sum_channels: whether to add up the channels of maps.

    Raises:
        TypeError: for a model that is not functional.
        ValueError: for an unknown layer, one that is called more than once, an `end` that does not precede `start`, a layer in
            between for which excitation backprop is undefined, or a contrast without weights.

    Examples:

    >>> inputs = keras.Input((3,))
    >>> hidden = keras.layers.Dense(2, activation="relu", name="hidden", kernel_initializer="ones")(inputs)
    >>> model = keras.Model(inputs, keras.layers.Dense(1, name="logit", kernel_initializer="ones")(hidden))
    >>> propagation = ExcitationBackprop(model, "logit")
    >>> propagation(np.array([[1.0, 3.0, 0.0]]), neurons=[0]).tolist()
    [[[0.25, 0.75, 0.0]]]
    """

    def __init__(
        self, model: keras.Model, start: str, end: str | None = None, contrastive: bool = False, sum_channels: bool = True
    ) -> None:
        graph = Graph(model)
        self.input_shape = model.input_shape
        self.contrastive = contrastive
        self.sum_channels = sum_channels
        self._start = graph.find("start", start)
        self._end = graph.input if end is None else graph.find("end", end)
        self._start_shape = graph.shapes[self._start]
        self._reached = graph.reached_from(self._end)
        if self._start == self._end or self._start not in self._reached:
            raise ValueError(f"`end` must come before `start` in the network. Received: start={start!r}, end={end!r}")
        self._steps = graph.steps_before(self._start)
        self._links = links(self._steps, self._start, self._end, self._reached)
        for link in self._links:
            link.check(at_start=link.output == self._start)
        self._contrast = weights_of(self._start, self._links) if contrastive else None
        if contrastive and self._contrast is None:
            raise ValueError(
                "c-MWP needs a `start` with weights, between which and the last convolution or dense layer nothing but "
                f"activations, reshaping and dropout stands. Received: start={start!r}, end={end!r}"
            )
        self._twins = float32_twins(self._steps)
        self._function = _compiled(self._propagate, [step.layer for step in self._steps])

    def __call__(self, images, neurons=None, priors=None, batch_size=32):
        """Winning probabilities of every image and every neuron.

        The result is linear in the priors. They may be signed: a contrast that the caller makes above `start`, for which
        `winning_probabilities` serves, gives signed results, and their positive part is the c-MWP.

        Args:
            images: array (n, height, width, channels) as the model takes it, or rows (n, columns).
            neurons: indices of neurons of `start` with a prior of 1 each: integers (k,), or (n, k) per image. A neuron of a
                map has its number in the flattened output: (y · width + x) · channels + channel.
            priors: instead of `neurons`, k prior distributions for each image, float array (n, k, *shape of the output of
                `start`).
            batch_size: number of maps, pairs of an image and a neuron, that are computed at once. Memory grows with it.

        Returns:
            float32 array (n, k, h, w); (n, k, h, w, channels) without the sum over channels; (n, k, features) where `end` has
            no maps.

        Raises:
            ValueError: for images of the wrong shape, none at all, NaN or infinite pixels; for both or neither of `neurons`
                and `priors`; for a neuron out of range; for priors of the wrong shape, NaN or infinite; for a batch size below
                1.
            TypeError: for neuron indices that are not integers.
        """
        images = check_inputs(images, self.input_shape)
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
        for layer, twin in self._twins:
            set_weights(twin, layer.get_weights())
        count, priors_of = self._checked_priors(images, neurons, priors)
        columns = min(count, batch_size)
        rows = min(len(images), max(1, batch_size // columns))
        pieces = []
        for row in range(0, len(images), rows):
            batch = images[row : row + rows].astype("float32")
            # All batches have one size, so that the function is compiled once.
            padding = rows - len(batch)
            batch = np.pad(batch, [(0, padding)] + [(0, 0)] * (batch.ndim - 1), mode="edge")
            parts = []
            for column in range(0, count, columns):
                some = priors_of(slice(row, row + rows), slice(column, column + columns))
                missing = [(0, padding), (0, columns - some.shape[1])] + [(0, 0)] * (some.ndim - 2)
                part = ops.convert_to_numpy(self._function(batch, np.pad(some, missing)))
                parts.append(part[: rows - padding, : some.shape[1]])
            pieces.append(np.concatenate(parts, axis=1))
        return np.concatenate(pieces)

    def _checked_priors(self, images, neurons, priors):
        """The number of neurons, and a function from slices of the images and of the neurons to their priors."""
        if (neurons is None) == (priors is None):
            raise ValueError("Give either `neurons` or `priors`. Received: " + ("neither" if neurons is None else "both"))
        shape = self._start_shape[1:]
        if None in shape:
            shape = tuple(self._activations(ops.convert_to_tensor(images[:1], "float32"))[self._start].shape[1:])
        size = int(np.prod(shape))
        if neurons is None:
            priors = np.asarray(priors, "float32")
            if priors.ndim < 2 or not priors.shape[1] or priors.shape != (len(images), priors.shape[1], *shape):
                raise ValueError(
                    f"`priors` must have the shape ({len(images)}, neurons, {', '.join(map(str, shape))}). "
                    f"Received: shape={priors.shape}"
                )
            if not np.isfinite(priors).all():
                raise ValueError("`priors` must be finite. Received: NaN or infinite values")
            return priors.shape[1], lambda rows, columns: priors[rows, columns]
        neurons = np.asarray(neurons)
        if neurons.dtype.kind not in "ui":
            raise TypeError(f"Neurons must be integers. Received: dtype={neurons.dtype}")
        if neurons.ndim not in (1, 2) or not neurons.size or (neurons.ndim == 2 and len(neurons) != len(images)):
            raise ValueError(f"`neurons` must have the shape (k,) or ({len(images)}, k). Received: shape={neurons.shape}")
        if neurons.min() < 0 or neurons.max() >= size:
            bad = np.unique(neurons[(neurons < 0) | (neurons >= size)])
            raise ValueError(f"`neurons` must lie in [0, {size}). Received: {bad[:8].tolist()}")
        neurons = np.broadcast_to(neurons, (len(images), neurons.shape[-1]))

        def one_hot(rows, columns):
            chosen = neurons[rows, columns]
            result = np.zeros((*chosen.shape, size), "float32")
            np.put_along_axis(result, chosen[..., None].astype("int64"), 1.0, axis=2)
            return result.reshape(*chosen.shape, *shape)

        return neurons.shape[1], one_hot

    def _activations(self, images):
        values = {0: images}
        for step in self._steps:
            values.update(zip(step.outputs, keras.tree.flatten(step([values[token] for token in step.inputs]))))
        return values

    def _propagate(self, images, priors):
        values = self._activations(images)
        probabilities = {self._start: priors}
        for link in self._links:
            inputs = [values[token] for token in link.inputs]
            share = probabilities.pop(link.output)
            parts = link.propagate(inputs, share, 1.0)
            if link is self._contrast:
                parts = [part - dual for part, dual in zip(parts, link.propagate(inputs, share, -1.0))]
            for token, part in zip(link.inputs, parts):
                if token in self._reached:
                    probabilities[token] = probabilities[token] + part if token in probabilities else part
        result = probabilities[self._end]
        if self.sum_channels and len(result.shape) > 3:
            result = ops.sum(result, axis=-1)
        return ops.relu(result) if self.contrastive else result


def _compiled(function, operations):
    """Compiles a function of arrays that calls layers, whose weights may change between the calls."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(function, autograph=False)
        return lambda *arrays: compiled(*map(tf.convert_to_tensor, arrays))
    if keras.backend.backend() == "jax":
        import jax

        variables = list({id(v): v for operation in operations for v in getattr(operation, "variables", ())}.values())

        @jax.jit
        def compiled(values, *arrays):
            with keras.StatelessScope(state_mapping=zip(variables, values)):
                return function(*arrays)

        return lambda *arrays: compiled([variable.value for variable in variables], *arrays)
    raise NotImplementedError(f"Excitation backprop needs TensorFlow or JAX. Received: {keras.backend.backend()}")
