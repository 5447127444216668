import dataclasses
import functools

import keras
import numpy as np
import pytest

from keras_interp import backbones, data, models, zoo
from keras_interp.data.birds import BirdDataset
from keras_interp.zoo import artifacts, registry
from keras_interp.zoo.entry import Recipe
from keras_interp.zoo.papers import srae

LABELS = ("wren", "jay", "crow", "owl")
RECIPE = Recipe(epochs=2, batch_size=16, optimizer="adam", learning_rate=1e-3, dtype_policy="float32")


def birds_of(count, name):
    rng = np.random.default_rng(len(name))
    labels = np.arange(count) % 4
    images = rng.integers(0, 100, (count, 32, 32, 3)).astype("uint8")
    for image, label in zip(images, labels):
        image[8 * label : 8 * label + 8] += 120
    boxes = np.tile(np.float32([0, 0, 32, 32]), (count, 1))
    parts = rng.uniform(0, 32, (count, 15, 2)).astype("float32")
    return BirdDataset(images, labels, parts, np.ones((count, 15), bool), boxes, LABELS, name=f"toy {name}")


def bird_backbone(input_shape=(32, 32, 3)):
    """A stand-in for `backbones.mobilenet`, with those of its layers that entries and figures name."""
    inputs = keras.Input(input_shape, name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="preprocessing")(inputs)
    x = keras.layers.Conv2D(6, 3, 4, "same", use_bias=False, name="conv1")(x)
    x = keras.layers.ReLU(name="conv_pw_1_relu")(keras.layers.BatchNormalization(name="conv1_bn")(x))
    x = keras.layers.Conv2D(16, 3, 2, activation="relu", name="last")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pooled")(x)
    return keras.Model(inputs, keras.layers.Dense(8, "relu", name="hidden")(x))


@pytest.fixture
def birds(monkeypatch):
    """Two made-up splits, and small entries that train on them."""
    splits = {"train": birds_of(60, "train"), "test": birds_of(88, "test")}
    monkeypatch.setattr(data, "load", lambda name, split, *args, **options: splits[split].to_dataset())
    monkeypatch.setattr(srae, "load_birds", lambda name, split, *args: splits[split])
    fields = {
        "dataset": "toy",
        "class_names": LABELS,
        "input_shape": (32, 32, 3),
        "recipe": RECIPE,
        "description": "For tests.",
    }
    classifier = srae.BirdEntry(
        name="tiny_birds",
        method="standard training",
        backbone=bird_backbone,
        pretrained="none.weights.h5",
        **fields,
    )
    modules = srae.ExplanationEntry(
        name="tiny_srae",
        method="sparse reconstruction autoencoder",
        classifier=classifier,
        layer="pooled",
        heatmap_layer="conv_pw_1_relu",
        explained=("jay", "owl"),
        options={"hidden_units": (6,), "num_features": 2},
        **fields,
    )
    monkeypatch.setitem(registry.ENTRIES, "tiny_birds", classifier)
    monkeypatch.setitem(registry.ENTRIES, "tiny_srae", modules)
    return splits


def test_held_out_images_are_the_last_of_each_explained_class(birds):
    labels = birds["test"].labels
    held = srae.held_out(labels, [1, 3])
    assert held[labels == 0].all() and held[labels == 2].all()
    for number in (1, 3):
        np.testing.assert_array_equal(np.flatnonzero(held[labels == number]), np.arange(22 - srae.HELD_OUT, 22))
    entry = registry.get_entry("tiny_srae")
    train, test = entry.load_data("train"), entry.load_data("test")
    count = 60 + 2 * (22 - srae.HELD_OUT)
    assert len(train) == (1 + entry.copies) * count and len(test) == held.sum()
    np.testing.assert_array_equal(test.inputs, birds["test"].images[held])
    np.testing.assert_array_equal(train.targets[:count], train.targets[count : 2 * count])
    seen = {image.tobytes() for image in train.inputs[:count]}
    assert not seen & {image.tobytes() for image in test.inputs}


def test_a_classifier_starts_from_trained_weights(birds, tmp_path):
    trained = backbones.mobilenet(0.25, 8, (32, 32, 3))
    path = tmp_path / "weights" / "none.weights.h5"
    path.parent.mkdir()
    keras.applications.MobileNet(alpha=0.25, weights=None).save_weights(path)
    mobilenet = functools.partial(backbones.mobilenet, alpha=0.25, hidden_units=8)
    entry = dataclasses.replace(registry.get_entry("tiny_birds"), backbone=mobilenet)
    model = entry.build()
    entry.initialize(model, tmp_path)
    expected = backbones.mobilenet(0.25, 8, (32, 32, 3), path)
    kernel = model.get_layer("conv_pw_13").kernel
    np.testing.assert_array_equal(kernel, expected.get_layer("conv_pw_13").kernel)
    assert not np.array_equal(kernel, trained.get_layer("conv_pw_13").kernel)


def test_train_and_measure_an_explanation_module(birds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(srae.BirdEntry, "initialize", lambda self, model, data_dir: None)
    with pytest.raises(FileNotFoundError, match="keras-interp train tiny_birds"):
        zoo.train("tiny_srae", verbose=0)
    classifier = zoo.train("tiny_birds", verbose=0)
    model = zoo.train("tiny_srae", verbose=0)
    assert isinstance(model, models.ExplanationModule) and model.targets == ("jay", "owl")
    held = registry.get_entry("tiny_srae").load_data("test")
    np.testing.assert_allclose(
        model.predict(held.inputs, verbose=0), classifier.predict(held.inputs, verbose=0), rtol=1e-2, atol=1e-2
    )
    found = zoo.evaluate(tmp_path / "runs" / "tiny_srae")
    values = found["values"]
    assert set(values) == set(srae.DEFINITIONS) and found["split"] == "toy test, held out"
    rebuilt, logits = model.predict_targets(held.inputs)
    errors = [np.abs(rebuilt - logits)[held.targets == number, place].mean() for place, number in enumerate((1, 3))]
    assert values["error"] == pytest.approx(np.mean(errors), rel=0.05)
    assert 0 <= values["locality"] <= np.log(16)
    assert artifacts.shipped_folder("tiny_srae") is None


def test_lasso_and_the_direct_map_are_measured_alike(birds):
    model = registry.get_entry("tiny_birds").build()
    module = models.LassoModule(model, "pooled", targets=("jay", "owl"), alpha=1e-3, heatmap_layer="conv_pw_1_relu")
    module.fit(birds["train"].images, birds["train"].labels)
    values = srae.faithfulness(module, *module.activations(birds["test"].images), birds["test"].labels)
    values |= srae.heat(module, birds["test"], module.target_heatmaps)
    assert set(values) == set(srae.DEFINITIONS) and values["orthogonality"] == pytest.approx(0, abs=1e-9)


def test_recipes_are_complete():
    for entry in srae.ENTRIES:
        assert dataclasses.replace(entry.recipe, epochs=1).build_optimizer(3) is not None
        if isinstance(entry, srae.ExplanationEntry):
            assert entry.classifier.name in registry.ENTRIES and set(entry.explained) <= set(entry.class_names)
            assert len(entry.explained) in (5, 30)
