"""Tables with names, categories and gaps, from the file to the explanation."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from keras_interp import backbones, data, models, zoo
from keras_interp.data import Table, TableSchema


@pytest.fixture
def frame(rng):
    count = 300
    table = pd.DataFrame(
        {
            "age": rng.normal(40, 10, count).round(1),
            "sea": pd.Categorical(rng.choice(["near", "far", "inland"], count)),
            "rich": rng.random(count) < 0.5,
            "debt": np.where(rng.random(count) < 0.2, np.nan, rng.normal(size=count)),
            "town": np.where(rng.random(count) < 0.1, None, rng.choice(["A", "B"], count)),
        }
    )
    table["buys"] = np.where((table["age"] > 40) ^ (table["sea"] == "near"), "yes", "no")
    return table


def test_rows_stand_for_what_the_table_says(frame):
    table = Table.from_frame(frame, "buys")
    kinds = {column.name: column.kind for column in table.schema.columns}
    assert kinds == {"age": "numeric", "sea": "categorical", "rich": "boolean", "debt": "numeric", "town": "categorical"}
    assert table.class_names == ("no", "yes") and table.schema.task == "classification"
    rows = dict(zip(table.column_names, table.inputs.T))
    np.testing.assert_allclose(rows["age"], frame["age"], rtol=1e-6)
    for level in ("near", "far", "inland"):
        np.testing.assert_array_equal(rows[f"sea={level}"], frame["sea"] == level)
    np.testing.assert_array_equal(rows["rich"], frame["rich"])
    np.testing.assert_array_equal(rows["debt (missing)"], frame["debt"].isna())
    np.testing.assert_allclose(rows["debt"], frame["debt"].fillna(frame["debt"].median()), rtol=1e-6)
    np.testing.assert_array_equal(rows["town=(missing)"], frame["town"].isna())
    np.testing.assert_array_equal(table.targets, frame["buys"] == "yes")


def test_decode_gives_the_table_back(frame):
    table = Table.from_frame(frame, "buys")
    decoded = pd.DataFrame(table.decode())
    np.testing.assert_allclose(decoded["age"].astype(float), frame["age"], rtol=1e-6)
    assert (decoded["sea"] == frame["sea"]).all() and (decoded["rich"] == frame["rich"]).all()
    assert (decoded["debt"].isna() == frame["debt"].isna()).all() and (decoded["town"].isna() == frame["town"].isna()).all()


def test_the_schema_survives_json(frame):
    schema = Table.from_frame(frame, "buys").schema
    assert TableSchema.from_config(json.loads(json.dumps(schema.to_config()))) == schema
    for broken in ({}, {"columns": []}, {**schema.to_config(), "columns": [{"name": "a", "kind": "code"}]}):
        with pytest.raises(ValueError, match="no schema"):
            TableSchema.from_config(broken)


def test_the_order_and_the_index_of_a_frame_play_no_role(frame):
    schema = Table.from_frame(frame, "buys").schema
    shuffled = frame.set_index(np.arange(len(frame))[::-1])[frame.columns[::-1]]
    np.testing.assert_array_equal(schema.encode(shuffled), schema.encode(frame))


def test_unknown_categories_are_counted(frame):
    schema = Table.from_frame(frame, "buys").schema
    new = frame.head(4).assign(sea=["lake", "near", "lake", "far"])
    with pytest.warns(UserWarning, match="'sea': {'lake': 2}"):
        rows = schema.encode(new)
    start = schema.column_names.index(f"sea={schema.columns[1].categories[0]}")
    # No level of training stands for others: each has its share.
    np.testing.assert_allclose(rows[0, start : start + 3], schema.columns[1].shares, rtol=1e-6)


def test_rare_categories_share_a_level(rng):
    frame = {"job": ["baker"] * 20 + ["smith"] * 20 + ["diver", "pilot"], "pay": rng.normal(size=42)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = Table.from_frame(frame, "pay")
    assert table.column_names == ("job=baker", "job=smith", "job=(other)") and table.inputs[-1].tolist() == [0, 0, 1]
    with pytest.warns(UserWarning, match="astronaut"):
        assert table.schema.encode({"job": ["astronaut"]}).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"age": ["old", *[1.0] * 299]}, "row 0: 'age' must be a number. Received: 'old'"),
        ({"age": [np.nan, *[1.0] * 299]}, "row 0: 'age' is empty, and had no gaps in training"),
        ({"age": [1e39, *[1.0] * 299]}, "row 0: 'age' is infinite"),
        ({"sea": [None, *["near"] * 299]}, "row 0: 'sea' is empty"),
    ],
)
def test_rows_that_cannot_be_used_are_named(frame, change, message):
    schema = Table.from_frame(frame, "buys").schema
    with pytest.raises(ValueError, match=f"1 of 300 rows cannot be used. {message}"):
        schema.encode(frame.assign(**{name: np.array(values, object) for name, values in change.items()}))
    with pytest.raises(ValueError, match=r"Columns are missing: \['age'\]"):
        schema.encode(frame.drop(columns="age"))


@pytest.mark.parametrize(
    "columns, target, options, message",
    [
        ({"a": [1.0, 2.0]}, "b", {}, "`target` must be one of"),
        ({"a": [1.0, 2.0]}, "a", {}, "beside its target"),
        ({"a": [f"name {i}" for i in range(50)], "b": [0.5] * 50}, "b", {}, "different texts"),
        ({"a": [1.0, None, 3.0], "b": [0.5, 1, 2]}, "b", {"missing": "refuse"}, r"has gaps. Received: in rows \[1\]"),
        ({"a": [1.0, 2.0, 3.0], "b": [0.5, None, 2]}, "b", {}, "must have a value in each row"),
        ({"a": [1.0, 2.0], "b": ["x", "x"]}, "b", {}, "at least two classes"),
        ({"a": [1.0, np.inf], "b": [0.5, 1.5]}, "b", {}, "must be finite"),
        ({"a": pd.to_datetime(["2020-01-01", "2021-01-01"]), "b": [0.5, 1.5]}, "b", {}, "dates"),
        ({"a": [1.0, 2.0], "b": ["x", "y"]}, "b", {"task": "regression"}, "must be numbers"),
    ],
)
def test_tables_that_make_no_sense(columns, target, options, message):
    with pytest.raises(ValueError, match=message):
        Table.from_frame(pd.DataFrame(columns), target, **options)


def test_constant_columns_are_left_out():
    with pytest.warns(UserWarning, match=r"one value only are left out: \['a'\]"):
        table = Table.from_frame({"a": [1.0] * 4, "b": [1.0, 2, 3, 4], "c": [0.1, 0.2, 0.3, 0.4]}, "c")
    assert table.column_names == ("b",) and table.schema.task == "regression"


@pytest.mark.parametrize(
    "values, task", [([0, 1, 2, 1], "classification"), (list(range(40)), "regression"), ([0.5, 1.5], "regression")]
)
def test_the_task_follows_the_target(values, task):
    table = Table.from_frame({"a": np.arange(len(values), dtype=float), "b": values}, "b")
    assert table.schema.task == task and bool(table.class_names) == (task == "classification")


def test_csv_and_parquet_are_the_frame(frame, tmp_path):
    expected = Table.from_frame(frame, "buys")
    frame.to_csv(tmp_path / "people.csv", index=False)
    table = Table.from_csv(tmp_path / "people.csv", "buys")
    assert table.schema == expected.schema
    np.testing.assert_allclose(table.inputs, expected.inputs, rtol=1e-6)
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "people.parquet")
    assert Table.from_parquet(tmp_path / "people.parquet", "buys").schema == expected.schema


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"age": rng.normal(40, 10, 200), "sea": rng.choice(["near", "far"], 200), "buys": rng.choice(["no", "yes"], 200)}
    )
    table = Table.from_frame(frame, "buys")
    options = {"gate_options": {"initial_drop_rate": 0.3}, "seed": 1}
    model = models.FeatureLevelingNetwork((6, 4), class_names=table.class_names, input_shape=table.input_shape, **options)
    model.compile_by_default().fit(data.Batches(table, 50), epochs=1, verbose=0)
    return model, table, frame


def test_a_model_that_was_fitted_to_a_table_takes_frames(trained, tmp_path):
    model, table, frame = trained
    assert model.schema == table.schema
    expected = model.predict(table.inputs, verbose=0)
    np.testing.assert_allclose(model.predict(frame[["sea", "age"]], verbose=0), expected, atol=1e-5)
    zoo.save(model, tmp_path / "model", golden_inputs=table.inputs[:4])
    loaded = zoo.load(tmp_path / "model")
    assert loaded.schema == table.schema
    np.testing.assert_allclose(loaded.predict(frame, verbose=0), expected, atol=1e-5)
    dropped = model.intervene(frame, {model.unit_names[0]: 0})
    assert dropped.shape == expected.shape


def test_contributions_are_those_of_the_columns_that_a_person_knows(trained):
    model, table, frame = trained
    explanation = model.explain(frame.head(5))
    explanation.check_completeness()
    columns = explanation.by_column()
    columns.check_completeness()
    assert columns.unit_names == ("age", "sea") and columns.names_of(0)[1] == f"sea = {frame['sea'][0]}"
    # Each category's contribution by itself, from the gradient of the logit as finite differences find it.
    rows = table.inputs[:5].astype("float64")
    target = explanation.target
    sources = table.schema.sources
    scale = 1e-3
    for row in range(5):
        added = np.zeros(2)
        for column, source in enumerate(sources):
            moved = np.stack([rows[row], rows[row]])
            moved[:, column] += [-scale, scale]
            low, high = model.predict(moved.astype("float32"), verbose=0)[:, target[row]]
            layer = model._preprocessing
            value = rows[row, column]
            if layer is not None:
                value = (value - np.ravel(layer.mean)[column]) / np.sqrt(np.ravel(layer.variance)[column])
                scaled_step = scale / np.sqrt(np.ravel(layer.variance)[column])
            else:
                scaled_step = scale
            added[source] += value * (high - low) / (2 * scaled_step)
        np.testing.assert_allclose(columns.contributions[row], added, atol=2e-2)


def test_categories_can_only_be_dropped(trained):
    model, _, frame = trained
    groups = [name for name, group in zip(model.unit_names, model._unit_groups()) if len(group) > 1]
    for name in groups:
        with pytest.raises(ValueError, match="can only be dropped"):
            model.intervene(frame, {name: 2.0})
    with pytest.raises(ValueError, match="by feature leveling"):
        models.Classifier(backbones.mlp((4,), (2,)), num_classes=2).explain(np.zeros((1, 2))).by_column()
