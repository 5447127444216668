import csv
import dataclasses

import keras
import numpy as np
import pytest

import reproduction
from keras_interp import data
from keras_interp.data import ArrayDataset
from keras_interp.zoo import artifacts, registry
from keras_interp.zoo.entry import Entry
from reproduction.fl import tables as fl
from tests.harness import FakeZoo

WITH_WEIGHTS = (fl.STD_MNIST, fl.SENN_MNIST, fl.FL_MNIST, fl.CNN_MNIST, fl.FL_HOUSING, fl.STD_IXOR, fl.FL_IXOR)
FIGURES = ["figure_1", "figure_2", "figure_4", "figure_5", "figure_digit", "figure_california_housing", "figure_depth"]
TABLES = ["table_1_mnist", "table_1_california_housing", "table_2", "table_3", "table_4", "table_5", "table_depth"]

METRICS = {
    fl.STD_MNIST: {"accuracy": 0.9, "weights": 358.0, "parameters": 378.0, "hidden_layers": 2.0},
    "l0_mlp_mnist": {"accuracy": 0.91, "open_gates_1": 30.0, "open_gates_2": 5.0, "open_gates_3": 3.0, "weights": 195.0},
    fl.SENN_MNIST: {"accuracy": 0.8, "weights": 700.0, "parameters": 750.0},
    fl.FL_MNIST: {"accuracy": 0.95, "hidden_layers": 1.0, "open_gates_1": 25.0, "open_gates_2": 0.0, "weights": 450.0},
    fl.STD_HOUSING: {"rmse": 0.55, "rmse_standardized": 0.48, "hidden_layers": 2.0, "weights": 102.0},
    fl.FL_HOUSING: {"rmse": 0.5, "rmse_standardized": 0.44, "hidden_layers": 2.0, "open_gates_1": 7.0, "open_gates_2": 3.0},
    fl.STD_IXOR: {"accuracy": 0.99},
    fl.FL_IXOR: {"accuracy": 0.98},
    "fl_mlp_cifar10_cat_deer": {"auc": 0.87, "hidden_layers": 0.0, "weights": 6144.0},
    **{
        f"{network}_mlp_california_housing_depth{depth}": {"rmse_standardized": 0.5, "hidden_layers": depth / size}
        for depth in (2, 4)
        for network, size in (("std", 1), ("fl", 2))
    },
}
SEEDS = {fl.FL_MNIST: {"accuracy": [0.95, 0.97]}, "fl_mlp_california_housing_depth4": {"hidden_layers": [2.0, 3.0]}}


@pytest.fixture(scope="module")
def datasets():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 7, 7, 1), dtype="uint8")
    rows = np.column_stack([rng.normal(size=(150, 8)), rng.integers(0, 2, (150, 5))]).astype("float32")
    columns = tuple(f"column {number}" for number in range(13))
    return {
        "mnist": ArrayDataset(images, np.arange(40, dtype="int32") % 10, tuple("0123456789"), "toy mnist"),
        "california_housing_ocean": ArrayDataset(rows, rows[:, 0] ** 2 + rows[:, 12], (), "toy housing", columns),
        "independent_xor": data.load("independent_xor", "test")[:50],
    }


@pytest.fixture(scope="module")
def entries(datasets):
    """Small ones in place of the zoo's, but of those that are only known by their metrics."""
    small = {
        name: {"hidden_units": (6, 4), "options": {}} for name in METRICS if "depth" not in name and "cifar10" not in name
    }
    small[fl.CNN_MNIST] = {"hidden_units": (2, 3), "options": {"kernel_size": 3}}
    return {
        name: dataclasses.replace(entry, input_shape=datasets[entry.dataset].inputs.shape[1:], **small[name])
        for name, entry in registry.ENTRIES.items()
        if name in small
    }


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, entries, datasets):
    """A zoo of untrained models with every other gate closed, and made-up metrics."""
    keras.utils.set_random_seed(0)
    fake = FakeZoo(tmp_path_factory.mktemp("zoo"))
    for name, values in METRICS.items():
        seeds = {"seeds": {"seeds": [1, 2], "values": SEEDS[name]}} if name in SEEDS else {}
        fake.add(name, metrics={"values": values, **seeds})
    for name in WITH_WEIGHTS:
        model = entries[name].build(dataset=datasets[entries[name].dataset])
        for gate in getattr(model, "gates", ()):
            locations = np.where(np.arange(np.prod(gate.scaled_log_alpha.shape)) % 2, 4.0, -4.0)
            gate.scaled_log_alpha.assign(locations.reshape(gate.scaled_log_alpha.shape) / gate.learning_rate_multiplier)
        fake.add(name, model)
    fake.add(fl.FL_MNIST, log=["epoch,accuracy,gate1_open,gate2_open,loss", "0,0.5,40,6,2", "1,0.9,25.2,0,1"])
    return fake


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch, shipped, entries, datasets):
    shipped.install(monkeypatch, entries)
    monkeypatch.setattr(Entry, "load_data", lambda entry, split, data_dir=None: datasets[entry.dataset])


def read_table(folder, name):
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_tables_and_figures_are_written(tmp_path):
    paths = list(reproduction.reproduce("fl", output=tmp_path))
    files = {f"{name}.png" for name in FIGURES} | {f"{name}.{ending}" for name in TABLES for ending in ("md", "csv")}
    assert {path.name for path in paths} == {*files, "README.md"} == {path.name for path in tmp_path.iterdir()}
    assert len(paths) == len(set(paths)) and all(path.stat().st_size for path in paths)
    readme = (tmp_path / "README.md").read_text()
    assert all(f"]({name}.png)" in readme for name in FIGURES) and "Left out" not in readme

    rows = {row["model"]: row for row in read_table(tmp_path, "table_1_mnist")}
    assert [row["architecture, ours"] for row in rows.values()] == ["49-6-4-10", "30-5-3-10", "2 × 49-6-4-10", "25-6*-10"]
    assert rows["proposed"]["architecture, paper"] == "291-300*-10" and rows["proposed"]["accuracy, paper"] == "0.985"
    assert rows["proposed"]["accuracy, ours"] == "0.95"
    assert rows["proposed"]["accuracy, all seeds"] == "0.9600 ± 0.0141 (2 seeds)" and not rows["FCNN"]["accuracy, all seeds"]

    rows = {row["model"]: row for row in read_table(tmp_path, "table_1_california_housing")}
    assert [row["RMSE in $100,000, paper"] for row in rows.values()] == ["0.529", "0.506", "0.43", "0.477"]
    # The toy price is additive.
    assert float(rows["GAM"]["RMSE in $100,000, ours"]) < 0.1 and not rows["NIT"]["RMSE in $100,000, ours"]
    assert rows["proposed"]["architecture, ours"] == "7-3-4*-1"
    assert [row["AUC, ours"] for row in read_table(tmp_path, "table_2")] == ["", "", "", "", "0.87"]
    assert read_table(tmp_path, "table_2")[-1]["architecture, ours"] == "3072*-2"
    assert [row["paper"] for row in read_table(tmp_path, "table_3")] == ["266200", "240962", "532400", "97098"]
    assert "| FCNN | 266,200 | 358 | – | 378 |" in readme

    rows = {row["initial hidden layers"]: row for row in read_table(tmp_path, "table_depth")}
    assert list(rows) == ["2", "3", "4", "5"] and rows["5"]["plain: MSE, paper"] == "0.4807"
    assert rows["2"]["plain: MSE, ours"] == "0.25" and not rows["3"]["plain: MSE, ours"]
    assert [row["the same, ours"] for row in rows.values()] == ["1", "", "2, 3", ""]
    # Of six columns and more every other one is at level 1.
    assert "column 0, column 2, column 4" in readme and "x1 at level 1, x2 at level 2, x3 at level 1" in readme


def test_tables_need_no_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(artifacts, "shipped_folder", lambda name: None)
    names = {path.name for path in reproduction.reproduce("fl", output=tmp_path)}
    assert {*(f"{name}.md" for name in TABLES), "figure_1.png", "figure_4.png", "figure_depth.png"} <= names
    assert names.isdisjoint({"figure_2.png", "figure_5.png", "figure_digit.png", "figure_california_housing.png"})
    assert f"no weights of {fl.STD_IXOR}, {fl.FL_IXOR} come" in (tmp_path / "README.md").read_text()
    assert fl.CNN_MNIST in capsys.readouterr().out


def test_the_digit_is_compared_with_the_networks_that_ship(tmp_path, monkeypatch, shipped):
    monkeypatch.setattr(artifacts, "shipped_folder", lambda name: shipped.root / name if name == fl.FL_MNIST else None)
    assert "figure_digit.png" in {path.name for path in reproduction.reproduce("fl", output=tmp_path)}


def test_data_that_are_not_prepared_cost_only_what_needs_them(tmp_path, monkeypatch):
    def load_data(entry, split, data_dir=None):
        raise FileNotFoundError("Fetch it with: keras-interp prepare")

    monkeypatch.setattr(Entry, "load_data", load_data)
    names = {path.name for path in reproduction.reproduce("fl", output=tmp_path)}
    assert {path for path in names if path.endswith(".png")} == {"figure_4.png", "figure_depth.png"}
    assert {f"{name}.md" for name in TABLES} <= names
    assert (tmp_path / "README.md").read_text().count("keras-interp prepare") == 6
    assert not read_table(tmp_path, "table_1_california_housing")[1]["RMSE in $100,000, ours"]


def test_without_any_model_an_index_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "shipped_root", lambda: tmp_path / "nothing")
    names = {path.name for path in reproduction.reproduce("fl", output=tmp_path)}
    assert names == {"README.md", "figure_1.png", "table_1_california_housing.md", "table_1_california_housing.csv"}
    assert (tmp_path / "README.md").read_text().count("Left out") == 11


def test_an_altered_log_is_refused(tmp_path, monkeypatch, shipped):
    shipped.alter(monkeypatch, fl.FL_MNIST, "training_log.csv")
    with pytest.raises(artifacts.ArtifactError, match=r"training_log\.csv"):
        fl.FeatureLeveling(None, fl.Report(tmp_path, "", "")).figure_4("")


def test_options_of_another_paper_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not use `full_attacks`"):
        reproduction.reproduce("fl", output=tmp_path, full_attacks=True)


def test_additive_model_finds_what_is_additive(rng):
    rows = np.column_stack([rng.uniform(-2, 2, (400, 2)), rng.integers(0, 2, 400)])
    targets = np.sin(3 * rows[:, 0]) + rows[:, 1] ** 2 + rows[:, 2]
    model = fl.fit_additive_model(rows[:300], targets[:300])
    np.testing.assert_allclose(model.predict(rows[300:]), targets[300:], atol=0.1)


def test_total_gradient_of_a_linear_network_is_its_kernel():
    inputs = keras.Input((2, 3, 2))
    logits = keras.layers.Dense(4)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, logits)
    gradient = fl.total_gradient(model, np.zeros((2, 3, 2), "uint8"), 1)
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel)
    np.testing.assert_allclose(gradient, kernel[:, 1].reshape(2, 3, 2).sum(axis=-1), rtol=1e-5)
