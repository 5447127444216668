"""Classes of which an image may have several, or none; and values of images."""

import keras
import numpy as np
import pytest

from keras_interp import backbones, data, models, zoo
from keras_interp.layers.label_sensitive_gate import project_gate
from tests.tiny import tiny_backbone

NAMES = ("sea", "sand", "sun")
KINDS = {
    "classifier": lambda: models.Classifier(tiny_backbone(), class_names=NAMES, task="multilabel"),
    "dynamic-k": lambda: models.DynamicKClassifier(tiny_backbone(), class_names=NAMES, k=3, task="multilabel"),
    "gates": lambda: models.LabelSensitiveClassifier(tiny_backbone(), class_names=NAMES, scheme="joint", task="multilabel"),
}


@pytest.fixture(params=KINDS)
def model(request):
    return KINDS[request.param]().compile_by_default()


@pytest.fixture
def labels(rng):
    return (rng.random((16, 3)) < 0.4).astype("int32")


def test_it_trains_explains_and_comes_back(model, images, labels, tmp_path):
    history = model.fit(images, labels, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    explanation = model.explain(images)
    explanation.check_completeness()
    logits = model.predict(images, verbose=0)
    np.testing.assert_allclose(explanation.probabilities, 1 / (1 + np.exp(-logits)), atol=1e-5)
    np.testing.assert_array_equal(explanation.prediction, logits > 0)
    np.testing.assert_array_equal(explanation.target, logits.argmax(axis=1))
    # Each logit stands by itself.
    expected = np.mean(np.logaddexp(0, logits) - labels * logits)
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-4)
    zoo.save(model, tmp_path / "model", golden_inputs=images[:4])
    loaded = zoo.load(tmp_path / "model")
    assert loaded.task == "multilabel"
    np.testing.assert_allclose(loaded.predict(images, verbose=0), logits, atol=1e-4)


def test_arrays_and_streams_agree(images, labels):
    weights = []
    for stream in (False, True):
        keras.utils.set_random_seed(1)
        model = KINDS["gates"]().compile_by_default()
        if stream:
            model.fit(data.Batches((images, labels), 8, shuffle=False), epochs=1, shuffle=False, verbose=0)
        else:
            model.fit(images, labels, batch_size=8, epochs=1, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "labels, message",
    [(np.full((16, 3), 2), "0 or 1"), (np.zeros((16, 2)), r"shape \(n, 3\)"), (np.zeros(16, int), r"shape \(n, 3\)")],
)
def test_other_labels_are_refused(model, images, labels, message):
    with pytest.raises(ValueError, match=message):
        model.fit(images, labels, verbose=0)


def test_a_stream_stops_at_labels_that_are_neither(model, images):
    def batches():
        while True:
            yield images[:8], np.full((8, 3), 2.0, "float32")

    with pytest.raises(FloatingPointError):
        model.fit(batches(), steps_per_epoch=2, epochs=1, verbose=0)


def test_rows_of_several_labels_are_another_task(images, labels):
    model = models.LabelSensitiveClassifier(tiny_backbone(), class_names=NAMES)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    rows = np.ones((8, 3), "float32")
    with pytest.raises(FloatingPointError):
        model.fit((batch for batch in [(images[:8], rows)] * 2), steps_per_epoch=1, epochs=1, verbose=0)
    with pytest.raises(TypeError, match="task"):
        models.XNet(tiny_backbone(), ("Bald",), class_names=NAMES, task="multilabel")
    with pytest.raises(ValueError, match="task"):
        models.FeatureLevelingNetwork((4,), class_names=NAMES, input_shape=(3,), task="multilabel")


def test_the_gate_of_several_classes_is_their_union(images, labels):
    model = KINDS["gates"]()
    gate = np.asarray(project_gate(np.random.default_rng(0).random(model.gate.shape).astype("float32")))
    model.gate_layer.gate.assign(gate)
    _, pooled, _ = model.features(images)
    rows = np.stack([gate[row > 0].max(axis=0) if row.any() else np.ones(gate.shape[1]) for row in labels])
    kernel, bias = model.readout_weights()
    model.compile_by_default()
    _, outputs = model.objective([], images.astype("float32"), keras.ops.convert_to_tensor(labels, "float32"))
    # In training the batch normalization uses the batch's statistics, so the gated path is compared by its own features.
    _, pooled, _ = (np.asarray(part) for part in model._feature_view(images.astype("float32"), training=True))
    np.testing.assert_allclose(outputs["gated_logits"], pooled * rows @ kernel + bias, atol=1e-3)


def test_a_value_for_each_image(images, rng):
    model = models.Regressor(backbones.cifar_resnet(depth=8), target_mean=3.0, target_scale=2.0).compile_by_default()
    model.fit(images, rng.normal(3, 2, 16), epochs=1, verbose=0)
    explanation = model.explain(images)
    explanation.check_completeness()
    assert explanation.maps.ndim == 4 and explanation.prediction.shape == (16,)
