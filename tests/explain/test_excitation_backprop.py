import keras
import numpy as np
import pytest
from keras import layers

from keras_interp import backbones
from keras_interp.explain import ExcitationBackprop, excitation_backprop, winning_probabilities
from keras_interp.explain.excitation_rules import _depthwise_by_taps
from keras_interp.layers import DynamicKDense
from keras_interp.models import XNet
from tests.tiny import tiny_backbone


@pytest.fixture(autouse=True)
def quick_initializers(monkeypatch):
    """Initial weights from NumPy: JAX compiles a program for every shape, which takes longer than all the rest."""
    generator = np.random.default_rng(1)

    def draw(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(generator.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape), dtype or "float32")

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", draw)


# --- An independent rendering in float64: every layer is a matrix (inputs, outputs), filled in and gone through by loops.


def convolution_matrix(kernel, shape, stride=1, padding="valid", depthwise=False, dilation=1):
    size, _, channels, last = kernel.shape
    extent = (size - 1) * dilation + 1
    if padding == "same":
        sides = [-(-side // stride) for side in shape[:2]]
        margins = [max((out - 1) * stride + extent - side, 0) // 2 for out, side in zip(sides, shape)]
    else:
        sides, margins = [(side - extent) // stride + 1 for side in shape[:2]], [0, 0]
    outputs = channels * last if depthwise else last
    matrix = np.zeros((*shape, *sides, outputs))
    for y, x, i, j in np.ndindex(*sides, size, size):
        row, column = y * stride + i * dilation - margins[0], x * stride + j * dilation - margins[1]
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            for c, o in np.ndindex(channels, last):
                matrix[row, column, c, y, x, c * last + o if depthwise else o] = kernel[i, j, c, o]
    return matrix.reshape(np.prod(shape), -1), (*sides, outputs)


def pooling_windows(shape, size):
    """Inputs of each output of a pooling without overlap."""
    numbers = np.arange(np.prod(shape)).reshape(shape)
    sides = shape[0] // size, shape[1] // size
    for y, x, c in np.ndindex(*sides, shape[2]):
        yield numbers[y * size : (y + 1) * size, x * size : (x + 1) * size, c].ravel()


def averaging_matrix(shape, size):
    windows = list(pooling_windows(shape, size))
    matrix = np.zeros((np.prod(shape), len(windows)))
    for number, window in enumerate(windows):
        matrix[window, number] = 1 / len(window)
    return matrix


def share(x, matrix, probabilities):
    """Each winner's probability goes to its children in proportion to activation times positive weight."""
    result = np.zeros(len(x))
    for winner, probability in enumerate(probabilities):
        children = np.maximum(x, 0) * np.maximum(matrix[:, winner], 0)
        if children.sum() > 0:
            result += probability * children / children.sum()
    return result


def to_largest(x, windows, probabilities):
    result = np.zeros(len(x))
    for window, probability in zip(windows, probabilities):
        result[window[x[window].argmax()]] += probability
    return result


def arrays(layer):
    return [np.asarray(keras.ops.convert_to_numpy(weight), float) for weight in layer.weights]


def normalized(matrix, layer):
    """Matrix and bias of a linear layer and the batch normalisation after it."""
    gamma, beta, mean, variance = arrays(layer)
    copies = matrix.shape[1] // len(gamma)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return matrix * np.tile(scale, copies), np.tile(beta - mean * scale, copies)


def relu(x):
    return np.maximum(x, 0)


def randomize(model, rng, bias=0.1):
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape[0]
            gamma = rng.uniform(0.5, 2, size) * rng.choice([-1, 1], size)
            layer.set_weights([gamma, rng.normal(size=size), rng.normal(size=size), rng.uniform(0.5, 2, size)])
        elif layer.weights:
            layer.set_weights([rng.normal(bias, 0.5, weight.shape) for weight in layer.weights])


def plain_network(rng, shape=(6, 6, 3)):
    inputs = keras.Input(shape, name="pixels")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.MaxPooling2D(2, name="pooling")(x)
    x = layers.Conv2D(5, 2, activation="relu", name="second")(x)
    x = layers.Dropout(0.5)(layers.Flatten(name="flat")(x))
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(4, name="logits")(x))
    randomize(model, rng)
    return model


def plain_reference(model, image, neuron, contrastive=False):
    """Activations of the logits, and the probabilities at "hidden", "second", "first" and the input."""
    first, first_bias = arrays(model.get_layer("first"))
    second, second_bias = arrays(model.get_layer("second"))
    hidden, hidden_bias = arrays(model.get_layer("hidden"))
    logits, logits_bias = arrays(model.get_layer("logits"))
    first, shape = convolution_matrix(first, image.shape, padding="same")
    windows = list(pooling_windows(shape, 2))
    second, _ = convolution_matrix(second, (3, 3, 4))
    a = image.ravel()
    b = relu(a @ first + np.tile(first_bias, 36))
    c = np.array([b[window].max() for window in windows])
    d = relu(c @ second + np.tile(second_bias, 4))
    e = relu(d @ hidden + hidden_bias)
    prior = np.eye(4)[neuron]
    p_hidden = share(e, logits, prior) - (share(e, -logits, prior) if contrastive else 0)
    p_second = share(d, hidden, p_hidden)
    p_first = to_largest(b, windows, share(c, second, p_second))
    return e @ logits + logits_bias, {
        "hidden": p_hidden,
        "second": p_second.reshape(2, 2, 5),
        "first": p_first.reshape(6, 6, 4),
        None: share(a, first, p_first).reshape(6, 6, 3),
    }


def residual_network(rng):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_normalization")(x))
    shortcut = layers.Conv2D(5, 1, 2, "same", name="shortcut")(x)
    shortcut = layers.BatchNormalization(name="shortcut_normalization")(shortcut)
    x = layers.Conv2D(3, 3, 2, "same", name="inner")(x)
    x = layers.Activation("relu", name="inner_relu")(layers.BatchNormalization(name="inner_normalization")(x))
    x = layers.Conv2D(5, 3, padding="same", name="outer")(x)
    x = layers.BatchNormalization(name="outer_normalization")(x)
    x = layers.ReLU(name="relu")(layers.Add(name="add")([x, shortcut]))
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    model = keras.Model(inputs, layers.Dense(4, name="logits")(x))
    randomize(model, rng)
    return model


def residual_reference(model, image, neuron, contrastive=False):
    def normalized_convolution(name, shape, stride):
        matrix, outputs = convolution_matrix(arrays(model.get_layer(name))[0], shape, stride, "same")
        bias = arrays(model.get_layer(name))[1] if model.get_layer(name).use_bias else np.zeros(outputs[-1])
        normalization = model.get_layer(f"{name}_normalization")
        matrix, shift = normalized(matrix, normalization)
        gamma, _, _, variance = arrays(normalization)
        return matrix, np.tile(bias * gamma / np.sqrt(variance + normalization.epsilon), outputs[0] * outputs[1]) + shift

    stem, stem_bias = normalized_convolution("stem", (6, 6, 3), 1)
    shortcut, shortcut_bias = normalized_convolution("shortcut", (6, 6, 4), 2)
    inner, inner_bias = normalized_convolution("inner", (6, 6, 4), 2)
    outer, outer_bias = normalized_convolution("outer", (3, 3, 3), 1)
    pooling = averaging_matrix((3, 3, 5), 3)
    logits, logits_bias = arrays(model.get_layer("logits"))
    a = image.ravel()
    b = relu(a @ stem + stem_bias)
    c = relu(b @ inner + inner_bias)
    left, right = c @ outer + outer_bias, b @ shortcut + shortcut_bias
    d = relu(left + right)
    e = d @ pooling
    prior = np.eye(4)[neuron]
    p_pooled = share(e, logits, prior) - (share(e, -logits, prior) if contrastive else 0)
    p_add = share(d, pooling, p_pooled)
    p_left, p_right = np.zeros(45), np.zeros(45)
    for winner in range(45):
        total = max(left[winner], 0) + max(right[winner], 0)
        if total > 0:
            p_left[winner] = p_add[winner] * max(left[winner], 0) / total
            p_right[winner] = p_add[winner] * max(right[winner], 0) / total
    p_inner = share(c, outer, p_left)
    p_stem = share(b, inner, p_inner) + share(b, shortcut, p_right)
    return e @ logits + logits_bias, {
        "pooled": p_pooled,
        "add": p_add.reshape(3, 3, 5),
        "outer_normalization": p_left.reshape(3, 3, 5),
        "inner_relu": p_inner.reshape(3, 3, 3),
        "stem_relu": p_stem.reshape(6, 6, 4),
        None: share(a, stem, p_stem).reshape(6, 6, 3),
    }


def depthwise_network(rng):
    inputs = keras.Input((7, 7, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu6", name="stem")(inputs)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name="padding")(x)
    x = layers.DepthwiseConv2D(3, 2, depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = layers.ReLU(6.0, name="depthwise_relu")(layers.BatchNormalization(name="depthwise_normalization")(x))
    x = layers.Conv2D(5, 1, use_bias=False, name="pointwise")(x)
    x = layers.ReLU(6.0, name="pointwise_relu")(layers.BatchNormalization(name="pointwise_normalization")(x))
    x = layers.DepthwiseConv2D(2, padding="same", dilation_rate=2, activation="relu", name="dilated")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True, name="pooled")(x)
    x = layers.Conv2D(4, 1, name="predictions")(layers.Dropout(0.1)(x))
    model = keras.Model(inputs, layers.Activation("softmax", name="logits")(layers.Reshape((4,), name="reshaped")(x)))
    randomize(model, rng, bias=0.3)
    return model


def depthwise_reference(model, image, neuron, contrastive=False):
    stem, stem_bias = arrays(model.get_layer("stem"))
    (depthwise,) = arrays(model.get_layer("depthwise"))
    (pointwise,) = arrays(model.get_layer("pointwise"))
    dilated, dilated_bias = arrays(model.get_layer("dilated"))
    logits, logits_bias = arrays(model.get_layer("predictions"))
    logits = logits[0, 0]
    stem, _ = convolution_matrix(stem, (7, 7, 3), padding="same")
    depthwise, shape = convolution_matrix(depthwise, (8, 8, 4), 2, depthwise=True)
    assert shape == (3, 3, 8)
    depthwise, depthwise_bias = normalized(depthwise, model.get_layer("depthwise_normalization"))
    pointwise, _ = convolution_matrix(pointwise, (3, 3, 8))
    pointwise, pointwise_bias = normalized(pointwise, model.get_layer("pointwise_normalization"))
    dilated, _ = convolution_matrix(dilated, (3, 3, 5), padding="same", depthwise=True, dilation=2)
    pooling = averaging_matrix((3, 3, 5), 3)
    a = image.ravel()
    b = np.minimum(relu(a @ stem + np.tile(stem_bias, 49)), 6)
    padded = np.zeros((8, 8, 4))
    padded[:7, :7] = b.reshape(7, 7, 4)
    c = np.minimum(relu(padded.ravel() @ depthwise + depthwise_bias), 6)
    d = np.minimum(relu(c @ pointwise + pointwise_bias), 6)
    e = relu(d @ dilated + np.tile(dilated_bias, 9))
    f = e @ pooling
    prior = np.eye(4)[neuron]
    p_pooled = share(f, logits, prior) - (share(f, -logits, prior) if contrastive else 0)
    p_pointwise = share(d, dilated, share(e, pooling, p_pooled))
    p_depthwise = share(c, pointwise, p_pointwise)
    p_stem = share(padded.ravel(), depthwise, p_depthwise).reshape(8, 8, 4)[:7, :7].ravel()
    scores = np.exp(f @ logits + logits_bias)
    return scores / scores.sum(), {
        "pooled": p_pooled.reshape(1, 1, 5),
        "pointwise_relu": p_pointwise.reshape(3, 3, 5),
        "depthwise_relu": p_depthwise.reshape(3, 3, 8),
        "stem": p_stem.reshape(7, 7, 4),
        None: share(a, stem, p_stem).reshape(7, 7, 3),
    }


NETWORKS = {
    "plain": (plain_network, plain_reference, ("second", None)),
    "residual": (residual_network, residual_reference, ("inner_relu", None)),
    "depthwise": (depthwise_network, depthwise_reference, ("stem",)),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_winning_probabilities_follow_a_numpy_rendering(rng, network):
    make, reference, ends = NETWORKS[network]
    model = make(rng)
    images = rng.random((2, *model.input_shape[1:]))
    references = [[reference(model, image, neuron) for neuron in range(4)] for image in images]
    np.testing.assert_allclose(model(images.astype("float32")), [row[0][0] for row in references], rtol=1e-4, atol=1e-5)
    for end in ends:
        expected = np.array([[probabilities[end] for _, probabilities in row] for row in references])
        result = excitation_backprop(model, images, "logits", range(4), end=end, sum_channels=False)
        assert result.dtype == "float32" and expected.max() > 0.01
        np.testing.assert_allclose(result, expected, atol=1e-5)
        assert (result >= 0).all() and (result.sum(axis=tuple(range(2, result.ndim))) < 1 + 1e-5).all()


@pytest.mark.parametrize(
    ("network", "end"), [("plain", "hidden"), ("plain", None), ("residual", "stem_relu"), ("depthwise", None)]
)
def test_contrastive_probabilities_follow_the_numpy_rendering(rng, network, end):
    make, reference, _ = NETWORKS[network]
    model = make(rng)
    images = rng.random((2, *model.input_shape[1:]))
    expected = np.array(
        [[reference(model, image, neuron, contrastive=True)[1][end] for neuron in range(4)] for image in images]
    )
    expected = expected.sum(axis=-1) if expected.ndim > 3 else expected
    assert (expected > 0.01).any() and (expected < -0.01).any()
    result = excitation_backprop(model, images, "logits", range(4), end=end, contrastive=True)
    np.testing.assert_allclose(result, relu(expected), atol=1e-5)


def test_inner_neurons_follow_the_numpy_rendering(rng):
    model = plain_network(rng)
    images = rng.random((2, 6, 6, 3))
    kernel, _ = arrays(model.get_layer("second"))
    matrix, shape = convolution_matrix(kernel, (3, 3, 4))
    pooled = keras.Model(model.inputs, model.get_layer("pooling").output).predict(images, verbose=0).reshape(2, -1)
    number = np.ravel_multi_index((1, 0, 3), shape)
    expected = [share(x, matrix, np.eye(20)[number]).reshape(3, 3, 4) for x in pooled]
    result = excitation_backprop(model, images, "second", [number], end="pooling", sum_channels=False)
    np.testing.assert_allclose(result[:, 0], expected, atol=1e-6)
    dual = [share(x, -matrix, np.eye(20)[number]).reshape(3, 3, 4) for x in pooled]
    result = excitation_backprop(model, images, "second", [number], end="pooling", contrastive=True)
    np.testing.assert_allclose(result[:, 0], relu((np.array(expected) - dual).sum(axis=-1)), atol=1e-6)


def test_neurons_of_a_normalisation_are_those_of_the_convolution_below(rng):
    model = residual_network(rng)
    images = rng.random((2, 6, 6, 3))
    matrix, _ = convolution_matrix(arrays(model.get_layer("outer"))[0], (3, 3, 3), padding="same")
    normalization = model.get_layer("outer_normalization")
    assert (arrays(normalization)[0] < 0).any() and (arrays(normalization)[0] > 0).any()
    matrix, _ = normalized(matrix, normalization)
    below = keras.Model(model.inputs, model.get_layer("inner_relu").output).predict(images, verbose=0).reshape(2, -1)
    expected = np.array(
        [[share(x, matrix, np.eye(45)[n]) - share(x, -matrix, np.eye(45)[n]) for n in range(45)] for x in below]
    )
    result = excitation_backprop(
        model, images, "outer_normalization", range(45), end="inner_relu", contrastive=True, sum_channels=False
    )
    np.testing.assert_allclose(result, relu(expected).reshape(2, 45, 3, 3, 3), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "strides", "padding", "dilation"), [(3, 2, "same", 1), (2, 1, "same", 2), (3, 3, "valid", 1), (2, 1, "valid", 3)]
)
def test_depthwise_convolution_by_taps(rng, size, strides, padding, dilation):
    x, kernel = rng.random((2, 7, 6, 3)).astype("float32"), rng.random((size, size, 3, 2)).astype("float32")
    expected = keras.ops.depthwise_conv(x, kernel, strides, padding, dilation_rate=dilation)
    pairs = (strides, strides), padding, (dilation, dilation)
    np.testing.assert_allclose(_depthwise_by_taps(x, kernel, *pairs, "channels_last"), expected, rtol=1e-5)


def test_separable_and_grouped_convolutions_concatenation_and_scaling(rng):
    inputs = keras.Input((5, 5, 4))
    x = layers.BatchNormalization(name="own_normalization")(layers.Rescaling(0.5)(inputs))
    left = layers.SeparableConv2D(3, 2, 2, "same", depth_multiplier=2, name="separable")(x)
    left = layers.BatchNormalization(scale=False, name="unscaled")(left)
    right = layers.Conv2D(4, 2, 2, "same", groups=2, use_bias=False, name="grouped")(x)
    x = layers.Concatenate(name="both")([layers.LeakyReLU()(left), layers.ELU()(right)])
    model = keras.Model(inputs, layers.GlobalMaxPooling2D(name="pooled")(x))
    statistics = [1.0, -2.0, 0.5, 3.0], [0.0, 3.0, 0.0, -0.1], [0.1] * 4, [1.0] * 4
    model.get_layer("own_normalization").set_weights(list(map(np.array, statistics)))
    images = rng.random((1, 5, 5, 4))
    result = excitation_backprop(model, images, "pooled", range(7), sum_channels=False)[0]

    depthwise, pointwise = arrays(model.get_layer("separable"))[:2]
    separable = np.zeros((2, 2, 4, 3))
    for c, m, o in np.ndindex(4, 2, 3):
        separable[:, :, c, o] += depthwise[:, :, c, m] * pointwise[0, 0, 2 * c + m, o]
    grouped = np.zeros((2, 2, 4, 4))
    for group in range(2):
        part = slice(2 * group, 2 * group + 2)
        grouped[:, :, part, part] = arrays(model.get_layer("grouped"))[0][..., part]
    view = keras.Model(inputs, [model.get_layer("own_normalization").output, model.get_layer("both").output])
    x, maps = (np.asarray(value[0], float) for value in view.predict(images, verbose=0))
    for neuron in range(7):
        kernel = separable if neuron < 3 else grouped
        matrix, shape = convolution_matrix(kernel, (5, 5, 4), 2, "same")
        y, column = np.unravel_index(maps[..., neuron].argmax(), shape[:2])
        winner = np.ravel_multi_index((y, column, neuron if neuron < 3 else neuron - 3), shape)
        expected = share(x.ravel(), matrix, np.eye(matrix.shape[1])[winner]).reshape(5, 5, 4)
        # The second channel is negated, so no pixel excites it.
        expected[..., 1] = 0
        np.testing.assert_allclose(result[neuron], expected, atol=1e-5)


def test_total_probability_is_one_where_all_winners_have_children(rng):
    for make, _, _ in NETWORKS.values():
        model = make(rng)
        for layer in model.layers:
            layer.set_weights([np.abs(weight) for weight in layer.get_weights()])
            if isinstance(layer, layers.BatchNormalization):
                layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
        maps = excitation_backprop(model, rng.random((2, *model.input_shape[1:])), "logits", range(4))
        np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1, atol=1e-5)


def test_probability_splits_between_branches(rng):
    model = residual_network(rng)
    images = rng.random((3, 6, 6, 3))
    at_sum = excitation_backprop(model, images, "logits", range(4), end="add")
    left = excitation_backprop(model, images, "logits", range(4), end="outer_normalization")
    right = excitation_backprop(model, images, "logits", range(4), end="shortcut_normalization")
    np.testing.assert_allclose(left + right, at_sum, atol=1e-6)
    assert left.sum() > 0.1 * at_sum.sum() and right.sum() > 0.1 * at_sum.sum()
    # Ending at the convolution itself is not folding its normalisation into it.
    inside = excitation_backprop(model, images, "logits", range(4), end="outer")
    assert (inside.sum(axis=(2, 3)) < left.sum(axis=(2, 3)) + 1e-6).all()


def test_many_neurons_and_images_equal_one_by_one(rng):
    model = plain_network(rng)
    images = rng.random((5, 6, 6, 3))
    propagation = ExcitationBackprop(model, "hidden", "first")
    together = propagation(images, range(6), batch_size=64)
    for batch_size in (4, 12):
        np.testing.assert_allclose(propagation(images, range(6), batch_size=batch_size), together, atol=1e-6)
    for image, neuron in ((0, 5), (3, 2)):
        alone = propagation(images[image : image + 1], [neuron])
        np.testing.assert_allclose(alone[0, 0], together[image, neuron], atol=1e-6)
    chosen = np.array([[0, 3], [1, 1], [5, 2], [4, 0], [2, 2]])
    expected = np.take_along_axis(together, chosen[:, :, None, None], axis=1)
    np.testing.assert_allclose(propagation(images, chosen, batch_size=1), expected, atol=1e-6)
    priors = np.eye(6)[None].repeat(5, axis=0)
    np.testing.assert_allclose(propagation(images, priors=priors, batch_size=12), together, atol=1e-6)


def test_linear_in_the_priors(rng):
    model = residual_network(rng)
    images = rng.random((2, 6, 6, 3))
    propagation = ExcitationBackprop(model, "relu", "stem_relu")
    first, second = rng.random((2, 2, 3, 3, 3, 5))
    maps = propagation(images, priors=np.concatenate([first, second, 2 * first - 3 * second], axis=1))
    np.testing.assert_allclose(maps[:, 6:], 2 * maps[:, :3] - 3 * maps[:, 3:6], atol=1e-4)
    assert maps[:, 6:].min() < 0


def test_readouts_outside_the_model(rng):
    """An encoder on top of a layer, layer by layer by hand, gives what it gives as part of the model."""
    model = plain_network(rng)
    images = rng.random((3, 6, 6, 3))
    flat, hidden = keras.Model(model.inputs, [model.get_layer(name).output for name in ("flat", "hidden")]).predict(
        images, verbose=0
    )
    kernel = model.get_layer("logits").kernel
    prior = np.eye(4)
    winners = winning_probabilities(hidden[:, None], kernel, prior)
    contrast = winners - winning_probabilities(hidden[:, None], -kernel, prior)
    for top, contrastive in ((winners, False), (contrast, True)):
        priors = winning_probabilities(flat[:, None], model.get_layer("hidden").kernel, top)
        assert tuple(priors.shape) == (3, 4, 20)
        maps = excitation_backprop(model, images, "flat", priors=priors, end="second")
        expected = excitation_backprop(model, images, "logits", range(4), end="second", contrastive=contrastive)
        np.testing.assert_allclose(np.maximum(maps, 0) if contrastive else maps, expected, atol=1e-5)


def test_dense_winning_probabilities_of_several_networks_at_once(rng):
    inputs, kernels, prior = rng.normal(size=(2, 3, 1, 6)), rng.normal(size=(2, 1, 6, 4)), rng.random((2, 3, 5, 4))
    result = np.asarray(winning_probabilities(inputs, kernels, prior))
    assert result.shape == (2, 3, 5, 6) and result.dtype == "float32"
    for network, row, neuron in np.ndindex(2, 3, 5):
        expected = share(inputs[network, row, 0], kernels[network, 0], prior[network, row, neuron])
        np.testing.assert_allclose(result[network, row, neuron], expected, atol=1e-5)


def test_silent_neurons_and_tiny_activations(rng):
    model = plain_network(rng)
    for layer in model.layers:
        if layer.weights:
            layer.bias.assign(np.zeros(layer.bias.shape))
    images = rng.random((2, 6, 6, 3)).astype("float32")
    propagation = ExcitationBackprop(model, "logits")
    maps = propagation(images, range(4))
    np.testing.assert_allclose(propagation(images * 1e-25, range(4)), maps, atol=1e-5)
    assert not propagation(images * 1e-44, range(4)).any() and not propagation(images * 0, range(4)).any()
    assert not propagation(-images, range(4)).any()
    large = propagation(images * 1e25, range(4))
    np.testing.assert_allclose(large, maps, atol=1e-5)


def test_other_dtype_policies_are_computed_in_float32(rng):
    exact = residual_network(rng)
    images = rng.random((2, 6, 6, 3))
    expected = excitation_backprop(exact, images, "logits", range(4))
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = residual_network(rng)
        model.set_weights(exact.get_weights())
        propagation = ExcitationBackprop(model, "logits")
        maps = propagation(images, range(4))
        assert maps.dtype == "float32"
        np.testing.assert_allclose(maps, expected, atol=1e-6)
        assert model.get_layer("stem").compute_dtype == policy.removeprefix("mixed_")
        # The copies in float32 follow the model's weights.
        model.set_weights([weight * 0.5 for weight in model.get_weights()])
        assert np.abs(propagation(images, range(4)) - expected).max() > 1e-3


def test_weights_are_those_at_the_time_of_the_call(rng):
    model = residual_network(rng)
    images = rng.random((2, 6, 6, 3))
    propagation = ExcitationBackprop(model, "add")
    before = propagation(images, [1])
    randomize(model, rng)
    after = propagation(images, [1])
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, excitation_backprop(model, images, "add", [1]), atol=1e-6)


def test_nested_models_and_inputs_of_any_size(rng):
    whole = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(4, 3, activation="relu", name="first")], name="inner"
    )
    whole.add(layers.MaxPooling2D(2, name="pooling"))
    inputs = keras.Input((8, 8, 3), name="pixels")
    x = layers.Flatten()(whole(layers.Rescaling(1 / 255, name="scaling")(inputs)))
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x))
    x = layers.MaxPooling2D(2)(layers.Conv2D(4, 3, activation="relu", name="first")(layers.Rescaling(1 / 255)(inputs)))
    flat = keras.Model(inputs, layers.Dense(3, name="logits")(layers.Flatten()(x)))
    flat.set_weights(model.get_weights())
    images = rng.integers(0, 256, (2, 8, 8, 3), dtype="uint8")
    maps = excitation_backprop(model, images, "logits", [0, 2], end="pixels")
    np.testing.assert_allclose(maps, excitation_backprop(flat, images, "logits", [0, 2], end="pixels"), atol=1e-6)
    assert excitation_backprop(model, images, "logits", [0, 2], end="inner").shape == (2, 2, 3, 3)
    assert excitation_backprop(model, images, "inner", [35], end="scaling").shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"\[0, 36\).*\[36\]"):
        excitation_backprop(model, images, "pooling", [36])


def probability_facts(model, images, start, end, neurons=(0, 3)):
    maps = excitation_backprop(model, images, start, neurons, end=end)
    assert np.isfinite(maps).all() and (maps >= 0).all()
    totals = maps.sum(axis=(2, 3))
    assert (totals > 0.1).all() and (totals < 1 + 1e-5).all()
    return maps


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (lambda: backbones.cifar_resnet(depth=8, width=8), "stage1_block1_relu"),
        (lambda: backbones.resnet(18, width=4, stem="small", input_shape=(32, 32, 3)), "stem_relu"),
        (backbones.cifar_alexnet, "stage2_pooling"),
    ],
)
def test_own_backbones(make, end, images):
    backbone = make()
    x = layers.GlobalAveragePooling2D(name="pooled")(backbone.output)
    model = keras.Model(backbone.inputs, layers.Dense(4, name="logits")(x))
    assert probability_facts(model, images[:2], "logits", end).shape[:2] == (2, 2)


@pytest.mark.parametrize(
    ("make", "end", "shape"),
    [
        (lambda **options: keras.applications.MobileNet(alpha=0.25, **options), "conv_pw_3_relu", (8, 8)),
        (keras.applications.VGG19, "block3_pool", (4, 4)),
    ],
)
def test_keras_applications(make, end, shape, images):
    model = make(weights=None, input_shape=(32, 32, 3), classes=10)
    assert probability_facts(model, images[:2], "predictions", end).shape == (2, 2, *shape)


def test_models_of_the_package(images):
    model = XNet(tiny_backbone(), ("bald", "bangs", "shadow"), class_names=("old", "young"))
    maps = probability_facts(model, images, "explained", "first_relu", neurons=range(3))
    assert maps.shape == (16, 3, 8, 8)
    assert excitation_backprop(model, images[:1], "logits", [1]).shape == (1, 1, 32, 32)


def small_model(*middle, shape=(4,)):
    inputs = keras.Input(shape, name="rows")
    x = layers.Dense(5, activation="relu", name="below")(inputs)
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def shared_layer():
    inputs, layer = keras.Input((4,)), layers.Dense(4, name="shared")
    return keras.Model(inputs, layers.Dense(3, name="logits")(layer(layer(inputs))))


def two_inputs():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    return keras.Model(inputs, layers.Dense(3, name="logits")(layers.Add()(inputs)))


def channels_first():
    inputs = keras.Input((3, 5, 5))
    return keras.Model(inputs, layers.GlobalMaxPooling2D(data_format="channels_first", name="logits")(inputs))


@pytest.mark.parametrize(
    ("make", "arguments", "error", "message"),
    [
        (small_model, {"start": "logit"}, ValueError, "`start`.*'logits'.*start='logit'"),
        (small_model, {"start": "logits", "end": "rwos"}, ValueError, "`end`.*'rows'.*end='rwos'"),
        (small_model, {"start": "below", "end": "logits"}, ValueError, "`end` must come before `start`"),
        (small_model, {"start": "below", "end": "below"}, ValueError, "`end` must come before `start`"),
        (small_model, {"start": "rows"}, ValueError, "`end` must come before `start`"),
        (lambda: small_model(layers.Dense(4, "sigmoid", name="s")), {"start": "logits"}, ValueError, "signs.*sigmoid.*'s'"),
        (lambda: small_model(layers.Softmax(name="s")), {"start": "logits"}, ValueError, "signs.*'s'"),
        (lambda: small_model(layers.LayerNormalization(name="n")), {"start": "logits"}, ValueError, "'n'.*LayerNormalization"),
        (lambda: small_model(DynamicKDense(4, k=2, name="d")), {"start": "logits"}, ValueError, "'d'.*DynamicKDense"),
        (
            lambda: small_model(layers.BatchNormalization(name="n")),
            {"start": "n", "contrastive": True},
            ValueError,
            "weights.*start='n'",
        ),
        (lambda: keras.Sequential([layers.Dense(2)]), {"start": "logits"}, TypeError, "functional.*Sequential"),
        (lambda: layers.Dense(2), {"start": "logits"}, TypeError, "functional.*Dense"),
        (shared_layer, {"start": "logits", "end": "shared"}, ValueError, "called once.*2 outputs"),
        (two_inputs, {"start": "logits"}, ValueError, "one input.*2"),
        (channels_first, {"start": "logits"}, ValueError, "channels last.*'logits'"),
    ],
)
def test_networks_that_cannot_be_propagated_through(make, arguments, error, message):
    with pytest.raises(error, match=message):
        ExcitationBackprop(make(), **arguments)


def test_layers_off_the_way_may_be_anything(rng):
    model = small_model(layers.LayerNormalization(name="n"), layers.Dense(4, "relu", name="after"))
    assert excitation_backprop(model, rng.random((2, 4)), "logits", [0], end="n").shape == (2, 1, 5)
    assert excitation_backprop(shared_layer(), rng.random((2, 4)), "logits", [0]).shape == (2, 1, 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": np.full((2, 4), np.nan)}, ValueError, "finite.*NaN"),
        ({"images": np.zeros((2, 5))}, ValueError, r"\(n, 4\)"),
        ({"images": np.zeros((0, 4))}, ValueError, "at least one row"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"neurons": [3]}, ValueError, r"\[0, 3\).*\[3\]"),
        ({"neurons": [-1]}, ValueError, r"\[0, 3\).*\[-1\]"),
        ({"neurons": [0.5]}, TypeError, "integers.*float64"),
        ({"neurons": 1}, ValueError, r"\(k,\) or \(2, k\).*\(\)"),
        ({"neurons": [[0], [1], [2]]}, ValueError, r"\(2, k\)"),
        ({"neurons": None}, ValueError, "neither"),
        ({"priors": np.zeros((2, 1, 3))}, ValueError, "both"),
        ({"neurons": None, "priors": np.zeros((2, 3))}, ValueError, r"\(2, neurons, 3\).*\(2, 3\)"),
        ({"neurons": None, "priors": np.zeros((1, 1, 3))}, ValueError, r"\(2, neurons, 3\)"),
        ({"neurons": None, "priors": np.full((2, 1, 3), np.inf)}, ValueError, "finite"),
    ],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        ExcitationBackprop(small_model(), "logits")(**{"images": np.zeros((2, 4)), "neurons": [0], **change})


def test_other_backends_are_refused(monkeypatch):
    model = small_model()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(NotImplementedError, match="Received: torch"):
        ExcitationBackprop(model, "logits")
