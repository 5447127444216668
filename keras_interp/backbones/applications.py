"""Networks of `keras.applications` as backbones, from raw pixels to hidden units."""

import keras
from keras import layers

from keras_interp.typing import PathLike, Shape

# Mean of the ImageNet pixels by channel that VGG's weights expect subtracted: red, green, blue.
VGG_MEAN = (123.68, 116.779, 103.939)


def mobilenet(
    alpha: float = 0.75,
    hidden_units: int = 512,
    input_shape: Shape = (128, 128, 3),
    weights: PathLike | None = None,
    name: str | None = None,
) -> keras.Model:
    """MobileNet (Howard et al., 2017) with a hidden layer on its pooled features, the layer "pooled".

    It takes raw pixels (0..255). Behind the hidden layer a logit is not linear in the pooled features.

    Args:
        alpha: width multiplier: 0.25, 0.5, 0.75 or 1 for ImageNet weights.
        hidden_units: units of the hidden layer, a `Dense` with ReLU.
        input_shape: (height, width, 3).
        weights: None for random weights; "imagenet" for those that Keras downloads; or a path to weights of
            `keras.applications.MobileNet(alpha=alpha)`. The hidden layer is always new.
        name: name of the model.

    Returns:
        A functional `keras.Model` from pixels (batch, height, width, 3) to features (batch, hidden_units).

    Raises:
        ValueError, OSError: by Keras, for weights that do not fit or do not exist.

    Examples:

    >>> mobilenet(alpha=0.25, hidden_units=16, input_shape=(64, 64, 3)).get_layer("pooled").output.shape
    (None, 256)
    """
    inputs = keras.Input(input_shape, name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing")(inputs)
    body = keras.applications.MobileNet(alpha=alpha, include_top=False, weights=None, input_tensor=x)
    x = layers.GlobalAveragePooling2D(name="pooled")(body.output)
    x = layers.Dense(hidden_units, "relu", kernel_initializer="he_normal", name="hidden")(x)
    model = keras.Model(inputs, x, name=name or "mobilenet")
    if weights is not None:
        trained = keras.applications.MobileNet(alpha=alpha, weights="imagenet" if weights == "imagenet" else None)
        _copy_weights(trained, weights, model)
    return model


def vgg19(
    hidden_units: int = 4096,
    dropout: float = 0.5,
    input_shape: Shape = (224, 224, 3),
    weights: PathLike | None = None,
    name: str | None = None,
) -> keras.Model:
    """VGG-19 (Simonyan and Zisserman, 2015) up to its second hidden layer; the first, fc6, is the layer "fc1".

    It takes raw pixels (0..255).

    Args:
        hidden_units: units of each of the two hidden layers, 4096 for ImageNet weights.
        dropout: share of the hidden units to drop in training.
        input_shape: (height, width, 3), (224, 224, 3) for ImageNet weights.
        weights: as for `mobilenet`, of `keras.applications.VGG19`; both hidden layers take theirs too.
        name: name of the model.

    Returns:
        A functional `keras.Model` from pixels (batch, height, width, 3) to features (batch, hidden_units).

    Raises:
        ValueError, OSError: by Keras, for weights that do not fit or do not exist.

    Examples:

    >>> vgg19(hidden_units=16, input_shape=(32, 32, 3)).get_layer("fc1").output.shape
    (None, 16)
    """
    inputs = keras.Input(input_shape, name="pixels")
    x = layers.Normalization(mean=VGG_MEAN, variance=[1.0] * 3, name="preprocessing")(inputs)
    x = keras.applications.VGG19(include_top=False, weights=None, input_tensor=x).output
    x = layers.Flatten(name="flatten")(x)
    for number in (1, 2):
        x = layers.Dense(hidden_units, "relu", kernel_initializer="he_normal", name=f"fc{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout{number}")(x)
    model = keras.Model(inputs, x, name=name or "vgg19")
    if weights is not None:
        _copy_weights(keras.applications.VGG19(weights="imagenet" if weights == "imagenet" else None), weights, model)
        first = model.get_layer("block1_conv1")
        # VGG's weights take blue, green, red.
        first.kernel.assign(keras.ops.flip(first.kernel, axis=2))
    return model


def _copy_weights(trained, weights, model):
    """Copies the weights of a network of `keras.applications` to the layers of the same name, from a file unless loaded."""
    if weights != "imagenet":
        trained.load_weights(weights)
    names = {layer.name for layer in model.layers}
    for layer in trained.layers:
        if layer.name in names and layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
