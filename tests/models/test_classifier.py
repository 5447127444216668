import keras
import numpy as np
import pytest

from keras_interp.models import Classifier, LabelSensitiveClassifier
from tests.tiny import tiny_backbone

LABELS = ("cat", "dog", "ship")


@pytest.fixture(params=[Classifier, LabelSensitiveClassifier])
def model(request):
    return request.param(tiny_backbone(), class_names=LABELS)


def test_graph_is_flat_and_ends_in_float32_logits(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = Classifier(tiny_backbone(), num_classes=3)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.layers[-1].name == "logits" and model.layers[-2].name == "pooling"
    assert model.predict(images, verbose=0).dtype == np.float32
    assert model.class_names == ("0", "1", "2")


def test_contributions_and_bias_add_up_to_the_logit(model, images):
    model.get_layer("logits").bias.assign([0.5, -1.0, 2.0])
    explanation = model.explain(images)
    np.testing.assert_allclose(explanation.logits, model.predict(images, verbose=0), atol=1e-5)
    np.testing.assert_allclose(explanation.residual, 0.0, atol=1e-5)
    np.testing.assert_allclose(explanation.maps.mean(axis=(1, 2)), explanation.contributions, atol=1e-5)
    np.testing.assert_array_equal(explanation.target, explanation.prediction)
    np.testing.assert_allclose(explanation.probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert explanation.maps.shape == (16, 4, 4, 16) and len(explanation.unit_names) == 16


def test_class_activation_map_by_hand(model, images):
    maps, _, _ = model.features(images)
    kernel = np.asarray(model.get_layer("logits").kernel)
    explanation = model.explain(images, target="dog")
    expected = sum(kernel[k, 1] * maps[..., k] for k in range(16))
    np.testing.assert_allclose(explanation.class_activation_map, expected, atol=1e-5)


def test_targets_by_name_number_or_list(model, images):
    for target, expected in [("ship", 2), (1, 1), (np.int64(0), 0)]:
        assert (model.explain(images, target).target == expected).all()
    targets = [number % 3 for number in range(16)]
    np.testing.assert_array_equal(model.explain(images, targets).target, targets)
    for target in ("bird", 3, -1, 1.5, [0, 1]):
        with pytest.raises(ValueError, match=r"`target` must.*Received"):
            model.explain(images, target)


def test_explanation_does_not_depend_on_the_batch(model, images):
    np.testing.assert_allclose(
        model.explain(images, 0, batch_size=3).contributions, model.explain(images, 0).contributions, atol=1e-5
    )


def test_intervene_sets_a_filter(model, images):
    kernel = np.asarray(model.get_layer("logits").kernel)
    _, pooled, logits = model.features(images)
    expected = logits - pooled[:, [5]] * kernel[5]
    np.testing.assert_allclose(model.intervene(images, {5: 0.0}), expected, atol=1e-5)
    np.testing.assert_allclose(model.intervene(images, {model.unit_names[5]: 0.0}), expected, atol=1e-5)
    np.testing.assert_allclose(model.intervene(images, {5: 2.0}), expected + 2 * kernel[5], atol=1e-5)
    np.testing.assert_allclose(model.intervene(images, {"filter 5": 0.0}), expected, atol=1e-5)
    for unit in (16, "filter 16", "filter 5 or so", "5", -1):
        with pytest.raises(KeyError, match="filter 15"):
            model.intervene(images, {unit: 0.0})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda x: x[0], r"images\[None\]"),
        (lambda x: x[..., :1], r"\(n, 32, 32, 3\)"),
        (lambda x: np.where(np.arange(16)[:, None, None, None] == 2, np.nan, x), r"images \[2\]"),
        (lambda x: np.full(x.shape, np.inf, "float32"), "finite"),
        (lambda x: x.astype(str), "dtype"),
    ],
)
def test_bad_images(model, images, broken, message):
    for call in (model.explain, lambda x: model.intervene(x, {0: 0.0}), model.features):
        with pytest.raises(ValueError, match=message):
            call(broken(images))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.full(16, 99), ValueError, r"\[0, 3\).*Received: \[99\]"),
        (np.full(16, -1), ValueError, r"Received: \[-1\]"),
        (np.zeros(16), TypeError, "integers"),
        (np.eye(3, dtype=int)[np.zeros(16, int)], ValueError, r"\(n,\) or \(n, 1\)"),
    ],
)
def test_bad_labels_are_refused_before_the_first_step(model, images, labels, error, message):
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    with pytest.raises(error, match=message):
        model.fit(images, labels, verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_arguments_of_fit_come_in_the_order_of_keras(model, images):
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    seen = []
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model.fit(images, np.zeros(16, int), 8, 2, 0, [callback])
    assert seen == [0, 1, 0, 1]


def test_own_backbones(images):
    inputs = keras.Input((32, 32, 3))
    dense = keras.Model(inputs, keras.layers.Dense(6)(keras.layers.Flatten()(inputs)))
    sequential = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(5, 3)])
    assert Classifier(dense, 2).explain(images).maps is None
    assert Classifier(sequential, 2).explain(images).maps.shape == (16, 30, 30, 5)


def test_bad_backbones():
    class Subclassed(keras.Model):
        pass

    inputs = keras.Input((8, 8, 3))
    with pytest.raises(TypeError, match="functional"):
        Classifier(Subclassed(), 2)
    with pytest.raises(ValueError, match="one input and one output"):
        Classifier(keras.Model(inputs, [inputs, inputs]), 2)
    for options in ({}, {"num_classes": 2, "class_names": ["a"]}):
        with pytest.raises(ValueError, match="num_classes"):
            Classifier(keras.Model(inputs, keras.layers.ReLU()(inputs)), **options)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()])
def test_losses_of_probabilities_are_refused(model, images, loss):
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match="from_logits=True"):
        model.fit(images, np.arange(16) % 3, verbose=0)
