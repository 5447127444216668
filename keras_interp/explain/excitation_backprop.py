"""Excitation backprop: which lower neurons, down to the pixels, are behind the activation of an upper neuron.

Paper: Zhang et al., "Top-down Neural Attention by Excitation Backprop" (ECCV 2016). A winner is drawn among the upper
neurons; each winner j draws one of its children, a lower neuron i, with a probability in proportion to x_i · w⁺_ij, its
activation times the positive part of its weight. The marginal winning probability (MWP) of a lower neuron is the probability
that it is drawn in the end. From layer to layer it is computed top down:

    P(i) = Σ_j P(j) · x_i · w⁺_ij / Σ_k x_k · w⁺_kj
"""

import dataclasses
import difflib
import itertools

import keras
import numpy as np
from keras import layers, ops

from keras_interp.backbones.batch_normalization import FusedBatchNormalization
from keras_interp.backbones.resnet import ZeroPaddedShortcut
from keras_interp.checks import check_inputs
from keras_interp.explain.gradients import input_gradient
from keras_interp.layers.x_layer import XLayer
from keras_interp.weights import set_weights

# The smallest normal float32. What is below counts as zero, so that no quotient of probability and excitation overflows.
TINY = float(np.finfo("float32").tiny)


def excitation_backprop(
    model,
    images,
    start,
    neurons=None,
    priors=None,
    end=None,
    contrastive=False,
    sum_channels=True,
    batch_size=32,
):
    """Marginal winning probabilities, or contrastive ones, from neurons of one layer to an earlier layer or the input.

    Who asks more than once of the same layers saves the compilation with an `ExcitationBackprop`, which does the work and
    documents it.

    Args:
        model: a functional or sequential `keras.Model` with one input.
        images: array (n, height, width, channels) as the model takes it, or rows (n, columns).
        start: name of the layer to start from.
        neurons: numbers of neurons of `start`, integers (k,) or (n, k), see `ExcitationBackprop.__call__`.
        priors: instead of `neurons`, probabilities (n, k, *shape of the output of `start`).
        end: name of the layer to end at; by default the model's input.
        contrastive: whether to compute c-MWP.
        sum_channels: whether to add up the channels of maps.
        batch_size: number of maps that are computed at once.

    Returns:
        float32 array (n, k, h, w); (n, k, h, w, channels) without the sum; (n, k, features) where `end` has no maps.

    Raises:
        TypeError, ValueError: as for `ExcitationBackprop`.

    Example:

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

    What the layers on the way do with the probability:

    - Weights (`Dense`, `Conv2D`, `DepthwiseConv2D`, `SeparableConv2D`) share it out by the formula above, without the bias. A
      batch normalisation straight after them is folded into the weights. Activations below zero count as zero.
    - `Add`, `Average`, and average pooling, also global, are sums with positive weights: by the same formula.
    - Maximum pooling, also global, `Flatten`, `Reshape`, `Concatenate`, `ZeroPadding2D` and the like hand it to the one input
      that the output is a copy of.
    - A batch normalisation elsewhere, `Rescaling` and `Normalization` hand it to their one input if it is positive and its
      weight too.
    - Activations that keep signs (linear, ReLU and its variants, ELU, tanh) and dropout leave it as it is. Leaky ones pass
      values below zero, which the layer above counts as zero. The activation of `start` itself plays no part, so that a
      softmax may stand there.

    The probability of a winner without an active child of positive weight ends there, so the total is at most 1. It is also
    less than 1 where not all paths lead through `end`, inside a residual block for one. Preprocessed pixels may be negative
    and are then never drawn: a layer after the first few is a better `end` than the input.

    The contrastive MWP (c-MWP) is the difference between the MWP of a neuron and that of its dual, the neuron with all
    weights negated: both are computed for the layer just below the weights of `start`, their difference is propagated on
    from there, and in the end, after the sum over the channels, what is below zero becomes zero. Just below the weights the
    sum over all neurons is zero, so ending there with one pixel leaves nothing to see.

    Everything is computed in float32, whatever the model's dtype policy. Nested models are gone through, and their layers are
    found by name. The weights are those at the time of the call.

    Args:
        model: a functional or sequential `keras.Model` with one input.
        start: name of the layer to start from.
        end: name of the layer to end at; by default the model's input.
        contrastive: whether to compute c-MWP. The layer `start`, or the one whose output it activates or reshapes, must have
            weights.
        sum_channels: whether to add up the channels of maps.

    Raises:
        TypeError: for a model that is not functional.
        ValueError: for an unknown layer, one that is called more than once, an `end` that does not come before `start`, a
            layer in between that excitation backprop is not defined for, or a contrast without weights.

    Example:

    >>> inputs = keras.Input((3,))
    >>> hidden = keras.layers.Dense(2, activation="relu", name="hidden", kernel_initializer="ones")(inputs)
    >>> model = keras.Model(inputs, keras.layers.Dense(1, name="logit", kernel_initializer="ones")(hidden))
    >>> propagation = ExcitationBackprop(model, "logit")
    >>> propagation(np.array([[1.0, 3.0, 0.0]]), neurons=[0]).tolist()
    [[[0.25, 0.75, 0.0]]]
    """

    def __init__(self, model, start, end=None, contrastive=False, sum_channels=True):
        graph = _Graph(model)
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
        self._links = _links(self._steps, self._start, self._end, self._reached)
        for link in self._links:
            link.check(at_start=link.output == self._start)
        self._contrast = _weights_of(self._start, self._links) if contrastive else None
        if contrastive and self._contrast is None:
            raise ValueError(
                "c-MWP needs a `start` with weights, between which and the last convolution or dense layer nothing but "
                f"activations, reshaping and dropout stands. Received: start={start!r}, end={end!r}"
            )
        self._twins = _float32_twins(self._steps)
        self._function = _compiled(self._propagate, [step.layer for step in self._steps])

    def __call__(self, images, neurons=None, priors=None, batch_size=32):
        """Winning probabilities of every image and every neuron.

        The result is linear in the priors. They may be signed: a contrast that the caller makes above `start`, for which
        `winning_probabilities` serves, gives signed results, and their positive part is the c-MWP.

        Args:
            images: array (n, height, width, channels) as the model takes it, or rows (n, columns).
            neurons: numbers of neurons of `start` whose prior is 1 each: integers (k,), or (n, k) for others in each image.
                A neuron of a map has its number in the flattened output: (y · width + x) · channels + channel.
            priors: instead of `neurons`, k prior distributions for each image, float array (n, k, *shape of the output of
                `start`).
            batch_size: number of maps, pairs of an image and a neuron, that are computed at once. Memory grows with it.

        Returns:
            float32 array (n, k, h, w); (n, k, h, w, channels) without the sum over channels; (n, k, features) where `end` has
            no maps.

        Raises:
            ValueError: for images of another shape, none at all, NaN or infinite pixels; for both or neither of `neurons` and
                `priors`; for a neuron out of range; for priors of another shape, NaN or infinite; for a batch size below 1.
            TypeError: for numbers of neurons that are not integers.
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


def winning_probabilities(inputs, kernel, probabilities):
    """Marginal winning probabilities of the inputs of a dense layer, given those of its outputs.

    With it a caller prepares the priors of a readout that is not part of the model, as a linear one on a layer or the encoder
    of an explanation. For a contrastive prior, subtract what the negated kernel gives.

    Args:
        inputs: float tensor or array (..., k or 1, inputs), the activations; below zero they count as zero.
        kernel: weights (inputs, outputs), or (..., inputs, outputs) for one each of several networks.
        probabilities: (..., k, outputs), of k neurons or distributions.

    Returns:
        A float32 tensor (..., k, inputs).

    Example:

    >>> inputs = np.array([[1.0, 2.0, 4.0]])
    >>> kernel = np.array([[2.0, -1.0], [1.0, 1.0], [-1.0, 0.5]])
    >>> np.asarray(winning_probabilities(inputs, kernel, np.eye(2))).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    inputs = _positive(ops.cast(ops.convert_to_tensor(inputs), "float32"))
    kernel = ops.relu(ops.cast(ops.convert_to_tensor(kernel), "float32"))
    probabilities = ops.cast(ops.convert_to_tensor(probabilities), "float32")
    shares = _divide(probabilities, ops.matmul(inputs, kernel))
    return _weighted(inputs, ops.matmul(shares, ops.swapaxes(kernel, -1, -2)))


# --- The rules: inputs (b, ...) and probabilities (b, k, ...) of the output give probabilities (b, k, ...) of each input.


def _through_weights(step, inputs, probabilities, sign):
    layer = step.layer
    if type(layer) is layers.Dense:
        return [winning_probabilities(ops.expand_dims(inputs[0], 1), layer.kernel * sign, probabilities)]
    if type(layer) is layers.Conv2D:
        kernel = ops.relu(layer.kernel * sign)
        return _excite(lambda x: layer.convolution_op(x[0], kernel), inputs, probabilities)
    options = {name: getattr(layer, name) for name in ("strides", "padding", "dilation_rate", "data_format")}
    if type(layer) is layers.DepthwiseConv2D:
        sign = sign if isinstance(sign, float) else ops.reshape(sign, layer.kernel.shape[2:])
        kernel = ops.relu(layer.kernel * sign)
        # XLA's depthwise convolutions and their gradients are ten to some hundred times slower than this on a CPU.
        convolve = _depthwise_by_taps if keras.backend.backend() == "jax" else ops.depthwise_conv
        return _excite(lambda x: convolve(x[0], kernel, **options), inputs, probabilities)
    # The sum over the hidden channels is linear, so the neuron's weights are those of one convolution.
    depthwise, pointwise = layer.depthwise_kernel, layer.pointwise_kernel
    pointwise = ops.reshape(pointwise, (*depthwise.shape[2:], pointwise.shape[-1]))
    kernel = ops.relu(ops.einsum("hwcm,cmo->hwco", depthwise, pointwise) * sign)
    return _excite(lambda x: ops.conv(x[0], kernel, **options), inputs, probabilities)


def _depthwise_by_taps(x, kernel, strides, padding, dilation_rate, data_format):
    """`ops.depthwise_conv` as a sum over the kernel's positions."""
    sizes, margins = [], []
    for size, kernel_size, stride, dilation in zip(x.shape[1:3], kernel.shape[:2], strides, dilation_rate):
        extent = (kernel_size - 1) * dilation + 1
        sizes.append(-(-size // stride) if padding == "same" else (size - extent) // stride + 1)
        margin = max((sizes[-1] - 1) * stride + extent - size, 0) if padding == "same" else 0
        margins.append((margin // 2, margin - margin // 2))
    x = ops.expand_dims(ops.pad(x, [(0, 0), *margins, (0, 0)]), -1)
    outputs = 0.0
    for position in np.ndindex(*kernel.shape[:2]):
        rows, columns = (
            slice(tap * dilation, tap * dilation + (size - 1) * stride + 1, stride)
            for tap, dilation, size, stride in zip(position, dilation_rate, sizes, strides)
        )
        outputs = outputs + x[:, rows, columns] * kernel[position]
    return ops.reshape(outputs, (-1, *sizes, kernel.shape[2] * kernel.shape[3]))


def _through_sum(step, inputs, probabilities, sign):
    return _excite(step, inputs, probabilities)


def _through_copies(step, inputs, probabilities, sign):
    return _pull_back(step, inputs, probabilities)


def _through_scaling(step, inputs, probabilities, sign):
    layer = step.layer
    weight = _sign_of(layer) if _is_normalization(layer) else 1.0
    weight = ops.sign(ops.convert_to_tensor(layer.scale, "float32")) if type(layer) is layers.Rescaling else weight
    passed = ops.expand_dims(_positive(inputs[0]) * weight > 0, 1)
    return [ops.where(passed, probabilities, 0.0)]


def _through_identity(step, inputs, probabilities, sign):
    return [probabilities]


# By exact class: a subclass may compute something else.
ACTIVATION_LAYERS = (layers.ReLU, layers.LeakyReLU, layers.ELU)
RULES = {
    **dict.fromkeys((layers.Dense, layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D), _through_weights),
    **dict.fromkeys((layers.Add, layers.Average, layers.AveragePooling2D, layers.GlobalAveragePooling2D), _through_sum),
    **dict.fromkeys((layers.MaxPooling2D, layers.GlobalMaxPooling2D, layers.Concatenate), _through_copies),
    **dict.fromkeys((layers.Flatten, layers.Reshape, layers.Permute), _through_copies),
    **dict.fromkeys((layers.ZeroPadding2D, layers.Cropping2D, ZeroPaddedShortcut), _through_copies),
    **dict.fromkeys((layers.BatchNormalization, FusedBatchNormalization), _through_scaling),
    **dict.fromkeys((layers.Rescaling, layers.Normalization), _through_scaling),
    **dict.fromkeys((layers.Activation, layers.Softmax, *ACTIVATION_LAYERS), _through_identity),
    **dict.fromkeys((layers.Dropout, layers.SpatialDropout2D, XLayer), _through_identity),
}
# What may stand between the neurons of a contrast and their weights.
TRANSPARENT = (layers.Flatten, layers.Reshape, layers.Permute)
SIGN_KEEPING = tuple(
    map(keras.activations.get, ("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "tanh", "hard_tanh", "softsign"))
)


def _positive(x):
    return ops.where(x > TINY, x, 0.0)


def _divide(probabilities, excitation):
    excited = excitation > TINY
    return ops.where(excited, probabilities / ops.where(excited, excitation, 1.0), 0.0)


def _weighted(x, gradient):
    # Chosen, and not only multiplied: under an input of zero the sum of quotients may overflow.
    return ops.where(x > 0, x * gradient, 0.0)


def _excite(function, inputs, probabilities):
    """The formula, for a function of a list of inputs that is linear with weights that are not negative."""
    inputs = [_positive(x) for x in inputs]
    shares = _divide(probabilities, ops.expand_dims(function(inputs), 1))
    gradients = _pull_back(function, inputs, shares)
    return [_weighted(ops.expand_dims(x, 1), gradient) for x, gradient in zip(inputs, gradients)]


def _pull_back(function, inputs, probabilities):
    """Gradients (b, k, ...) of a function of a list of inputs (b, ...), multiplied from above by probabilities (b, k, ...)."""
    count = probabilities.shape[1]
    folded = ops.reshape(probabilities, (-1, *probabilities.shape[2:]))
    copies = [ops.repeat(x, count, axis=0) for x in inputs]
    results = []
    for number, x in enumerate(inputs):

        def product(v, number=number):
            return function([*copies[:number], v, *copies[number + 1 :]]) * folded

        gradient = input_gradient(product, copies[number])
        results.append(ops.reshape(gradient, (-1, count, *x.shape[1:])))
    return results


# --- The graph.


@dataclasses.dataclass(eq=False)
class _Step:
    """One call of one layer, from tensors to tensors that have numbers in the whole graph."""

    layer: object
    node: object
    inputs: list
    outputs: list

    def __call__(self, values):
        tensors = {id(tensor): value for tensor, value in zip(self.node.input_tensors, values)}
        arguments, options = self.node.arguments.fill_in(tensors)
        return self.layer(*arguments, **options)


@dataclasses.dataclass(eq=False)
class _Link:
    """One application of a rule; where weights are followed by their normalisation, of both together."""

    step: _Step
    output: int
    normalization: _Step | None = None

    @property
    def inputs(self):
        return self.step.inputs

    @property
    def rule(self):
        return RULES.get(type(self.step.layer))

    def propagate(self, inputs, probabilities, sign):
        if self.normalization is not None:
            sign = sign * _sign_of(self.normalization.layer)
        return self.rule(self.step, inputs, probabilities, sign)

    def check(self, at_start):
        """Raises for what excitation backprop is not defined for."""
        layer = self.step.layer
        if self.rule is None:
            supported = ", ".join(sorted(cls.__name__ for cls in RULES))
            raise ValueError(
                f"Excitation backprop is not defined for the layer {layer.name!r}. Supported are {supported}. "
                f"Received: {type(layer).__name__}"
            )
        for step in filter(None, (self.step, self.normalization)):
            channels_first = getattr(step.layer, "data_format", None) == "channels_first"
            last_axis = len(step.node.input_tensors[0].shape) - 1
            if channels_first or (_is_normalization(step.layer) and step.layer.axis not in (-1, last_axis)):
                raise ValueError(f"Excitation backprop takes channels last. Received: channels first in {step.layer.name!r}")
        keeps_signs = type(layer) is not layers.Softmax and _keeps_signs(getattr(layer, "activation", None))
        if not (at_start or keeps_signs):
            raise ValueError(
                "Excitation backprop needs activations that keep signs, as ReLU; another one may stand in `start` alone. "
                f"Received: {getattr(layer, 'activation', layer)} in the layer {layer.name!r}"
            )


class _Graph:
    """The calls of all layers in topological order, those inside nested models included; the model's input is tensor 0."""

    def __init__(self, model):
        if _functional(model) is None:
            raise TypeError(
                "The model must be functional, or sequential and built, so that its layers can be followed. "
                f"Received: {type(model).__name__}"
            )
        if len(model.inputs) != 1:
            raise ValueError(f"The model must have one input. Received: {len(model.inputs)} inputs")
        self.input = 0
        self.steps = []
        self.shapes = {0: tuple(model.inputs[0].shape)}
        self.names = {}
        self._numbers = itertools.count(1)
        self._unroll(_functional(model), [0])

    def _unroll(self, model, inputs):
        """Adds the steps of a model that is called on the tensors of these numbers; returns the numbers of its outputs."""
        tokens = {id(tensor): token for tensor, token in zip(model.inputs, inputs)}
        for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):
            for node in nodes:
                layer = node.operation
                if not node.is_input:
                    arguments = [tokens[id(tensor)] for tensor in node.input_tensors]
                    if _functional(layer) is not None:
                        outputs = self._unroll(_functional(layer), arguments)
                    else:
                        outputs = [next(self._numbers) for _ in node.output_tensors]
                        self.steps.append(_Step(layer, node, arguments, outputs))
                        self.shapes.update((token, tuple(t.shape)) for token, t in zip(outputs, node.output_tensors))
                    tokens.update(zip(map(id, node.output_tensors), outputs))
                self.names.setdefault(layer.name, []).extend(tokens[id(tensor)] for tensor in node.output_tensors)
        return [tokens[id(tensor)] for tensor in model.outputs]

    def reached_from(self, token):
        """The numbers of the tensors that depend on this one, itself included."""
        reached = {token}
        for step in self.steps:
            if reached.intersection(step.inputs):
                reached.update(step.outputs)
        return reached

    def steps_before(self, token):
        """The steps that this tensor is computed by, in order."""
        needed, steps = {token}, []
        for step in reversed(self.steps):
            if needed.intersection(step.outputs):
                needed.update(step.inputs)
                steps.append(step)
        return steps[::-1]

    def find(self, argument, name):
        """The number of the output of the layer of a name."""
        if name not in self.names:
            nearest = difflib.get_close_matches(str(name), self.names, n=5, cutoff=0.0)
            raise ValueError(f"`{argument}` must be the name of a layer, such as {nearest}. Received: {argument}={name!r}")
        if len(self.names[name]) > 1:
            raise ValueError(
                f"`{argument}` must be a layer with one output that is called once. "
                f"Received: {argument}={name!r} with {len(self.names[name])} outputs"
            )
        return self.names[name][0]


def _functional(layer):
    """The graph of a layer that is a model, or None."""
    graph = layer._functional if isinstance(layer, keras.Sequential) else layer
    return graph if isinstance(graph, keras.Model) and hasattr(graph, "_nodes_by_depth") else None


def _links(steps, start, end, reached):
    """What probability from `start` goes through on its way to `end`, from the top."""
    producers = {token: step for step in steps for token in step.outputs}
    tokens, links = {start}, []
    for step in reversed(steps):
        if not (tokens.intersection(step.outputs) and reached.intersection(step.inputs)):
            continue
        below = producers.get(step.inputs[0])
        folded = (
            _is_normalization(step.layer)
            and step.inputs[0] != end
            and RULES.get(type(below.layer)) is _through_weights
            and below.layer.activation in (None, keras.activations.linear)
        )
        links.append(_Link(below, step.outputs[0], step) if folded else _Link(step, step.outputs[0]))
        tokens.update(reached.intersection(links[-1].inputs))
    return links


def _weights_of(start, links):
    """The link with the weights of the neurons of `start`, or None."""
    by_output = {link.output: link for link in links}
    link = by_output[start]
    while link.rule is not _through_weights:
        if link.rule is not _through_identity and type(link.step.layer) not in TRANSPARENT:
            return None
        link = by_output.get(link.inputs[0])
        if link is None:
            return None
    return link


def _is_normalization(layer):
    return type(layer) in (layers.BatchNormalization, FusedBatchNormalization)


def _sign_of(normalization):
    """The signs (channels,) by which a normalisation multiplies; by how much it does cancels in the formula."""
    return 1.0 if normalization.gamma is None else ops.sign(ops.cast(normalization.gamma, "float32"))


def _keeps_signs(activation):
    return activation is None or activation in SIGN_KEEPING or type(activation) in ACTIVATION_LAYERS


def _float32_twins(steps):
    """Replaces the layers that compute in another dtype; returns the pairs of a layer and its copy in float32."""
    twins = {}
    for step in steps:
        layer = step.layer
        if isinstance(layer, keras.Layer) and layer.compute_dtype != "float32":
            if id(layer) not in twins:
                twin = type(layer).from_config({**layer.get_config(), "dtype": "float32"})
                if layer.weights:
                    twin.build_from_config(layer.get_build_config())
                twins[id(layer)] = layer, twin
            step.layer = twins[id(layer)][1]
    return list(twins.values())


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
