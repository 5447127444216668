"""Rules of excitation backprop: passage of winning probabilities through each kind of layer."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_interp.backbones.batch_normalization import FusedBatchNormalization
from keras_interp.backbones.resnet import ZeroPaddedShortcut
from keras_interp.explain.gradients import input_gradient
from keras_interp.layers.x_layer import XLayer
from keras_interp.typing import Tensor

# The smallest normal float32. Smaller values count as zero, so that no quotient of probability and excitation overflows.
TINY = float(np.finfo("float32").tiny)


def winning_probabilities(inputs: Tensor, kernel: Tensor, probabilities: Tensor) -> Tensor:
    """Marginal winning probabilities of the inputs of a dense layer, given those of its outputs.

    Use it for the priors of a readout outside the model, as a linear one on a layer or the encoder of an explanation. For a
    contrastive prior, subtract the result for the negated kernel.

    Args:
        inputs: float tensor or array (..., k or 1, inputs), the activations; below zero they count as zero.
        kernel: weights (inputs, outputs), or (..., inputs, outputs) for one each of several networks.
        probabilities: (..., k, outputs), of k neurons or distributions.

    Returns:
        A float32 tensor (..., k, inputs).

    Examples:

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


def through_weights(step: Any, inputs: list[Tensor], probabilities: Tensor, sign: float) -> list[Tensor]:
    layer, kind = step.layer, type(step.layer)
    if kind is layers.Dense:
        return [winning_probabilities(ops.expand_dims(inputs[0], 1), layer.kernel * sign, probabilities)]
    if kind is layers.Conv2D:
        kernel = ops.relu(layer.kernel * sign)
        return _excite(lambda x: layer.convolution_op(x[0], kernel), inputs, probabilities)
    options = {name: getattr(layer, name) for name in ("strides", "padding", "dilation_rate", "data_format")}
    if kind is layers.DepthwiseConv2D:
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
    weight = sign_of(layer) if is_normalization(layer) else 1.0
    weight = ops.sign(ops.convert_to_tensor(layer.scale, "float32")) if type(layer) is layers.Rescaling else weight
    passed = ops.expand_dims(_positive(inputs[0]) * weight > 0, 1)
    return [ops.where(passed, probabilities, 0.0)]


def through_identity(step: Any, inputs: list[Tensor], probabilities: Tensor, sign: float) -> list[Tensor]:
    return [probabilities]


# By exact class: a subclass may compute something different.
ACTIVATION_LAYERS = (layers.ReLU, layers.LeakyReLU, layers.ELU)


RULES = {
    **dict.fromkeys((layers.Dense, layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D), through_weights),
    **dict.fromkeys((layers.Add, layers.Average, layers.AveragePooling2D, layers.GlobalAveragePooling2D), _through_sum),
    **dict.fromkeys((layers.MaxPooling2D, layers.GlobalMaxPooling2D, layers.Concatenate), _through_copies),
    **dict.fromkeys((layers.Flatten, layers.Reshape, layers.Permute), _through_copies),
    **dict.fromkeys((layers.ZeroPadding2D, layers.Cropping2D, ZeroPaddedShortcut), _through_copies),
    **dict.fromkeys((layers.BatchNormalization, FusedBatchNormalization), _through_scaling),
    **dict.fromkeys((layers.Rescaling, layers.Normalization), _through_scaling),
    **dict.fromkeys((layers.Activation, layers.Softmax, *ACTIVATION_LAYERS), through_identity),
    **dict.fromkeys((layers.Dropout, layers.SpatialDropout2D, XLayer), through_identity),
}


# Layers allowed between the neurons of a contrast and their weights.
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
    # Selected, not just multiplied: for a zero input the sum of quotients may overflow.
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


def is_normalization(layer: Any) -> bool:
    return type(layer) in (layers.BatchNormalization, FusedBatchNormalization)


def sign_of(normalization: Any) -> Tensor:
    """The signs (channels,) by which a normalization multiplies; by how much it does cancels in the formula."""
    return 1.0 if normalization.gamma is None else ops.sign(ops.cast(normalization.gamma, "float32"))


def keeps_signs(activation: Any) -> bool:
    return activation is None or activation in SIGN_KEEPING or type(activation) in ACTIVATION_LAYERS
