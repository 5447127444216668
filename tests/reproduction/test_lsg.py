import csv
import dataclasses
import json

import keras
import numpy as np
import pytest

import reproduction
from keras_interp.data import ArrayDataset
from keras_interp.metrics.attacks import AttackResult
from keras_interp.models import Classifier, LabelSensitiveClassifier
from keras_interp.zoo import artifacts, registry
from keras_interp.zoo.papers.lsg import CIFAR10_LABELS as LABELS
from reproduction.lsg import tables as lsg
from tests.harness import FakeZoo
from tests.tiny import tiny_backbone

NAMES = (
    lsg.STD_RESNET,
    lsg.LSG_RESNET,
    lsg.FIXED_RESNET,
    lsg.STD_ALEXNET,
    lsg.FIXED_ALEXNET,
)
FIGURES = [f"figure_{number}" for number in range(3, 10)]
TABLES = ["table_1", "table_2", "table_3", "table_masking", "table_ownership"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype="uint8")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, images):
    """A zoo of tiny models that share their weights, whose predictions spread over the classes; and these predictions."""
    keras.utils.set_random_seed(0)
    fake = FakeZoo(tmp_path_factory.mktemp("zoo"))
    weights = None
    for name in NAMES:
        if name.startswith("std"):
            model = Classifier(tiny_backbone(), class_names=LABELS, name=name)
        else:
            gate = {"fixed_gate": 1} if "fixed" in name else {}
            model = LabelSensitiveClassifier(tiny_backbone(), class_names=LABELS, name=name, **gate)
        if weights is None:
            pooled = model.features(images)[1]
            standardise = 1.0 / (pooled.std(axis=0, keepdims=True) + 1e-6)
            kernel = np.random.default_rng(1).normal(size=(16, 10)) * standardise.T
            model.get_layer("logits").set_weights([kernel, -pooled.mean(axis=0) @ kernel])
            weights = model.layers[1:]
        else:
            for layer, source in zip(model.layers[1:], weights):
                layer.set_weights(source.get_weights())
        if name == lsg.LSG_RESNET:
            model.gate_layer.gate.assign(np.random.default_rng(2).uniform(size=(10, 16)))
            model.gate_layer.project()
        folder = fake.add(name, model)
    columns = "epoch,accuracy,gate_density,gated_accuracy,gated_loss,loss"
    fake.add(lsg.LSG_RESNET, log=[columns, "0,0.1,0.5,0.2,2,2", "1,0.3,0.4,0.5,1,1"])
    np.save(fake.add(lsg.DENSE_RESNET) / "gate.npy", np.random.default_rng(3).uniform(size=(10, 16)))
    return fake, artifacts.load(folder).predict(images, verbose=0).argmax(axis=1)


@pytest.fixture
def dataset(shipped, images):
    labels = shipped[1].astype("int32")
    assert len(np.unique(labels)) >= 5
    labels[:10] = np.arange(10)
    return ArrayDataset(images, labels, LABELS, "toy test")


@pytest.fixture
def missing():
    """Names of models to hide; a test may add some."""
    return set()


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch, shipped, missing):
    def shipped_folder(name):
        folder = shipped[0].root / name
        return folder if name not in missing and (folder / "config.json").is_file() else None

    monkeypatch.setattr(artifacts, "shipped_folder", shipped_folder)
    monkeypatch.setattr(artifacts, "pins_of", lambda *_: {})
    tiny = {"last_convolution": "last_convolution", "filters_per_class": 1}
    shipped[0].install(monkeypatch, {name: dataclasses.replace(registry.ENTRIES[name], **tiny) for name in NAMES})
    budget = {"one_pixel": {"population": 5, "generations": 1}, "local_search": {"rounds": 1, "max_candidates": 3}}
    monkeypatch.setattr(lsg, "BUDGET", budget)
    monkeypatch.setattr(lsg, "ATTACKED_IMAGES", 4)
    monkeypatch.setattr(lsg, "ATTACK_BATCH", 8)


def read_table(folder, name):
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_tables_and_figures_are_written(dataset, tmp_path, shipped):
    paths = list(reproduction.reproduce("lsg", output=tmp_path, dataset=dataset))
    files = {f"{name}.png" for name in [*FIGURES, "training_curves"]}
    files |= {f"{name}.{ending}" for name in TABLES for ending in ("md", "csv")}
    assert {path.name for path in paths} == {*files, "README.md", "attacks.json"} == {path.name for path in tmp_path.iterdir()}
    assert len(paths) == len(set(paths)) and all(path.stat().st_size for path in paths)
    readme = (tmp_path / "README.md").read_text()
    assert all(f"]({name}.png)" in readme for name in FIGURES)
    assert "toy test" in readme and "Left out" not in readme

    rows = {row["metric"]: row for row in read_table(tmp_path, "table_1")}
    assert rows["accuracy"]["STD, paper"] == "0.9046" and rows["cross-entropy"]["LSG, paper"] == "6.9762"
    accuracy = (dataset.targets == shipped[1]).mean()
    assert [float(rows["accuracy"][f"{kind}, ours"]) for kind in ("STD", "LSG")] == pytest.approx([accuracy] * 2)
    assert f"| accuracy | 0.9046 | {accuracy:.4f} | 0.9062 | {accuracy:.4f} |" in readme
    assert all(float(row["STD, ours"]) >= 0 and float(row["LSG, ours"]) >= 0 for row in rows.values())
    table = read_table(tmp_path, "table_2")
    assert [row["paper"] for row in table] == ["0.1224", "0.0684", "0.1648", "0.1022"]
    # All four share their weights.
    assert len({row["magnitude"] for row in table}) == 1
    assert [row["LSG, paper"] for row in read_table(tmp_path, "table_3")] == ["0.8885", "0.02", "0.02"]
    assert [row["class"] for row in read_table(tmp_path, "table_masking")] == [*LABELS, "mean", "largest"]
    assert float(read_table(tmp_path, "table_ownership")[-1]["ours"]) <= 16


def test_what_needs_an_absent_model_is_left_out(dataset, tmp_path, missing, capsys):
    missing.add(lsg.FIXED_ALEXNET)
    names = {path.name for path in reproduction.reproduce("lsg", output=tmp_path, dataset=dataset)}
    assert names.isdisjoint({"figure_7.png", "table_2.md"})
    assert {"figure_3.png", "figure_8.png", "figure_9.png", "table_1.md", "table_3.csv", "README.md"} <= names
    assert f"no weights of {lsg.FIXED_ALEXNET} come" in (tmp_path / "README.md").read_text()
    assert lsg.FIXED_ALEXNET in capsys.readouterr().out


def test_without_any_model_an_index_says_so(dataset, tmp_path, missing):
    missing.update(NAMES)
    assert [path.name for path in reproduction.reproduce("lsg", output=tmp_path, dataset=dataset)] == ["README.md"]
    assert (tmp_path / "README.md").read_text().count("Left out") == 13


@pytest.fixture
def attack(dataset, tmp_path):
    """A function (attack, full_attacks) to the success rate of an attack on the standard model, each time as in a new run."""
    model = lsg.Measured(lsg.STD_RESNET, dataset)

    def attack(name, full_attacks=False):
        study = lsg.LabelSensitiveGates(dataset, lsg.Report(tmp_path, "", ""), full_attacks)
        return study.attack(model, name, np.flatnonzero(model.predictions == model.labels)[:4])

    attack.model = model
    return attack


def test_results_of_attacks_are_kept_while_model_and_budget_stay(attack, tmp_path, monkeypatch):
    rates = [attack(name) for name in lsg.ATTACKS]
    results = json.loads((tmp_path / "attacks.json").read_text())
    assert [result["attack"] for result in results] == ["one_pixel", "local_search"]
    assert rates == [result["succeeded"] / 4 for result in results] and all(result["attempted"] == 4 for result in results)

    def never(*args, **settings):
        raise AssertionError("attacked again")

    with monkeypatch.context() as patch:
        patch.setattr(lsg, "ATTACKS", dict.fromkeys(lsg.ATTACKS, never))
        assert [attack(name) for name in lsg.ATTACKS] == rates
    # Another budget, or other weights, are attacked anew; what was found stays.
    monkeypatch.setitem(lsg.BUDGET, "one_pixel", {"population": 6, "generations": 1})
    attack("one_pixel")
    attack.model.sha256 = "other"
    attack("one_pixel")
    found = json.loads((tmp_path / "attacks.json").read_text())
    assert len(found) == 4 and found[:2] == results


def test_full_attacks_use_the_published_budget(attack, monkeypatch):
    seen = {}

    def record(predict, images, labels, **settings):
        seen.update(settings)
        return AttackResult(np.ones(4, bool), np.zeros(4, bool), images[:0], 1)

    monkeypatch.setitem(lsg.ATTACKS, "one_pixel", record)
    assert attack("one_pixel", full_attacks=True) == 0.0
    assert seen == {"population": 400, "generations": 75, "seed": 0, "batch_size": 8}


def test_an_interrupted_run_keeps_what_it_has(dataset, tmp_path, monkeypatch, missing):
    def interrupt(*args, **settings):
        raise KeyboardInterrupt

    missing.update({lsg.FIXED_RESNET, lsg.STD_ALEXNET})
    monkeypatch.setitem(lsg.ATTACKS, "local_search", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(reproduction.reproduce("lsg", output=tmp_path, dataset=dataset))
    assert [result["attack"] for result in json.loads((tmp_path / "attacks.json").read_text())] == ["one_pixel"]
    assert "figure_6.png" in (tmp_path / "README.md").read_text()


def test_an_altered_gate_is_refused(shipped, monkeypatch):
    monkeypatch.setattr(artifacts, "read_pins", lambda: {lsg.DENSE_RESNET: {"gate.npy": "0" * 64, "metrics.json": "0"}})
    with pytest.raises(artifacts.ArtifactError, match=r"gate\.npy"):
        lsg.shipped_gate(lsg.DENSE_RESNET)


def test_compiled_predict_pads_and_never_compiles_anew(images):
    model = Classifier(tiny_backbone(), num_classes=3)
    shapes = []

    class Model:
        def predict_on_batch(self, batch):
            shapes.append((batch.shape, batch.dtype))
            return model.predict_on_batch(batch)

    predict = lsg.compiled_predict(Model(), 8)
    for count in (8, 3):
        np.testing.assert_allclose(predict(images[:count]), model.predict(images[:count], verbose=0), atol=1e-5)
    assert set(shapes) == {((8, 32, 32, 3), np.dtype("float32"))}


def test_unknown_paper(tmp_path):
    with pytest.raises(KeyError, match="'lsg'"):
        reproduction.reproduce("xyz", output=tmp_path)
