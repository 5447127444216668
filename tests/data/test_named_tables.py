"""Tables and labels as people have them: data frames, gaps, names, lists, and whatever index they carry."""

import keras
import numpy as np
import pandas as pd
import pytest

from keras_interp import zoo
from keras_interp.checks import as_array, check_attributes, check_inputs, check_labels, check_values, encode_columns
from keras_interp.data import ArrayDataset, Batches, load_npz
from keras_interp.models import (
    Classifier,
    ExplanationModule,
    FeatureLevelingNetwork,
    NeuronMatching,
    Regressor,
    SelfExplainingNetwork,
    XNet,
)

NAMES = ["age", "income", "height"]
CLASSES = ("no", "yes")


def frame(count=12, seed=0):
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(count, 3)).astype("float32"), columns=NAMES)


def plain(outputs=2):
    inputs = keras.Input((3,), name="rows")
    backbone = keras.Model(inputs, keras.layers.Dense(4, "elu", name="units")(inputs))
    return Classifier(backbone, class_names=CLASSES) if outputs == 2 else Regressor(backbone)


def xnet():
    inputs = keras.Input((3,), name="rows")
    backbone = keras.Model(inputs, keras.layers.Dense(4, "elu", name="units")(inputs))
    return XNet(backbone, ("bald", "bangs"), class_names=CLASSES, activation="elu")


MODELS = {
    "classifier": plain,
    "regressor": lambda: plain(1),
    "feature leveling": lambda: FeatureLevelingNetwork((4,), 2, (3,), column_names=NAMES),
    "senn": lambda: SelfExplainingNetwork((4,), 2, (3,), num_concepts=2),
}


class TestOrderOfRows:
    """A label belongs to the row beside it, not to the one of its index."""

    @pytest.mark.parametrize("kind", ["series", "frame", "gaps in the index", "list", "tensor"])
    def test_batches_take_labels_by_place(self, kind):
        rows, labels = np.arange(20.0).reshape(10, 2), np.arange(10) % 3
        order = np.random.default_rng(0).permutation(10)
        shuffled = pd.Series(labels).iloc[order]
        given = {
            "series": (rows[order], shuffled),
            "frame": (pd.DataFrame(rows, columns=["a", "b"]).iloc[order], shuffled),
            "gaps in the index": (rows[order], shuffled.set_axis(shuffled.index * 7 + 100)),
            "list": (rows[order].tolist(), shuffled.tolist()),
            "tensor": tuple(keras.ops.convert_to_tensor(part) for part in (rows[order], labels[order])),
        }[kind]
        for inputs, targets in (Batches(given, 5, seed=3)[number] for number in range(2)):
            # The row of number i starts with 2 i.
            np.testing.assert_array_equal(targets, labels[(inputs[:, 0] / 2).astype(int)])

    def test_batches_of_several_targets(self):
        order = np.random.default_rng(0).permutation(10)
        labels = pd.Series(np.arange(10)).iloc[order]
        attributes = pd.DataFrame({"a": labels % 2, "b": labels // 5})
        inputs, targets = Batches((order[:, None].astype(float), {"label": labels, "attributes": attributes}), 10)[0]
        np.testing.assert_array_equal(inputs[:, 0], targets["label"])
        np.testing.assert_array_equal(targets["attributes"], np.stack([targets["label"] % 2, targets["label"] // 5], 1))

    def test_a_dataset_of_frames(self):
        order = np.random.default_rng(0).permutation(12)
        table, labels = frame().iloc[order], pd.Series(np.arange(12) % 2).iloc[order]
        dataset = ArrayDataset(table, labels, CLASSES)
        assert dataset.column_names == tuple(NAMES) and dataset.inputs.dtype == np.float32
        np.testing.assert_array_equal(dataset[3:5].inputs, table.to_numpy()[3:5])
        np.testing.assert_array_equal(dataset[3:5].targets, order[3:5] % 2)

    def test_fit_learns_from_shuffled_columns_of_a_frame(self):
        table = frame(200)
        table["label"] = np.where(table.age > table.income, "yes", "no")
        table = table.sample(frac=1, random_state=0)
        model = plain()
        model.compile(
            keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
        )
        history = model.fit(table[NAMES], table["label"], epochs=20, verbose=0, sample_weight=pd.Series(np.ones(200)))
        assert history.history["accuracy"][-1] > 0.95
        assert model.evaluate(table[NAMES[::-1]], table["label"], verbose=0)[1] > 0.95


class TestOrderOfColumns:
    @pytest.mark.parametrize("kind", MODELS)
    def test_every_verb_takes_columns_by_name(self, kind):
        model, table = MODELS[kind]().compile_by_default(), frame()
        targets = np.linspace(0, 1, 12) if model.task == "regression" else np.arange(12) % 2
        model.fit(table, targets, verbose=0, validation_data=(table[NAMES[::-1]], targets))
        assert model.column_names == tuple(NAMES)
        reversed_table, dictionary = table[NAMES[::-1]], {name: table[name].tolist() for name in NAMES[::-1]}
        for other in (reversed_table, dictionary):
            np.testing.assert_array_equal(model.predict(other, verbose=0), model.predict(table.to_numpy(), verbose=0))
            np.testing.assert_array_equal(model.explain(other).contributions, model.explain(table.to_numpy()).contributions)
            np.testing.assert_array_equal(model.explain(other).inputs, table.to_numpy())
            unit = model.unit_names[0]
            np.testing.assert_array_equal(model.intervene(other, {unit: 0.0}), model.intervene(table.to_numpy(), {unit: 0.0}))
            expected = model.evaluate(table.to_numpy(), targets, verbose=0)
            assert model.evaluate(other, targets, verbose=0) == pytest.approx(expected)
            assert model.test_on_batch(other, targets) == pytest.approx(model.test_on_batch(table.to_numpy(), targets))
            np.testing.assert_array_equal(model.predict_on_batch(other), model.predict_on_batch(table.to_numpy()))

    def test_names_travel_with_the_model(self, tmp_path):
        for kind in MODELS:
            model = MODELS[kind]()
            model.column_names = NAMES
            zoo.save(model, tmp_path / kind)
            loaded = zoo.load(tmp_path / kind)
            assert loaded.column_names == tuple(NAMES)
            np.testing.assert_array_equal(loaded.predict(frame()[NAMES[::-1]], verbose=0), model.predict(frame(), verbose=0))

    def test_missing_and_unknown_columns_are_named(self):
        model = plain()
        model.column_names = NAMES
        with pytest.raises(ValueError, match=r"Columns are missing: \['income'\]. Received: unknown columns \['incme'\]"):
            model.predict(frame().rename(columns={"income": "incme"}), verbose=0)
        with pytest.warns(UserWarning, match=r"are ignored: \['id'\]"):
            outputs = model.predict(frame().assign(id=7), verbose=0)
        np.testing.assert_array_equal(outputs, model.predict(frame(), verbose=0))

    def test_nameless_input_stays_positional(self):
        model = plain()
        model.column_names = NAMES
        nameless = pd.DataFrame(frame().to_numpy())
        np.testing.assert_array_equal(model.predict(nameless, verbose=0), model.predict(frame().to_numpy(), verbose=0))
        with pytest.raises(ValueError, match=r"numbered in order. Received: columns \[2, 0, 1\]"):
            model.predict(nameless[[2, 0, 1]], verbose=0)
        # Of three out of many columns.
        np.testing.assert_array_equal(
            model.predict(nameless.set_axis([0, 2, 5], axis=1), verbose=0), model.predict(frame(), verbose=0)
        )
        with pytest.raises(ValueError, match=r"several columns \['age'\]"):
            model.predict(frame().set_axis(["age", "age", "height"], axis=1), verbose=0)

    def test_a_category_becomes_its_columns(self):
        model = FeatureLevelingNetwork((4,), 2, (3,), column_names=["age", "sea=near", "sea=far"])
        table = pd.DataFrame({"sea": ["far", "near", "far"], "age": [1, 2, 3]})
        expected = model.predict(np.array([[1, 0, 1], [2, 1, 0], [3, 0, 1]]), verbose=0)
        np.testing.assert_array_equal(model.predict(table, verbose=0), expected)
        np.testing.assert_array_equal(model.predict(table.astype({"sea": "category"}), verbose=0), expected)
        with pytest.raises(ValueError, match=r"row 1: 'sea' must be one of \['near', 'far'\]. Received: 'middle'"):
            model.predict(table.assign(sea=["far", "middle", "far"]), verbose=0)
        with pytest.raises(ValueError, match="row 2: 'sea' is empty"):
            model.predict(table.assign(sea=["far", "near", None]), verbose=0)

    def test_batches_of_other_columns_are_refused_with_a_way_out(self):
        model, targets = plain().compile_by_default(), np.arange(12) % 2
        model.column_names = NAMES
        dataset = ArrayDataset(frame()[NAMES[::-1]], targets, CLASSES)
        with pytest.raises(ValueError, match=r"dataset.select_columns\(model.column_names\)"):
            model.fit(Batches(dataset, 4), verbose=0)
        np.testing.assert_array_equal(dataset.select_columns(NAMES).inputs, frame().to_numpy())
        model.fit(Batches(dataset.select_columns(NAMES), 4), verbose=0)
        with pytest.raises(ValueError, match=r"others, \['weight'\]"):
            dataset.select_columns(["weight"])

    def test_every_entrance_of_batches_and_datasets(self):
        net, labels = xnet().compile_by_default(), np.arange(12) % 2
        net.column_names = NAMES
        attributes = pd.DataFrame({"bangs": labels, "bald": 1 - labels})
        with pytest.raises(ValueError, match=r"attributes must be \('bald', 'bangs'\), in this order"):
            net.fit(Batches((frame(), {"label": labels, "attributes": attributes}), 12), verbose=0)
        order = ["bald", "bangs"]
        net.fit(Batches((frame(), {"label": labels, "attributes": attributes[order]}), 12), verbose=0)
        reversed_rows = ArrayDataset(frame()[NAMES[::-1]], labels, CLASSES, attributes=attributes[order])
        with pytest.raises(ValueError, match="columns must be those of the model"):
            net.fit(frame(), {"label": labels, "attributes": attributes}, callbacks=[NeuronMatching(reversed_rows)], verbose=0)
        classifier = plain()
        classifier.column_names = NAMES
        module = ExplanationModule(classifier, "units", hidden_units=(4,), num_features=2).compile_by_default()
        with pytest.raises(ValueError, match="columns must be those of the model"):
            module.fit(Batches((frame()[NAMES[::-1]], labels), 12), verbose=0)
        np.testing.assert_allclose(classifier(frame()[NAMES[::-1]]), classifier(frame().to_numpy()), rtol=1e-6)

    def test_a_fit_that_is_refused_takes_over_no_names(self):
        model = plain().compile_by_default()
        with pytest.raises(ValueError, match="Labels must lie"):
            model.fit(frame(), np.full(12, 7), verbose=0)
        model.fit({"rows": frame().to_numpy()}, np.arange(12) % 2, verbose=0)
        assert model.column_names == ()

    def test_names_given_to_a_dataset_bring_a_frame_in_order(self):
        dataset = ArrayDataset(frame()[NAMES[::-1]], np.arange(12) % 2, CLASSES, column_names=NAMES)
        np.testing.assert_array_equal(dataset.inputs, frame().to_numpy())

    def test_attributes_by_name(self):
        net, rows = xnet().compile_by_default(), frame()
        labels = pd.Series(np.arange(12) % 2)
        attributes = pd.DataFrame({"bangs": labels.astype(bool), "bald": np.arange(12) < 3})
        ordered = attributes[["bald", "bangs"]].to_numpy()
        dataset = ArrayDataset(rows, labels, CLASSES, attributes=attributes, attribute_names=("bald", "bangs"))
        np.testing.assert_array_equal(dataset.attributes, ordered)
        assert ArrayDataset(rows, labels, CLASSES, attributes=attributes).attribute_names == ("bangs", "bald")
        np.testing.assert_array_equal(
            net.drop_loss_matrix(rows, labels, attributes), net.drop_loss_matrix(rows.to_numpy(), labels.to_numpy(), ordered)
        )
        weights, trained = net.get_weights(), []
        for given in (attributes, ordered):
            net.set_weights(weights)
            net.compile_by_default()
            net.fit(rows, {"label": labels, "attributes": given}, shuffle=False, verbose=0)
            trained.append(net.get_weights())
        for left, right in zip(*trained):
            np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)
        with pytest.raises(ValueError, match=r"missing: \['bald'\]. Received: unknown columns \['blad'\]"):
            check_attributes(attributes.rename(columns={"bald": "blad"}), ("bald", "bangs"))


class TestKindsOfColumns:
    def test_booleans_and_nullable_columns(self):
        table = pd.DataFrame({"a": [True, False], "b": pd.array([1, 2], "Int64"), "c": pd.array([True, False], "boolean")})
        np.testing.assert_array_equal(check_inputs(table, (None, 3)), [[1, 1, 1], [0, 2, 0]])
        np.testing.assert_array_equal(check_inputs(np.array([[True, False]]), (None, 2)), [[1, 0]])
        np.testing.assert_array_equal(check_inputs([[1, 2.5]], (None, 2)), [[1, 2.5]])

    def test_gaps_are_named_by_row_and_column(self):
        table = pd.DataFrame({"a": [1.0, np.nan], "b": pd.array([1, None], "Int64")})
        with pytest.raises(ValueError, match=r"1 of 2 rows cannot be used. row 1: 'a' is empty"):
            check_inputs(table, (None, 2))
        with pytest.raises(ValueError, match="row 1: 'b' is empty"):
            check_inputs(table.assign(a=1.0), (None, 2))
        with pytest.raises(ValueError, match=r"row 0: 'b' must be a number. Received: 'much'"):
            check_inputs(table.assign(a=1.0, b=["much", "2"]), (None, 2))

    def test_labels(self):
        for given in (pd.Series([1, 0], dtype="Int64"), [1, 0], pd.Series([True, False]), ["yes", "no"], ("yes", "no")):
            assert check_labels(given, 2, CLASSES).tolist() == [1, 0]
        assert check_labels(pd.Series(["yes", "no"], dtype="category"), 2, CLASSES).tolist() == [1, 0]
        with pytest.raises(ValueError, match=r"class names, which are \['no', 'yes'\]. Received: \['maybe'\]"):
            check_labels(["yes", "maybe"], 2, CLASSES)
        with pytest.raises(ValueError, match="Received: none in rows \\[1\\]"):
            check_labels(["yes", None], 2, CLASSES)
        with pytest.raises(TypeError, match=r"missing or NaN labels in rows \[1\]"):
            check_labels(pd.Series([1, None], dtype="Int64"), 2)
        with pytest.raises(TypeError, match="integers"):
            check_labels([True, False, True], 3)

    def test_labels_by_name_in_every_verb(self):
        model = plain().compile_by_default()
        names = pd.Series(np.array(CLASSES)[np.arange(12) % 2])
        one = model.evaluate(frame(), names, verbose=0)
        assert one == pytest.approx(model.evaluate(frame(), np.arange(12) % 2, verbose=0))
        model.fit(frame(), names, verbose=0, validation_data=(frame(), names))
        model.train_on_batch(frame(), names)
        with pytest.raises(TypeError, match=r"names of classes take a `data.ArrayDataset"):
            Batches((frame(), names), 4)
        assert ArrayDataset(frame(), names, CLASSES).targets.tolist() == [0, 1] * 6

    def test_weights_of_classes_by_name(self):
        losses = []
        for weights in ({"yes": 5.0, "no": 1.0}, {1: 5.0, 0: 1.0}, None):
            keras.utils.set_random_seed(0)
            model = plain().compile_by_default()
            losses += model.fit(frame(), np.arange(12) % 2, class_weight=weights, verbose=0).history["loss"]
        assert losses[0] == pytest.approx(losses[1]) and losses[0] != pytest.approx(losses[2])
        with pytest.raises(ValueError, match="maybe"):
            model.fit(frame(), np.arange(12) % 2, class_weight={"maybe": 1.0}, verbose=0)

    def test_a_loss_of_probabilities_is_refused(self):
        model = plain()
        model.compile("sgd", keras.losses.sparse_categorical_crossentropy)
        with pytest.raises(ValueError, match="the loss must take logits"):
            model.fit(frame(), np.arange(12) % 2, verbose=0)

    def test_weights_are_checked(self):
        model = plain().compile_by_default()
        for weights, message in (
            (np.ones(5), "each of 12 examples"),
            (-np.ones(12), "not negative"),
            ([np.nan] * 12, "finite"),
        ):
            with pytest.raises(ValueError, match=message):
                model.fit(frame(), np.arange(12) % 2, sample_weight=weights, verbose=0)

    def test_the_numbers_of_objects_are_numbers(self):
        assert as_array(np.array([1, None, 2.5], object)).tolist()[::2] == [1, 2.5]
        assert as_array(np.array(["a", None], object)).dtype == object
        rows, faults, unused = encode_columns({"a": ["1", " 2.5 ", "TRUE", "-"], "b": range(4)}, ("a",))
        np.testing.assert_array_equal(rows[:3, 0], [1, 2.5, 1])
        assert list(faults) == [3] and unused == ["b"]


class TestFinite:
    """Finite as the model computes, not as the array is stored."""

    def test_doubles_beyond_float32(self):
        with pytest.raises(ValueError, match=r"finite in float32.*rows \[1\], columns \[2\]"):
            check_inputs(np.array([[0.0, 1, 2], [0, 1, 1e39]]), (None, 3))
        check_inputs(np.array([[3e38]]), (None, 1))
        with pytest.raises(ValueError, match=r"finite in float16.*at most 6.55e\+04"):
            check_inputs(np.array([[7e4]]), (None, 1), dtype="float16")
        check_inputs(np.array([[1e39]]), (None, 1), dtype="float64")
        with pytest.raises(ValueError, match=r"finite in float32. Received: 1 NaN or infinite values, in rows \[0\]"):
            check_values([1e39, 0.0])

    def test_a_model_in_half_precision_checks_what_it_computes_in(self):
        model = FeatureLevelingNetwork((4,), 2, (3,), dtype="mixed_float16")
        with pytest.raises(ValueError, match="float16"):
            model.explain(np.full((1, 3), 1e5))

    @pytest.mark.parametrize("kind", ["array", "stream"])
    def test_no_verb_gets_past_it(self, kind):
        model = MODELS["feature leveling"]().compile_by_default()
        rows, labels = np.zeros((8, 3)), np.arange(8) % 2
        rows[4, 1] = 1e39
        before = model.get_weights()
        if kind == "array":
            calls = (lambda: model.fit(rows, labels, verbose=0), lambda: model.explain(rows), lambda: model.predict(rows))
            for call in calls:
                with pytest.raises(ValueError, match=r"finite in float32.*rows \[4\]"):
                    call()
        else:
            with pytest.raises(FloatingPointError, match="weights from before this epoch"):
                model.fit(((rows.astype("float32"), labels) for _ in range(1)), steps_per_epoch=1, verbose=0)
        for old, new in zip(before, model.get_weights()):
            np.testing.assert_array_equal(old, new)


def test_a_run_that_diverges_leaves_the_weights_of_before_its_epoch():
    model = plain(1)
    model.compile(keras.optimizers.SGD(1e30, momentum=0.9), keras.losses.MeanSquaredError())
    rows, values = frame(64).to_numpy(), np.linspace(0, 1, 64)
    model.optimizer.learning_rate = 0.01
    model.fit(rows, values, epochs=2, verbose=0)
    before = [*model.get_weights(), *(np.array(variable) for variable in model.optimizer.variables[2:])]
    model.optimizer.learning_rate = 1e30
    with pytest.raises(FloatingPointError, match=r"of epoch 0.*weights from before this epoch"):
        model.fit(rows, values, batch_size=8, verbose=0)
    after = [*model.get_weights(), *(np.array(variable) for variable in model.optimizer.variables[2:])]
    for old, new in zip(before, after):
        np.testing.assert_array_equal(old, new)
    # And it goes on from there.
    model.optimizer.learning_rate = 0.01
    model.fit(rows, values, verbose=0)
    assert np.isfinite(model.predict(rows, verbose=0)).all()


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_a_stop_in_the_first_epoch_leaves_a_fresh_optimizer(optimizer):
    make = {"adam": lambda: keras.optimizers.Adam(0.01), "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9)}
    model, rows, values = plain(1), frame(16).to_numpy(), np.linspace(0, 1, 16)
    model.compile(make[optimizer](), keras.losses.MeanSquaredError())
    bad = rows.copy()
    bad[3, 1] = np.inf
    with pytest.raises(FloatingPointError):
        model.fit(((bad, values) for _ in range(1)), steps_per_epoch=1, verbose=0)
    model.fit(rows, values, epochs=2, verbose=0)
    assert np.isfinite(model.predict(rows, verbose=0)).all()


@pytest.mark.parametrize("epochs", [1, 5])
def test_the_last_step_of_an_epoch_cannot_break_the_weights_unseen(epochs):
    model, rows, values = plain(1), frame(16).to_numpy(), np.linspace(0, 1, 16)
    model.compile(keras.optimizers.SGD(1e30), keras.losses.MeanSquaredError())
    before = model.get_weights()
    with pytest.raises(FloatingPointError, match="weights from before this epoch"):
        model.fit(rows, values, batch_size=16, epochs=epochs, verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_an_npz_file_says_what_its_targets_are(tmp_path):
    rows, prices = np.zeros((6, 3), "float32"), np.array([0, 7, 100, 499, 500, 3])
    np.savez(tmp_path / "prices.npz", inputs=rows, targets=prices)
    with pytest.raises(ValueError, match="must say what its int64 targets are"):
        load_npz(tmp_path / "prices.npz")
    assert load_npz(tmp_path / "prices.npz", "regression").targets.dtype == np.float32
    assert len(load_npz(tmp_path / "prices.npz", "classification").class_names) == 501
    np.savez(tmp_path / "said.npz", inputs=rows, targets=prices, task="regression")
    assert load_npz(tmp_path / "said.npz").class_names == ()
    with pytest.raises(ValueError, match="is for a regression"):
        load_npz(tmp_path / "said.npz", "classification")
    np.savez(tmp_path / "floats.npz", inputs=rows, targets=prices / 2)
    assert load_npz(tmp_path / "floats.npz").class_names == ()
