import itertools
import json
import warnings

import keras
import numpy as np
import pytest

from keras_interp.data import Batches
from keras_interp.models import LabelSensitiveClassifier
from keras_interp.optimizers import CoupledSGD
from tests.tiny import EAGER, tiny_backbone

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def small_model(policy="float32", **options):
    keras.config.set_dtype_policy(policy)
    return LabelSensitiveClassifier(tiny_backbone(), num_classes=10, **options)


def compiled(model, learning_rate=0.05, **options):
    model.compile(CoupledSGD(learning_rate, momentum=0.9), CROSS_ENTROPY, metrics=["accuracy"], **options)
    return model


def eager(model, learning_rate=0.05):
    return compiled(model, learning_rate, **EAGER)


def linear_model(filters=6, classes=3, **options):
    """A backbone without weights: 1x1 maps that are the pixels themselves, so that θ is the dense layer alone."""
    inputs = keras.Input((1, 1, filters))
    backbone = keras.Model(inputs, keras.layers.ReLU()(inputs))
    model = LabelSensitiveClassifier(backbone, num_classes=classes, **options)
    model.compile(keras.optimizers.SGD(0.3, momentum=0.5), CROSS_ENTROPY)
    return model


class NumpyAlgorithm1:
    """Algorithm 1 for the linear model, with gradients derived by hand; shares nothing with the package."""

    def __init__(self, kernel, bias, classes, a, s, rate, lam):
        self.parameters = [kernel.astype(float), bias.astype(float)]
        self.velocity = [np.zeros_like(p) for p in self.parameters]
        self.gate = np.full((classes, len(kernel)), 0.5)
        self.a, self.s, self.rate, self.lam = a, s, rate, lam

    def step(self, x, y, gated):
        kernel, bias = self.parameters
        inputs = x * self.gate[y] if gated else x
        logits = inputs @ kernel + bias
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta = exp / exp.sum(axis=1, keepdims=True)
        delta[np.arange(len(y)), y] -= 1
        delta *= (self.lam if gated else 1.0) / len(y)
        if gated:
            gradient = np.zeros_like(self.gate)
            for example, label in enumerate(y):
                gradient[label] += x[example] * (kernel @ delta[example])
            gradient += self.lam * self.a * np.sign(self.gate.sum() - self.s) * np.sign(self.gate)
            gate = self.gate - self.rate * gradient
            self.gate = np.clip(gate / np.abs(gate).max(axis=0), 0, 1)
        for number, gradient in enumerate([inputs.T @ delta, delta.sum(axis=0)]):
            self.velocity[number] = 0.5 * self.velocity[number] - 0.3 * gradient
            self.parameters[number] = self.parameters[number] + self.velocity[number]


def test_follows_a_numpy_rendering_of_algorithm_1(rng):
    model = linear_model(sparsity_weight=0.05, target_norm=7.0, gate_learning_rate=0.4, gate_weight=0.7)
    reference = NumpyAlgorithm1(*map(np.asarray, model.get_layer("logits").weights), 3, 0.05, 7.0, 0.4, 0.7)
    gates = []
    for number in range(10):
        x, y = rng.random((12, 6)).astype("float32") * 2, rng.integers(0, 3, 12)
        gated = number % 3 == 1 or number > 6
        model.set_phase(gated)
        model.train_on_batch(x[:, None, None], y)
        reference.step(x, y, gated)
        np.testing.assert_allclose(model.gate, reference.gate, atol=1e-5)
        np.testing.assert_allclose(model.get_layer("logits").kernel, reference.parameters[0], atol=1e-5)
        gates.append(model.gate)
    assert np.ptp([gate.mean() for gate in gates]) > 0.05


def test_epochs_alternate_as_algorithm_1_says(images):
    model = eager(small_model())
    densities = []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: densities.append(model.gate.copy()))
    model.fit(images, np.arange(16) % 10, epochs=6, batch_size=8, verbose=0, callbacks=record)
    moved = [(a != b).any() for a, b in itertools.pairwise([np.full((10, 16), 0.5), *densities])]
    assert moved == [False, True, False, False, True, False]
    assert [model.is_gated_epoch(epoch) for epoch in range(6)] == moved
    assert not small_model(first_gated_epoch=10).is_gated_epoch(7)


def test_weights_move_in_both_kinds_of_epochs(images):
    model = eager(small_model())
    for gated in (False, True):
        before = np.array(model.get_layer("logits").kernel)
        model.set_phase(gated)
        model.train_on_batch(images, np.arange(16) % 10)
        assert (np.array(model.get_layer("logits").kernel) != before).any()


def test_every_parameter_gets_a_gradient(images):
    model = eager(small_model(), learning_rate=0.1)
    before = [np.array(weight) for weight in model.trainable_variables]
    for _ in range(2):
        model.train_on_batch(images, np.arange(16) % 10)
    for weight, old in zip(model.trainable_variables, before):
        assert (np.array(weight) != old).any(), weight.path


def test_accuracy_is_that_of_the_standard_path(images):
    """With a gate that only lets each class's own filter through, the two paths differ wherever the gate leaks the label."""
    model = eager(small_model(fixed_gate=1), learning_rate=0.0)
    model.get_layer("logits").kernel.assign(np.eye(16, 10))
    labels = np.arange(16) % 10
    model.set_phase(True)
    logs = model.train_on_batch(images, labels, return_dict=True)
    features = model._feature_view(images, training=True)[1]
    standard = np.asarray(features)[:, :10].argmax(axis=1)
    assert logs["accuracy"] == pytest.approx((standard == labels).mean())
    assert logs["gated_accuracy"] >= logs["accuracy"]
    assert logs["gate_density"] == pytest.approx(model.gate.mean())


def test_logs_hold_the_parts_and_evaluation_only_the_standard_path(images):
    model = compiled(small_model())
    labels = np.arange(16) % 10
    history = model.fit(images, labels, epochs=2, verbose=0, validation_data=(images, labels)).history
    standard = {"loss", "accuracy"}
    assert set(history) == standard | {f"val_{name}" for name in standard} | set(model.objective_metrics)
    assert set(model.evaluate(images, labels, verbose=0, return_dict=True)) == standard


def test_eager_compiled_and_jit_agree(images):
    def weights(**options):
        keras.utils.set_random_seed(1)
        model = compiled(small_model(), **options)
        for gated in (False, True, True):
            model.set_phase(gated)
            model.train_on_batch(images, np.arange(16) % 10)
        return model.get_weights()

    # One of the first two is what Keras chooses by itself.
    for a, b, c in zip(weights(jit_compile=False), weights(jit_compile=True), weights(run_eagerly=True)):
        np.testing.assert_allclose(a, b, atol=2e-4)
        np.testing.assert_allclose(a, c, atol=2e-4)


def test_mixed_precision(images):
    model = eager(small_model("mixed_float16"))
    model.fit(images, np.arange(16) % 10, epochs=3, verbose=0)
    assert model.gate.dtype == np.float32 and model.gate.mean() != 0.5
    assert all(np.isfinite(np.asarray(weight, "float32")).all() for weight in model.get_weights())
    # The gate's step must not be scaled with the loss: nearly all ones after one gated epoch of one step.
    assert model.gate.mean() > 0.9


def test_joint_scheme_moves_both_in_every_step(images):
    model = eager(small_model(scheme="joint"))
    model.fit(images, np.arange(16) % 10, epochs=1, verbose=0)
    assert (model.gate != 0.5).any() and not model.is_gated_epoch(1)


def test_fixed_gate_does_not_move(images):
    matrix = np.eye(10, 16)
    for fixed, expected in [(1, np.concatenate([np.eye(10), np.ones((10, 6))], axis=1)), (matrix, matrix)]:
        model = eager(small_model(fixed_gate=fixed))
        model.fit(images, np.arange(16) % 10, epochs=3, verbose=0)
        np.testing.assert_array_equal(model.gate, expected)


def test_a_number_of_filters_may_be_numpys():
    assert json.dumps(small_model(fixed_gate=np.int64(1)).get_config()["fixed_gate"]) == "1"


def test_an_aligned_readout_starts_in_agreement_with_the_gate():
    keras.utils.set_random_seed(3)
    random = small_model(fixed_gate=1).get_layer("logits").get_weights()[0]
    keras.utils.set_random_seed(3)
    model = small_model(fixed_gate=1, align_readout=True)
    kernel = np.asarray(model.get_layer("logits").kernel)
    np.testing.assert_array_equal(kernel[10:], random[10:])  # The shared filters.
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=1), np.linalg.norm(random, axis=1), rtol=1e-5)
    for number, row in enumerate(kernel[:10]):
        others = np.delete(row, number)
        assert row[number] > 0 and np.ptp(others) < 1e-6
        np.testing.assert_allclose(others, -row[number] / 9, rtol=1e-5)


def test_the_readout_of_a_loaded_model_is_the_trained_one(tmp_path, images):
    model = eager(small_model(fixed_gate=1, align_readout=True, scheme="joint"))
    model.fit(images, np.arange(16) % 10, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.align_readout
    np.testing.assert_array_equal(loaded.get_layer("logits").kernel, model.get_layer("logits").kernel)


def test_a_fit_without_a_gated_epoch_warns(images):
    model = eager(small_model())
    with pytest.warns(UserWarning, match="No epoch went through the gate.*initial_epoch"):
        model.fit(images, np.arange(16) % 10, verbose=0)
    assert (model.gate == 0.5).all()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="No epoch went")
        model.fit(images, np.arange(16) % 10, epochs=2, verbose=0)
        model.fit(images, np.arange(16) % 10, epochs=3, initial_epoch=2, verbose=0)


@pytest.mark.parametrize("kind", ["arrays", "PyDataset"])
def test_sample_weights_and_streams(toy_dataset, kind):
    model = eager(small_model())
    if kind == "arrays":
        model.fit(toy_dataset.inputs, toy_dataset.targets, sample_weight=np.ones(64), verbose=0)
    else:
        model.fit(Batches(toy_dataset, 32), epochs=2, verbose=0)
    assert np.isfinite(model.gate).all()


def test_a_stream_stops_at_its_first_nan_loss(images):
    model = compiled(small_model())
    seen = []

    def stream():
        for number in itertools.count():
            seen.append(number)
            yield images, np.arange(16) % 10, np.full(16, np.nan if number == 2 else 1.0, "float32")

    with pytest.raises(FloatingPointError, match=r"label outside.*Received: loss=nan"):
        model.fit(stream(), steps_per_epoch=200, epochs=2, verbose=0)
    assert len(seen) < 50


def test_losses_of_layers_count(images):
    """Weight and activity regularisers of a user's backbone, on every backend."""

    def loss(**regularizers):
        keras.utils.set_random_seed(2)
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Conv2D(4, 3, 8, kernel_initializer="ones", **regularizers)(keras.layers.Rescaling(1 / 255)(inputs))
        model = eager(LabelSensitiveClassifier(keras.Model(inputs, x), 10))
        return model.train_on_batch(images, np.arange(16) % 10, return_dict=True)["loss"]

    plain = loss()
    weights = loss(kernel_regularizer=keras.regularizers.L2(0.01))
    activity = loss(activity_regularizer=keras.regularizers.L2(1e-4))
    assert weights - plain == pytest.approx(0.01 * 3 * 3 * 3 * 4, rel=1e-4)
    assert activity > plain + 1e-4


def test_a_gate_left_open_warns(images):
    model = eager(small_model())
    with pytest.warns(UserWarning, match="still open"):
        model.fit(images, np.arange(16) % 10, epochs=2, verbose=0)


def test_unit_names_tell_the_classes():
    model = small_model(fixed_gate=1, class_names=list("abcdefghij"))
    assert model.unit_names[2] == "filter 2 (c)" and model.unit_names[12] == "filter 12 (all)"
    np.testing.assert_array_equal(model.units_of_classes([2])[0], np.isin(np.arange(16), [2, *range(10, 16)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "random"}, "scheme"),
        ({"period": 1}, "period"),
        ({"gate_weight": -1.0}, "gate_weight"),
        ({"sparsity_weight": -1.0}, "sparsity_weight"),
        ({"fixed_gate": 2}, "at most 1"),
        ({"fixed_gate": np.ones((3, 3))}, r"\(10, 16\)"),
        ({"fixed_gate": np.full((10, 16), np.nan)}, r"entries in \[0, 1\].*nan"),
        ({"fixed_gate": True}, r"\(10, 16\)"),
        ({"gate_weight": np.nan}, "gate_weight"),
        ({"period": 2.5}, "integer"),
        ({"period": "3"}, "integer"),
        ({"first_gated_epoch": -1}, "first_gated_epoch"),
        ({"fixed_gate": []}, r"\(10, 16\)"),
        ({"align_readout": True}, "fixed_gate"),
        ({"align_readout": True, "fixed_gate": np.ones((10, 16))}, "exclusive to one class"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        small_model(**options)


def test_training_uncompiled_says_so(images):
    model = small_model()
    model.compile("sgd")
    with pytest.raises(ValueError, match="Compile the model with a loss"):
        model.train_on_batch(images, np.arange(16) % 10)
