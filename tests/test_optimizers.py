import keras
import numpy as np
import pytest

from keras_interp.layers.interpretable_sgd import InterpretableSGDDense, update_probabilities
from keras_interp.optimizers import CoupledSGD, vanishing_weight_decay

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_decay_goes_through_the_momentum():
    """Against a loop: v <- m v - lr (g + wd w); w <- w + v, for 500 steps without gradient."""
    weight = keras.Variable(np.ones(1, "float32"))
    optimizer = CoupledSGD(0.4, momentum=0.9, weight_decay=5e-4)
    optimizer.build([weight])
    value, velocity = 1.0, 0.0
    for _ in range(500):
        optimizer.apply([keras.ops.zeros(1)], [weight])
        velocity = 0.9 * velocity - 0.4 * 5e-4 * value
        value += velocity
    np.testing.assert_allclose(weight.numpy() if hasattr(weight, "numpy") else weight, value, rtol=1e-3)
    assert abs(value - 0.368) < 0.001


def test_excluded_variables_and_config():
    weight = keras.Variable(np.ones(1, "float32"), name="gamma")
    optimizer = CoupledSGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[weight])
    optimizer.build([weight])
    optimizer.apply([keras.ops.zeros(1)], [weight])
    assert float(weight.value[0]) == 1.0
    copy = CoupledSGD.from_config(optimizer.get_config())
    assert copy.coupled_weight_decay == 0.5 and copy.get_config() == optimizer.get_config()


def test_a_variable_can_have_a_decay_of_its_own():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="logits"), keras.layers.Dense(2, name="no_logits")]
    )
    before = model.get_weights()
    optimizer = CoupledSGD(0.1, weight_decay=0.5, own_weight_decay={"logits/kernel": 2.0})
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in model.trainable_variables])
    for old, new, kept in zip(before, model.get_weights(), (0.8, 0.95, 0.95, 0.95)):
        np.testing.assert_allclose(new, kept * old, rtol=1e-6)
    copy = CoupledSGD.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config() and copy.own_weight_decay == {"logits/kernel": 2.0}


def test_a_decay_of_no_variable():
    weight = keras.Variable(np.ones(1, "float32"), name="gamma")
    with pytest.raises(ValueError, match=r"names 'logits/kernel', .* Paths: gamma"):
        CoupledSGD(0.1, own_weight_decay={"logits/kernel": 2.0}).build([weight])


def activations(rng, *shape):
    return rng.lognormal(0.0, 1.0, shape).astype("float32")


def gradients_of_weights(layers, features, output_gradients):
    """The gradients of all weights, for a loss whose gradient by the outputs is given: what a step of SGD subtracts."""
    model = keras.Sequential([keras.Input(features.shape[1:]), *layers])
    # Eagerly: in a compiled step of this size TensorFlow 2.21's graph optimiser lets a layer's update overtake the gradient of
    # the next one.
    loss = lambda gradients, outputs: keras.ops.sum(gradients * outputs, axis=-1)  # noqa: E731
    model.compile(keras.optimizers.SGD(1.0), loss, run_eagerly=True)
    before = model.get_weights()
    model.train_on_batch(features, output_gradients)
    return [old - new for old, new in zip(before, model.get_weights())]


def kernel_gradient(features, output_gradients, **options):
    layer = InterpretableSGDDense(output_gradients.shape[-1], kernel_initializer="zeros", **options)
    return gradients_of_weights([layer], features, output_gradients)[0]


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_probabilities_are_those_of_step_5(rng, sparsity):
    """Against loops over the coordinates of the kernel, with the paper's own beta."""
    inputs, units, block_size = 7, 3, 2
    features = activations(rng, 5, inputs)
    beta = (units * block_size) ** (1 / (1 - sparsity))
    probabilities = np.asarray(update_probabilities(features, block_size, sparsity))
    for x, row in zip(features.astype(float), probabilities):
        lipschitz = np.array([[0.25 * x[j] ** 2 for _ in range(units)] for j in range(inputs)])
        expected = np.minimum(1.0, beta * (lipschitz / lipschitz.sum()) ** (1 / (1 - sparsity)))
        np.testing.assert_allclose(expected, np.repeat(row[:, None], units, axis=1), rtol=1e-4, atol=1e-7)
    assert (probabilities.sum(axis=1) <= block_size + 1e-5).all() and (probabilities == 1).any()


def test_probabilities_at_the_limits(rng):
    features = activations(rng, 4, 6)
    np.testing.assert_array_equal(update_probabilities(features, 1e6, 0.9), 1.0)
    np.testing.assert_array_equal(update_probabilities(np.zeros((2, 6), "float32"), 3, 0.5), 0.0)
    # s = 0 is Lipschitz sampling as it is: proportional to the curvature where that is below 1.
    squares = np.square(features)
    np.testing.assert_allclose(update_probabilities(features, 0.5, 0.0), 0.5 * squares / squares.sum(1, keepdims=True), 1e-5)
    larger = np.asarray(update_probabilities(features, 3, 0.9))
    assert (larger <= np.asarray(update_probabilities(features, 3, 0.5))).all()


def test_large_blocks_give_plain_sgd(rng):
    features, gradients = rng.normal(size=(16, 5)).astype("float32"), rng.normal(size=(16, 3)).astype("float32")
    hidden = rng.normal(size=(5, 4))

    def step(readout):
        first = keras.layers.Dense(4, kernel_initializer=lambda *_, **__: keras.ops.convert_to_tensor(hidden, "float32"))
        return gradients_of_weights([first, readout], features, gradients)

    kernel = {"kernel_initializer": keras.initializers.GlorotUniform(seed=1)}
    plain = step(keras.layers.Dense(3, **kernel))
    for ours, theirs in zip(step(InterpretableSGDDense(3, block_size=1e9, **kernel)), plain):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # Sparse updates of the kernel leave what flows to the layer below, and to the bias, as it is.
    sparse = step(InterpretableSGDDense(3, block_size=1, **kernel))
    assert not np.allclose(sparse[2], plain[2], atol=1e-2)
    for number in (0, 1, 3):
        np.testing.assert_allclose(sparse[number], plain[number], atol=1e-5)


def test_expected_update_is_the_weighted_gradient(rng):
    """20,000 copies of a sample, each with a draw of its own."""
    x, gradient, copies = activations(rng, 6), np.array([1.0, -2.0], "float32"), 20_000
    update = kernel_gradient(np.tile(x, (copies, 1)), np.tile(gradient, (copies, 1)), block_size=2, sparsity=0.3, seed=0)
    probabilities = np.asarray(update_probabilities(x[None], 2, 0.3))[0]
    assert ((0.01 < probabilities) & (probabilities < 0.99)).sum() >= 3
    standard_error = np.sqrt(probabilities * (1 - probabilities) / copies)
    error = update / np.outer(x, gradient) - probabilities[:, None]
    assert (np.abs(error) <= 5 * standard_error[:, None] + 1e-5).all()


def test_the_limit_of_large_sparsity_is_the_largest_activations(rng):
    """As Dynamic-K with K of the strong inputs: whatever the draw, these and no others."""
    features = np.abs(rng.normal(0.3, 0.1, (1, 50)).astype("float32"))
    strong = [3, 17, 40]
    features[0, strong] = [5.0, -6.0, 7.0]
    gradients = np.ones((1, 4), "float32")
    for seed in range(3):
        update = kernel_gradient(features, gradients, block_size=10, sparsity=0.999, seed=seed)
        expected = np.zeros((50, 4))
        expected[strong] = features.T[strong]
        np.testing.assert_allclose(update, expected, rtol=1e-5)


def test_draws_follow_the_seed_and_change_with_the_step(rng):
    features, gradients = activations(rng, 8, 30), np.ones((8, 2), "float32")
    options = {"block_size": 10, "sparsity": 0.0}
    first, again, other = (kernel_gradient(features, gradients, seed=seed, **options) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    layer = InterpretableSGDDense(2, seed=1, kernel_initializer="zeros", **options)
    model = keras.Sequential([keras.Input((30,)), layer])
    model.compile(keras.optimizers.SGD(1.0), lambda g, outputs: keras.ops.sum(g * outputs, axis=-1))
    model.fit(np.tile(features, (2, 1)), np.tile(gradients, (2, 1)), batch_size=8, shuffle=False, verbose=0)
    second = -model.get_weights()[0] - first
    assert not np.allclose(second, first)


def losses_and_gradients(layer, features, targets, loss, learning_rate, times):
    """Full-batch training: the loss and the squared norm of its plain gradient after `times` steps, in float64."""
    model = keras.Sequential([keras.Input(features.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(learning_rate), loss)
    x, n, done, values = features.astype(float), len(features), 0, []
    for time in times:
        repeats = time - done
        model.fit(np.concatenate([features] * repeats), np.concatenate([targets] * repeats), n, shuffle=False, verbose=0)
        done = time
        logits = x @ model.get_weights()[0].astype(float)
        if targets.ndim == 1:
            logits -= logits.max(axis=1, keepdims=True)
            probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            value = -np.mean(np.log(probabilities[np.arange(n), targets]))
            residual = (probabilities - np.eye(logits.shape[1])[targets]) / n
        else:
            value = np.mean((logits - targets) ** 2)
            residual = 2 * (logits - targets) / targets.size
        values.append((value, np.square(x.T @ residual).sum()))
    return np.array(values).T


@pytest.mark.parametrize("loss", ["mean_squared_error", "cross_entropy"])
def test_theorem_1_where_every_sample_can_be_fitted(rng, loss):
    """The smallest squared gradient norm falls at least as 1/t, and so does the squared error above its minimum of zero."""
    times = np.unique(np.geomspace(10, 1000, 8).astype(int))
    if loss == "cross_entropy":
        targets = rng.integers(0, 3, 60)
        features = np.abs(1.5 * rng.normal(size=(3, 20))[targets] + rng.normal(0.0, 0.5, (60, 20))).astype("float32")
        loss, learning_rate = CROSS_ENTROPY, 1.0
    else:
        features = activations(rng, 40, 20)
        targets = features @ rng.normal(size=(20, 3)).astype("float32")
        learning_rate = 0.03
    layer = InterpretableSGDDense(3, block_size=5, sparsity=0.5, seed=0, use_bias=False, kernel_initializer="zeros")
    values, gradients = losses_and_gradients(layer, features, targets, loss, learning_rate, times)

    def slope(series):
        return np.polyfit(np.log(times), np.log(series), 1)[0]

    assert slope(np.minimum.accumulate(gradients)) <= -0.9
    # The cross entropy of separable classes falls as 1/t too, but gets there from above: plain SGD's slope is flatter here.
    assert slope(values) <= (-0.6 if targets.ndim == 1 else -0.9)


def test_theorem_1_does_not_hold_for_every_sparsity():
    """The strongest input of each sample alone, and the error grows along (1, 1, 1), though all samples can be fitted.

    The expected update is -M e for an error e of the weights, where row j of M is the sample whose strongest input is j; the
    diagonal is 1 and the rest -0.9, so (1, 1, 1) is an eigenvector of the value -0.8.
    """
    features = (1.9 * np.eye(3) - 0.9).astype("float32")
    targets = features.sum(axis=1, keepdims=True)
    options = {"use_bias": False, "kernel_initializer": "zeros"}
    sparse = InterpretableSGDDense(1, block_size=3, sparsity=0.99, seed=0, **options)
    (start, end), _ = losses_and_gradients(sparse, features, targets, "mean_squared_error", 0.3, (1, 50))
    assert end > 100 * start
    (start, end), _ = losses_and_gradients(
        keras.layers.Dense(1, **options), features, targets, "mean_squared_error", 0.3, (1, 50)
    )
    assert end < start


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_outputs_are_those_of_dense(rng, policy):
    keras.config.set_dtype_policy(policy)
    features = activations(rng, 8, 30)
    layer, dense = InterpretableSGDDense(4, block_size=2, activation="relu"), keras.layers.Dense(4, "relu")
    layer.build((None, 30))
    dense.build((None, 30))
    dense.set_weights(layer.get_weights())
    for training in (False, True):
        outputs = layer(features, training=training)
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        np.testing.assert_array_equal(np.asarray(outputs, "float32"), np.asarray(dense(features), "float32"))


def test_layer_is_saved_with_its_options(rng, tmp_path):
    model = keras.Sequential([keras.Input((6,)), InterpretableSGDDense(4, block_size=2, sparsity=0.75, seed=3)])
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.layers[0].get_config() == model.layers[0].get_config()
    assert (copy.layers[0].block_size, copy.layers[0].sparsity, copy.layers[0].seed) == (2, 0.75, 3)
    features = activations(rng, 3, 6)
    np.testing.assert_array_equal(copy.predict(features, verbose=0), model.predict(features, verbose=0))


@pytest.mark.parametrize(
    "block_size, sparsity, named",
    [(0, 0.5, "block_size=0"), (-1, 0.5, "block_size=-1"), (float("inf"), 0.5, "inf"), (1, 1.0, "=1.0"), (1, -0.1, "=-0.1")],
)
def test_sampling_options_out_of_range(block_size, sparsity, named):
    with pytest.raises(ValueError, match=f"Received: .*{named}"):
        InterpretableSGDDense(4, block_size=block_size, sparsity=sparsity)
    with pytest.raises(ValueError, match=f"Received: .*{named}"):
        update_probabilities(np.ones((1, 2), "float32"), block_size, sparsity)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_what_gets_no_gradient_vanishes_by_the_end(momentum, nesterov):
    rates = 0.1 * np.cos(np.linspace(0, np.pi / 2, 300)) + 1e-3
    optimizer = CoupledSGD(0.1, momentum, nesterov, vanishing_weight_decay(rates, momentum))
    weight = keras.Variable(np.full(3, 0.1, "float32"))
    optimizer.build([weight])
    for rate in rates:
        optimizer.learning_rate = rate
        optimizer.apply([np.zeros(3, "float32")])
    left = keras.ops.convert_to_numpy(weight)
    assert (np.abs(left) < 1e-3).all() and (left > 1e-4).all()


@pytest.mark.parametrize(("rates", "momentum"), [([0.1], 1.0), ([0.1], -0.1), ([0.0], 0.9), ([], 0.9), ([np.nan], 0.9)])
def test_rates_without_a_decay(rates, momentum):
    with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\)|`learning_rates` must be a positive"):
        vanishing_weight_decay(rates, momentum)


def test_weight_decays_below_zero():
    with pytest.raises(ValueError, match="must be finite and not negative"):
        CoupledSGD(0.1, weight_decay=-1.0)
    with pytest.raises(ValueError, match="must be finite and not negative"):
        CoupledSGD(0.1, own_weight_decay={"kernel": float("nan")})


def test_probabilities_of_large_features():
    large = update_probabilities(np.array([[3e20, 2e20, 1e20, 1e20, 1e20]], "float32"), 2, 0.5)
    np.testing.assert_allclose(large, update_probabilities(np.array([[3.0, 2, 1, 1, 1]]), 2, 0.5), rtol=1e-5)
