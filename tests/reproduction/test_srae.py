import dataclasses

import keras
import numpy as np
import pytest

import reproduction
from keras_interp import backbones, data, models
from keras_interp.zoo import artifacts, registry
from keras_interp.zoo.papers import srae as papers
from reproduction.srae import tables as srae
from tests.harness import FakeZoo
from tests.zoo.test_srae import LABELS, bird_backbone, birds_of

FIGURES = ["figure_3", "figure_4a", "figure_4b", "figure_contrast", "figure_5", "figure_6", "figure_8", "figure_10"]
TABLES = ["table_1a", "table_2a", "table_3", "table_features"]
EXPLAINED = ("jay", "owl")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A zoo of a classifier and its explanation module, untrained, and made-up metrics."""
    keras.utils.set_random_seed(0)
    fake = FakeZoo(tmp_path_factory.mktemp("zoo"))
    classifier = models.Classifier(bird_backbone(), class_names=LABELS)
    module = models.ExplanationModule(
        classifier, "pooled", EXPLAINED, num_features=3, hidden_units=(6,), heatmap_layer="conv_pw_1_relu"
    )
    values = dict.fromkeys(papers.DEFINITIONS, 0.25)
    fake.add(srae.STD, classifier)
    fake.add(srae.SRAE, module, {"examples": 18, "values": values})
    fake.add(srae.MEASURED["NN, same start"], metrics={"examples": 18, "values": values | {"locality": 0.3, "dead": 1.0}})
    return fake


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch, shipped):
    shipped.install(monkeypatch)
    splits = {"train": birds_of(60, "train"), "test": birds_of(88, "test")}
    monkeypatch.setattr(data, "load", lambda name, split, *args, **options: splits[split].to_dataset())
    for module in (papers, srae):
        monkeypatch.setattr(module, "load_birds", lambda name, split, *args: splits[split])
    monkeypatch.setattr(srae, "EXPLAINED", EXPLAINED)
    monkeypatch.setattr(srae, "SHOWN", EXPLAINED)
    monkeypatch.setattr(srae, "ALPHAS", (0.1, 1e-4))
    monkeypatch.setattr(srae, "SAMPLED_DIMENSIONS", 3)
    fields = {"class_names": LABELS, "input_shape": (32, 32, 3)}
    std = dataclasses.replace(registry.ENTRIES[srae.STD], backbone=bird_backbone, **fields)
    options = {"hidden_units": (6,), "num_features": 3}
    recipe = dataclasses.replace(registry.ENTRIES[srae.SRAE].recipe, epochs=1)
    name = srae.MEASURED["NN, random start"]
    monkeypatch.setitem(registry.ENTRIES, name, dataclasses.replace(registry.ENTRIES[name], recipe=recipe))
    fields |= {"heatmap_layer": "conv_pw_1_relu", "explained": EXPLAINED, "options": options, "recipe": recipe}
    monkeypatch.setitem(registry.ENTRIES, srae.STD, std)
    monkeypatch.setitem(registry.ENTRIES, srae.SRAE, dataclasses.replace(registry.ENTRIES[srae.SRAE], **fields))


def test_all_tables_and_figures_are_written(tmp_path):
    paths = list(reproduction.reproduce("srae", output=tmp_path))
    files = {f"{name}.png" for name in FIGURES} | {f"{name}.{ending}" for name in TABLES for ending in ("md", "csv")}
    assert {path.name for path in paths} == {*files, "README.md"} == {path.name for path in tmp_path.iterdir()}
    readme = (tmp_path / "README.md").read_text()
    assert "Left out" not in readme
    assert (
        "Smaller with SRAE than with NN, same start: locality; in the paper both. 2.8 and 2.0 x-features are live, on average."
        in readme
    )
    rows = (tmp_path / "table_1a.md").read_text().splitlines()
    assert any(row.startswith("| SRAE |" + " – | 0.2500 |" * 5) for row in rows)
    assert any(row.startswith("| SRAE, random start | 0.1539 | – | 0.9999 | – | 0.6141 | – | 2.0790") for row in rows)


def test_without_weights_the_report_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "shipped_folder", lambda name: None)
    names = {path.name for path in reproduction.reproduce("srae", output=tmp_path)}
    assert not any(name.endswith("png") for name in names)
    assert f"no weights of {srae.SRAE} come" in (tmp_path / "README.md").read_text()


def test_a_shifted_copy_computes_the_same_inside(shipped):
    model = models.ExplanationModule(
        models.Classifier(backbones.mobilenet(0.25, 8, (32, 32, 3)), class_names=LABELS),
        "pooled",
        EXPLAINED,
        hidden_units=(6,),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    outputs = []
    for one in (model, srae.shifted_copy(model, 0.5)):
        view = keras.Model(one.inputs, one.get_layer("conv1_bn").output)
        outputs.append(keras.ops.convert_to_numpy(view(pixels)))
    np.testing.assert_allclose(outputs[0][:, 1:-1, 1:-1], outputs[1][:, 1:-1, 1:-1], rtol=1e-3, atol=1e-4)
    assert not np.allclose(outputs[0][:, -1], outputs[1][:, -1])
