import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_interp import data, zoo
from keras_interp.data import ArrayDataset, Batches
from keras_interp.zoo import artifacts, registry
from keras_interp.zoo.papers import xnet
from tests.tiny import register

register()


def faces(rng, count=64):
    attributes = (rng.random((count, 3)) < 0.3).astype("uint8")
    attributes[:3] = np.eye(3)
    images = rng.integers(0, 256, (count, 16, 16, 3), dtype="uint8")
    labels = np.arange(count, dtype="int32") % 2
    return ArrayDataset(images, labels, xnet.LABELS, "faces", attributes=attributes, attribute_names=xnet.ATTRIBUTES)


def test_train_and_measure(rng, tmp_path):
    dataset = faces(rng)
    model = zoo.train("tiny_xnet", output=tmp_path, dataset=dataset, verbose=0)
    log = (tmp_path / "training_log.csv").read_text().splitlines()
    assert {"drop_loss", "drop_loss_Bald", "task_loss", "learning_rate"} <= set(log[0].split(",")) and len(log) == 4
    measured = zoo.evaluate(tmp_path, dataset=dataset)["values"]
    assert set(measured) == set(registry.ENTRIES["tiny_xnet"].definitions)
    matrix = model.drop_loss_matrix(dataset.inputs, dataset.targets, dataset.attributes)
    own = [measured[f"drop_loss_{attribute}"] for attribute in xnet.ATTRIBUTES]
    # The stored weights are of half precision.
    np.testing.assert_allclose(own, np.diag(matrix), rtol=0.02, atol=0.01)
    assert measured["smallest_drop_loss"] == min(own)
    for number, attribute in enumerate(xnet.ATTRIBUTES):
        members = dataset.attributes[:, number] == 1
        images, labels = dataset.inputs[members], dataset.targets[members]
        whole = (model.predict(images, verbose=0).argmax(axis=1) == labels).mean()
        without = [(model.intervene(images, {one: 0}).argmax(axis=1) == labels).mean() for one in range(3)]
        assert measured[f"accuracy_cost_{attribute}"] == pytest.approx(whole - without[number], abs=0.1)
        others = whole - np.delete(without, number).mean()
        assert measured[f"accuracy_cost_of_others_{attribute}"] == pytest.approx(others, abs=0.1)
    assert measured["active_neurons"] == (model.features(dataset.inputs)[1] > 0).any(axis=0).sum()
    # No face comes with the weights.
    with np.load(tmp_path / artifacts.GOLDEN) as golden:
        assert not any(np.isin(golden["inputs"], image).all() for image in dataset.inputs)
    metadata = json.loads((tmp_path / artifacts.METADATA).read_text())
    assert metadata["keras_interp"]["provenance"]["recipe"]["schedule"] == "steps"


def test_other_attributes_are_measured_under_their_names(rng, tmp_path):
    dataset = dataclasses.replace(faces(rng), attribute_names=("Male", "Smiling", "Bangs"))
    zoo.train("tiny_xnet", output=tmp_path, dataset=dataset, verbose=0)
    found = zoo.evaluate(tmp_path, dataset=dataset)
    assert set(found["values"]) == set(found["definitions"]) and "Smiling" in found["definitions"]["drop_loss_Smiling"]


def test_the_card_says_what_rose_over_the_baseline():
    names = [f"{kind}_{one}" for kind in ("drop_loss", "accuracy_cost", "accuracy_cost_of_others") for one in xnet.ATTRIBUTES]
    baseline = {"accuracy": 0.9, **dict.fromkeys(names, 0.1)}
    values = {**baseline, "accuracy": 0.88, "drop_loss_Bald": 0.5, "accuracy_cost_Bald": 0.31}
    entry = registry.ENTRIES["xnet_resnet18w32_celeb_a_mini"]
    remark = entry.remark(values, baseline)
    assert remark.startswith(
        "Compared with `std_resnet18w32_celeb_a_mini`: -2.00 points of accuracy; 1 of 3 drop losses are higher, "
    )
    assert "and 1 accuracy costs at least three times" in remark and "The paper finds that all rise." in remark
    assert "more than all, on Bangs" in entry.remark(values, {**baseline, "accuracy_cost_Bangs": 0.4})
    assert entry.remark(values, {}) == ""


def test_neurons_are_oriented_and_matched_before_the_first_epoch(rng, monkeypatch):
    entry = dataclasses.replace(registry.ENTRIES["tiny_xnet"], oriented=True, matching="initial")
    dataset, model = faces(rng), entry.build()
    model.compile_by_default(keras.optimizers.SGD(0.0))
    matching, orienting = entry.callbacks(model, dataset)
    model.fit(Batches(dataset, 16), callbacks=[matching, orienting], epochs=2, shuffle=False, verbose=0)
    signs = np.sign(model.readout_weights()[0])[model.neuron_of_attribute]
    for column, row in zip(dataset.attributes.T, signs):
        majority = int(dataset.targets[column == 1].mean() > 0.5)
        assert row[majority] == 1 and row[1 - majority] == -1


def test_learning_rate_steps():
    optimizer = registry.ENTRIES["tiny_xnet"].recipe.build_optimizer(10)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 6, 8, 14, 16, 23, 29)]
    np.testing.assert_allclose(rates, [0.2, 0.2, 0.02, 0.02, 0.002, 0.0002, 0.0002], rtol=1e-6)


def test_entries():
    names = zoo.list_models("*celeb_a*")
    assert {"xnet_resnet18_celeb_a", "std_resnet18_celeb_a", "xnet_em_resnet18w32_celeb_a_mini"} <= set(names)
    baseline, model = zoo.build("std_resnet18w32_celeb_a_mini"), zoo.build("xnet_resnet18w32_celeb_a_mini")
    assert baseline.alpha == 0 and model.alpha == 0.05 and model.reduction == "min"
    assert model.class_names == ("old", "young") and model.unit_names[1] == "neuron 1 (Bald)"


@pytest.mark.data
def test_faces():
    entry = registry.ENTRIES["xnet_resnet18w32_celeb_a_mini"]
    test = entry.load_data("test")
    assert test.inputs.shape == (3500, 64, 64, 3) and test.class_names == ("old", "young")
    assert test.attributes.shape == (3500, 3) and 0.7 < test.targets.mean() < 0.85
    assert 0.01 < test.attributes[:, 1].mean() < 0.04
    chosen = data.load("celeb_a_mini", "test[:50]", label="Male", attributes=("Smiling",))
    assert chosen.class_names == ("not Male", "Male") and chosen.attribute_names == ("Smiling",)
    assert data.load("celeb_a_mini", "test[:50]").attribute_names == xnet.ATTRIBUTES
