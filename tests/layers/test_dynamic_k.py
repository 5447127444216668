import keras
import numpy as np
import pytest
from keras import ops

from keras_interp.explain.gradients import input_gradient
from keras_interp.layers import DynamicKConv2D, DynamicKDense, dynamic_k

RNG = np.random.default_rng(0)
INPUTS = {
    "random": RNG.normal(size=(7, 12)),
    "tied": RNG.integers(0, 3, (7, 12)),
    "all negative": -np.abs(RNG.normal(size=(7, 12))),
    "all zero": np.zeros((7, 12)),
    "with minus zero": np.where(RNG.random((7, 12)) < 0.5, -0.0, 1.0),
}
KERNELS = {"random": RNG.normal(size=(12, 5)), "tied": RNG.integers(-1, 2, (12, 5))}
TARGET = RNG.normal(size=(7, 5)).astype("float32")


def reference(inputs, kernel, k, nonnegative):
    """Outputs, and gradients of their product with TARGET, one example and output after the other."""
    outputs = np.zeros((len(inputs), kernel.shape[1]))
    input_gradient, kernel_gradient = np.zeros(inputs.shape), np.zeros(kernel.shape)
    chosen = np.zeros((*outputs.shape, k), int)
    for b, row in enumerate(inputs):
        for c, weights in enumerate(kernel.T):
            order = sorted(range(len(row)), key=lambda i: (-row[i] * weights[i], i))[:k]
            chosen[b, c] = order
            for i in order:
                if not nonnegative or row[i] * weights[i] > 0:
                    outputs[b, c] += row[i] * weights[i]
                    input_gradient[b, i] += TARGET[b, c] * weights[i]
                    kernel_gradient[i, c] += TARGET[b, c] * row[i]
    return outputs, input_gradient, kernel_gradient, chosen


def gradients(function, *values):
    """Values and gradients of the sum of `function` times TARGET."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(jax.grad(lambda *args: ops.sum(function(*args) * TARGET), range(len(values))))(*values)
    import tensorflow as tf

    @tf.function
    def run():
        tensors = [tf.constant(value) for value in values]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            loss = tf.reduce_sum(function(*tensors) * TARGET)
        return tape.gradient(loss, tensors)

    return run()


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("k", [1, 3, 12])
@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("inputs", list(INPUTS))
def test_equals_the_reference(inputs, kernel, k, nonnegative):
    inputs, kernel = INPUTS[inputs].astype("float32"), KERNELS[kernel].astype("float32")
    expected, *expected_gradients, chosen = reference(inputs, kernel, k, nonnegative)
    outputs = dynamic_k.sum_of_largest(ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel), k, nonnegative)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, atol=1e-5)
    assert (ops.convert_to_numpy(dynamic_k.largest_contributions(inputs, kernel, k)) == chosen).all()
    found = gradients(lambda x, w: dynamic_k.sum_of_largest(x, w, k, nonnegative), inputs, kernel)
    for gradient, other in zip(found, expected_gradients):
        np.testing.assert_allclose(ops.convert_to_numpy(gradient), other, atol=1e-5)


@pytest.mark.parametrize("limit", [1, 2, 3, 6])
def test_chunks_change_nothing(limit, monkeypatch):
    inputs, kernel = INPUTS["random"].astype("float32"), KERNELS["random"].astype("float32")
    expected, *expected_gradients, _ = reference(inputs, kernel, 3, False)
    monkeypatch.setattr(dynamic_k, "CHUNK_SIZE", limit * kernel.size)
    # What JAX has compiled, it has compiled for chunks of another size.
    monkeypatch.setattr(dynamic_k, "_compiled_choice", dynamic_k._compiled_choice.__wrapped__)
    outputs = dynamic_k.sum_of_largest(ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel), 3)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, atol=1e-5)
    found = gradients(lambda x, w: dynamic_k.sum_of_largest(x, w, 3), inputs, kernel)
    for gradient, other in zip(found, expected_gradients):
        np.testing.assert_allclose(ops.convert_to_numpy(gradient), other, atol=1e-5)


@pytest.mark.parametrize("layers", [(DynamicKDense(5, 12), keras.layers.Dense(5)), "convolution"])
def test_all_inputs_give_the_plain_layer(layers):
    inputs = INPUTS["random"].astype("float32")
    if layers == "convolution":
        layers = DynamicKConv2D(5, 3, 4, padding="same"), keras.layers.Conv2D(5, 3, padding="same")
        inputs = RNG.normal(size=(2, 6, 6, 4)).astype("float32")
    ours, plain = layers
    outputs = ours(inputs)
    plain.build(inputs.shape)
    plain.set_weights(ours.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs), ops.convert_to_numpy(plain(inputs)))


def model_of(layer, shape, **options):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.layers.Flatten()(layer(inputs)))
    model.compile(keras.optimizers.SGD(0.1), "mse", **options)
    return model


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_trains(kind, monkeypatch):
    monkeypatch.setattr(dynamic_k, "CHUNK_SIZE", 150)  # The batch is unknown while the graph is made.
    shape = (12,) if kind == "dense" else (6, 6, 8)
    layer = DynamicKDense(5, 3, nonnegative=True) if kind == "dense" else DynamicKConv2D(4, 3, 2, strides=2, use_bias=False)
    model = model_of(layer, shape)
    inputs = RNG.normal(size=(10, *shape)).astype("float32")
    targets = RNG.normal(size=model(inputs).shape).astype("float32")
    losses = model.fit(inputs, targets, batch_size=7, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize(("strides", "padding"), [(1, "same"), (2, "valid")])
def test_convolution_equals_the_dense_rule_at_every_position(strides, padding, nonnegative):
    maps = RNG.normal(size=(2, 7, 7, 6)).astype("float32")
    layer = DynamicKConv2D(3, 3, 2, strides, padding, nonnegative=nonnegative, bias_initializer="ones")
    outputs = ops.convert_to_numpy(layer(maps))
    kernel = ops.convert_to_numpy(layer.kernel)
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0))) if padding == "same" else maps
    for b, y, x, o in np.ndindex(outputs.shape):
        window = padded[b, y * strides : y * strides + 3, x * strides : x * strides + 3]
        largest = np.sort((window * kernel[..., o]).sum(axis=(0, 1)))[-2:]
        expected = 1 + (np.maximum(largest, 0) if nonnegative else largest).sum()
        assert outputs[b, y, x, o] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("inputs", list(INPUTS))
def test_gradients_of_a_convolution_of_one_pixel_are_those_of_the_dense_rule(inputs, nonnegative):
    inputs, kernel = INPUTS[inputs].astype("float32"), KERNELS["random"].astype("float32")
    layer = DynamicKConv2D(5, 1, 3, nonnegative=nonnegative, use_bias=False)
    layer.build((None, 1, 1, 12))
    layer.kernel.assign(kernel[None, None])
    expected, expected_gradient, _, _ = reference(inputs, kernel, 3, nonnegative)
    outputs = layer(inputs[:, None, None])
    np.testing.assert_allclose(ops.convert_to_numpy(outputs)[:, 0, 0], expected, atol=1e-5)
    found = input_gradient(lambda x: layer(x)[:, 0, 0] * TARGET, inputs[:, None, None])
    np.testing.assert_allclose(found[:, 0, 0], expected_gradient, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the other backends compile nothing outside a step")
def test_chunks_are_compiled_once():
    inputs, layer = np.ones((9, 12), "float32"), DynamicKDense(5, 3)
    layer(inputs)
    before = dynamic_k._compiled_choice()._cache_size()
    layer(inputs + 1)
    assert dynamic_k._compiled_choice()._cache_size() == before


def test_contributions_and_selection():
    inputs = INPUTS["random"].astype("float32")
    layer = DynamicKDense(5, 3)
    outputs = ops.convert_to_numpy(layer(inputs))
    units = np.arange(7) % 5
    contributions, counts = (ops.convert_to_numpy(part) for part in layer.contributions(inputs, units))
    assert (counts.sum(axis=1) == 3).all()
    np.testing.assert_allclose((contributions * counts).sum(axis=1), outputs[np.arange(7), units], atol=1e-5)
    selected = ops.convert_to_numpy(layer.selected(inputs))[np.arange(7), units]
    assert all(set(numbers) == set(np.flatnonzero(row)) for numbers, row in zip(selected, counts))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_chooses_in_float32(policy):
    # Both products are 1 in half precision.
    inputs = np.array([[1.0, 1.0, 1.0]], "float32")
    layer = DynamicKDense(1, 1, dtype=policy)
    assert layer(inputs).dtype == layer.compute_dtype
    layer.set_weights([np.array([[1.0], [1.0 + 1e-4], [1.0]], "float32"), np.zeros(1, "float32")])
    assert int(layer.selected(inputs)[0, 0, 0]) == 1
    found = input_gradient(lambda x: ops.cast(layer(x), "float32"), inputs)
    np.testing.assert_allclose(found, [[0.0, 1.0, 0.0]], rtol=1e-2)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_what_counts_is_what_is_said_to_count(policy, rng):
    layer = DynamicKDense(6, 3, dtype=policy)
    inputs = rng.normal(size=(40, 16)).astype("float32")
    layer(inputs)
    for unit in range(6):
        _, counts = layer.contributions(inputs, np.full(40, unit))
        moved = input_gradient(lambda x, unit=unit: ops.cast(layer(x)[:, unit : unit + 1], "float32"), inputs)
        np.testing.assert_array_equal(np.asarray(moved) != 0, counts)


def test_nan_is_not_lost():
    layer = DynamicKDense(2, 1, kernel_initializer="ones")
    outputs = ops.convert_to_numpy(layer(np.array([[np.nan, 1.0, 1.0], [1.0, 2.0, 3.0]], "float32")))
    assert np.isnan(outputs[0]).all() and outputs[1].tolist() == [3.0, 3.0]
    maps = np.array([[1.0, np.nan, 1.0], [1.0, 2.0, 3.0]], "float32").reshape(1, 1, 2, 3)
    outputs = ops.convert_to_numpy(DynamicKConv2D(2, 1, 1, kernel_initializer="ones")(maps))
    assert np.isnan(outputs[0, 0, 0]).all() and outputs[0, 0, 1].tolist() == [3.0, 3.0]


def test_double_precision_is_kept():
    inputs, kernel = INPUTS["random"], KERNELS["random"]
    layer = DynamicKDense(5, 3, dtype="float64", use_bias=False)
    outputs = layer(ops.convert_to_tensor(inputs, "float64"))
    layer.kernel.assign(kernel)
    outputs = ops.convert_to_numpy(layer(ops.convert_to_tensor(inputs, "float64")))
    # JAX has no double precision unless it is asked to.
    tolerance = 1e-14 if outputs.dtype == "float64" else 1e-5
    np.testing.assert_allclose(outputs, reference(inputs, kernel, 3, False)[0], atol=tolerance)


def test_numbers_of_numpy_and_an_empty_batch():
    layer = DynamicKDense(np.int32(2), np.int64(1))
    assert layer.get_config()["k"] == 1 and tuple(layer(np.ones((2, 3))).shape) == (2, 2)
    inputs = keras.Input((None, None, 4))
    outputs = DynamicKConv2D(3, np.int64(3), 2, padding="same")(inputs)
    assert keras.Model(inputs, outputs)(np.ones((2, 5, 6, 4), "float32")).shape == (2, 5, 6, 3)
    assert tuple(layer(np.ones((0, 3), "float32")).shape) == (0, 2)


@pytest.mark.parametrize("k", [0, -1, 2.0, "3", True])
def test_bad_k(k):
    with pytest.raises(ValueError, match="at least 1"):
        DynamicKDense(4, k)


@pytest.mark.parametrize(("units", "message"), [([0], "each of 2 examples"), ([0, 7], r"\[0, 4\)"), ([0, -1], r"\[0, 4\)")])
def test_units_of_contributions(units, message):
    layer = DynamicKDense(4, 2)
    layer(np.ones((2, 6)))
    with pytest.raises(ValueError, match=message):
        layer.contributions(np.ones((2, 6), "float32"), np.array(units))
    with pytest.raises(ValueError, match=message):
        layer.contributions([[1.0] * 6] * 2, ops.convert_to_tensor(units))
    with pytest.raises(ValueError, match="`units`"):
        DynamicKDense(0, 2)


def test_bad_shapes():
    with pytest.raises(ValueError, match="at most the number of inputs, 6"):
        DynamicKDense(4, 7)(np.ones((2, 6)))
    with pytest.raises(ValueError, match="at most the number of inputs, 6"):
        DynamicKConv2D(4, 3, 7)(np.ones((2, 5, 5, 6)))
    with pytest.raises(ValueError, match=r"\(batch, inputs\)"):
        DynamicKDense(4, 2)(np.ones((2, 3, 6)))
    with pytest.raises(ValueError, match="maps"):
        DynamicKConv2D(4, 3, 2)(np.ones((2, 6)))
    for options, message in (
        ({"kernel_size": (3, 3, 3)}, "one number or two"),
        ({"kernel_size": 3, "strides": 0}, "`strides`"),
        ({"kernel_size": 3, "padding": "full"}, "'valid' or 'same'.*'full'"),
    ):
        with pytest.raises(ValueError, match=message):
            DynamicKConv2D(4, k=2, **options)


def test_only_finite_inputs_of_the_layer_are_explained():
    layer = DynamicKDense(4, 2)
    with pytest.raises(ValueError, match="must be built"):
        layer.selected(np.ones((2, 6)))
    layer.build((None, 6))
    for inputs, message in ((np.full((2, 6), np.nan), "finite"), (np.ones((2, 5)), r"\(batch, 6\)")):
        for call in (layer.selected, lambda x: layer.contributions(x, [0, 1])):
            with pytest.raises(ValueError, match=message):
                call(inputs)
