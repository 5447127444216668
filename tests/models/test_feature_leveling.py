import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_interp import backbones, zoo
from keras_interp.models import FeatureLevelingNetwork, L0Network

RNG = np.random.default_rng(0)
ROWS = RNG.normal(1.0, 3.0, (64, 5)).astype("float32")
IMAGES = RNG.integers(0, 256, (20, 12, 12, 1), dtype="uint8")
CLASSES = RNG.integers(0, 3, 64).astype("int32")
VALUES = (100 * ROWS[:, 0] + 500).astype("float32")


def dense(**options):
    return FeatureLevelingNetwork(
        (8, 6, 4),
        **{"num_outputs": 3, "input_shape": (5,), "preprocessing": backbones.column_scaling(ROWS), "seed": 1, **options},
    )


def regression(**options):
    return dense(
        num_outputs=1, task="regression", target_mean=500.0, target_scale=200.0, column_names=list("abcde"), **options
    )


def convolutional(**options):
    options = {"kernel_size": 3, "reduced_size": 3, "reduced_filters": 2, "preprocessing": backbones.unit_scaling(), **options}
    return FeatureLevelingNetwork((4, 4, 6), 3, (12, 12, 1), seed=1, **options)


def flat_images(**options):
    return FeatureLevelingNetwork((8, 6), 3, (12, 12, 1), preprocessing=backbones.unit_scaling(), seed=1, **options)


def positional():
    return convolutional(gate_options={"per_position": True})


MODELS = {
    "dense": dense,
    "regression": regression,
    "convolutional": convolutional,
    "flat": flat_images,
    "position": positional,
}


def data_for(model):
    inputs = ROWS if len(model.input_shape) == 2 else IMAGES
    return inputs, (VALUES if model.task == "regression" else CLASSES)[: len(inputs)]


def set_gates(model, closed=None, seed=0):
    """Random gates, some of them between 0 and 1; `closed` names a gate that is closed as a whole."""
    rng = np.random.default_rng(seed)
    for number, gate in enumerate(model.gates):
        shape = tuple(gate.scaled_log_alpha.shape)
        values = rng.choice([-4.0, 0.3, 4.0], shape)
        values.flat[-1] = 4.0
        values = np.full(shape, -4.0) if number == closed else values
        gate.scaled_log_alpha.assign(values / gate.learning_rate_multiplier)
    for layer in (*model.hidden_layers, model.get_layer("logits")):
        layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


def reference(model, rows):
    """Eq. 4 in NumPy, for dense layers and a classification."""
    weights = {layer.name: [np.asarray(ops.convert_to_numpy(w), "float64") for w in layer.weights] for layer in model.layers}
    features = (rows - ROWS.mean(0, dtype="float64")) / ROWS.std(0, dtype="float64")
    levels = []
    for number in range(1, 1 + len(model.hidden_units)):
        log_alpha = weights[f"gate{number}"][0] * 10
        gate = np.clip(1 / (1 + np.exp(-log_alpha)) * 1.2 - 0.1, 0, 1)
        levels.append((gate == 0) * features)
        kernel, bias = weights[f"hidden{number}"]
        features = np.maximum((gate * features) @ kernel + bias, 0)
    kernel, bias = weights["logits"]
    return np.concatenate([*levels, features], axis=1) @ kernel + bias


def test_outputs_follow_the_equation():
    model = set_gates(dense())
    np.testing.assert_allclose(model.predict(ROWS, verbose=0), reference(model, ROWS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("closed", [None, 0, 1, 2])
@pytest.mark.parametrize("kind", list(MODELS))
def test_compact_and_pruned_equal_the_gated_network(kind, closed, tmp_path):
    model = MODELS[kind]()
    if closed == len(model.gates):
        pytest.skip("a network of two layers")
    set_gates(model, closed)
    inputs, _ = data_for(model)
    expected = model.predict(inputs, verbose=0)
    compact = model.compact()
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * max(1.0, model.target_scale)}
    np.testing.assert_allclose(compact.predict(inputs, verbose=0), expected, **tolerance)
    assert compact.count_params() < model.count_params()
    assert not any("gate" in layer.name for layer in compact.layers)
    assert model.depth == (len(model.hidden_units) if closed is None else closed)
    assert sum(layer.name.startswith("hidden") for layer in compact.layers) == model.depth
    # A plain Keras model: it loads without this package's classes, and through the zoo's allow-list.
    compact.save(tmp_path / "compact.keras")
    loaded = keras.saving.load_model(tmp_path / "compact.keras")
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), expected, **tolerance)
    zoo.save(compact, tmp_path / "artifact")
    np.testing.assert_allclose(zoo.load(tmp_path / "artifact").predict(inputs, verbose=0), expected, **tolerance)

    model.prune()
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, **tolerance)
    np.testing.assert_allclose(model.compact().predict(inputs, verbose=0), expected, **tolerance)


def test_the_size_of_the_compact_network():
    model = dense()
    for gate, closed in zip(model.gates, (2, 5, 6)):
        values = np.where(np.arange(gate.scaled_log_alpha.shape[0]) < closed, -4.0, 4.0)
        gate.scaled_log_alpha.assign(values / 10)
    # 3 of 5 columns reach hidden layer 1, 3 of its 8 units layer 2; layer 3 is gone; the output takes 2 + 5 + 6 features.
    assert model.compact().count_params() == 3 * 8 + 8 + 3 * 6 + 6 + (2 + 5 + 6) * 3 + 3


@pytest.mark.parametrize("closed", [None, 1])
@pytest.mark.parametrize("kind", list(MODELS))
def test_explanations_add_up(kind, closed):
    model = set_gates(MODELS[kind](), closed)
    inputs, _ = data_for(model)
    explanation = model.explain(inputs, batch_size=16)
    explanation.check_completeness(1e-4)
    n, units = explanation.contributions.shape
    assert len(explanation.unit_names) == units == len(explanation.levels) == len(set(explanation.unit_names))
    assert explanation.level_gradients.shape[:2] == (len(inputs), model.depth + 1)
    np.testing.assert_allclose(explanation.level_contributions.sum(1), explanation.contributions.sum(1), rtol=1e-3, atol=1e-3)
    by_output, bias = model.level_contributions(inputs)
    np.testing.assert_allclose(by_output.sum(1) + bias, explanation.logits, rtol=1e-3, atol=1e-3)
    own = by_output[np.arange(n), :, explanation.target]
    np.testing.assert_allclose(own, explanation.level_contributions, rtol=1e-3, atol=1e-2)
    if model.kernel_size:
        np.testing.assert_allclose(explanation.maps.mean((1, 2)), explanation.contributions, rtol=1e-3, atol=1e-3)
    if model.task == "regression":
        assert explanation.prediction.shape == (n,) and explanation.unit_names[0] in {f"level 1: {c}" for c in "abcde"}


def test_level_gradients_against_differences():
    model = set_gates(dense())
    rows = ROWS[:4].astype("float64")
    explanation = model.explain(ROWS[:4], target=1)
    scale = ROWS.std(0, dtype="float64")
    step = 1e-3
    for column in range(5):
        shift = np.zeros(5)
        shift[column] = step * scale[column]
        low, high = (model.explain((rows + sign * shift).astype("float32"), 1).level_contributions for sign in (-1, 1))
        np.testing.assert_allclose((high - low) / (2 * step), explanation.level_gradients[:, :, column], rtol=0.05, atol=0.02)


def test_interventions():
    model = set_gates(regression())
    name = model.unit_names[0]
    explanation = model.explain(ROWS)
    dropped = model.intervene(ROWS, {name: 0.0})
    np.testing.assert_allclose(dropped[:, 0], explanation.logits[:, 0] - explanation.contributions[:, 0], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(model.intervene(ROWS, {0: 0.0}), dropped)
    for unit in ("level 9: x", len(model.unit_names), -1):
        with pytest.raises(KeyError, match="unit_names"):
            model.intervene(ROWS, {unit: 0.0})


def test_levels_of_the_inputs():
    model = dense()
    for gate, values in zip(model.gates, ([-4, 4, -4, 4, 4], [4] * 8, [-4] * 6)):
        gate.scaled_log_alpha.assign(np.array(values) / 10)
    np.testing.assert_array_equal(model.input_levels(), [1, 3, 1, 3, 3])


def test_the_penalty_in_its_units():
    def probability(model):
        return [
            1 / (1 + np.exp(-(10 * ops.convert_to_numpy(g.scaled_log_alpha) - 2 / 3 * np.log(0.1 / 1.1)))) for g in model.gates
        ]

    model = set_gates(dense())
    mean = np.mean([p.mean() for p in probability(model)])
    np.testing.assert_allclose(float(model.l0_penalty()), mean, rtol=1e-5)
    model = set_gates(dense(l0_reduction="sum", num_samples=50))
    np.testing.assert_allclose(float(model.l0_penalty()), np.mean([p.sum() / 50 for p in probability(model)]), rtol=1e-5)
    model = set_gates(dense(l0_reduction="weighted"))
    kernels, biases = zip(*([ops.convert_to_numpy(w) for w in layer.weights] for layer in model.hidden_layers))
    weighted = [
        (p * (1 + 0.5 * (k**2).mean(1))).mean() + 0.5 * (b**2).mean() for p, k, b in zip(probability(model), kernels, biases)
    ]
    np.testing.assert_allclose(float(model.l0_penalty()), np.mean(weighted), rtol=1e-5)


@pytest.mark.parametrize("kind", list(MODELS))
def test_training_and_round_trip(kind, tmp_path):
    model = MODELS[kind](l0_weight=0.5) if kind != "position" else positional()
    inputs, targets = data_for(model)
    model.compile_by_default(keras.optimizers.Adam(1e-2))
    history = model.fit(inputs, targets, epochs=2, verbose=0).history
    assert {"loss", "gate1_open", "gate1_expected"} <= set(history) and np.isfinite(history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    without = [{k: v for k, v in m.get_config().items() if k != "preprocessing"} for m in (loaded, model)]
    assert without[0] == without[1] and loaded.unit_names == model.unit_names
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0), rtol=1e-5)
    evaluated = loaded.evaluate(inputs, targets, verbose=0, return_dict=True)
    assert ("rmse" if model.task == "regression" else "accuracy") in evaluated


def test_a_heavy_penalty_closes_every_gate_and_leaves_a_linear_model():
    model = regression(l0_weight=20.0, gate_learning_rate_multiplier=50.0)
    model.compile_by_default(keras.optimizers.Adam(1e-2))
    model.fit(ROWS, VALUES, epochs=40, batch_size=16, verbose=0)
    assert model.depth == 0
    compact = model.compact()
    assert [layer.name for layer in compact.layers if layer.weights] == ["logits"]
    np.testing.assert_allclose(compact.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0), rtol=1e-3)
    model.explain(ROWS).check_completeness()


def test_regression_loss_is_of_the_standardised_target():
    model = regression(l0_weight=0.0).compile_by_default()
    result = model.evaluate(ROWS, VALUES, verbose=0, return_dict=True)
    error = model.predict(ROWS, verbose=0)[:, 0] - VALUES
    np.testing.assert_allclose(result["loss"], np.mean((error / 200) ** 2), rtol=1e-4)
    np.testing.assert_allclose(result["rmse"], np.sqrt(np.mean(error**2)), rtol=1e-4)


@pytest.mark.parametrize("eager", [True, False])
def test_l0_network(eager):
    model = L0Network((8, 6), 3, (5,), preprocessing=backbones.column_scaling(ROWS), seed=1)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=eager)
    model.fit(ROWS, CLASSES, verbose=0)
    set_gates(model)
    compact = model.compact()
    np.testing.assert_allclose(compact.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0), rtol=1e-4, atol=1e-4)
    open_gates = [int((gate > 0).sum()) for gate in model.gate_values()]
    sizes = [*open_gates, 3]
    assert compact.count_params() == sum(a * b + b for a, b in itertools.pairwise(sizes))
    expected = model.predict(ROWS, verbose=0)
    model.prune()
    np.testing.assert_allclose(model.predict(ROWS, verbose=0), expected, rtol=1e-5, atol=1e-5)
    for layer, kept, gate in zip(model.hidden_layers, open_gates[1:], model.gate_values()):
        assert np.count_nonzero(layer.kernel) == kept * np.count_nonzero(gate) and np.count_nonzero(layer.bias) <= kept
    set_gates(model, closed=1)
    with pytest.raises(ValueError, match="constant"):
        model.compact()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l0_weight": -0.1}, "l0_weight"),
        ({"l0_weight": float("nan")}, "l0_weight"),
        ({"l0_reduction": "max"}, "l0_reduction"),
        ({"l0_reduction": "sum"}, "num_samples"),
        ({"task": "ranking"}, "task"),
        ({"input_shape": None}, "input_shape"),
        ({"kernel_size": 3}, "input_shape"),
        ({"strides": (1,)}, "strides"),
        ({"column_names": ["a"]}, "a unique name"),
        ({"num_outputs": 2, "class_names": ["a"]}, "class_names"),
        ({"task": "regression", "num_outputs": 2, "class_names": ["a", "b"]}, "one output"),
        ({"gate_learning_rate_multiplier": 0.0}, "learning_rate_multiplier"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        dense(**options)
    with pytest.raises(ValueError, match="hidden_units"):
        FeatureLevelingNetwork((), 3, (5,))
    with pytest.raises(ValueError, match="kernel_size"):
        L0Network((8,), 3, (12, 12, 1), kernel_size=3)


def test_bad_rows():
    model = dense().compile_by_default()
    broken = ROWS.copy()
    broken[3, 1] = np.nan
    for call in (model.explain, lambda rows: model.fit(rows, CLASSES, verbose=0), lambda rows: model.intervene(rows, {})):
        with pytest.raises(ValueError, match=r"rows \[3\]"):
            call(broken)
        with pytest.raises(ValueError, match=r"\(n, 5\)"):
            call(ROWS[:, :4])
    with pytest.raises(TypeError, match="integers"):
        model.fit(ROWS, VALUES, verbose=0)
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        model.fit(ROWS, CLASSES + 1, verbose=0)
    with pytest.raises(ValueError, match="finite"):
        regression().compile_by_default().fit(ROWS, np.full(64, np.nan, "float32"), verbose=0)
