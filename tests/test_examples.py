"""The examples, on small data that are made here."""

import dataclasses
import importlib
import pathlib
import runpy
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_interp import backbones, data, zoo
from keras_interp.backbones.resnet import BLOCKS
from keras_interp.zoo.registry import ENTRIES, get_entry

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.artifact


def run(monkeypatch, program, *arguments):
    monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / program), run_name="__main__")


def needs(name):
    if name not in zoo.list_models(trained=True):
        pytest.skip(f"{name} is not shipped")


def make(kind, folder):
    """A source of the kind of data that a model takes, as arguments."""
    rng = np.random.default_rng(0)
    if kind == "folder":
        for label in ("left", "right"):
            (folder / label).mkdir()
            for number in range(10):
                Image.fromarray(rng.integers(0, 256, (20, 30, 3), "uint8")).save(folder / label / f"{number}.png")
        return "--images", folder
    extra = {"task": "classification"}
    if kind == "rows":
        inputs = rng.normal(size=(200, 13)).astype("float32") * np.arange(1, 14)
        extra, targets = {"task": "regression"}, inputs[:, 0] + 0.1 * rng.normal(size=200)
    elif kind == "faces":
        inputs, targets = rng.integers(0, 256, (60, 64, 64, 3), "uint8"), np.arange(60) % 2
        extra |= {"attributes": rng.random((60, 3)) < 0.5, "attribute_names": ["hat", "scarf", "glasses"]}
    elif kind == "photos":
        inputs, targets = rng.integers(0, 256, (60, 128, 128, 3), "uint8"), np.arange(60) % 3
    else:
        inputs, targets = rng.integers(0, 256, (60, 28, 28, 1), "uint8"), np.arange(60) % 3
    np.savez(folder / "data.npz", inputs=inputs, targets=targets, **extra)
    return "--dataset", folder / "data.npz"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lsg_resnet20_cifar10", "folder"),
        ("std_resnet20_cifar10", "folder"),
        ("dynk5_resnet18w32_cifar10", "folder"),
        ("fl_mlp_mnist", "digits"),
        ("fl_cnn_mnist", "digits"),
        ("l0_mlp_mnist", "folder"),
        ("senn_mlp_mnist", "digits"),
        ("fl_mlp_california_housing", "rows"),
        ("xnet_capped_resnet18w32_celeb_a_mini", "faces"),
    ],
)
def test_every_kind_of_model_can_be_fine_tuned(name, kind, tmp_path, monkeypatch):
    needs(name)
    (tmp_path / "data").mkdir()
    output = tmp_path / "tuned"
    run(monkeypatch, "finetune.py", "--name", name, *make(kind, tmp_path / "data"), "--epochs", 1, "--output", output)
    tuned = zoo.load(output)
    assert type(tuned) is type(zoo.load(name)) and all(np.isfinite(weight).all() for weight in tuned.get_weights())
    explained = tuned.explain(np.zeros((1, *tuned.input_shape[1:]), "uint8"))
    explained.check_completeness()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("srae_mobilenet_cub100", "photos", "fine-tune that"),
        ("xnet_capped_resnet18w32_celeb_a_mini", "folder", "learns from attributes"),
    ],
)
def test_what_cannot_be_fine_tuned_says_what_to_do(name, kind, message, tmp_path, monkeypatch, capsys):
    needs(name)
    (tmp_path / "data").mkdir()
    with pytest.raises(SystemExit):
        run(monkeypatch, "finetune.py", "--name", name, *make(kind, tmp_path / "data"))
    assert message in capsys.readouterr().err


# The keys of the papers, with the names of the scripts that train their models.
SCRIPTS = {
    "lsg": "retrain_label_sensitive_gates",
    "fl": "retrain_feature_leveling",
    "dynk": "retrain_dynamic_k",
    "xnet": "retrain_xnet",
    "srae": "retrain_explanation_module",
}
SMALL = {"epochs": 2, "batch_size": 16}


@pytest.fixture
def script_of(monkeypatch):
    """A function from the name of a model to the module of its script; backbones have few layers meanwhile."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setitem(BLOCKS, 18, (1, 1))
    monkeypatch.setattr(backbones.cifar_resnet, "__defaults__", (8, *backbones.cifar_resnet.__defaults__[1:]))
    return lambda name: importlib.import_module(SCRIPTS[get_entry(name).paper.key])


def small_dataset(name):
    """Random data of the classes, and of the number of columns or channels, that a model takes."""
    entry, rng = get_entry(name), np.random.default_rng(0)
    if len(entry.input_shape) == 1:
        inputs = rng.normal(size=(40, *entry.input_shape)).astype("float32")
    else:
        inputs = rng.integers(0, 256, (40, 16, 16, entry.input_shape[-1]), "uint8")
    if entry.task == "regression":
        return data.ArrayDataset(inputs, inputs[:, 0] + 2, name="small")
    targets, extra = np.arange(40) % len(entry.class_names), {}
    if entry.paper.key == "xnet":
        extra = {"attributes": rng.random((40, 3)) < 0.4, "attribute_names": entry.attributes}
    return data.ArrayDataset(inputs, targets, entry.class_names, "small", **extra)


def assert_equal(model, expected):
    """Asserts that two models have the same options and weights."""
    assert model.get_config() == expected.get_config()
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "std_alexnet_cifar10",
        "lsg_resnet20_cifar10",
        "lsg_alternating_resnet20_cifar10",
        "lsg_fixed_resnet20_cifar10",
        "std_mlp_california_housing",
        "fl_mlp_california_housing",
        "fl_mlp_mnist",
        "fl_cnn_mnist",
        "l0_mlp_mnist",
        "senn_mlp_mnist",
        "std_resnet18w32_cifar10",
        "dynk5_resnet18w32_cifar10",
        "l1_resnet18w32_cifar10",
        "std_resnet18w32_celeb_a_mini",
        "xnet_capped_resnet18w32_celeb_a_mini",
        "xnet_em_resnet18w32_celeb_a_mini",
    ],
)
def test_scripts_train_as_the_zoo_does(name, script_of, tmp_path):
    dataset = small_dataset(name)
    model = script_of(name).train(name, dataset, **SMALL)
    assert_equal(model, zoo.train(name, output=tmp_path, dataset=dataset, verbose=0, **SMALL))


@pytest.fixture
def birds(monkeypatch, tmp_path):
    """Random birds. In `tmp_path`, the current folder, `runs` has a classifier and `weights` weights to start one from."""

    def mobilenet(input_shape=(32, 32, 3), weights=None):
        x = inputs = keras.Input(input_shape, name="pixels")
        for filters in (8, 16):
            x = keras.layers.Conv2D(filters, 3, 4, activation="relu", name=f"convolution{filters}")(x)
        x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
        model = keras.Model(inputs, keras.layers.Dense(24, "relu", name="hidden")(x))
        if weights is not None:
            model.load_weights(weights)
        return model

    classifier = dataclasses.replace(get_entry("std_mobilenet_cub100"), name="small_birds", backbone=mobilenet)
    monkeypatch.setitem(ENTRIES, "small_birds", classifier)
    monkeypatch.setitem(ENTRIES, "std_mobilenet_cub100", dataclasses.replace(classifier, name="std_mobilenet_cub100"))
    monkeypatch.chdir(tmp_path)
    pathlib.Path("weights").mkdir()
    mobilenet().save_weights(pathlib.Path("weights", classifier.pretrained))
    zoo.save(zoo.build("small_birds", input_shape=(32, 32, 3)), pathlib.Path("runs", "small_birds"))
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), "uint8")
    return data.ArrayDataset(images, np.arange(200) % 100, classifier.class_names, "small")


def test_classifiers_of_birds_are_fine_tuned_as_the_zoo_does(birds, script_of, tmp_path):
    name = "std_mobilenet_cub100"
    model = script_of(name).train(name, birds, tmp_path, **SMALL)
    assert_equal(model, zoo.train(name, tmp_path, dataset=birds, verbose=0, **SMALL))


@pytest.mark.parametrize("name", ["srae_mobilenet_cub100", "srae_cold_mobilenet_cub100", "cae_mobilenet_cub100"])
def test_explanation_modules_are_trained_as_the_zoo_does(name, birds, script_of, monkeypatch):
    entry = get_entry(name)
    changes = {"classifier": ENTRIES["small_birds"], "heatmap_layer": None, "explained": entry.explained[:3]}
    monkeypatch.setitem(ENTRIES, name, dataclasses.replace(entry, **changes))
    model = script_of(name).train(name, birds, **SMALL)
    assert_equal(model, zoo.train(name, dataset=birds, verbose=0, **SMALL))


@pytest.mark.parametrize("paper", SCRIPTS)
def test_scripts_load_the_data_of_all_models_of_their_paper(paper, script_of, monkeypatch):
    names = [name for name, entry in ENTRIES.items() if entry.paper.key == paper]

    def load(dataset, split, data_dir, image_size=None, attributes=()):
        assert data_dir == "somewhere"
        rng = np.random.default_rng(len(split))
        if dataset == "california_housing_ocean":
            return data.ArrayDataset(rng.normal(size=(20, 13)), rng.normal(size=20))
        count = {"cifar10": 10, "mnist": 10, "places_mini": 20, "caltech_birds2011_mini": 100, "caltech_birds2011_parts": 200}
        classes = count.get(dataset, 2)
        faces = {"attributes": rng.random((20 * classes, len(attributes))) < 0.5, "attribute_names": attributes}
        images = rng.integers(0, 256, (20 * classes, *(image_size or (32, 32)), 1), "uint8")
        images = images[:, ::16, ::16]  # As large as the augmentation needs them, and no larger.
        return data.ArrayDataset(images, np.arange(20 * classes) % classes, range(classes), **(faces if attributes else {}))

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(data, "load_lazily", lambda dataset, split, data_dir, crop_size: (dataset, split, data_dir, crop_size))
    for name in names:
        loaded = script_of(name).load_data(name, "somewhere")
        expected = get_entry(name).load_data("train", "somewhere")
        if get_entry(name).lazy:
            assert loaded == expected
        else:
            assert loaded.fingerprint() == expected.fingerprint()


@pytest.mark.parametrize(
    "name", ["lsg_alternating_resnet20_cifar10", "dynk5_resnet18w32_cifar10", "xnet_initial_resnet18w32_celeb_a_mini"]
)
def test_an_interrupted_script_continues_with_an_equal_result(name, script_of, tmp_path, monkeypatch):
    dataset, train = small_dataset(name), script_of(name).train
    with monkeypatch.context() as context:

        def interrupt(callback, epoch, logs=None):
            callback._current_epoch = epoch + 1
            callback._save_model()
            raise KeyboardInterrupt

        context.setattr(keras.callbacks.BackupAndRestore, "on_epoch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(name, dataset, tmp_path / "resume", **SMALL)
    resumed = train(name, dataset, tmp_path / "resume", **SMALL)
    assert_equal(resumed, train(name, dataset, **SMALL))


def test_a_script_saves_and_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    run(monkeypatch, "retrain_feature_leveling.py", "std_mlp_ixor", "--epochs", 1, "--seed", 3, "--output", tmp_path / "run")
    printed = capsys.readouterr().out
    assert "accuracy" in printed and f"{zoo.info('std_mlp_ixor').metrics['accuracy']:.6g}" in printed
    assert zoo.load(tmp_path / "run").name == "std_mlp_ixor"


@pytest.mark.parametrize("paper", SCRIPTS)
def test_scripts_say_which_models_they_train(paper, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    foreign = "fl_mlp_ixor" if paper != "fl" else "lsg_resnet20_cifar10"
    for arguments in ([foreign], ["--help"]):
        with pytest.raises(SystemExit):
            run(monkeypatch, f"{SCRIPTS[paper]}.py", *arguments)
        printed = "".join(capsys.readouterr())
        assert all(name in printed for name, entry in ENTRIES.items() if entry.paper.key == paper)
