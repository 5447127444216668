"""Residual networks (He et al., "Deep Residual Learning for Image Recognition", sections 4.1 and 4.2)."""

from typing import Any

import keras
from keras import layers, ops

from keras_interp.backbones.batch_normalization import FusedBatchNormalization
from keras_interp.backbones.preprocessing import pixel_normalization
from keras_interp.checks import check_options
from keras_interp.typing import Shape, Tensor

# Table 1: blocks of each of the four stages.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Kernel and step of the first convolution, and whether a pooling of step 2 follows.
STEMS = {"imagenet": (7, 2, True), "cifar": (3, 1, False), "small": (3, 2, False)}


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

    def __init__(self, filters: int, strides: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides

    def call(self, inputs: Tensor) -> Tensor:
        kept = inputs[:, :: self.strides, :: self.strides, :]
        return ops.pad(kept, ((0, 0), (0, 0), (0, 0), (0, self.filters - inputs.shape[-1])))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        height, width = (None if size is None else -(-size // self.strides) for size in input_shape[1:3])
        return (input_shape[0], height, width, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


def _convolution(x, filters, size, strides, name):
    x = layers.Conv2D(
        filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_convolution"
    )(x)
    return FusedBatchNormalization(name=f"{name}_normalization")(x)


def _residual_block(x, shortcut, convolutions, prefix):
    """Convolutions, each (filters, kernel size, step), whose last output is added to the shortcut."""
    names = ("first", "second", "third")
    for number, (filters, size, strides) in enumerate(convolutions):
        x = _convolution(x, filters, size, strides, f"{prefix}_{names[number]}")
        if number < len(convolutions) - 1:
            x = layers.ReLU(name=f"{prefix}_inner_relu{number + 1 if number else ''}")(x)
    x = layers.Add(name=f"{prefix}_add")([x, shortcut])
    return layers.ReLU(name=f"{prefix}_relu")(x)


def cifar_resnet(depth: int = 20, width: int = 16, input_shape: Shape = (32, 32, 3), name: str | None = None) -> keras.Model:
    """The ResNet for CIFAR of He et al.: a 3x3 stem and three stages of basic blocks at 1, 2 and 4 times the width.

    It takes raw pixels (0..255) and ends in feature maps of a quarter of the input's height and width.

    Args:
        depth: number of layers with weights, 6n + 2: 20, 32, 44, 56 or 110 in the paper.
        width: channels of the first stage; the output has four times as many.
        input_shape: (height, width, 3), or 1 for gray images.
        name: name of the model.

    Returns:
        A functional `keras.Model` from pixels (batch, height, width, 3) to feature maps (batch, height/4, width/4, 4·width).

    Raises:
        ValueError: for a depth that is not 6n + 2.

    Examples:

    >>> cifar_resnet(depth=20).output_shape
    (None, 8, 8, 64)
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"`depth` must be 6n + 2 for some n of at least 1. Received: depth={depth}")

    inputs = keras.Input(input_shape, name="pixels")
    x = pixel_normalization(inputs)
    x = layers.ReLU(name="stem_relu")(_convolution(x, width, 3, 1, "stem"))
    for stage in range(3):
        filters = width * 2**stage
        for block in range(blocks):
            prefix = f"stage{stage + 1}_block{block + 1}"
            strides = 2 if stage and not block else 1
            shortcut = x if strides == 1 else ZeroPaddedShortcut(filters, strides, name=f"{prefix}_shortcut")(x)
            x = _residual_block(x, shortcut, [(filters, 3, strides), (filters, 3, 1)], prefix)
    return keras.Model(inputs, x, name=name or f"cifar_resnet{depth}")


def resnet(
    depth: int = 18,
    width: int = 64,
    stem: str = "imagenet",
    input_shape: Shape = (224, 224, 3),
    normalize_output: bool = False,
    name: str | None = None,
) -> keras.Model:
    """The ResNet for ImageNet of He et al. (section 4.1 and table 1): four stages at 1, 2, 4 and 8 times the width.

    Depths 18 and 34 have basic blocks of two 3x3 convolutions, the deeper ones bottlenecks of 1x1, 3x3 and 1x1 that end in
    four times as many channels. The step of a bottleneck is in its 3x3 convolution, as in the variant called v1.5, not in the
    first 1x1 as in the paper. Where a block changes the shape its shortcut is a 1x1 convolution (option B). The parameters are
    those of torchvision's networks without their last dense layer; even inputs are padded more at the bottom right, as Keras
    pads. It takes raw pixels (0..255), normalized as for `cifar_resnet`.

    Args:
        depth: number of layers with weights, the last dense layer counted: 18, 34, 50, 101 or 152.
        width: channels of the first stage's 3x3 convolutions, 64 in the paper; they double from stage to stage.
        stem: "imagenet" is a 7x7 convolution of step 2 and a 3x3 maximum pooling of step 2; "cifar" a 3x3 convolution of
            step 1, for 32x32 pixels; "small" a 3x3 convolution of step 2, for 64x64 pixels. The last two have no pooling.
        input_shape: (height, width, 3), or 1 for gray images.
        normalize_output: whether another batch normalization follows the last ReLU, unlike in the paper. It keeps a layer of
            few ReLU neurons on the pooled features active, see `models.XNet`.
        name: name of the model.

    Returns:
        A functional `keras.Model` from pixels (batch, height, width, 3) to feature maps (batch, height/r, width/r, 8·width) in
        the compute dtype, from depth 50 on with 32·width channels; r is 32 for the stem "imagenet", 8 for "cifar" and 16 for
        "small", and sizes are rounded up.

    Raises:
        ValueError: for an unknown depth or stem.

    Examples:

    >>> resnet(18, stem="cifar", input_shape=(32, 32, 3)).output_shape
    (None, 4, 4, 512)
    """
    check_options(locals(), depth=tuple(BLOCKS), stem=tuple(STEMS))
    size, strides, pooling = STEMS[stem]
    inputs = keras.Input(input_shape, name="pixels")
    x = pixel_normalization(inputs)
    x = layers.ReLU(name="stem_relu")(_convolution(x, width, size, strides, "stem"))
    if pooling:
        x = layers.MaxPooling2D(3, 2, "same", name="stem_pooling")(x)
    for stage, blocks in enumerate(BLOCKS[depth]):
        filters = width * 2**stage
        for block in range(blocks):
            prefix = f"stage{stage + 1}_block{block + 1}"
            strides = 2 if stage and not block else 1
            if depth < 50:
                convolutions = [(filters, 3, strides), (filters, 3, 1)]
            else:
                convolutions = [(filters, 1, 1), (filters, 3, strides), (4 * filters, 1, 1)]
            outputs = convolutions[-1][0]
            same_shape = strides == 1 and x.shape[-1] == outputs
            shortcut = x if same_shape else _convolution(x, outputs, 1, strides, f"{prefix}_shortcut")
            x = _residual_block(x, shortcut, convolutions, prefix)
    if normalize_output:
        x = FusedBatchNormalization(name="output_normalization")(x)
    return keras.Model(inputs, x, name=name or f"resnet{depth}")
