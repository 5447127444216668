import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_interp.data import ArrayDataset, Batches
from keras_interp.explain import excitation_backprop
from keras_interp.models import COMPARISONS, Classifier, ExplanationModule, LassoModule, explanation_module
from keras_interp.models.classifier_start import prune_units
from tests.tiny import tiny_backbone

LABELS = ("wren", "robin", "jay", "crow")


def row_classifier(seed=1):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,), name="rows")
    hidden = layers.Dense(9, "relu", name="units")(inputs)
    return keras.Model(inputs, layers.Dense(4, name="scores")(layers.Dense(5, "tanh", name="last")(hidden)))


def module_of(classifier=None, **options):
    options = {"targets": (2, 0), "class_names": LABELS, "num_features": 3, "hidden_units": (7,), "dropout": 0.0, **options}
    return ExplanationModule(classifier or row_classifier(), "units", **options)


def plain_classifier(activation="relu", between=()):
    """One hidden layer between the units and the logits."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((6,), name="rows")
    hidden = layers.Dense(9, "relu", name="units")(inputs)
    for layer in (layers.Dropout(0.1), layers.Dense(12, activation, bias_initializer="normal", name="hidden"), *between):
        hidden = layer(hidden)
    return keras.Model(inputs, layers.Dense(4, name="scores")(hidden))


def shared_classifier():
    """Two hidden layers that share their activation; the explained layer `units` may be that of `act`'s first call."""
    act = layers.ReLU(name="act")
    inputs = keras.Input((6,), name="rows")
    hidden = layers.Dense(9, name="units")(inputs)
    for name in ("first", "second"):
        hidden = act(layers.Dense(9, name=name)(hidden))
    return keras.Model(inputs, layers.Dense(4, name="scores")(hidden))


def branched_classifier():
    inputs = keras.Input((6,), name="rows")
    units = layers.Dense(9, "relu", name="units")(inputs)
    both = layers.Add(name="add")([layers.Dense(9, "relu")(units), units])
    return keras.Model(inputs, layers.Dense(4, name="scores")(both))


def maps_classifier():
    """A Dense layer at each place of a feature map."""
    inputs = keras.Input((4, 4, 3), name="images")
    hidden = layers.Dense(9, "relu", name="hidden")(layers.Conv2D(5, 1, name="units")(inputs))
    return keras.Model(inputs, layers.Dense(4, name="scores")(layers.Flatten()(hidden)))


def fit(*args, **options):
    return module_of().compile_by_default().fit(*args, **options)


def rows_of(rng, count=60):
    return rng.normal(size=(count, 6)).astype("float32"), (np.arange(count) % 4).astype("int32")


def arrays(module):
    return {w.name: keras.ops.convert_to_numpy(w).astype(float) for w in module.autoencoder.trainable_weights}


def reference_loss(weights, z, logits, example_weights, options):
    """Eq. 4 in NumPy, module by module; shares nothing with the package. `logits` may be (n,) or (n, 1) for one module."""
    logits = np.reshape(logits, (len(z), -1))
    total = 0.0
    for module in range(logits.shape[1]):
        kernel = {name: values[module] for name, values in weights.items()}
        features = z
        for name in ("encoder1", "encoder2"):
            features = np.maximum(features @ kernel[f"{name}_kernel"] + kernel[f"{name}_bias"], 0)
        rebuilt = features
        for name in ("decoder1", "decoder2"):
            rebuilt = np.maximum(rebuilt @ kernel[f"{name}_kernel"] + kernel[f"{name}_bias"], 0)
        predicted = features @ kernel["predictor1_kernel"][:, 0] + kernel["predictor1_bias"][0]
        w = example_weights[:, module]
        errors = (w[:, None] * (rebuilt - z) ** 2).sum(axis=0) / w.sum()
        total += options["faithfulness"] * np.mean(w * (predicted - logits[:, module]) ** 2)
        total += options["reconstruction"] * np.mean(np.log(1 + options["q"] * errors))
        total += options["decay"] * sum((values**2).sum() for name, values in kernel.items() if "kernel" in name)
        if options.get("pull_away"):
            parts = features * kernel["predictor1_kernel"][:, 0] * np.sqrt(w)[:, None]
            cosines = (parts.T @ parts) / np.maximum(np.outer(*[np.linalg.norm(parts, axis=0)] * 2), 1e-12)
            total += options["pull_away"] * (cosines[~np.eye(3, dtype=bool)] ** 2).mean()
    return total


@pytest.mark.parametrize("pull_away", [0.0, 0.5])
@pytest.mark.parametrize("targets", [(2, 0), (1,)])
def test_the_loss_follows_a_numpy_rendering(rng, targets, pull_away):
    options = {"faithfulness_weight": 0.7, "reconstruction_weight": 2.0, "sparsity_strength": 30.0, "kernel_weight": 0.01}
    module = module_of(targets=targets, error_momentum=0.0, pull_away_weight=pull_away, **options)
    module.compile(keras.optimizers.SGD(0.01))
    rows, classes = rows_of(rng)
    z, logits = module.activations(rows)
    given = {"logits": logits[:, list(targets)], "weights": module.example_weights(classes)}
    terms = {"faithfulness": 0.7, "reconstruction": 2.0, "q": 30.0, "decay": 0.01, "pull_away": pull_away}
    before = arrays(module)
    expected = reference_loss(before, z, given["logits"], given["weights"], terms)
    if len(targets) == 1:
        assert reference_loss(before, z, given["logits"][:, 0], given["weights"], terms) == pytest.approx(expected)
    logs = module.train_on_batch(z, given, return_dict=True)
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)
    # The step went down the gradient of this loss, here of one kernel.
    name, moved = "encoder2_kernel", arrays(module)["encoder2_kernel"]
    for index in ((0, 1, 2), (len(targets) - 1, 4, 0)):
        sides = []
        for sign in (1, -1):
            values = {key: value.copy() for key, value in before.items()}
            values[name][index] += sign * 1e-5
            sides.append(reference_loss(values, z, given["logits"], given["weights"], terms))
        slope = (sides[0] - sides[1]) / 2e-5
        assert before[name][index] - moved[index] == pytest.approx(0.01 * slope, abs=2e-5, rel=2e-3)


def test_the_classifier_stays_as_it_was(rng):
    classifier = row_classifier()
    rows, classes = rows_of(rng)
    before = [w.copy() for w in classifier.get_weights()]
    module = module_of(classifier).compile_by_default()
    logits = module.predict(rows, verbose=0)
    module.fit(rows, classes, epochs=3, verbose=0)
    for old, new in zip(before, classifier.get_weights()):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(module.predict(rows, verbose=0), logits)
    np.testing.assert_allclose(logits, classifier.predict(rows, verbose=0), atol=1e-6)
    assert classifier.trainable and len(module.trainable_variables) == len(module.autoencoder.trainable_weights)


def test_modules_together_are_as_each_alone(rng):
    rows, classes = rows_of(rng)
    options = {"dropout": 0.2, "num_features": 2, "hidden_units": (6, 4)}
    together = module_of(targets=(2, 0, 3), seed=7, **options).compile_by_default()
    noise = np.array(together.autoencoder.noise.state)
    together.fit(rows, classes, epochs=4, batch_size=16, verbose=0)
    for number, target in enumerate((2, 0, 3)):
        alone = module_of(targets=(target,), seed=7 + number, **options).compile_by_default()
        alone.autoencoder.noise.state.assign(noise)
        alone.fit(rows, classes, epochs=4, batch_size=16, verbose=0)
        for one, other in zip(together.autoencoder.trainable_weights, alone.autoencoder.trainable_weights):
            np.testing.assert_allclose(np.array(one)[number], np.array(other)[0], atol=2e-5, err_msg=one.name)


def test_it_learns_to_rebuild_the_logit(rng):
    module = module_of(reconstruction_weight=1e-3, hidden_units=(32,), num_features=4)
    module.compile_by_default(keras.optimizers.Adam(1e-2))
    rows, classes = rows_of(rng, 400)
    module.fit(rows, classes, epochs=60, batch_size=100, verbose=0)
    predicted, logits = module.predict_targets(rows)
    assert (np.abs(predicted - logits).mean(axis=0) < 0.25 * logits.std(axis=0)).all()


def test_explanations_are_complete(rng):
    module = module_of().compile_by_default()
    rows, classes = rows_of(rng)
    module.fit(rows, classes, epochs=2, verbose=0)
    explanation = module.explain(rows)
    explanation.check_completeness()
    predicted, logits = module.predict_targets(rows)
    rebuilt = explanation.logits[np.arange(60), explanation.target]
    chosen = logits.argmax(axis=1)
    np.testing.assert_allclose(rebuilt, predicted[np.arange(60), chosen], atol=1e-5)
    assert set(explanation.target) <= {2, 0} and explanation.contributions.shape == (60, 3)
    np.testing.assert_allclose(
        module.x_features(rows)[:, 1] * module.predictor()[0][1], module.explain(rows, "wren").contributions
    )
    others = [1, 3]
    np.testing.assert_allclose(explanation.logits[:, others], module.predict(rows, verbose=0)[:, others], atol=1e-6)


def test_without_faithfulness_the_predictor_is_a_least_squares_fit(rng):
    module = module_of(faithfulness_weight=0.0, sparsity="mean").compile_by_default()
    rows, classes = rows_of(rng)
    module.fit(rows, classes, epochs=2, verbose=0)
    features, (kernel, bias) = module.x_features(rows), module.predictor()
    _, logits = module.predict_targets(rows)
    weights = module.example_weights(classes)
    for number in range(2):
        residual = features[:, number] @ kernel[number] + bias[number] - logits[:, number]
        design = np.append(features[:, number], np.ones((60, 1)), axis=1)
        np.testing.assert_allclose((weights[:, number] * residual) @ design, np.zeros(4), atol=2e-3)


def test_weights_of_examples():
    module = module_of(positive_share=0.25)
    weights = module.example_weights(np.array([2] * 5 + [0] * 2 + [1] * 13))
    np.testing.assert_allclose(weights.mean(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose([weights[:5, 0].sum() / 20, weights[5:7, 1].sum() / 20], 0.25, rtol=1e-6)


@pytest.mark.parametrize("layer", ["pooling", "last_relu"])
def test_images_and_round_trip(layer, images, tmp_path):
    classifier = Classifier(tiny_backbone(), class_names=LABELS)
    module = ExplanationModule(classifier, layer, ["jay", "wren"], num_features=2, hidden_units=(6,)).compile_by_default()
    assert module.class_names == LABELS and module.targets == ("jay", "wren")
    classes = np.arange(16) % 4
    history = module.fit(images, classes, epochs=2, batch_size=8, verbose=0).history
    assert set(history) == {"loss", "faithfulness", "reconstruction", "error"} and np.isfinite(list(history.values())).all()
    module.save(tmp_path / "module.keras")
    loaded = keras.saving.load_model(tmp_path / "module.keras")
    assert json.dumps(loaded.get_config()) == json.dumps(module.get_config())
    for one, other in zip(module.predict_targets(images), loaded.predict_targets(images)):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_batches_of_a_data_set(images):
    dataset = ArrayDataset(images, np.arange(16) % 4, LABELS)
    modules = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        classifier = Classifier(tiny_backbone(), class_names=LABELS)
        modules.append(ExplanationModule(classifier, "pooling", [1], num_features=2, hidden_units=(4,)).compile_by_default())
    modules[0].fit(Batches(dataset, 8, seed=4), epochs=3, verbose=0)
    modules[1].fit(Batches(dataset, 8, seed=4), epochs=2, verbose=0)
    modules[1].fit(Batches(dataset, 8, seed=4), epochs=3, initial_epoch=2, verbose=0)
    for one, other in zip(modules[0].get_weights(), modules[1].get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-6)


def numpy_winning(inputs, kernel, probabilities):
    """Winning probabilities of the inputs of one dense layer, child by child."""
    result = np.zeros(len(inputs))
    for output, probability in enumerate(probabilities):
        excitation = np.maximum(inputs, 0) * np.maximum(kernel[:, output], 0)
        if excitation.sum() > 0:
            result += probability * excitation / excitation.sum()
    return result


@pytest.mark.parametrize("contrastive", [True, False])
def test_heatmaps_follow_excitation_backprop(images, rng, contrastive):
    classifier = Classifier(tiny_backbone(), class_names=LABELS)
    options = {"num_features": 2, "hidden_units": (5, 4), "heatmap_layer": "last_relu"}
    module = ExplanationModule(classifier, "pooling", ["jay", "wren"], **options)
    for weight in module.autoencoder.trainable_weights:
        weight.assign(rng.normal(0.1, 0.5, weight.shape))
    # One of the four x-features is off.
    module.autoencoder.encoder[-1][1].assign([[5.0, 5.0], [5.0, -50.0]])
    targets = ["wren", "jay", "jay"]
    maps = module.heatmaps(images[:3], targets, contrastive=contrastive)
    assert maps.shape == (3, 2, 4, 4) and maps.min() >= 0
    assert (maps.max(axis=(2, 3)) > 0).tolist() == [[True, False], [True, True], [True, True]]
    z, _ = module.activations(images[:3])
    features = classifier.features(images[:3])[0]
    for image, number in enumerate((1, 0, 0)):
        kernels = [arrays(module)[f"encoder{layer}_kernel"][number] for layer in (1, 2, 3)]
        biases = [arrays(module)[f"encoder{layer}_bias"][number] for layer in (1, 2)]
        first = np.maximum(z[image] @ kernels[0] + biases[0], 0)
        second = np.maximum(first @ kernels[1] + biases[1], 0)
        for feature in range(2):
            own = np.eye(2)[feature]
            prior = numpy_winning(second, kernels[2], own) - contrastive * numpy_winning(second, -kernels[2], own)
            if np.maximum(second @ kernels[2] + arrays(module)["encoder3_bias"][number], 0)[feature] == 0:
                assert number == feature == 1
                prior = np.zeros_like(prior)
            # The rule is linear in signed priors too.
            prior = numpy_winning(z[image], kernels[0], numpy_winning(first, kernels[1], prior))
            share = features[image] / np.maximum(features[image].sum(axis=(0, 1)), 1e-30)
            np.testing.assert_allclose(maps[image, feature], np.maximum((share * prior).sum(axis=-1), 0), atol=1e-5)
    explanation = module.explain(images[:3], targets, contrastive=contrastive)
    np.testing.assert_allclose(explanation.maps.mean(axis=(1, 2)), explanation.contributions, rtol=1e-4, atol=1e-6)
    spread = np.moveaxis(explanation.maps, -1, 1) * maps.sum(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(spread, maps * 16 * explanation.contributions[:, :, None, None], rtol=1e-4, atol=1e-6)
    assert explanation.plot(2).axes
    whole = ExplanationModule(classifier, "pooling", ["jay"], num_features=2, hidden_units=(4,)).heatmaps(images[:2])
    assert whole.shape == (2, 2, 32, 32)


def test_heatmaps_end_inside_a_nested_model(images):
    inputs = keras.Input((32, 32, 3))
    backbone = tiny_backbone()
    pooled = layers.GlobalAveragePooling2D(name="pooled")(backbone(inputs))
    classifier = keras.Model(inputs, layers.Dense(4)(pooled))
    options = {"targets": [1], "num_features": 2, "hidden_units": (4,)}
    heat = ExplanationModule(classifier, "pooled", heatmap_layer="last_relu", **options).heatmaps(images[:2])
    flat = keras.Model(backbone.input, layers.Dense(4)(layers.GlobalAveragePooling2D(name="pooled")(backbone.output)))
    expected = ExplanationModule(flat, "pooled", heatmap_layer="last_relu", **options).heatmaps(images[:2])
    np.testing.assert_allclose(heat, expected, atol=1e-6)


def test_names_of_concepts(rng, tmp_path):
    module = module_of(concept_names={"wren": ("crest", "", "tail")})
    rows, _ = rows_of(rng, 4)
    assert module.explain(rows, "wren").unit_names == ("crest", "x-feature 1", "tail")
    assert module.explain(rows, "jay").unit_names == ("x-feature 0", "x-feature 1", "x-feature 2")
    mixed = module.explain(rows, ["jay", "wren", "wren", "jay"])
    assert mixed.unit_names == mixed.names_of(0) == ("x-feature 0", "x-feature 1", "x-feature 2")
    assert mixed.names_of(1) == ("crest", "x-feature 1", "tail")
    drawn = [text.get_text() for axis in mixed.plot(3).axes for text in axis.get_yticklabels()]
    assert drawn.count("crest") == 2
    module.save(tmp_path / "module.keras")
    assert keras.saving.load_model(tmp_path / "module.keras").concept_names == {"wren": ("crest", "", "tail")}
    module.concept_names = {2: ["beak"]}
    assert module.concept_names == {"jay": ("beak",)} and module.feature_names("jay")[:2] == ("beak", "x-feature 1")


def test_classes_of_one_name_are_told_apart(rng, tmp_path):
    module = module_of(class_names=("crane", "jay", "crane", "crow"), concept_names={0: ["beak"], 2: ["hook"]})
    rows, _ = rows_of(rng, 2)
    assert module.explain(rows, 0).unit_names[0] == "beak" and module.explain(rows, 2).unit_names[0] == "hook"
    module.save(tmp_path / "module.keras")
    assert keras.saving.load_model(tmp_path / "module.keras").concept_names == {0: ("beak",), 2: ("hook",)}


def test_adapted_layers_of_the_classifier_are_kept(rng, tmp_path):
    rows, _ = rows_of(rng)
    rows = 50 + 9 * rows
    scaling = layers.Normalization()
    scaling.adapt(rows)
    classifier = keras.Sequential([keras.Input((6,)), scaling, layers.Dense(9, "relu", name="units"), layers.Dense(4)])
    module = module_of(classifier)
    np.testing.assert_allclose(module.predict(rows, verbose=0), classifier.predict(rows, verbose=0), rtol=1e-5)
    module.save(tmp_path / "module.keras")
    copy = keras.saving.load_model(tmp_path / "module.keras")
    np.testing.assert_allclose(copy.predict(rows, verbose=0), classifier.predict(rows, verbose=0), rtol=1e-5)


def test_activations_can_be_shared_between_fits(rng):
    rows, classes = rows_of(rng)
    one, other = module_of().compile_by_default(), module_of().compile_by_default()
    one.fit(rows, classes, 16, 2, verbose=0)
    data = other.fitting_data(rows, classes)
    other.fit_activations(*data, 16, 1, verbose=0)
    history = other.fit_activations(*data, batch_size=16, epochs=2, initial_epoch=1, verbose=0)
    assert history.epoch == [1]
    for first, second in zip(one.get_weights(), other.get_weights()):
        np.testing.assert_allclose(first, second, atol=1e-6)


def softmax_classifier(kind="activation"):
    inputs = keras.Input((6,))
    hidden, last = layers.Dense(9, name="units")(inputs), layers.Dense(4, activation="softmax")
    if kind == "nested":
        outputs = keras.Sequential([keras.Input((9,)), last])(hidden)
    elif kind == "cast":
        outputs = layers.Activation("linear", dtype="float32")(last(hidden))
    elif kind == "operation":
        outputs = keras.ops.log_softmax(layers.Dense(4)(hidden))
    else:
        outputs = last(hidden)
    return keras.Model(inputs, outputs)


def nested_classifier():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(9, name="units")], name="inner")
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(4, name="scores")(inner(inputs)))


def with_side_output():
    classifier = row_classifier()
    return keras.Model(classifier.inputs, [classifier.outputs[0], layers.Softmax()(classifier.outputs[0])])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ExplanationModule(row_classifier(), "unit"), ValueError, "rows, units, last, scores.*'unit'"),
        (lambda: module_of(softmax_classifier()), ValueError, "logits.*before the softmax.*probabilities"),
        (lambda: module_of(softmax_classifier("nested")), ValueError, "logits.*probabilities"),
        (lambda: module_of(softmax_classifier("cast")), ValueError, "logits.*probabilities"),
        (lambda: module_of(softmax_classifier("operation")), ValueError, "logits.*before the logsoftmax.*probabilities"),
        (
            lambda: module_of(nested_classifier()),
            ValueError,
            "one of .*, inner, .*lies in the nested model 'inner'.*'units'",
        ),
        (lambda: module_of(targets="jay"), TypeError, "sequence.*'jay'"),
        (lambda: module_of(targets=1), TypeError, "sequence.*1"),
        (lambda: module_of(heatmap_layer="unit"), ValueError, "'unit'"),
        (lambda: module_of(heatmap_layer="last"), ValueError, "`end` must come before"),
        (lambda: fit(np.ones((8, 6)), np.ones(7, int)), ValueError, "each of the 8 inputs. Received: 7 labels"),
        (lambda: fit(*rows_of(np.random.default_rng(0)), class_weight={0: 2.0}), ValueError, "Received: class_weight"),
        (lambda: fit(*rows_of(np.random.default_rng(0)), sample_weight=np.ones(60)), ValueError, "Received: sample_weight"),
        (lambda: fit(*rows_of(np.random.default_rng(0)), validation_split=0.1), ValueError, "Received: validation_split"),
        (lambda: module_of().evaluate(np.ones((8, 6))), NotImplementedError, "predict_targets"),
        (lambda: module_of(layers.Dense(3)), TypeError, "functional"),
        (lambda: module_of(targets=("owl",)), ValueError, "'owl'"),
        (lambda: module_of(targets=(4,)), ValueError, "below 4.*4"),
        (lambda: module_of(targets=()), ValueError, "`targets`"),
        (lambda: module_of(targets=(1, "robin")), ValueError, "`targets`"),
        (lambda: module_of(class_names=("a", "b")), ValueError, "2 class names"),
        (lambda: module_of(reconstruction_weight=-1), ValueError, "`reconstruction_weight`"),
        (lambda: module_of(positive_share=1), ValueError, "`positive_share`"),
        (lambda: module_of(concept_names={"crow": ("a", "b", "c")}), ValueError, "'jay', 'wren'.*'crow'"),
        (lambda: module_of(concept_names={"jay": "a b c d".split()}), ValueError, "3 x-features.*'d'"),
        (lambda: module_of(concept_names={"jay": "abc"}), TypeError, "strings.*'abc'"),
        (lambda: module_of(concept_names={"jay": (1, 2, 3)}), TypeError, "strings"),
        (lambda: module_of(start="zeros"), ValueError, "`start`.*'zeros'"),
        (lambda: from_classifier(row_classifier()), ValueError, "one hidden Dense layer with ReLU.*come from last, scores"),
        (lambda: from_classifier(plain_classifier("tanh")), ValueError, "with ReLU.*come from dropout.*, hidden, scores"),
        (
            lambda: from_classifier(plain_classifier("linear", [layers.ReLU(6)])),
            ValueError,
            "come from .*hidden, re_lu.*, scores",
        ),
        (lambda: from_classifier(num_features=1), ValueError, "two x-features.*num_features=1"),
        (lambda: from_classifier(hidden_units=(7, 2)), ValueError, r"as many units.*\(7, 2\)"),
        (lambda: from_classifier(hidden_units=(2,)), ValueError, r"as many units.*\(2,\)"),
        (lambda: from_classifier(hidden_units=()), ValueError, r"as many units.*\(\)"),
        (lambda: from_classifier(shared_classifier(), layer="units"), ValueError, "come from first, act, second, act, scores"),
        (lambda: from_classifier(branched_classifier()), ValueError, "come from add.*, scores"),
        (lambda: from_classifier(maps_classifier()), ValueError, "come from hidden, flatten.*, scores"),
        (lambda: module_of(error_momentum=1), ValueError, "`error_momentum`"),
        (lambda: fit(np.ones((8, 6)), np.ones(8, int)), ValueError, "0% are 'jay'"),
        (lambda: fit(np.ones((8, 5)), np.ones(8, int)), ValueError, r"\(n, 6\)"),
        (lambda: fit(np.ones((8, 6)), np.full(8, 4)), ValueError, r"\[0, 4\)"),
        (lambda: module_of().explain(np.full((2, 6), np.nan)), ValueError, "finite"),
        (lambda: module_of().heatmaps(np.ones((2, 6))), ValueError, "need images"),
        (lambda: module_of().explain(np.ones((2, 6)), "crow"), ValueError, "'jay', 'wren'.*'crow'"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_side_output_does_not_matter(rng):
    rows, _ = rows_of(rng)
    module = module_of(with_side_output())
    np.testing.assert_allclose(module.predict(rows, verbose=0), row_classifier().predict(rows, verbose=0), rtol=1e-5)


def test_lasso_keeps_what_scikit_learn_selects(rng, tmp_path):
    from sklearn.linear_model import Lasso

    rows, classes = rows_of(rng)
    classifier = row_classifier()
    module = LassoModule(classifier, "units", targets=(2, 0), alpha=0.02)
    module.fit(rows, classes)
    z, logits = module.activations(rows)
    for number, target in enumerate((2, 0)):
        weights = np.where(classes == target, 2.0, 2 / 3)
        expected = Lasso(0.02, max_iter=10_000).fit(z, logits[:, target], sample_weight=weights)
        np.testing.assert_allclose(module.predict_targets(rows)[0][:, number], expected.predict(z), rtol=1e-4, atol=1e-5)
        assert module.num_selected[number] == (expected.coef_ != 0).sum()
    explanation = module.explain(rows[:5], target=2)
    np.testing.assert_allclose(
        explanation.contributions.sum(axis=1) + explanation.bias, module.predict_targets(rows[:5])[0][:, 0], rtol=1e-5
    )
    module.save(tmp_path / "lasso.keras")
    copy = keras.saving.load_model(tmp_path / "lasso.keras")
    np.testing.assert_array_equal(copy.predict_targets(rows)[0], module.predict_targets(rows)[0])


def test_lasso_heat_comes_from_the_selected_dimensions(images):
    classifier = Classifier(tiny_backbone(), class_names=tuple("abcd"))
    classes = np.arange(16) % 4
    module = LassoModule(classifier, "last_relu", targets=(1,), alpha=1e-4, heatmap_layer="first_relu")
    module.fit(images, classes)
    assert module.num_selected[0] > 1
    heat = module.heatmaps(images[:3])
    assert heat.shape[:2] == (3, module.num_features) and heat.min() >= 0 and heat.sum() > 0


@pytest.mark.parametrize("contrastive", [True, False])
def test_target_heatmaps_are_those_of_the_classifier(images, contrastive):
    classifier = Classifier(tiny_backbone(), class_names=tuple("abcd"))
    module = ExplanationModule(
        classifier, "last_relu", targets=(1, 3), num_features=2, hidden_units=(4,), heatmap_layer="first_relu"
    )
    options = {"end": "first_relu", "contrastive": contrastive}
    expected = excitation_backprop(classifier, images[:3], "logits", np.array([[3], [1], [3]]), **options)
    heat = module.target_heatmaps(images[:3], [3, 1, 3], contrastive=contrastive)
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-7)


def from_classifier(classifier=None, layer="units", **options):
    options = {"targets": (2, 0), "class_names": LABELS, "num_features": 3, "hidden_units": (7,), "dropout": 0.0, **options}
    return ExplanationModule(classifier or plain_classifier(), layer, start="classifier", **options)


@pytest.mark.parametrize("hidden_units", [(12,), (14, 7), (12, 6, 9)])
@pytest.mark.parametrize("classifier", [plain_classifier, lambda: plain_classifier("linear", [layers.ReLU()])])
def test_modules_that_start_from_the_whole_hidden_layer_rebuild_the_logits(hidden_units, classifier, rng):
    rows, classes = rows_of(rng, 400)
    module = from_classifier(classifier(), hidden_units=hidden_units)
    module.compile(keras.optimizers.SGD(0.0))
    module.fit(rows, classes, verbose=0)
    rebuilt, logits = module.predict_targets(rows)
    np.testing.assert_allclose(rebuilt, logits, atol=0.05 * logits.std())
    np.testing.assert_array_equal(module.predictor()[0], [[1, 1, -1]] * 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_the_start_does_not_use_can_still_learn(sign, rng):
    classifier, (rows, classes) = plain_classifier(), rows_of(rng, 400)
    scores = classifier.get_layer("scores")
    scores.kernel.assign(sign * np.abs(scores.kernel))
    module = from_classifier(classifier, hidden_units=(12, 7, 8))
    z, given = module.fitting_data(rows, classes)
    module._start_from_classifier(z, given)
    kernel, _ = module.predictor()
    np.testing.assert_array_equal(kernel, [[1, 1, 0]] * 2 if sign > 0 else [[0, 0, -1]] * 2)
    np.testing.assert_allclose(module.rebuild(z), given["logits"], atol=0.05 * given["logits"].std())
    # Each unit of each layer has inputs, so that none is dead other than by chance.
    weights = arrays(module)
    assert all(np.any(weights[f"encoder{number}_kernel"] != 0, axis=1).all() for number in (1, 2, 3, 4))
    module.compile_by_default().fit(rows, classes, epochs=3, verbose=0)
    assert np.any(module.predictor()[0][kernel == 0] != 0)


def test_typical_images_are_those_of_the_class_whatever_weighs_more(rng, monkeypatch):
    rows, _ = rows_of(rng, 200)
    seen, classifier = [], plain_classifier()
    monkeypatch.setattr(
        explanation_module, "clusters", lambda patterns, *args: seen.append(patterns) or np.zeros(len(patterns), int)
    )
    # Decisions as classes: those of the class have the larger logits.
    decisions = classifier.predict(rows, verbose=0).argmax(axis=1)
    target = int(np.bincount(decisions).argmax())
    own = decisions == target
    assert 0.1 < own.mean() < 1
    module = from_classifier(classifier, hidden_units=(12,), num_features=2, targets=(target,), positive_share=0.1)
    z, given = module.fitting_data(rows)
    module._start_from_classifier(z, given)
    hidden = classifier.get_layer("hidden")
    excitations = np.maximum(keras.ops.convert_to_numpy(hidden.kernel), 0).T * z[own].mean(axis=0)
    assert len(seen[0]) and all(any(np.allclose(row, one, atol=1e-5) for one in excitations) for row in seen[0])


def test_only_the_first_fit_starts_from_the_classifier(rng, tmp_path):
    rows, classes = rows_of(rng)
    module = from_classifier(hidden_units=(8, 6), error_momentum=0.0).compile_by_default()
    module.fit(rows, classes, epochs=3, verbose=0)
    trained = arrays(module)
    module.save(tmp_path / "module.keras")
    for one in (module, keras.saving.load_model(tmp_path / "module.keras")):
        one.compile(keras.optimizers.SGD(0.0))
        one.fit(rows, classes, verbose=0)
        assert one.start == "classifier"
        for name, values in arrays(one).items():
            np.testing.assert_array_equal(values, trained[name], err_msg=name)


def test_a_module_alone_starts_as_among_others(rng):
    rows, classes = rows_of(rng)
    together, alone = from_classifier(hidden_units=(8, 6)), from_classifier(hidden_units=(8, 6), targets=(0,), seed=1)
    for module in (together, alone):
        module._start_from_classifier(*module.fitting_data(rows, classes))
    for name, values in arrays(together).items():
        np.testing.assert_allclose(values[1], arrays(alone)[name][0], atol=1e-5, err_msg=name)


def test_pruning_keeps_the_units_that_matter(rng):
    units = np.maximum(rng.normal(size=(200, 20)), 0).astype("float32")
    weights = rng.uniform(0.5, 1.5, 200).astype("float32")
    kept, slopes, intercept = prune_units(units, units[:, [3, 11, 17]] @ [2.0, -1.0, 0.5] + 4, weights, 3)
    assert kept.tolist() == [3, 11, 17] and intercept == pytest.approx(4, abs=1e-2)
    np.testing.assert_allclose(slopes, [2.0, -1.0, 0.5], atol=1e-2)
    # One unit less: the best pair by trying all, as least squares of the weighted rows.
    logits = units[:, :6] @ rng.normal(size=6)
    root = np.sqrt(weights)[:, None]

    def error(pair):
        design = root * np.append(units[:, pair], np.ones((200, 1)), axis=1)
        return np.square(root[:, 0] * logits - design @ np.linalg.lstsq(design, root[:, 0] * logits, rcond=None)[0]).sum()

    fives = [[one for one in range(6) if one != left] for left in range(6)]
    assert prune_units(units[:, :6], logits, weights, 5)[0].tolist() == min(fives, key=error)


def test_comparisons_are_options(rng):
    rows, classes = rows_of(rng)
    logs = {}
    for name, options in COMPARISONS.items():
        module = module_of(**options).compile_by_default()
        logs[name] = module.fit(rows, classes, epochs=2, verbose=0).history
    assert set(logs) == {"srae", "nn", "sae", "cae"} and all(np.isfinite(log["loss"]).all() for log in logs.values())


def test_predict_checks_rows(rng):
    rows, _ = rows_of(rng)
    rows[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"rows \[3\]"):
        module_of().predict(rows, verbose=0)
