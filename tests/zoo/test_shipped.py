"""The artifacts that ship: whole, as pinned, and with the figures that they claim."""

import functools
import json
import os

import numpy as np
import pytest

from keras_interp import data, zoo
from keras_interp.zoo import artifacts
from keras_interp.zoo.registry import get_entry

SHIPPED = zoo.list_models(trained=True)
REMEASURED = ("lsg_resnet20_cifar10", "fl_mlp_mnist", "fl_mlp_california_housing", "fl_mlp_ixor")
pytestmark = pytest.mark.artifact
load = functools.cache(zoo.load)


@pytest.mark.parametrize("name", SHIPPED)
def test_loads_with_its_golden_outputs(name):
    folder = artifacts.shipped_folder(name)
    pins = artifacts.read_pins()[name]
    assert set(pins) == {path.name for path in folder.iterdir()} - {artifacts.CONCEPTS}
    model = load(name)
    # Logits of another backend or processor differ in the last bits of float32, through some twenty layers.
    assert artifacts.golden_difference(model, folder) < 1e-3


@pytest.mark.parametrize("name", SHIPPED)
def test_card_and_metrics(name):
    folder = artifacts.shipped_folder(name)
    info, metrics = zoo.info(name), json.loads((folder / "metrics.json").read_text())
    assert info.trained and info.license and info.parameters and info.sha256 and info.revision
    assert metrics["examples"] >= 2_000 and set(metrics["values"]) == set(metrics["definitions"])
    assert set(metrics["values"]) <= set(get_entry(name).definitions)
    assert all(np.isfinite(value) for value in metrics["values"].values())
    if "parameters" not in metrics["values"]:
        assert info.parameters == sum(int(np.prod(w.shape)) for w in load(name).trainable_variables)
    card = (folder / "README.md").read_text()
    assert all(f"{info.metrics[m]:.4f}" in card for m in ("accuracy", "auc", "rmse") if m in info.metrics)
    assert "license: apache-2.0" in card
    with open(folder / "training_log.csv") as log:
        assert len(log.readlines()) == info.recipe.epochs + 1


@pytest.mark.parametrize("name", SHIPPED)
def test_explains_completely(name):
    with np.load(artifacts.shipped_folder(name) / artifacts.GOLDEN) as golden:
        load(name).explain(golden["inputs"]).check_completeness(1e-3)


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name in SHIPPED if name in REMEASURED])
def test_evaluate_reproduces_the_metrics(name):
    expected = zoo.info(name).metrics
    try:
        found = zoo.evaluate(name, os.environ["TFDS_DATA_DIR"])["values"]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-4), metric


@pytest.mark.data
@pytest.mark.skipif("fl_mlp_mnist" not in SHIPPED, reason="not shipped")
def test_compact_form_equals_the_gated_network_on_all_of_mnist():
    model = zoo.load("fl_mlp_mnist")
    images = data.load("mnist", "test").inputs
    difference = model.compact().predict(images, verbose=0) - model.predict(images, verbose=0)
    assert len(images) == 10_000 and np.abs(difference).max() < 1e-4
