"""The artifacts that ship: whole, as pinned, and with the figures that they claim."""

import json
import os

import numpy as np
import pytest

from keras_interp import zoo
from keras_interp.zoo import artifacts
from keras_interp.zoo.registry import get_entry

SHIPPED = zoo.list_models("*_cifar10", trained=True)
pytestmark = pytest.mark.artifact


@pytest.mark.parametrize("name", SHIPPED)
def test_loads_with_its_golden_outputs(name):
    folder = artifacts.shipped_folder(name)
    pins = artifacts.read_pins()[name]
    assert set(pins) == {path.name for path in folder.iterdir()}
    model = zoo.load(name)
    # Logits of another backend or processor differ in the last bits of float32, through some twenty layers.
    assert artifacts.golden_difference(model, folder) < 1e-3


@pytest.mark.parametrize("name", SHIPPED)
def test_card_and_metrics(name):
    folder = artifacts.shipped_folder(name)
    info, metrics = zoo.info(name), json.loads((folder / "metrics.json").read_text())
    assert info.trained and info.licence and info.parameters and info.sha256 and info.revision
    assert metrics["examples"] == 10_000 and set(metrics["values"]) == set(metrics["definitions"])
    assert set(metrics["values"]) == set(get_entry(name).definitions)
    assert all(np.isfinite(value) for value in metrics["values"].values())
    assert info.parameters == sum(int(np.prod(w.shape)) for w in zoo.load(name).trainable_variables)
    card = (folder / "README.md").read_text()
    assert f"{info.metrics['accuracy']:.4f}" in card and "license: apache-2.0" in card
    with open(folder / "training_log.csv") as log:
        assert len(log.readlines()) == info.recipe.epochs + 1


@pytest.mark.parametrize("name", SHIPPED)
def test_explains_completely(name, images):
    explanation = zoo.load(name).explain(images)
    np.testing.assert_allclose(explanation.residual, 0.0, atol=1e-3)


@pytest.mark.data
@pytest.mark.skipif("lsg_resnet20_cifar10" not in SHIPPED, reason="not shipped")
def test_evaluate_reproduces_the_metrics():
    expected = zoo.info("lsg_resnet20_cifar10").metrics
    found = zoo.evaluate("lsg_resnet20_cifar10", os.environ["TFDS_DATA_DIR"])["values"]
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-4), metric
