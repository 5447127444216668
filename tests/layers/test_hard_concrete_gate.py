import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

from keras_interp.layers import HardConcreteGate
from keras_interp.layers.hard_concrete_gate import open_probability, sample_gate

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1


def stretched_cdf(value, log_alpha):
    """Distribution function of the stretched concrete variable before it is clipped, from its definition."""
    share = (value - GAMMA) / (ZETA - GAMMA)
    return stats.logistic.cdf(BETA * np.log(share / (1 - share)) - log_alpha)


@pytest.mark.parametrize("log_alpha", [-3.0, -0.5, 0.0, 2.0])
def test_samples_follow_the_distribution(log_alpha, rng):
    uniform = rng.random(400_000)
    gate = ops.convert_to_numpy(sample_gate(np.float32(log_alpha), uniform.astype("float32")))
    closed, is_open = stretched_cdf(0.0, log_alpha), 1 - stretched_cdf(1.0, log_alpha)
    assert (gate == 0).mean() == pytest.approx(closed, abs=3e-3)
    assert (gate == 1).mean() == pytest.approx(is_open, abs=3e-3)
    # Between, the density integrates to what the sample has there.
    step = 1e-5

    def density(value):
        return (stretched_cdf(value + step, log_alpha) - stretched_cdf(value - step, log_alpha)) / (2 * step)

    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 0.95)):
        expected, _ = integrate.quad(density, low, high)
        assert ((gate > low) & (gate < high)).mean() == pytest.approx(expected, abs=3e-3)
    assert float(open_probability(log_alpha)) == pytest.approx(1 - closed, abs=1e-6)


def test_expected_l0_is_the_closed_form():
    gate = HardConcreteGate(learning_rate_multiplier=5.0)
    gate.build((None, 4))
    log_alpha = np.array([-3.0, -1.0, 0.0, 2.5])
    gate.scaled_log_alpha.assign(log_alpha / 5)
    expected = 1 / (1 + np.exp(-(log_alpha - BETA * np.log(-GAMMA / ZETA))))
    np.testing.assert_allclose(ops.convert_to_numpy(gate.open_probability()), expected, rtol=1e-5)
    assert float(gate.expected_open()) == pytest.approx(expected.sum(), rel=1e-5)
    assert float(gate.num_open()) == 3  # log(1/11) = -2.40


@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 4, 5)])
@pytest.mark.parametrize("per_position", [False, True])
def test_level_and_hidden_features_are_disjoint_at_test_time(shape, per_position, rng):
    gate = HardConcreteGate(per_position=per_position, seed=0)
    features = rng.normal(size=shape).astype("float32") + 10
    gate.build(shape)
    gate.scaled_log_alpha.assign(rng.choice([-4.0, 0.2, 4.0], gate.scaled_log_alpha.shape))
    level, hidden = map(ops.convert_to_numpy, gate(features))
    assert ((level == 0) ^ (hidden == 0)).all()
    z = np.clip(1 / (1 + np.exp(-ops.convert_to_numpy(gate.log_alpha))) * 1.2 - 0.1, 0, 1)
    np.testing.assert_allclose(hidden, features * z, rtol=1e-5)
    np.testing.assert_allclose(level, features * (z == 0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 4, 5)])
@pytest.mark.parametrize("per_position", [False, True])
@pytest.mark.parametrize("per_sample", [False, True])
def test_noise(shape, per_position, per_sample):
    gate = HardConcreteGate(per_position=per_position, per_sample_noise=per_sample, seed=3)
    same = HardConcreteGate(per_position=per_position, per_sample_noise=per_sample, seed=3)
    ones = np.ones(shape, "float32")
    level, hidden = map(ops.convert_to_numpy, gate(ones, training=True))
    np.testing.assert_allclose(level + hidden, 1.0, rtol=1e-6)
    np.testing.assert_array_equal(hidden, ops.convert_to_numpy(same(ones, training=True)[1]))
    assert (hidden != ops.convert_to_numpy(gate(ones, training=True)[1])).any()
    assert (hidden[0] == hidden[1]).all() == (not per_sample)
    if len(shape) == 4:
        assert (hidden[:, 0, 0] == hidden[:, 1, 1]).all() == (not per_position)


def test_hard_mode_in_training():
    gate = HardConcreteGate(mode="hard", seed=0)
    level, hidden = map(ops.convert_to_numpy, gate(np.ones((1, 2000), "float32"), training=True))
    assert ((level == 0) | (level == 1)).all() and ((level == 1) == (hidden == 0)).all() and 0 < level.mean() < 1


def test_the_constraint_clamps_log_alpha():
    gate = HardConcreteGate(learning_rate_multiplier=10.0)
    gate.build((None, 3))
    clamped = ops.convert_to_numpy(gate.scaled_log_alpha.constraint(ops.convert_to_tensor([-9.0, 0.1, 9.0])))
    np.testing.assert_allclose(10 * clamped, [-np.log(100), 1.0, np.log(100)], rtol=1e-5)


def test_the_multiplier_speeds_the_gates_up():
    moved = {}
    for multiplier in (1.0, 10.0):
        gate = HardConcreteGate(learning_rate_multiplier=multiplier, seed=0)
        inputs = keras.Input((3,))
        model = keras.Model(inputs, gate(inputs)[1])
        before = ops.convert_to_numpy(gate.log_alpha)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.fit(np.ones((8, 3)), np.zeros((8, 3)), batch_size=8, verbose=0)
        moved[multiplier] = np.abs(ops.convert_to_numpy(gate.log_alpha) - before).mean()
    assert moved[10.0] == pytest.approx(10 * moved[1.0], rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"gamma": 0.1}, "gamma"),
        ({"zeta": 1.0}, "zeta"),
        ({"initial_drop_rate": 1.0}, "initial_drop_rate"),
        ({"mode": "soft"}, "mode"),
        ({"learning_rate_multiplier": -1.0}, "learning_rate_multiplier"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        HardConcreteGate(**options)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (2, None)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match="Received: shape"):
        HardConcreteGate().build(shape)
