"""Residual networks for small images (He et al., "Deep Residual Learning for Image Recognition", section 4.2)."""

import keras
from keras import layers, ops

from keras_interp.backbones.batch_normalization import FusedBatchNormalization
from keras_interp.backbones.preprocessing import pixel_normalization


@keras.saving.register_keras_serializable("keras_interp")
class ZeroPaddedShortcut(layers.Layer):
    """The parameter-free shortcut of He et al. (option A): keeps every `strides`-th pixel and appends channels of zeros.

    Args:
        filters: channels of the output, at least those of the input.
        strides: step in both spatial directions.

    Call arguments:
        inputs: float tensor (batch, height, width, channels).

    Returns:
        A tensor (batch, ceil(height / strides), ceil(width / strides), filters).
    """

    def __init__(self, filters, strides=2, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides

    def call(self, inputs):
        kept = inputs[:, :: self.strides, :: self.strides, :]
        return ops.pad(kept, ((0, 0), (0, 0), (0, 0), (0, self.filters - inputs.shape[-1])))

    def compute_output_shape(self, input_shape):
        height, width = (None if size is None else -(-size // self.strides) for size in input_shape[1:3])
        return (input_shape[0], height, width, self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


def cifar_resnet(depth=20, width=16, input_shape=(32, 32, 3), name=None):
    """The ResNet for CIFAR of He et al.: a 3x3 stem and three stages of basic blocks at 1, 2 and 4 times the width.

    It takes raw pixels (0..255) and ends in feature maps of a quarter of the input's height and width.

    Args:
        depth: number of layers with weights, 6n + 2: 20, 32, 44, 56 or 110 in the paper.
        width: channels of the first stage; the output has four times as many.
        input_shape: (height, width, 3).
        name: name of the model.

    Returns:
        A functional `keras.Model` from pixels (batch, height, width, 3) to feature maps (batch, height/4, width/4, 4·width).

    Raises:
        ValueError: for a depth that is not 6n + 2.

    Example:

    >>> cifar_resnet(depth=20).output_shape
    (None, 8, 8, 64)
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"`depth` must be 6n + 2 for some n of at least 1. Received: depth={depth}")

    def convolution(x, filters, strides, name):
        x = layers.Conv2D(
            filters, 3, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_convolution"
        )(x)
        return FusedBatchNormalization(name=f"{name}_normalization")(x)

    inputs = keras.Input(input_shape, name="pixels")
    x = pixel_normalization(inputs)
    x = layers.ReLU(name="stem_relu")(convolution(x, width, 1, "stem"))
    for stage in range(3):
        filters = width * 2**stage
        for block in range(blocks):
            prefix = f"stage{stage + 1}_block{block + 1}"
            strides = 2 if stage and not block else 1
            shortcut = x if strides == 1 else ZeroPaddedShortcut(filters, strides, name=f"{prefix}_shortcut")(x)
            x = layers.ReLU(name=f"{prefix}_inner_relu")(convolution(x, filters, strides, f"{prefix}_first"))
            x = layers.Add(name=f"{prefix}_add")([convolution(x, filters, 1, f"{prefix}_second"), shortcut])
            x = layers.ReLU(name=f"{prefix}_relu")(x)
    return keras.Model(inputs, x, name=name or f"cifar_resnet{depth}")
