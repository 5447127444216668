"""What every objective owes the trainer: weights count, parts of a batch add up, and logs are means over examples."""

import keras
import numpy as np
import pytest

from keras_interp.layers.hard_concrete_gate import HardConcreteGate
from keras_interp.models import (
    Classifier,
    DynamicKClassifier,
    ExplanationModule,
    FeatureLevelingNetwork,
    L0Network,
    LabelSensitiveClassifier,
    Regressor,
    SelfExplainingNetwork,
    XNet,
)
from keras_interp.zoo.checkpoints import restore_checkpoint, save_checkpoint
from tests.tiny import EAGER

ROWS, CLASSES = 12, 3


def backbone():
    inputs = keras.Input((5,), name="rows")
    return keras.Model(inputs, keras.layers.Dense(6, "elu", name="units")(inputs))


def classifier():
    inputs = keras.Input((5,), name="rows")
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(keras.layers.Dense(6, "elu", name="units")(inputs)))


NO_NOISE = {"reconstruction_weight": 0.5, "robustness_weight": 0.0}
KINDS = {
    "standard": lambda: Classifier(backbone(), CLASSES),
    "regression": lambda: Regressor(backbone(), target_mean=0.5, target_scale=2.0),
    "lsg alternating": lambda: LabelSensitiveClassifier(backbone(), CLASSES, sparsity_weight=0.05),
    "lsg joint": lambda: LabelSensitiveClassifier(backbone(), CLASSES, scheme="joint", sparsity_weight=0.05),
    "dynamic-k": lambda: DynamicKClassifier(backbone(), CLASSES, k=2),
    "xnet": lambda: XNet(backbone(), ("a", "b"), CLASSES, alpha=0.3, activation="elu"),
    "xnet capped": lambda: XNet(backbone(), ("a", "b"), CLASSES, alpha=0.3, activation="elu", drop_loss_cap=0.8),
    "xnet sum": lambda: XNet(backbone(), ("a", "b"), CLASSES, alpha=0.3, activation="elu", reduction="sum"),
    "feature leveling": lambda: FeatureLevelingNetwork((6, 4), CLASSES, (5,)),
    "feature leveling of values": lambda: FeatureLevelingNetwork((6, 4), input_shape=(5,), task="regression"),
    "l0": lambda: L0Network((6, 4), CLASSES, (5,)),
    "senn": lambda: SelfExplainingNetwork((6,), CLASSES, (5,), num_concepts=4, **NO_NOISE),
    "senn of values": lambda: SelfExplainingNetwork((6,), input_shape=(5,), num_concepts=4, task="regression", **NO_NOISE),
    "explanation module": lambda: ExplanationModule(classifier(), "units", hidden_units=(4,), num_features=2, dropout=0.0),
}
# Its examples have weights of their own, which are part of the targets.
WITHOUT_WEIGHTS = {"explanation module"}


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    # The gates of test time: their noise, one draw for each batch, would tell two halves from one whole.
    monkeypatch.setattr(HardConcreteGate, "sample", lambda gate, batch_size=None: gate.test_gate())
    return request.param


def build(kind, accumulate=None, loss=None):
    keras.utils.set_random_seed(1)
    model = KINDS[kind]()
    # Adding gradients up has conditions of its own in a graph.
    options = {} if accumulate else EAGER
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulate)
    if kind == "explanation module":
        model.compile(optimizer, **options)
    elif model.task == "regression":
        model.compile(optimizer, loss or keras.losses.MeanSquaredError(), **options)
    else:
        sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss or sparse, metrics=["accuracy"], **options)
    if isinstance(model, LabelSensitiveClassifier):
        model.set_phase(True)
    return model


def examples(kind, count=ROWS):
    """Inputs, and a structure of targets whose leaves have one row for each input."""
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(count, 5)).astype("float32"), np.arange(count) % CLASSES
    if kind.startswith("xnet"):
        return rows, {"label": labels, "attributes": (rng.random((count, 2)) < 0.6).astype("float32")}
    if "values" in kind or kind == "regression":
        return rows, rng.normal(size=count).astype("float32")
    if kind == "explanation module":
        logits = rng.normal(size=(count, CLASSES)).astype("float32")
        return rng.random((count, 6)).astype("float32"), {"logits": logits, "weights": np.ones_like(logits)}
    return rows, labels


def take(structure, part):
    return keras.tree.map_structure(lambda values: values[part], structure)


def step(model, rows, targets, weights=None):
    """The log of one step on one batch."""
    return model.train_on_batch(rows, targets, sample_weight=weights, return_dict=True)


def assert_equal(one, other, tolerance=2e-5):
    for left, right in zip(one.get_weights(), other.get_weights()):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", ["zeros leave out", "twos repeat"])
def test_weights_of_examples(kind, case):
    if kind in WITHOUT_WEIGHTS:
        pytest.skip("its examples have weights of their own")
    rows, targets = examples(kind)
    if case == "zeros leave out":
        weights, order = np.where(np.arange(ROWS) < 8, 1.0, 0.0), np.arange(8)
    else:
        weights, order = np.where(np.arange(ROWS) < 4, 2.0, 1.0), np.append(np.arange(ROWS), np.arange(4))
    # Keras divides by the number of examples, not by the sum of their weights, which is made the same here.
    weights *= ROWS / weights.sum()
    weighted, plain = build(kind), build(kind)
    weighted_log = step(weighted, rows, targets, weights.astype("float32"))
    plain_log = step(plain, *take((rows, targets), order))
    if not kind.startswith("senn"):
        # Its penalties are means over all examples, whatever their weights (documented).
        assert_equal(weighted, plain)
    for name in plain_log:
        if name.startswith("drop_loss"):
            assert weighted_log[name] == pytest.approx(plain_log[name], rel=1e-5)


def test_the_scale_of_the_weights_is_that_of_the_whole_objective(kind):
    if not kind.startswith("xnet"):
        pytest.skip("one term has weights")
    rows, targets = examples(kind)
    doubled, plain = build(kind), build(kind)
    doubled.optimizer.learning_rate = 0.05
    doubled_log = step(doubled, rows, targets, np.full(ROWS, 2.0, "float32"))
    plain_log = step(plain, rows, targets)
    assert_equal(doubled, plain)
    # In nats, with which the cap is compared.
    assert doubled_log["drop_loss"] == pytest.approx(plain_log["drop_loss"], rel=1e-5)


def test_two_accumulated_halves_are_one_whole(kind):
    rows, targets = examples(kind, 6)
    # The same half twice: the smallest drop loss and the logarithms of errors are those of the whole too.
    whole, halves = build(kind), build(kind, accumulate=2)
    step(whole, *take((rows, targets), np.tile(np.arange(6), 2)))
    before = halves.get_weights()
    step(halves, rows, targets)
    own = 2 if kind == "explanation module" else 0  # Its running errors are no parameters.
    changed = [not np.array_equal(old, new) for old, new in zip(before, halves.get_weights())]
    assert sum(changed) <= own
    step(halves, rows, targets)
    if kind == "explanation module":
        for left, right in zip(whole.autoencoder.get_weights(), halves.autoencoder.get_weights()):
            np.testing.assert_allclose(left, right, rtol=2e-5, atol=2e-5)
    else:
        assert_equal(whole, halves)


def test_accumulated_steps_go_on(kind):
    """Four halves are two whole steps: what was added up is taken once."""
    rows, targets = examples(kind, 6)
    if kind == "explanation module":
        pytest.skip("its running errors are of parts of a batch")
    whole, halves = build(kind), build(kind, accumulate=2)
    for _ in range(2):
        step(whole, rows, targets)
    for _ in range(4):
        step(halves, rows, targets)
    assert_equal(whole, halves)


@pytest.mark.parametrize("steps", [1, 2])
def test_accumulated_gradients_survive_a_checkpoint(steps, tmp_path):
    rows, labels = examples("lsg joint", 6)
    whole, broken = build("lsg joint", accumulate=3), build("lsg joint", accumulate=3)
    for _ in range(3 + steps):
        step(whole, rows, labels)
        step(broken, rows, labels)
    save_checkpoint(broken, tmp_path / "state.weights.h5", 1)
    resumed = build("lsg joint", accumulate=3)
    restore_checkpoint(resumed, tmp_path / "state.weights.h5")
    for _ in range(3):
        step(whole, rows, labels)
        step(resumed, rows, labels)
    assert_equal(whole, resumed)
    # Keras's own file brings the optimizer back too.
    broken.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer._iterations) == 3 + steps


def test_the_order_in_a_batch_does_not_matter(kind):
    rows, targets = examples(kind)
    order = np.random.default_rng(1).permutation(ROWS)
    one, other = build(kind), build(kind)
    step(one, rows, targets)
    step(other, *take((rows, targets), order))
    assert_equal(one, other)


def test_logs_are_means_over_examples_with_a_small_last_batch(kind):
    rows, targets = examples(kind, 10)
    models = [build(kind), build(kind)]
    for model in models:
        model.optimizer.learning_rate = 0.0
        if isinstance(model, LabelSensitiveClassifier):
            # Open, which the projection of a step leaves as it is.
            model.gate_learning_rate = 0.0
            model.gate_layer.gate.assign(np.ones(model.gate.shape))
    if kind == "explanation module":
        pytest.skip("its penalties are logarithms of means over a batch")
    # An epoch through the gate, where there is one.
    options = {"initial_epoch": 1, "epochs": 2, "shuffle": False, "verbose": 0}
    whole, parts = (model.fit(rows, targets, batch_size=size, **options).history for model, size in zip(models, (10, 8)))
    # The smallest of means is not the mean of smallest ones.
    for name in set(whole) - ({"loss", "drop_loss"} if kind.startswith("xnet") else set()):
        assert parts[name] == pytest.approx(whole[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("kind", ["regression", "senn of values", "feature leveling of values"])
@pytest.mark.parametrize("column", [False, True])
def test_a_loss_that_is_a_function_makes_no_matrix(kind, column, monkeypatch):
    monkeypatch.setattr(HardConcreteGate, "sample", lambda gate, batch_size=None: gate.test_gate())
    rows, targets = examples(kind)
    targets = targets[:, None] if column else targets

    def squared(y, y_pred):
        return keras.ops.mean(keras.ops.square(y - y_pred), axis=-1)

    def distance(y, y_pred):
        return keras.ops.abs(y - y_pred)

    expected, model = build(kind), build(kind, loss=squared)
    model.compile(keras.optimizers.SGD(0.1), squared, metrics=[distance])
    step(expected, rows, targets)
    step(model, rows, targets)
    assert_equal(expected, model)
    errors = np.abs(model.predict(rows, verbose=0)[:, 0] - targets.ravel())
    assert model.evaluate(rows, targets, verbose=0, return_dict=True)["distance"] == pytest.approx(errors.mean(), rel=1e-5)


def test_a_self_explaining_regression_learns_with_a_loss_that_is_a_function():
    rows = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    values = 3 * rows[:, 0] - rows[:, 1]
    model = SelfExplainingNetwork((16,), input_shape=(3,), task="regression", reconstruction_weight=0.0)
    model.compile(keras.optimizers.Adam(0.03), lambda y, y_pred: keras.ops.mean(keras.ops.square(y - y_pred), axis=-1))
    model.fit(rows, values, epochs=60, batch_size=16, verbose=0)
    assert np.mean((model.predict(rows, verbose=0)[:, 0] - values) ** 2) < 0.05 * values.var()


@pytest.mark.parametrize("kind", ["lsg joint", "xnet", "senn", "explanation module"])
def test_a_custom_loop_cannot_take_the_plain_loss_for_the_objective(kind):
    model = build(kind)
    rows, targets = examples(kind)
    with pytest.raises(NotImplementedError, match="more than a loss of its outputs"):
        model.compute_loss(rows, targets, rows)
    # What it may minimise instead, and the plain loss for evaluation.
    if kind == "senn":
        loss, outputs = model.objective([], keras.ops.convert_to_tensor(rows), keras.ops.convert_to_tensor(targets))
        plain = model.compute_loss(rows, targets, outputs["y_pred"], training=False)
        assert float(loss) > float(plain) > 0


def test_a_dead_xnet_says_so():
    model = XNet(backbone(), ("a", "b"), CLASSES).compile_by_default()
    rows, targets = examples("xnet")
    targets["attributes"][:2] = 1
    explained = model.get_layer("explained")
    explained.set_weights([np.zeros((6, 2)), np.full(2, -5.0)])
    with pytest.warns(UserWarning, match=r"No neuron is active.*XNet.orient.*normalize_output"):
        history = model.fit(rows, targets, verbose=0).history
    assert history["active_neurons"] == [0]
    with pytest.warns(UserWarning, match="No neuron is active on any of these 12 inputs"):
        model.explain(rows)
    explained.set_weights([np.zeros((6, 2)), np.array([-5.0, 1.0])])
    assert model.fit(rows, targets, verbose=0).history["active_neurons"] == [1]


def test_one_hot_streams_train_label_sensitive_gates():
    rows, labels = examples("lsg joint")
    weights = []
    for one_hot in (False, True):
        loss = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
        model = build("lsg joint", loss=loss(from_logits=True))
        targets = np.eye(CLASSES, dtype="float32")[labels] if one_hot else labels
        log = model.fit(((rows, targets) for _ in range(1)), steps_per_epoch=1, verbose=0).history
        weights.append([*model.get_weights(), log["gated_accuracy"], log["accuracy"]])
    for left, right in zip(*weights):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
