import keras
import numpy as np
import pytest
from keras import ops

from keras_interp import zoo
from keras_interp.models import Classifier, DynamicKClassifier, convert
from tests.tiny import tiny_backbone

LABELS = ("cat", "dog", "ship")


@pytest.fixture
def model():
    model = DynamicKClassifier(tiny_backbone(), class_names=LABELS, k=3)
    model.get_layer("logits").bias.assign([0.5, -1.0, 2.0])
    return model


def test_logits_are_sums_of_the_largest_contributions(model, images):
    _, pooled, logits = model.features(images)
    kernel, bias = model.readout_weights()
    expected = np.sort(pooled[:, :, None] * kernel, axis=1)[:, -3:].sum(axis=1) + bias
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(model.head.predict(pooled, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("target", [None, "ship"])
def test_explanation_is_complete_with_k_units(model, images, target):
    explanation = model.explain(images, target)
    explanation.check_completeness(1e-5)
    assert (np.count_nonzero(explanation.contributions, axis=1) <= 3).all()
    np.testing.assert_allclose(explanation.maps.mean(axis=(1, 2)), explanation.contributions, atol=1e-5)
    np.testing.assert_allclose(explanation.contribution_shares.sum(axis=1), 1, rtol=1e-4)


def test_interventions_choose_anew(model, images):
    _, pooled, _ = model.features(images)
    kernel, bias = model.readout_weights()
    strongest = int(model.explain(images).top_units(1)[0, 0])
    pooled[:, strongest] = 0
    expected = np.sort(pooled[:, :, None] * kernel, axis=1)[:, -3:].sum(axis=1) + bias
    np.testing.assert_allclose(model.intervene(images, {f"filter {strongest}": 0.0}), expected, atol=1e-5)


def test_class_graph(model, images):
    classes = np.array([0, 1] * 8)
    graph = model.class_graph(images, classes)
    np.testing.assert_allclose(graph[1], model.explain(images[1::2], 1).contributions.mean(axis=0), atol=1e-5)
    assert graph.shape == (3, 16) and np.isnan(graph[2]).all()


def test_trains_and_round_trips(model, images, tmp_path):
    model.concepts = ["window", *[""] * 15]
    model.compile_by_default().fit(images, np.arange(16) % 3, epochs=2, verbose=0)
    assert model.unit_names[:2] == ("filter 0 (window)", "filter 1")
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    zoo.save(model, tmp_path / "artifact")
    for loaded in (keras.saving.load_model(tmp_path / "model.keras"), zoo.load(tmp_path / "artifact")):
        np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-5)
        assert loaded.unit_names == model.unit_names
    np.testing.assert_allclose(model.intervene(images, {"filter 0 (window)": 0.0}), model.intervene(images, {0: 0.0}))


def test_convert_keeps_the_weights_and_the_original(images):
    plain = Classifier(tiny_backbone(), class_names=LABELS)
    weights = [weight.copy() for weight in plain.get_weights()]
    same = convert(plain, k=16)
    np.testing.assert_allclose(same.predict(images, verbose=0), plain.predict(images, verbose=0), atol=1e-5)
    converted = convert(plain, k=2)
    assert converted.class_names == LABELS and converted.features(images)[0].ndim == 4
    converted.fit(images, np.arange(16) % 3, verbose=0)
    assert all((now == before).all() for now, before in zip(plain.get_weights(), weights))
    assert any((now != before).any() for now, before in zip(converted.get_weights(), weights))


def test_convert_on_cached_features(images):
    converted = convert(Classifier(tiny_backbone(), class_names=LABELS), k=2)
    _, features, _ = converted.features(images)
    before = [weight.copy() for weight in converted.get_weights()]
    converted.head.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    converted.head.fit(features, np.arange(16) % 3, epochs=3, verbose=0)
    changed = [(now != old).any() for now, old in zip(converted.get_weights(), before)]
    assert not any(changed[:-2]) and all(changed[-2:])
    np.testing.assert_allclose(
        converted.head.predict(features, verbose=0), converted.predict(images, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_convert_takes_any_functional_classifier():
    foreign = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(4, "softmax")])
    rows = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    converted = convert(foreign, k=8)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.softmax(converted.predict(rows, verbose=0))), foreign.predict(rows, verbose=0), atol=1e-5
    )


def test_convert_behind_a_softmax_and_to_another_k(rng):
    inputs = keras.Input((6,))
    logits = keras.layers.Dense(4)(keras.layers.Dense(8, "relu")(inputs))
    rows, names = rng.normal(size=(5, 6)).astype("float32"), np.array(list("abcd"))
    expected = keras.Model(inputs, logits).predict(rows, verbose=0)
    for last in (keras.layers.Softmax(), keras.layers.Activation("softmax")):
        converted = convert(keras.Model(inputs, last(logits)), k=8, class_names=names)
        assert converted.class_names == tuple("abcd")
        np.testing.assert_allclose(converted.predict(rows, verbose=0), expected, atol=1e-5)
    converted.concepts = ["sky"] * 8
    wider = convert(convert(converted, k=2), k=8)
    np.testing.assert_allclose(wider.predict(rows, verbose=0), expected, atol=1e-5)
    assert wider.concepts == ["sky"] * 8


def test_convert_keeps_how_the_network_is_computed(rng):
    scaling = keras.layers.Normalization()
    rows = (9 * rng.normal(size=(50, 6)) + 40).astype("float32")
    scaling.adapt(rows)
    plain = keras.Sequential([keras.Input((6,)), scaling, keras.layers.Dense(8, "relu", dtype="mixed_float16")])
    plain.add(keras.layers.Dense(4, dtype="float32"))
    converted = convert(plain, k=8)
    np.testing.assert_allclose(converted.predict(rows, verbose=0), plain.predict(rows, verbose=0), atol=1e-3)
    # Half precision needs a scaled loss.
    assert type(converted.optimizer).__name__ == "LossScaleOptimizer"


def test_features_that_are_not_finite(images):
    model = DynamicKClassifier(tiny_backbone(), 3, k=2)
    first = next(weight for weight in model.trainable_variables if "kernel" in weight.path)
    first.assign(np.full(first.shape, np.nan, "float32"))
    for call in (model.explain, lambda x: model.intervene(x, {0: 0.0})):
        with pytest.raises(ValueError, match="features must be finite"):
            call(images)


def test_shares_of_nothing(images):
    model = DynamicKClassifier(tiny_backbone(), 3, k=2)
    model.get_layer("logits").set_weights([np.zeros((16, 3)), np.zeros(3)])
    assert (model.explain(images).contribution_shares == 0).all()


def test_bad_arguments(images):
    with pytest.raises(ValueError, match="each of 16 units"):
        DynamicKClassifier(tiny_backbone(), 3, k=2).concepts = ["sky", "sea"]
    with pytest.raises(ValueError, match="at most the number of inputs, 16"):
        DynamicKClassifier(tiny_backbone(), 3, k=17)
    with pytest.raises(ValueError, match="at least 1"):
        convert(Classifier(tiny_backbone(), 3), k=0)
    with pytest.raises(TypeError, match="last layer is dense"):
        convert(tiny_backbone(), k=2)
    with pytest.raises(TypeError, match="functional"):
        convert(type("Subclassed", (keras.Model,), {})(), k=2)
    inputs = keras.Input((6,))
    for outputs in (keras.layers.Dense(1)(inputs), keras.layers.Dense(3)(keras.layers.Reshape((2, 3))(inputs))):
        with pytest.raises(TypeError, match="a classifier with one output"):
            convert(keras.Model(inputs, outputs), k=2)
    with pytest.raises(ValueError, match="at least one image"):
        DynamicKClassifier(tiny_backbone(), 3, k=2).explain(images[:0])
    broken = images.astype("float32")
    broken[2, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="2"):
        DynamicKClassifier(tiny_backbone(), 3, k=2).explain(broken)
