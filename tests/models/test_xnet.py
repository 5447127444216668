import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_interp.data import ArrayDataset, Batches
from keras_interp.explain.gradients import input_gradient
from keras_interp.models import NeuronMatching, XNet, match_neurons
from tests.tiny import tiny_backbone

ATTRIBUTES = ("shadow", "bald", "bangs")
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def row_model(alpha=0.3, rate=0.1, features=5, **options):
    """A backbone without weights, so that the neurons and the logits are all there is to learn; every neuron is active."""
    inputs = keras.Input((features,))
    model = XNet(
        keras.Model(inputs, keras.layers.ReLU()(inputs)), ATTRIBUTES, class_names=("old", "young"), alpha=alpha, **options
    )
    model.get_layer("explained").bias.assign([0.5, 0.7, 0.6])
    model.compile(keras.optimizers.SGD(rate), CROSS_ENTROPY, metrics=["accuracy"])
    return model


def image_model(**options):
    return XNet(tiny_backbone(), ATTRIBUTES, class_names=("old", "young"), **options).compile_by_default()


def batch_of(rng, count=12, features=5):
    rows = rng.random((count, features)).astype("float32")
    attributes = (rng.random((count, 3)) < 0.4).astype("float32")
    attributes[:3] = np.eye(3)
    return rows, {"label": rng.integers(0, 2, count).astype("int32"), "attributes": attributes}


def parameters(model):
    return [np.asarray(keras.ops.convert_to_numpy(weight), float) for weight in model.trainable_variables]


def cross_entropies(neurons, kernel, bias, labels):
    logits = neurons @ kernel + bias
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return -np.log((exp / exp.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels])


def reference(parameters, rows, targets, alpha, reduction="min", cap=None, order=(0, 1, 2)):
    """Eq. 1 or 2 in NumPy, example by example; shares nothing with the package."""
    kernel, bias, head, offset = parameters
    neurons = np.maximum(rows @ kernel + bias, 0)
    labels = targets["label"]
    drop_losses = []
    for category in range(3):
        members = np.flatnonzero(targets["attributes"][:, category])
        if len(members):
            without = neurons.copy()
            without[:, order[category]] = 0
            drop_losses.append(cross_entropies(without[members], head, offset, labels[members]).mean())
    capped = [loss if cap is None else min(loss, cap) for loss in drop_losses]
    penalty = {"min": min, "sum": sum, "mean": np.mean}[reduction](capped) if capped else 0.0
    return cross_entropies(neurons, head, offset, labels).mean() - alpha * penalty, drop_losses


def numerical_gradient(function, values, step=1e-5):
    gradients = []
    for number, value in enumerate(values):
        gradient = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[number][index] += sign * step
                sides.append(function(moved))
            gradient[index] = (sides[0] - sides[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


def assert_step(before, after, rows, targets, *terms):
    """One step of gradient descent at a rate of 0.1."""
    gradients = numerical_gradient(lambda values: reference(values, rows, targets, *terms)[0], before)
    for old, new, gradient in zip(before, after, gradients):
        np.testing.assert_allclose(old - new, 0.1 * gradient, atol=2e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"reduction": "mean"},
        {"alpha": 0.0},
        {"alpha": 2.0, "drop_loss_cap": 0.05},
        {"reduction": "sum", "drop_loss_cap": 0.75},
    ],
)
def test_a_step_follows_a_numpy_rendering_of_the_objective(rng, options):
    model = row_model(**options)
    for _ in range(3):
        rows, targets = batch_of(rng)
        before = parameters(model)
        terms = model.alpha, model.reduction, model.drop_loss_cap
        loss, drop_losses = reference(before, rows, targets, *terms)
        model.reset_metrics()
        logs = model.train_on_batch(rows, targets, return_dict=True)
        assert logs["loss"] == pytest.approx(loss, abs=1e-5)
        named = [logs[f"drop_loss_{attribute}"] for attribute in ATTRIBUTES]
        np.testing.assert_allclose(named, drop_losses, rtol=1e-5)
        capped = [min(loss, model.drop_loss_cap or np.inf) for loss in drop_losses]
        whole = {"min": min, "sum": sum, "mean": np.mean}[model.reduction](capped)
        assert logs["drop_loss"] == pytest.approx(whole, rel=1e-5)
        assert_step(before, parameters(model), rows, targets, *terms)


def test_missing_attributes_are_left_out(rng):
    model = row_model()
    for present in ([0, 2], [1], []):
        rows, targets = batch_of(rng)
        targets["attributes"] *= np.isin(np.arange(3), present)
        before = parameters(model)
        loss, drop_losses = reference(before, rows, targets, 0.3)
        model.reset_metrics()
        logs = model.train_on_batch(rows, targets, return_dict=True)
        assert logs["loss"] == pytest.approx(loss, abs=1e-5) and np.isfinite(list(logs.values())).all()
        assert logs["drop_loss"] == pytest.approx(min(drop_losses, default=0.0), rel=1e-5)
        assert_step(before, parameters(model), rows, targets, 0.3)


def test_matching_pairs_attributes_with_neurons(rng):
    model = row_model()
    model.match([2, 0, 1])
    assert model.neuron_of_attribute.tolist() == [2, 0, 1]
    assert model.unit_names == ("neuron 0 (bald)", "neuron 1 (bangs)", "neuron 2 (shadow)")
    rows, targets = batch_of(rng)
    loss, drop_losses = reference(parameters(model), rows, targets, 0.3, order=(2, 0, 1))
    logs = model.train_on_batch(rows, targets, return_dict=True)
    assert logs["loss"] == pytest.approx(loss, abs=1e-5)
    np.testing.assert_allclose([logs[f"drop_loss_{attribute}"] for attribute in ATTRIBUTES], drop_losses, rtol=1e-5)
    with pytest.raises(ValueError, match=r"permutation.*\[0, 0, 1\]"):
        model.match([0, 0, 1])


def test_matching_maximises_the_sum():
    rng = np.random.default_rng(4)
    for _ in range(20):
        matrix = rng.random((3, 3))
        orders = [(a, b, 3 - a - b) for a in range(3) for b in range(3) if a != b]
        best = max(orders, key=lambda order: matrix[range(3), order].sum())
        assert match_neurons(matrix).tolist() == list(best)


@pytest.mark.parametrize(("mode", "times"), [("initial", 1), ("em", 3)])
def test_matching_callback(rng, monkeypatch, mode, times):
    rows, targets = batch_of(rng, 24)
    dataset = ArrayDataset(
        rows, targets["label"], ("old", "young"), attributes=targets["attributes"], attribute_names=ATTRIBUTES
    )
    model, matched = row_model(), []
    monkeypatch.setattr(model, "match", lambda neurons: matched.append(neurons))
    matrix = model.drop_loss_matrix(rows, targets["label"], targets["attributes"])
    matching = NeuronMatching(dataset, mode)
    history = model.fit(Batches(dataset, 8), epochs=3, verbose=0, shuffle=False, callbacks=matching).history
    assert len(matched) == times and history["neuron_bald"] == [1] * 3
    model.fit(Batches(dataset, 8), verbose=0, shuffle=False, callbacks=matching)
    assert len(matched) == times + (mode == "em")
    np.testing.assert_array_equal(matched[0], match_neurons(matrix))


def test_orientation_follows_the_class_of_an_attribute(rng):
    model = row_model()
    model.match([2, 0, 1])
    sizes = np.abs(model.readout_weights()[0])
    labels = np.array([0, 0, 1, 1, 1, 0])
    attributes = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]])
    model.orient(labels, attributes)
    kernel, _ = model.readout_weights()
    np.testing.assert_array_equal(np.abs(kernel), sizes)
    # Two of three with the first attribute are old, which is neuron 2; of the others most are young.
    np.testing.assert_array_equal(np.sign(kernel), [[-1, 1], [-1, 1], [1, -1]])
    np.testing.assert_array_equal(model.get_layer("explained").bias, np.ones(3))
    with pytest.raises(ValueError, match="'bangs'"):
        model.orient(labels, attributes * [1, 1, 0])


def test_drop_losses_and_their_matrix(rng):
    model = row_model()
    rows, targets = batch_of(rng)
    kernel, bias, head, offset = parameters(model)
    neurons = np.maximum(rows @ kernel + bias, 0)
    expected = np.empty((12, 3))
    for number in range(3):
        without = neurons.copy()
        without[:, number] = 0
        expected[:, number] = cross_entropies(without, head, offset, targets["label"])
    losses = model.drop_losses(rows, targets["label"])
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    matrix = model.drop_loss_matrix(rows, targets["label"], targets["attributes"])
    for category in range(3):
        members = targets["attributes"][:, category] == 1
        np.testing.assert_allclose(matrix[category], expected[members].mean(axis=0), rtol=1e-4)
    top = model.top_images(rows, targets["label"], count=4)
    assert top.shape == (3, 4)
    for number in range(3):
        assert set(top[number]) == set(np.argsort(-expected[:, number])[:4])
    predicted = np.argmax(model.predict(rows, verbose=0), axis=1)
    np.testing.assert_array_equal(model.drop_losses(rows), model.drop_losses(rows, predicted))
    # Dropping is what `intervene` does with a value of 0.
    np.testing.assert_allclose(model.intervene(rows, {"neuron 1 (bald)": 0}), model.dropped_logits(neurons)[1], atol=1e-5)


def test_explanation_is_complete(images):
    model = image_model()
    model.get_layer("explained").bias.assign([0.5, -10.0, 0.2])
    explanation = model.explain(images)
    explanation.check_completeness()
    assert explanation.unit_names == ("neuron 0 (shadow)", "neuron 1 (bald)", "neuron 2 (bangs)")
    np.testing.assert_allclose(explanation.maps.mean(axis=(1, 2)), explanation.contributions, atol=1e-5)
    maps = model.neuron_maps(images)
    neurons = model.features(images)[0]
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), neurons, atol=1e-5)
    assert (neurons[:, 1] == 0).all() and (maps[..., 1] == 0).all() and (neurons[:, 0] > 0).any()
    features = model.backbone_features(images)
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in model.get_layer("explained").weights)
    np.testing.assert_allclose(np.maximum(features @ kernel + bias, 0), neurons, atol=1e-5)
    assert explanation.plot().axes


def test_saliency_is_the_gradient_of_each_neuron(images):
    model = image_model()
    maps = model.saliency(images, batch_size=5)
    assert maps.shape == (len(images), 3, 32, 32)
    kernel = keras.ops.convert_to_numpy(model.get_layer("explained").kernel)
    for number in range(3):

        def neuron(x, number=number):
            return keras.ops.matmul(model._explained_view(x, training=False)[1], kernel[:, number : number + 1])

        gradient = np.asarray(input_gradient(neuron, images.astype("float32")))
        np.testing.assert_allclose(maps[:, number], np.abs(gradient).max(axis=-1), atol=1e-6)


def test_training_and_round_trip_with_matched_neurons(images, tmp_path):
    model = XNet(tiny_backbone(), ATTRIBUTES, class_names=("old", "young"), reduction="mean", drop_loss_cap=3.0, alpha=0.1)
    model.compile_by_default()
    targets = {"label": np.arange(16) % 2, "attributes": np.eye(3)[np.arange(16) % 3]}
    history = model.fit(images, targets, batch_size=8, epochs=2, verbose=0).history
    assert {"loss", "accuracy", "task_loss", "drop_loss", "drop_loss_bald"} <= set(history)
    assert np.isfinite(list(history.values())).all()
    assert keras.backend.standardize_dtype(model(images).dtype) == "float32"
    model.match([1, 2, 0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config()) and loaded.unit_names == model.unit_names
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), rtol=1e-4, atol=1e-5)


def test_evaluation_takes_plain_labels_and_attributes(images):
    model = image_model()
    labels, attributes = np.arange(16) % 2, np.eye(3)[np.arange(16) % 3]
    plain = model.evaluate(images, labels, verbose=0, return_dict=True)
    both = model.evaluate(images, {"label": labels, "attributes": attributes}, verbose=0, return_dict=True)
    assert set(plain) == {"loss", "accuracy"} and plain == pytest.approx(both)
    dataset = ArrayDataset(images, labels, ("old", "young"), attributes=attributes, attribute_names=ATTRIBUTES)
    batches = Batches(dataset, 8, min_positives=2)
    history = model.fit(batches, validation_data=Batches(dataset, 8, shuffle=False), verbose=0, shuffle=False).history
    assert "val_accuracy" in history and "val_drop_loss" not in history


@pytest.mark.parametrize("through", ["step", "fit", "column"])
def test_sample_weights_count_alike_in_both_terms(rng, through):
    model = row_model()
    rows, targets = batch_of(rng)
    weights = np.where(np.arange(12) < 9, 2.0, 0.0).astype("float32")
    kernel, bias, head, offset = parameters(model)
    neurons, labels, attributes = np.maximum(rows @ kernel + bias, 0), targets["label"], targets["attributes"]
    task_loss = (weights * cross_entropies(neurons, head, offset, labels)).mean()
    drop_losses = []
    for number in range(3):
        without = neurons.copy()
        without[:, number] = 0
        losses = weights * cross_entropies(without, head, offset, labels)
        drop_losses.append((losses * attributes[:, number]).sum() / (weights * attributes[:, number]).sum())
    if through == "step":
        logs = model.train_on_batch(rows, targets, sample_weight=weights, return_dict=True)
    else:
        given = weights[:, None] if through == "column" else weights
        logs = model.fit(rows, targets, sample_weight=given, batch_size=12, shuffle=False, verbose=0).history
        logs = {name: values[0] for name, values in logs.items()}
        assert np.isfinite(model.evaluate(rows, targets, sample_weight=given, verbose=0)).all()
    assert logs["task_loss"] == pytest.approx(task_loss, rel=1e-5)
    assert logs["drop_loss"] == pytest.approx(min(drop_losses), rel=1e-5)
    assert logs["loss"] == pytest.approx(task_loss - 0.3 * weights.mean() * min(drop_losses), rel=1e-5)


def test_both_terms_have_the_compiled_loss(rng):
    rows, targets = batch_of(rng)
    logs, weights = [], row_model().get_weights()
    one_hot = {**targets, "label": np.eye(2, dtype="float32")[targets["label"]]}
    categorical = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)

    def tenth(y, y_pred):
        return 0.1 * keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)

    for loss, given in ((CROSS_ENTROPY, targets), (tenth, targets), (categorical, one_hot)):
        model = row_model()
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.0), loss)
        logs.append(model.train_on_batch(rows, given, return_dict=True))
    for name in ("task_loss", "drop_loss", "loss"):
        assert logs[1][name] == pytest.approx(0.1 * logs[0][name], rel=1e-4)
    assert logs[2]["drop_loss"] != pytest.approx(logs[0]["drop_loss"]) and np.isfinite(logs[2]["loss"])


def test_the_loss_does_not_jump_at_the_cap(rng):
    rows, targets = batch_of(rng)
    weights, losses = row_model().get_weights(), []
    smallest = row_model()
    smallest.set_weights(weights)
    smallest.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    drop_loss = smallest.train_on_batch(rows, targets, return_dict=True)["drop_loss"]
    for cap in (drop_loss + 1e-4, drop_loss - 1e-4):
        model = row_model(drop_loss_cap=cap)
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
        losses.append(model.train_on_batch(rows, targets, return_dict=True)["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_logged_parts_add_up_with_a_smaller_last_batch(rng):
    model = row_model()
    model.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    rows, targets = batch_of(rng)
    logs = {
        name: values[0] for name, values in model.fit(rows, targets, batch_size=8, shuffle=False, verbose=0).history.items()
    }
    assert logs["loss"] == pytest.approx(logs["task_loss"] - 0.3 * logs["drop_loss"], rel=1e-5)


def test_maps_of_activations_that_are_not_zero_at_zero(images):
    model = image_model(activation="softplus")
    np.testing.assert_allclose(model.neuron_maps(images).mean(axis=(1, 2)), model.features(images)[0], atol=1e-4)
    assert np.abs(model.neuron_maps(images)).max() < 10


def bad_fit(change, **options):
    def call(rng):
        rows, targets = batch_of(rng)
        model = row_model(**options)
        model.fit(rows, change(targets), verbose=0)

    return call


def with_attributes(change):
    return bad_fit(lambda targets: {**targets, "attributes": change(targets["attributes"].copy())})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda rng: row_model(alpha=-0.1), ValueError, "`alpha`.*-0.1"),
        (lambda rng: row_model(alpha=np.nan), ValueError, "`alpha`"),
        (lambda rng: row_model(alpha=np.inf), ValueError, "`alpha`.*inf"),
        (lambda rng: row_model(reduction="max"), ValueError, "`reduction`.*'max'"),
        (lambda rng: row_model(drop_loss_cap=0), ValueError, "`drop_loss_cap`"),
        (lambda rng: XNet(tiny_backbone(), [], 2), ValueError, "`attributes`"),
        (lambda rng: XNet(tiny_backbone(), ["a", "a"], 2), ValueError, "`attributes`"),
        (lambda rng: XNet(tiny_backbone(), "bald", 2), ValueError, "`attributes`"),
        (lambda rng: XNet(keras.layers.Dense(2), ["a"], 2), TypeError, "functional"),
        (bad_fit(lambda targets: targets["label"]), TypeError, "attributes.*ndarray"),
        (bad_fit(lambda targets: {"label": targets["label"]}), TypeError, r"\['label'\]"),
        (bad_fit(lambda targets: {**targets, "label": targets["label"] + 1}), ValueError, r"\[0, 2\)"),
        (with_attributes(lambda attributes: attributes[:, :2]), ValueError, r"\(n, 3\)"),
        (with_attributes(lambda attributes: attributes + 0.5), ValueError, "0 or 1"),
        (with_attributes(lambda attributes: attributes[:5]), ValueError, r"12 labels.*5 rows"),
        (with_attributes(lambda attributes: attributes * [1, 0, 1]), ValueError, "'bald'"),
        (lambda rng: row_model().drop_losses(np.full((2, 5), np.nan)), ValueError, "finite"),
        (lambda rng: row_model().drop_losses(np.ones((2, 5)), [0]), ValueError, "2 images"),
        (lambda rng: row_model().neuron_maps(np.ones((2, 5))), ValueError, "feature maps"),
        (lambda rng: row_model().orient([0, 1], np.eye(3)), ValueError, r"2 labels.*3 rows"),
        (lambda rng: row_model().saliency(np.ones((2, 5))), ValueError, "need images"),
        (lambda rng: row_model().match([0.0, 1.0, 2.0]), ValueError, "permutation"),
        (lambda rng: row_model().fit(*batch_of(rng), class_weight={0: 1.0}), ValueError, "`sample_weight`"),
        (lambda rng: NeuronMatching(None, "sometimes"), ValueError, "'sometimes'"),
        (lambda rng: NeuronMatching(None), ValueError, "attributes"),
    ],
)
def test_bad_input(rng, call, error, message):
    with pytest.raises(error, match=message):
        call(rng)


def test_attributes_of_a_stream_that_are_not_0_or_1(rng):
    rows, targets = batch_of(rng)
    stream = ((rows, {**targets, "attributes": 2 * targets["attributes"] - 1}) for _ in range(2))
    with pytest.raises(FloatingPointError, match="attributes other than 0 and 1"):
        row_model().fit(stream, verbose=0)


def test_other_attributes_in_the_data(rng):
    rows, targets = batch_of(rng)
    names = ("shadow", "hat", "bangs")
    dataset = ArrayDataset(rows, targets["label"], ("old", "young"), attributes=targets["attributes"], attribute_names=names)
    with pytest.raises(ValueError, match="'hat'"):
        row_model().fit(Batches(dataset, 4), verbose=0)
    right = dataclasses.replace(dataset, attribute_names=ATTRIBUTES)
    with pytest.raises(ValueError, match="'hat'"):
        row_model().fit(Batches(right, 4), verbose=0, callbacks=NeuronMatching(dataset))
    with pytest.raises(ValueError, match="0 or 1"):
        row_model().fit(Batches((rows, {**targets, "attributes": 7 * targets["attributes"]}), 4), verbose=0)
    empty = dataclasses.replace(dataset, attributes=targets["attributes"] * [1, 0, 1], attribute_names=ATTRIBUTES)
    with pytest.raises(ValueError, match="'bald'"):
        row_model().fit(Batches(empty, 4), verbose=0)
    plain = dataclasses.replace(dataset, attributes=None, attribute_names=())
    with pytest.raises(TypeError, match="attributes"):
        row_model().fit(Batches(plain, 4), verbose=0)


def test_the_backbone_runs_once_in_a_step(rng):
    calls = []

    class Counted(keras.layers.ReLU):
        def call(self, inputs):
            calls.append(inputs.shape)
            return super().call(inputs)

    inputs = keras.Input((5,))
    model = XNet(keras.Model(inputs, Counted()(inputs)), ATTRIBUTES, class_names=("old", "young"))
    model.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY, run_eagerly=True)
    model.train_on_batch(*batch_of(rng))
    calls.clear()
    model.train_on_batch(*batch_of(rng))
    assert len(calls) == 1


def test_a_dropped_neuron_gets_no_gradient_from_its_drop_loss(rng):
    rows, targets = batch_of(rng)
    models = [row_model(alpha, rate=1.0) for alpha in (0.0, 1.0)]
    # Positive, so that every neuron is active.
    models[0].get_layer("explained").kernel.assign(rng.random((5, 3)))
    models[1].set_weights(models[0].get_weights())
    steps = []
    for model in models:
        before = parameters(model)
        model.train_on_batch(rows, {**targets, "attributes": targets["attributes"] * [0, 1, 0]})
        steps.append([old - new for old, new in zip(before, parameters(model))])
    kernel, bias, head, _ = (with_drop - without for without, with_drop in zip(*steps))
    assert np.abs(kernel[:, 1]).max() < 1e-6 and abs(bias[1]) < 1e-6 and np.abs(head[1]).max() < 1e-6
    assert np.abs(kernel[:, [0, 2]]).min() > 1e-6 and np.abs(head[[0, 2]]).min() > 1e-6


def test_neurons_are_named_by_number_or_attribute(rng):
    model = row_model()
    model.match([2, 0, 1])
    rows, _ = batch_of(rng)
    expected = model.intervene(rows, {2: 0})
    for name in ("neuron 2", "neuron 2 (shadow)", "shadow"):
        np.testing.assert_array_equal(model.intervene(rows, {name: 0}), expected)
    with pytest.raises(KeyError, match=r"neuron 0 \(bald\).*'neuron 0 \(shadow\)'"):
        model.intervene(rows, {"neuron 0 (shadow)": 0})


@pytest.mark.parametrize("shape", [(None, 2), (None, None), None])
def test_streams_with_other_attributes_are_refused_before_a_step(rng, shape):
    tf = pytest.importorskip("tensorflow")
    model, (rows, targets) = row_model(), batch_of(rng)

    def batches(names):
        for _ in range(2):
            yield rows, {"label": targets["label"], "attributes": targets["attributes"][:, :names]}

    spec = {"label": tf.TensorSpec((None,), "int32"), "attributes": tf.TensorSpec(shape, "float32")}
    stream = tf.data.Dataset.from_generator(lambda: batches(2), output_signature=(tf.TensorSpec((None, 5), "float32"), spec))
    with pytest.raises(ValueError, match=r"\(batch, 3\): shadow, bald, bangs. Received"):
        model.fit(stream, verbose=0)
    with pytest.raises(TypeError, match="An XNet trains on targets"):
        model.fit(stream.map(lambda x, y: (x, y["label"])), verbose=0)
    # The weights are still there.
    assert model.predict(rows, verbose=0).shape == (12, 2)
