import csv
import dataclasses

import keras
import numpy as np
import pytest

import reproduction
from keras_interp import models
from keras_interp.data import ArrayDataset
from keras_interp.zoo import artifacts, registry
from keras_interp.zoo.papers import xnet as papers
from reproduction.xnet import tables as xnet
from tests.harness import FakeZoo
from tests.tiny import tiny_backbone

FIGURES = [*(f"figure_{number}" for number in range(1, 9)), "figure_trade_off"]
TABLES = ["table_1", "table_costs", "table_trade_off"]
COLUMNS = [
    f"{kind}_{name}" for kind in ("drop_loss", "accuracy_cost", "accuracy_cost_of_others") for name in papers.ATTRIBUTES
]
METRICS = {
    xnet.STD: {"accuracy": 0.88, "active_neurons": 2.0, **dict.fromkeys(COLUMNS, 0.02), "smallest_accuracy_cost": 0.02},
    xnet.XNET: {"accuracy": 0.87, **dict.fromkeys(COLUMNS, 0.05), "accuracy_cost_Bald": 0.3, "smallest_accuracy_cost": 0.05},
}


@pytest.fixture(scope="module")
def test_split():
    rng = np.random.default_rng(0)
    attributes = (rng.random((40, 3)) < 0.3).astype("uint8")
    attributes[:3] = np.eye(3)
    images = rng.integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    options = {"attributes": attributes, "attribute_names": papers.ATTRIBUTES}
    return ArrayDataset(images, np.arange(40, dtype="int32") % 2, papers.LABELS, "toy faces", **options)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A zoo of two untrained models, made-up metrics and logs."""
    keras.utils.set_random_seed(0)
    fake = FakeZoo(tmp_path_factory.mktemp("zoo"))
    for name in xnet.TITLES:
        columns = ",".join(f"drop_loss_{attribute}" for attribute in papers.ATTRIBUTES)
        fake.add(name, log=[f"epoch,{columns}", "0,0.5,0.6,0.7", "1,0.6,0.9,0.6"])
    for name, values in METRICS.items():
        model = models.XNet(tiny_backbone(), papers.ATTRIBUTES, class_names=papers.LABELS)
        model.get_layer("explained").bias.assign([0.5, 0.4, 0.3])
        model.match([1, 0, 2])
        fake.add(name, model, {"examples": 3500, "values": values})
    return fake


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch, shipped, test_split):
    monkeypatch.setattr(papers.AttributeEntry, "load_data", lambda entry, split, data_dir=None: test_split)
    tiny = {"backbone": tiny_backbone, "input_shape": (32, 32, 3)}
    shipped.install(monkeypatch, {name: dataclasses.replace(registry.ENTRIES[name], **tiny) for name in METRICS})


def test_all_tables_and_figures_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(xnet, "ALPHAS", (0.0, 0.2))
    monkeypatch.setattr(xnet, "HEAD_EPOCHS", 1)
    paths = list(reproduction.reproduce("xnet", output=tmp_path))
    files = {f"{name}.png" for name in FIGURES} | {f"{name}.{ending}" for name in TABLES for ending in ("md", "csv")}
    assert {path.name for path in paths} == {*files, "README.md"} == {path.name for path in tmp_path.iterdir()}
    readme = (tmp_path / "README.md").read_text()
    assert "Left out" not in readme and "nan" not in readme.split()
    with (tmp_path / "table_1.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["baseline", "0.8817", "0.88"], ["XNet", "0.8558", "0.87"]]
    assert "2.59 points below its baseline. Ours: 1.00 points" in readme
    assert "XNet, beside baseline: -1.00 points of accuracy; 3 of 3 drop losses are higher" in readme
    assert "and 1 accuracy costs at least three times as high." in readme
    assert "On 1 of 3 categories its own neuron costs at least three times what the others do." in readme
    assert "2 of 3 neurons of baseline are active after the training" in readme
    assert "the accuracy at α = 0.2: as in the paper" in readme
    assert "XNet, 2 of 3 end higher than they began" in readme and "mean over the neurons, 1 of 1" in readme


def test_without_weights_the_curves_remain(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "shipped_folder", lambda name: None)
    names = {path.name for path in reproduction.reproduce("xnet", output=tmp_path)}
    assert {name for name in names if name.endswith("png")} == {"figure_1.png", "figure_7.png", "figure_8.png"}
    assert f"no weights of {xnet.STD}, {xnet.XNET} come" in (tmp_path / "README.md").read_text()


def test_without_any_model_nothing_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "shipped_root", lambda: tmp_path / "nothing")
    assert {path.name for path in reproduction.reproduce("xnet", output=tmp_path)} == {"README.md"}


def test_published_accuracies_are_those_of_the_paper():
    published = [registry.ENTRIES[name].paper_metrics for name in xnet.FULL.values()]
    assert published == [{"accuracy": 0.8817}, {"accuracy": 0.8558}]
