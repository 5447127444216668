import csv
import dataclasses

import keras
import numpy as np
import pytest

import reproduction
from keras_interp import models
from keras_interp.data import ArrayDataset
from keras_interp.data.segmentation import SegmentationDataset
from keras_interp.zoo import artifacts, registry
from keras_interp.zoo.entry import Entry
from keras_interp.zoo.papers import dynk as papers
from reproduction.dynk import tables as dynk
from tests.harness import FakeZoo
from tests.tiny import register, tiny_backbone

WITH_WEIGHTS = (dynk.STD_PLACES, dynk.DYNK_PLACES, "std_resnet18w32_cifar10", "l1_resnet18w32_cifar10")
FIGURES = [f"figure_{number}" for number in ("2", "4a", "4b", "5a", "5b", "5c", "5d", "6", "7")]
TABLES = ["table_1", "table_connections", "table_converted"]

PLACES = {"accuracy_top5": 0.9, "concepts_95": 4.0}
METRICS = {
    "std_resnet18_cifar10": {"accuracy": 0.95, "connection_sparsity": 0.1},
    "std_resnet18w32_cifar10": {"accuracy": 0.93, "connection_sparsity": 0.1},
    "l1_resnet18w32_cifar10": {"accuracy": 0.92, "connection_sparsity": 0.2},
    "dynk1_resnet18w32_cifar10": {"accuracy": 0.9, "connection_sparsity": 0.99},
    "dynk5_resnet18w32_cifar10": {"accuracy": 0.925, "connection_sparsity": 0.987, "units_98": 4.5},
    "dynk10_resnet18w32_cifar10": {"accuracy": 0.91, "connection_sparsity": 0.5},
    dynk.STD_PLACES: {**PLACES, "accuracy": 0.8, "dissection_mean": 0.05},
    dynk.DYNK_PLACES: {**PLACES, "accuracy": 0.7, "dissection_mean": 0.04, "classes_of_five_concepts": 0.97},
}
LOGS = {
    "std_resnet18w32_cifar10": [(0.5, 0.01), (0.96, 0.02)],
    "l1_resnet18w32_cifar10": [(0.4, 0.1), (0.5, 0.2)],
    "dynk5_resnet18w32_cifar10": [(0.4, 0.5), (0.94, 0.987)],
    "dynk10_resnet18w32_cifar10": [(0.4, 0.5), (0.94, 0.99)],
    dynk.STD_PLACES: [(0.5, 0.01)] * 20,
    dynk.DYNK_PLACES: [(0.5, 0.5)] * 20,
}


@pytest.fixture(scope="module")
def small():
    """Small entries in place of those whose weights ship."""
    register()
    tiny = registry.ENTRIES["tiny_dynk"]
    entries = {}
    for name in WITH_WEIGHTS:
        entry = registry.ENTRIES[name]
        options = tiny.options if "k" in entry.options else entry.options
        # Two convolutions are built sooner than a ResNet-18, however narrow.
        entries[name] = dataclasses.replace(entry, backbone=tiny_backbone, options=options, input_shape=tiny.input_shape)
    return entries


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype="uint8")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, small, images):
    """A zoo of untrained models, made-up metrics and logs."""
    keras.utils.set_random_seed(0)
    fake = FakeZoo(tmp_path_factory.mktemp("zoo"))
    for name, values in METRICS.items():
        seeds = {"seeds": {"seeds": [1, 2], "values": {"accuracy": [0.93, 0.95]}}} if name == "std_resnet18w32_cifar10" else {}
        fake.add(name, metrics={"examples": 10000, "values": values, **seeds})
    for name, rows in LOGS.items():
        columns = "epoch,accuracy,connection_sparsity" + (",dissection_mean" if "places" in name else "")
        lines = [f"{epoch},{accuracy},{sparsity}" for epoch, (accuracy, sparsity) in enumerate(rows)]
        if "places" in name:
            lines = [line + (f",{0.001 * epoch}" if epoch % 10 == 9 else ",") for epoch, line in enumerate(lines)]
        fake.add(name, log=[columns, *lines])
    kernel = np.random.default_rng(1).normal(size=(16, 20))
    for name in WITH_WEIGHTS:
        model = small[name].build()
        if "places" in name:
            # Predictions that spread over the classes; the same of both networks.
            if name == dynk.STD_PLACES:
                weights = [layer.get_weights() for layer in model.layers[:-1]]
            for layer, values in zip(model.layers, weights):
                layer.set_weights(values)
            pooled = model.features(images)[1]
            model.get_layer("logits").set_weights([kernel / (pooled.std(axis=0)[:, None] + 1e-6), np.zeros(20)])
            model.concepts = ["sky", ""] * 8
        fake.add(name, model)
    return fake


@pytest.fixture(scope="module")
def test_split(shipped, images):
    labels = artifacts.load(shipped.root / dynk.STD_PLACES).predict(images, verbose=0).argmax(axis=1).astype("int32")
    return ArrayDataset(images, labels, papers.PLACES_LABELS, "toy places")


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch, shipped, small, images, test_split):
    shipped.install(monkeypatch, small)
    folded = lambda entry: dataclasses.replace(test_split, targets=test_split.targets % len(entry.class_names))  # noqa: E731
    monkeypatch.setattr(Entry, "load_data", lambda entry, split, data_dir=None: folded(entry))
    concepts = np.where(images[..., 0] > 128, 1, 2)
    segmented = SegmentationDataset.from_arrays(images, concepts, ("unlabelled", "red", "other"))
    monkeypatch.setattr(papers, "load_segmentation", lambda *arguments, **options: segmented)


@pytest.fixture
def drawn_toy(monkeypatch):
    """The toy takes longer to train than all else to test, as do the heads of converted networks."""
    monkeypatch.setattr(dynk, "train_head", lambda head, features, classes: None)
    monkeypatch.setattr(dynk, "KS", {kind: min(k, 16) for kind, k in dynk.KS.items()})
    kernels = {3: [[3.0, -2.0], [-0.5, 1.0], [-2.0, 3.0]], 2: [[4.0, 0.0], [0.2, 1.0], [0.0, 4.0]]}
    monkeypatch.setattr(dynk, "train_toy", lambda k: np.array(kernels[k]))


def read_table(folder, name):
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_tables_and_figures_are_written(tmp_path, drawn_toy):
    paths = list(reproduction.reproduce("dynk", output=tmp_path))
    files = {f"{name}.png" for name in FIGURES} | {f"{name}.{ending}" for name in TABLES for ending in ("md", "csv")}
    assert {path.name for path in paths} == {*files, "README.md"} == {path.name for path in tmp_path.iterdir()}
    assert len(paths) == len(set(paths)) and all(path.stat().st_size for path in paths)
    readme = (tmp_path / "README.md").read_text()
    assert all(f"]({name}.png)" in readme for name in FIGURES) and "Left out" not in readme and "nan" not in readme.split()

    rows = {row["model"]: row for row in read_table(tmp_path, "table_1")}
    assert len(rows) == 10 and rows["Res18-d1a"]["Places365 top 1, paper"] == "0.2783"
    assert [row["CIFAR-10, half width, ours, top 1"] for row in rows.values()][:6] == "0.93 0.92 0.9 0.925 0.91 ".split(" ")
    assert rows["Res18 (baseline)"]["CIFAR-10, half width, top 1, all seeds"] == "0.9400 ± 0.0141 (2 seeds)"
    assert rows["Res18-d5a"]["places_mini, ours, top 5"] == "0.9" and not rows["Res50-d25a"]["places_mini, ours, top 1"]
    # Within two standard errors, .72 points, on CIFAR-10; not for K = 1 and not on scenes.
    assert "half width: Dynamic-5 differs from standard by −0.50 points, that is no loss" in readme
    assert "half width: Dynamic-1 differs from standard by −3.00 points, that is a loss" in readme
    assert "1.22 points; other than in the paper, where it is −0.09 points on Places365" in readme
    assert "the least accurate of these K, Dynamic-10, differs from standard by −2.00 points" in readme

    rows = {row["network"]: row for row in read_table(tmp_path, "table_converted")}
    assert tuple(rows) == ("standard", "L1", *dynk.DYNAMIC)
    for setting in ("CIFAR-10, half width", "places_mini"):
        # With as many units as there are, nothing changes by swapping.
        for kind in ("Dynamic-100", "L1"):
            assert rows[kind][f"{setting}, swapped"] == rows["standard"][f"{setting}, swapped"]
        assert not rows["standard"][f"{setting}, trained"] and 0 <= float(rows["Dynamic-1"][f"{setting}, trained"]) <= 1
        assert float(rows["standard"][f"{setting}, weights below 0.001"]) < 0.1

    rows = {row["network"]: row for row in read_table(tmp_path, "table_connections")}
    assert len(rows) == 1 + len(METRICS) and rows["Dynamic-5, Places365, paper"]["units for 98%"] == "fewer than 5"
    assert rows["Dynamic-5, CIFAR-10, half width"]["units for 98%"] == "4.5"
    assert "98.7% of the weights of Dynamic-5 are below 0.001, as in the paper" in readme
    assert "Dynamic-5 are not easier to interpret than those of the standard network, other than" in readme
    assert "standard 2, L1 never, Dynamic-5 2. More than a tenth slower than standard: no Dynamic-K, as in" in readme
    assert "Dynamic-1 0.990, Dynamic-5 0.987, L1 0.200, standard 0.100, in an order as in the paper" in readme
    assert "every Dynamic-K is sparser than standard, as in the paper; sparsity does not always grow" in readme
    assert "standard 0.0190, Dynamic-5 0.0190, other than in the paper" in readme
    assert "3 in standard and 0 in Dynamic-2, as in the paper. The screen" in readme
    assert "layer against laptop, as in the paper, and is connected by Dynamic-2 with laptop and TV, as in" in readme


def test_tables_and_curves_need_no_weights(tmp_path, monkeypatch, capsys, drawn_toy):
    monkeypatch.setattr(artifacts, "shipped_folder", lambda name: None)
    names = {path.name for path in reproduction.reproduce("dynk", output=tmp_path)}
    curves = {f"figure_{number}.png" for number in ("2", "4a", "5a", "5b", "5c")}
    assert names == {*curves, *(f"{name}.{ending}" for name in TABLES[:2] for ending in ("md", "csv")), "README.md"}
    assert f"no weights of {dynk.STD_PLACES}, {dynk.DYNK_PLACES} come" in (tmp_path / "README.md").read_text()
    assert dynk.DYNK_PLACES in capsys.readouterr().out


def test_without_any_model_the_toy_remains(tmp_path, monkeypatch, drawn_toy):
    monkeypatch.setattr(artifacts, "shipped_root", lambda: tmp_path / "nothing")
    assert {path.name for path in reproduction.reproduce("dynk", output=tmp_path)} == {"README.md", "figure_2.png"}
    assert (tmp_path / "README.md").read_text().count("Left out") == 11


def test_data_that_are_not_prepared_cost_only_what_needs_them(tmp_path, monkeypatch, drawn_toy):
    def load_segmentation(*arguments, **options):
        raise FileNotFoundError("Fetch it with: keras-interp prepare")

    monkeypatch.setattr(papers, "load_segmentation", load_segmentation)
    # Without the curves and the converted networks, for the sake of time.
    monkeypatch.setattr(dynk.shipped, "read_log", lambda name: None)
    monkeypatch.setattr(dynk.DynamicK, "converted", lambda report, name: dict.fromkeys(dynk.KINDS, (0.5, 0.5, 0.5)))
    names = {path.name for path in reproduction.reproduce("dynk", output=tmp_path)}
    assert {"figure_4b.png", "figure_7.png"} <= names
    assert names.isdisjoint({"figure_4a.png", "figure_5c.png", "figure_5d.png", "figure_6.png"})
    assert (tmp_path / "README.md").read_text().count("keras-interp prepare") == 2


def test_images_that_no_network_gets_right_are_not_explained(tmp_path, test_split, monkeypatch):
    wrong = dataclasses.replace(test_split, targets=(test_split.targets + 1) % 20)
    monkeypatch.setattr(Entry, "load_data", lambda entry, split, data_dir=None: wrong)
    report = dynk.Report(tmp_path, "", "")
    assert dynk.DynamicK(None, report).figure_7("Figure 7") == []
    assert "no test image that both" in (tmp_path / "README.md").read_text()


def test_an_altered_log_is_refused(tmp_path, monkeypatch, shipped):
    shipped.alter(monkeypatch, "dynk5_resnet18w32_cifar10", "training_log.csv")
    with pytest.raises(artifacts.ArtifactError, match=r"training_log\.csv"):
        dynk.DynamicK(None, dynk.Report(tmp_path, "", "")).figure_5b("")


def test_published_accuracies_are_those_of_the_registry():
    published = {kind: cifar for _, kind, _, _, cifar in dynk.TABLE_1 if kind and cifar}
    for kind, accuracy in published.items():
        entry = registry.get_entry(f"{dynk.KINDS[kind]}_resnet18_cifar10")
        assert entry.paper_metrics == {"accuracy": accuracy}


def test_toy_layers_tell_the_classes_apart():
    features, classes = dynk.toy_data()
    # Where neither keyboard nor telecontrol is seen, nobody can tell.
    seen = features[:, 0] + features[:, 2] > 0
    plain, dynamic = dynk.train_toy(3), dynk.train_toy(2)
    np.testing.assert_array_equal(dynamic, dynk.train_toy(2))
    for kernel in (plain, dynamic):
        assert ((features @ kernel).argmax(axis=1) == classes)[seen].all()
    assert plain.min() < -0.5 and dynamic.min() > -0.1


def test_residual_share_counts_all_units():
    class Model:
        def features(self, inputs):
            return None, inputs, np.array([[1.0, 2.0], [3.0, 0.0]])

        def readout_weights(self):
            return np.array([[1.0, 2.0], [0.0, -1.0], [1.0, 1.0]]), None

    # Contributions (2, -1, 1) to class 1, and (4, 0, 0) to class 0.
    inputs = np.array([[1.0, 1.0, 1.0], [4.0, 9.0, 0.0]])
    assert dynk.residual_share(Model(), inputs, 1) == pytest.approx(0.25)
    assert dynk.residual_share(Model(), inputs, 3) == 0


def test_most_alike_classes():
    shares = np.array([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    assert set(dynk.most_alike(shares)) in ({1, 2}, {2, 3})
    shares[0] = [0.5, 0.5, 0.0]
    assert set(dynk.most_alike(shares)) == {0, 1}


def test_the_last_layer_learns_on_features_alone(rng, monkeypatch):
    """Two classes that one unit each tells apart."""
    monkeypatch.setattr(dynk, "HEAD_STEPS", 100)
    classes = np.arange(5000) % 2
    features = rng.random((5000, 8)).astype("float32") * 0.1
    features[np.arange(5000), classes] += 1.0
    network = models.DynamicKClassifier(keras.Sequential([keras.Input((8,)), keras.layers.Identity()]), 2, k=1)
    dynk.train_head(network.head, features, classes)
    assert (network.logits_of(features).argmax(axis=1) == classes).all()
