import dataclasses

import numpy as np
import pytest

from keras_interp import models, zoo
from keras_interp.zoo import registry
from keras_interp.zoo.papers import lsg


def test_list_and_info():
    names = zoo.list_models(comparisons=True)
    # Those with weights come first.
    assert names == sorted(names, key=lambda name: (not zoo.info(name).trained, name)) and "lsg_resnet20_cifar10" in names
    assert zoo.list_models() == [name for name in names if not zoo.info(name).comparison]
    assert all(name.startswith("lsg_") for name in zoo.list_models("lsg_*"))
    assert set(zoo.list_models(trained=True)) | set(zoo.list_models(trained=False)) == set(zoo.list_models())
    info = zoo.info("lsg_resnet20_cifar10")
    assert info.class_names == lsg.CIFAR10_LABELS and info.input_shape == (32, 32, 3)
    assert info.paper_metrics["accuracy"] == 0.9062
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.name = "other"


def test_entries_are_complete():
    for name, entry in registry.ENTRIES.items():
        assert entry.name == name and entry.description.endswith(".")
        assert entry.baseline is None or entry.baseline in registry.ENTRIES
        # A pair is compared on the same budget.
        if entry.baseline and entry.name != "lsg_dense_resnet20_cifar10":
            balanced = registry.ENTRIES[entry.baseline].recipe.min_positives
            recipe = dataclasses.replace(entry.recipe, min_positives=balanced)
            if name == "lsg_alternating_resnet20_cifar10":
                # Every third epoch goes through the gate: the standard path has as many as that of the baseline.
                recipe = dataclasses.replace(recipe, epochs=recipe.epochs * 2 // 3)
            assert recipe == registry.ENTRIES[entry.baseline].recipe
        if isinstance(entry, lsg.FilterEntry):
            assert entry.build().get_layer(entry.last_convolution).filters == entry.build().num_filters


@pytest.mark.parametrize("name", ["lsg_resnet20_cifar10", "std_alexnet_cifar10"])
def test_build_in_another_size(name, rng):
    model = zoo.build(name, num_classes=5, input_shape=(64, 48, 3))
    assert model.output_shape == (None, 5) and model.class_names == tuple("01234")
    images = rng.integers(0, 256, (10, 64, 48, 3), dtype="uint8")
    model.fit(images, np.arange(10) % 5, verbose=0)
    assert model.explain(images).contributions.shape == (10, model.num_filters)


@pytest.mark.parametrize(
    ("name", "k", "features"), [("dynk5_resnet18_places365", 5, 512), ("dynk25_resnet50_places365", 25, 2048)]
)
def test_full_size_recipes(name, k, features):
    model = zoo.build(name)
    assert model.input_shape == (None, 224, 224, 3) and model.get_layer("logits").k == k
    assert model.get_layer("logits").kernel.shape == (features, 365)
    assert model.class_names[0] == "airfield" and model.class_names[-1] == "zen_garden"
    small = zoo.build(name, num_classes=3, input_shape=(64, 64, 3))
    assert small.predict(np.zeros((2, 64, 64, 3), "uint8"), verbose=0).shape == (2, 3)


def test_unknown_names_suggest_the_nearest():
    for call in (zoo.load, zoo.build, zoo.info):
        with pytest.raises(KeyError, match="Did you mean 'lsg_resnet20_cifar10'"):
            call("lsg_resnet_20_cifar10")
    with pytest.raises(KeyError, match="Received: 'xyzzy'"):
        zoo.load("xyzzy")


def test_models_without_weights_say_how_to_train_them(monkeypatch):
    monkeypatch.setattr("keras_interp.zoo.artifacts.shipped_folder", lambda name: None)
    with pytest.raises(FileNotFoundError, match="keras-interp train std_resnet20_cifar10"):
        zoo.load("std_resnet20_cifar10")
    assert isinstance(zoo.load("std_resnet20_cifar10", weights=False), models.Classifier)


def test_the_remark_says_which_units_are_easier_to_interpret():
    entry = registry.ENTRIES["dynk5_resnet18w32_places_mini"]
    remark = entry.remark({"dissection_mean": 0.02}, {"dissection_mean": 0.03})
    assert "0.0200, is not higher than that of the units of `std_resnet18w32_places_mini`, 0.0300" in remark
    assert "is higher than" in entry.remark({"dissection_mean": 0.04}, {"dissection_mean": 0.03})
    assert entry.remark({"accuracy": 1.0}, {}) == ""
