"""AlexNet (Krizhevsky et al., 2012) for small images."""

import keras
from keras import layers

from keras_interp.backbones.batch_normalization import FusedBatchNormalization
from keras_interp.backbones.preprocessing import pixel_normalization
from keras_interp.typing import Shape


def cifar_alexnet(input_shape: Shape = (32, 32, 3), name: str = "cifar_alexnet") -> keras.Model:
    """The five convolutions of AlexNet (64, 192, 384, 256, 256 filters), with kernels and steps for 32x32 images.

    Batch normalization follows each convolution, and the model on top adds a global average pooling and one dense layer, as in
    section 4.4 of the LSG paper: 256 filters in the last convolution. It takes raw pixels (0..255).

    Args:
        input_shape: (height, width, 3), or 1 for gray images.
        name: name of the model.

    Returns:
        A functional `keras.Model` from pixels (batch, height, width, 3) to feature maps (batch, height/8, width/8, 256).

    Examples:

    >>> cifar_alexnet().output_shape
    (None, 4, 4, 256)
    """
    inputs = keras.Input(input_shape, name="pixels")
    x = pixel_normalization(inputs)
    for number, (filters, strides, pool) in enumerate(
        [(64, 2, True), (192, 1, True), (384, 1, False), (256, 1, False), (256, 1, False)], start=1
    ):
        x = layers.Conv2D(
            filters,
            3,
            strides,
            "same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"stage{number}_convolution",
        )(x)
        x = FusedBatchNormalization(name=f"stage{number}_normalization")(x)
        x = layers.ReLU(name=f"stage{number}_relu")(x)
        if pool:
            x = layers.MaxPooling2D(2, name=f"stage{number}_pooling")(x)
    return keras.Model(inputs, x, name=name)
