import keras
import numpy as np
import pytest

from keras_interp.backbones import column_scaling, unit_scaling
from keras_interp.models import SelfExplainingNetwork
from tests.tiny import EAGER

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PENALTIES = ("reconstruction_loss", "concept_sparsity", "robustness_loss")


@pytest.fixture
def rows(rng):
    return rng.normal(size=(12, 4)).astype("float32")


def classifier(**options):
    return SelfExplainingNetwork((7, 5), 3, (4,), **{"num_concepts": 6, **options})


def regressor(**options):
    return SelfExplainingNetwork((7, 5), None, (4,), 6, "regression", target_mean=20.0, target_scale=4.0, **options)


def compiled(model, optimizer="adam", **options):
    loss = CROSS_ENTROPY if model.task == "classification" else keras.losses.MeanSquaredError()
    model.compile(optimizer, loss, **options)
    return model


class NumpyNetwork:
    """The network and its objective in float64, with gradients by finite differences; shares nothing with the package."""

    def __init__(self, model):
        self.model = model
        self.weights = {weight.path: np.asarray(weight).astype(float) for weight in model.trainable_variables}

    def dense(self, x, name):
        for layer in (f"{name}_hidden1", f"{name}_hidden2", name):
            x = x @ self.weights[f"{layer}/kernel"] + self.weights[f"{layer}/bias"]
            x = x if layer == name else np.maximum(x, 0)
        return x

    def parts(self, x):
        concepts, relevances = self.dense(x, "concepts"), self.dense(x, "relevances").reshape(len(x), 6, -1)
        return concepts, relevances, sum(concepts[:, k, None] * relevances[:, k] for k in range(6))

    def slopes(self, function, x):
        """Jacobian of each row (n, outputs, columns)."""
        steps = 1e-6 * np.eye(x.shape[1])
        return np.stack([(function(x + step) - function(x - step)) / 2e-6 for step in steps], axis=-1)

    def robustness(self, x):
        """The paper's difference as it stands there, the model's gradient less the one with constant relevances."""
        explained = np.einsum("nkc,nkd->ncd", self.parts(x)[1], self.slopes(lambda x: self.parts(x)[0], x))
        return ((self.slopes(lambda x: self.parts(x)[2], x) - explained) ** 2).sum(axis=(1, 2)).mean()

    def penalties(self, x):
        concepts, _, _ = self.parts(x)
        reconstruction = ((self.dense(concepts, "reconstruction") - x) ** 2).mean()
        return dict(zip(PENALTIES, (reconstruction, np.abs(concepts).mean(), self.robustness(x))))

    def task_loss(self, x, y):
        _, _, logits = self.parts(x)
        if self.model.task == "regression":
            return ((logits[:, 0] - (y - 20.0) / 4.0) ** 2).mean()
        return (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]).mean()

    def loss(self, x, y):
        values = self.penalties(x)
        weights = self.model.reconstruction_weight, self.model.concept_sparsity_weight, self.model.robustness_weight
        return self.task_loss(x, y) + sum(weight * values[name] for weight, name in zip(weights, PENALTIES))

    def gradient(self, x, y, path, index):
        values = []
        for step in (1e-5, -1e-5):
            self.weights[path][index] += step
            values.append(self.loss(x, y))
            self.weights[path][index] -= step
        return (values[0] - values[1]) / 2e-5


def test_graph_is_flat_and_ends_in_the_sum_over_concepts(rows):
    model = classifier(class_names=list("abc"))
    assert not any(isinstance(layer, keras.Model) for layer in model.layers) and model.layers[-1].name == "logits"
    concepts, relevances, logits = model.activations(rows)
    for actual, expected in zip((concepts, relevances, logits), NumpyNetwork(model).parts(rows)):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(rows, verbose=0), logits, atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(rows), NumpyNetwork(model).dense(concepts, "reconstruction"), atol=1e-5)


def test_size_is_twice_the_plain_networks_without_decoder():
    """266,200 weights and 410 biases in 784-300-100-10; the relevances of ten concepts need 100 outputs instead of 10."""
    model = SelfExplainingNetwork((300, 100), 10, (28, 28, 1), preprocessing=unit_scaling())
    assert model.count_params() - model.decoder.count_params() == 2 * 266_610 + 90 * 101


@pytest.mark.parametrize("robustness_weight", [0.0, 0.3])
def test_objective_of_a_classifier(rows, robustness_weight):
    model = compiled(classifier(concept_sparsity_weight=0.2, reconstruction_weight=0.7, robustness_weight=robustness_weight))
    labels = np.arange(12) % 3
    reference = NumpyNetwork(model)
    logs = model.train_on_batch(rows, labels, return_dict=True)
    expected = reference.penalties(rows)
    assert set(logs) == {"loss", *PENALTIES[: 3 if robustness_weight else 2]} and logs.keys() >= set(model.objective_metrics)
    for name in PENALTIES[:2]:
        assert logs[name] == pytest.approx(expected[name], rel=1e-4)
    total = reference.task_loss(rows, labels) + 0.7 * logs["reconstruction_loss"] + 0.2 * logs["concept_sparsity"]
    assert logs["loss"] == pytest.approx(total + robustness_weight * logs.get("robustness_loss", 0.0), rel=1e-4)


def test_robustness_loss_of_several_classes_is_unbiased(rows):
    """Each copy of a row has signs of its own, so many copies give the estimate's mean."""
    model = compiled(classifier(robustness_weight=1.0))
    _, logs = model.objective([], np.tile(rows, (2000, 1)), np.tile(np.arange(12) % 3, 2000))
    assert float(logs["robustness_loss"]) == pytest.approx(NumpyNetwork(model).robustness(rows.astype(float)), rel=0.03)
    _, other = model.objective([], rows, np.arange(12) % 3)
    _, another = model.objective([], rows, np.arange(12) % 3)
    assert float(other["robustness_loss"]) != float(another["robustness_loss"])


def test_a_step_follows_the_gradient_of_the_numpy_objective(rows):
    """With one output the robustness loss is exact, whatever the signs; the target is standardised in the loss."""
    model = regressor(concept_sparsity_weight=0.2, reconstruction_weight=0.7, robustness_weight=0.3)
    compiled(model, keras.optimizers.SGD(1.0))
    targets = 20 + 4 * rows[:, 0]
    reference = NumpyNetwork(model)
    logs = model.train_on_batch(rows, targets, return_dict=True)
    x = rows.astype(float)
    assert logs["loss"] == pytest.approx(reference.loss(x, targets), rel=1e-4)
    for name, value in reference.penalties(x).items():
        assert logs[name] == pytest.approx(value, rel=1e-4)
    for weight in model.trainable_variables:
        old = reference.weights[weight.path]
        step = old - np.asarray(weight)
        for index in list(np.ndindex(old.shape))[::3]:
            expected = reference.gradient(x, targets, weight.path, index)
            assert step[index] == pytest.approx(expected, abs=2e-4, rel=1e-3), (weight.path, index)


def test_eager_compiled_and_jit_agree(rows):
    def weights(**options):
        keras.utils.set_random_seed(1)
        model = compiled(classifier(robustness_weight=0.1), **options)
        for _ in range(3):
            model.train_on_batch(rows, np.arange(12) % 3)
        return model.get_weights()

    # One of the first two is what Keras chooses by itself.
    for a, b, c in zip(weights(jit_compile=False), weights(jit_compile=True), weights(run_eagerly=True)):
        np.testing.assert_allclose(a, b, atol=1e-4)
        np.testing.assert_allclose(a, c, atol=1e-4)


def test_fit_reduces_the_loss_and_evaluates_the_task(rng):
    rows = rng.normal(size=(256, 4)).astype("float32")
    labels = (rows[:, 0] > 0) + (rows[:, 1] > 0).astype(int)
    model = compiled(classifier(), keras.optimizers.Adam(0.01), metrics=["accuracy"])
    history = model.fit(rows, labels, epochs=15, verbose=0, sample_weight=np.ones(256)).history
    assert history["loss"][-1] < 0.6 * history["loss"][0] and history["accuracy"][-1] > 0.85
    assert history["reconstruction_loss"][-1] < history["reconstruction_loss"][0]
    assert set(model.evaluate(rows, labels, verbose=0, return_dict=True)) == {"loss", "accuracy"}


def test_robustness_weight_makes_the_network_locally_linear(rng):
    rows = rng.normal(size=(256, 4)).astype("float32")
    labels = (rows[:, 0] * rows[:, 1] > 0).astype(int)

    def robustness(weight):
        keras.utils.set_random_seed(2)
        model = compiled(classifier(robustness_weight=weight), keras.optimizers.Adam(0.01))
        model.fit(rows, labels, epochs=10, verbose=0)
        return NumpyNetwork(model).robustness(rows.astype(float))

    assert robustness(0.1) < 0.5 * robustness(0.0)


def test_regression_in_the_targets_unit(rng):
    rows = (100 + 10 * rng.normal(size=(256, 4))).astype("float32")
    targets = 20 + 0.4 * (rows[:, 0] - 100)
    model = regressor(preprocessing=column_scaling(rows))
    model.compile(keras.optimizers.Adam(0.02), keras.losses.MeanSquaredError(), metrics=[keras.metrics.RootMeanSquaredError()])
    history = model.fit(rows, targets, epochs=15, verbose=0).history
    assert history["root_mean_squared_error"][-1] < 1.5 and history["loss"][-1] < 1.0
    loss, error = model.evaluate(rows, targets, verbose=0)
    assert loss == pytest.approx((error / 4) ** 2, rel=1e-3)
    explanation = model.explain(rows)
    explanation.check_completeness(1e-5)
    assert (explanation.bias == 20.0).all() and explanation.class_names == ("target",)
    np.testing.assert_allclose(explanation.prediction, model.predict(rows, verbose=0)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(model.intervene(rows, {n: 0.0 for n in range(6)}), 20.0)
    _, relevances, outputs = model.activations(rows)
    one = model.intervene(rows, {"concept 2": 1.0}) - model.intervene(rows, {2: 0.0})
    np.testing.assert_allclose(one[:, 0], 4 * relevances[:, 2, 0], atol=1e-4)
    assert outputs.shape == (256, 1)


def test_contributions_add_up_to_the_logit(rows):
    model = classifier(class_names=list("abc"))
    explanation = model.explain(rows)
    explanation.check_completeness(1e-5)
    np.testing.assert_array_equal(explanation.target, model.predict(rows, verbose=0).argmax(axis=1))
    assert explanation.unit_names == tuple(f"concept {n}" for n in range(6)) and not explanation.bias.any()
    concepts, relevances, _ = model.activations(rows)
    np.testing.assert_allclose(model.explain(rows, "b", 5).contributions, concepts * relevances[..., 1], atol=1e-5)


def test_intervene_sets_a_concept(rows):
    model = classifier()
    concepts, relevances, logits = model.activations(rows)
    change = (2.0 - concepts[:, [4]]) * relevances[:, 4]
    np.testing.assert_allclose(model.intervene(rows, {4: 2.0}), logits + change, atol=1e-5)
    np.testing.assert_allclose(model.intervene(rows, {"concept 4": 2.0}), logits + change, atol=1e-5)
    np.testing.assert_allclose(model.intervene(rows, {}), logits, atol=1e-5)
    for unit in (6, -1, "concept 6", "4", 1.0):
        with pytest.raises(KeyError, match="concept 5"):
            model.intervene(rows, {unit: 0.0})


def test_mixed_precision_of_images(images):
    keras.config.set_dtype_policy("mixed_float16")
    model = SelfExplainingNetwork((7, 5), 10, (32, 32, 3), preprocessing=unit_scaling(), robustness_weight=0.01)
    compiled(model, **EAGER).fit(images, np.arange(16) % 10, epochs=2, verbose=0)
    keras.config.set_dtype_policy("float32")
    copy = SelfExplainingNetwork.from_config({**model.get_config(), "preprocessing": None})
    assert copy.get_layer("concepts_hidden1").compute_dtype == "float16"
    assert all(np.isfinite(np.asarray(weight, "float32")).all() for weight in model.weights)
    assert all(array.dtype == np.float32 for array in (*model.activations(images), model.reconstruct(images)))
    model.explain(images).check_completeness(1e-5)


def test_images_are_reconstructed_in_their_own_shape(images):
    model = SelfExplainingNetwork((7,), 10, (32, 32, 3), preprocessing=unit_scaling())
    decoded = model.reconstruct(images)
    assert decoded.shape == (16, 32, 32, 3)
    _, logs = compiled(model).objective([], images, np.arange(16) % 10)
    assert float(logs["reconstruction_loss"]) == pytest.approx(((decoded - images / 255.0) ** 2).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reconstruction_weight": -1.0}, ValueError, "reconstruction_weight"),
        ({"concept_sparsity_weight": -1.0}, ValueError, "concept_sparsity_weight"),
        ({"robustness_weight": float("nan")}, ValueError, "robustness_weight"),
        ({"num_concepts": 0}, ValueError, "num_concepts"),
        ({"hidden_units": (7, 0)}, ValueError, "hidden_units"),
        ({"input_shape": None}, ValueError, "input_shape"),
        ({"input_shape": (None, 3)}, ValueError, "input_shape"),
        ({"task": "ranking"}, ValueError, "'classification' or 'regression'"),
        ({"class_names": ["a"]}, ValueError, "num_outputs"),
        ({"num_outputs": None}, ValueError, "num_outputs"),
        ({"target_scale": 2.0}, ValueError, "target_scale"),
        ({"task": "regression", "class_names": list("abc")}, ValueError, "one output"),
        ({"task": "regression", "num_outputs": 1, "target_scale": 0.0}, ValueError, "target_scale"),
        ({"preprocessing": np.tanh}, TypeError, "preprocessing"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=f"{message}.*Received: "):
        SelfExplainingNetwork(**{"hidden_units": (7,), "num_outputs": 3, "input_shape": (4,), **options})


def test_bad_inputs(rows):
    model = compiled(classifier())
    for call in (model.activations, model.explain, model.reconstruct, lambda x: model.intervene(x, {0: 0.0})):
        with pytest.raises(ValueError, match=r"\(n, 4\).*Received: "):
            call(rows[:, :3])
    with pytest.raises(ValueError, match=r"`target` must.*Received: "):
        model.explain(rows, 3)
    with pytest.raises(ValueError, match=r"\[0, 3\).*Received: "):
        model.fit(rows, np.full(12, 3), verbose=0)
