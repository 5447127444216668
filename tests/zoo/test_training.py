import csv
import dataclasses
import functools
import os
import shutil
import signal
import socket
import time

import keras
import numpy as np
import pytest

from keras_interp import data, zoo
from keras_interp.data import LazyDataset, segmentation
from keras_interp.zoo import artifacts, registry, training
from keras_interp.zoo.papers import dynk
from tests import tiny
from tests.programs import run_program, start_program

tiny.register()
SETTINGS = {"epochs": 3, "batch_size": 16, "dtype_policy": "float32", "verbose": 0}


def read_log(folder):
    with open(folder / "training_log.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_same_weights(one, other, tolerance=1e-5):
    for a, b in zip(one.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, atol=tolerance)


def test_train_saves_a_model_that_loads(toy_dataset, tmp_path):
    model = zoo.train("tiny_lsg", output=tmp_path, dataset=toy_dataset, validation=0.25, **SETTINGS)
    loaded = zoo.load(tmp_path)
    for a, b in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(a, b)
    rows = read_log(tmp_path)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"loss", "accuracy", "gate_density", "val_accuracy", "learning_rate", "seconds"} <= set(rows[0])
    assert artifacts.golden_difference(loaded, tmp_path) < 1e-3


def test_dynamic_k_logs_its_sparsity_and_names_concepts(toy_dataset, tmp_path, monkeypatch):
    entry = dataclasses.replace(registry.ENTRIES["tiny_dynk"], segmented="places_objects_mini")
    monkeypatch.setitem(registry.ENTRIES, "tiny_dynk", entry)
    monkeypatch.setattr(dynk, "DISSECTED_EPOCHS", 2)
    maps = np.zeros((64, 32, 32), int)
    maps[:, :16] = 1
    scenes = segmentation.SegmentationDataset.from_arrays(toy_dataset.inputs, maps, ("unlabelled", "sky"))
    monkeypatch.setattr(dynk, "load_segmentation", lambda name, **options: scenes)
    zoo.train("tiny_dynk", output=tmp_path, dataset=toy_dataset, **SETTINGS)
    rows = read_log(tmp_path)
    assert all(0 <= float(row["connection_sparsity"]) <= 1 for row in rows)
    assert [bool(row["dissection_mean"]) for row in rows] == [False, True, False]
    loaded = zoo.load(tmp_path)
    found = entry.dissect(loaded)
    assert loaded.concepts == [name if score >= 0.04 else "" for name, score in zip(found.labels, found.scores)]
    values = zoo.evaluate(tmp_path, dataset=toy_dataset)["values"]
    assert set(values) == set(dynk.DEFINITIONS) and 1 <= values["units_95"] <= values["units_98"] <= 2


def test_trained_in_mixed_precision_saved_in_float32(toy_dataset, tmp_path):
    zoo.train(
        "tiny_std", output=tmp_path, dataset=toy_dataset, epochs=1, batch_size=32, dtype_policy="mixed_bfloat16", verbose=0
    )
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.compute_dtype for layer in zoo.load(tmp_path).layers} == {"float32"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a tiny_std that was trained for an epoch."""
    folder = tmp_path_factory.mktemp("trained")
    zoo.train("tiny_std", output=folder, dataset=tiny.toy_dataset(), **{**SETTINGS, "epochs": 1})
    return folder


@pytest.fixture
def trained_folder(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "trained")


def test_other_settings_in_the_same_folder_are_refused(toy_dataset, trained_folder):
    with pytest.raises(ValueError, match="epochs 1 instead of 2"):
        zoo.train("tiny_std", output=trained_folder, dataset=toy_dataset, **{**SETTINGS, "epochs": 2})


def test_other_data_of_the_same_name_and_size_are_refused(toy_dataset, trained_folder):
    options = {"output": trained_folder, **SETTINGS, "epochs": 1}
    for change in ({"inputs": toy_dataset.inputs[::-1]}, {"targets": (toy_dataset.targets + 1) % 10}):
        with pytest.raises(ValueError, match=r"holds a checkpoint of another run.*fingerprint"):
            zoo.train("tiny_std", dataset=dataclasses.replace(toy_dataset, **change), **options)
    zoo.train("tiny_std", dataset=dataclasses.replace(toy_dataset), **options)


def test_the_fingerprint_of_images_on_demand(rng):
    images = [{"image": rng.integers(0, 256, (9, 9, 3), "uint8"), "label": number % 2} for number in range(100)]
    prints = {LazyDataset(source, (8, 8), ("a", "b")).fingerprint() for source in (images, images[::-1], images[:99])}
    assert len(prints) == 3 and LazyDataset(images, (8, 8), ("a", "b")).fingerprint() in prints


def test_a_start_that_failed_does_not_block_its_folder(toy_dataset, tmp_path):
    with pytest.raises(ValueError, match="`schedule` must be"):
        zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, "schedule": "none"})
    zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, "epochs": 1})


def test_killed_in_the_middle_of_an_epoch_it_resumes_to_the_same_weights(tmp_path):
    killed = start_program("resume", tmp_path / "killed", PAUSE="0.25")
    deadline = time.time() + 300
    backup = tmp_path / "killed" / "backup"
    while not ((backup / "checkpoint.weights.h5").is_file() and len(read_log(backup)) >= 2):
        assert killed.poll() is None and time.time() < deadline
        time.sleep(0.05)
    # In the middle of an epoch of four pauses.
    time.sleep(0.3)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / "model.weights.h5").exists()
    run_program("resume", tmp_path / "killed", tmp_path / "whole")
    assert_same_weights(zoo.load(tmp_path / "whole"), zoo.load(tmp_path / "killed"), 1e-6)
    assert [row["epoch"] for row in read_log(tmp_path / "killed")] == ["0", "1", "2", "3"]


def test_noise_goes_on_where_it_was_interrupted(toy_dataset, tmp_path, monkeypatch):
    train = functools.partial(zoo.train, "tiny_fl", dataset=toy_dataset, **{**SETTINGS, "epochs": 4})
    whole = train(output=tmp_path / "whole")
    save = training.save_checkpoint

    def save_and_stop(model, path, epochs):
        save(model, path, epochs)
        if epochs == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(output=tmp_path / "stopped")
    monkeypatch.setattr(training, "save_checkpoint", save)
    resumed = train(output=tmp_path / "stopped")
    assert_same_weights(whole, resumed, 1e-6)
    assert zoo.evaluate(tmp_path / "stopped", dataset=toy_dataset)["values"]["weights"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "other"}, "strategy"),
        ({"validation": 1.0}, "validation"),
        ({"validation": 0.001}, "No example of 64 is held out"),
        ({"num_processes": 2}, "coordinator"),
        ({"process_id": 1}, "process_id=1"),
        ({"epochs": 0}, "epochs=0"),
    ],
)
def test_bad_options(toy_dataset, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, **options})


def test_values_do_not_train_a_classifier(rng, toy_dataset, tmp_path):
    dataset = data.ArrayDataset(toy_dataset.inputs, rng.random(64))
    with pytest.raises(TypeError, match="integers"):
        zoo.train("tiny_lsg", output=tmp_path, dataset=dataset, **SETTINGS)


def test_other_classes_are_not_measured(toy_dataset, trained_folder):
    other = dataclasses.replace(toy_dataset, class_names=tuple("jihgfedcba"))
    with pytest.raises(ValueError, match=r"classes must be \('a', 'b'"):
        zoo.evaluate(trained_folder, dataset=other)
    numbered = dataclasses.replace(toy_dataset, class_names=tuple(map(str, range(10))))
    found = [zoo.evaluate(trained_folder, dataset=dataset)["values"] for dataset in (numbered, toy_dataset)]
    assert found[0] == found[1]


def test_unknown_recipe_field(toy_dataset, tmp_path):
    with pytest.raises(TypeError, match="learning_rat"):
        zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, learning_rat=0.1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow strategies")
def test_several_machines_on_tensorflow_are_refused_with_the_reason(toy_dataset, tmp_path):
    import tensorflow as tf

    for options in (
        {"coordinator": "127.0.0.1:9999", "num_processes": 2},
        {"strategy": tf.distribute.MultiWorkerMirroredStrategy()},
    ):
        with pytest.raises(ValueError, match="KERAS_BACKEND=jax"):
            zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **SETTINGS, **options)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
def test_train_on_two_mirrored_devices(tmp_path):
    run_program("zoo_mirrored", tmp_path)
    assert_same_weights(zoo.load(tmp_path / "one"), zoo.load(tmp_path / "two"))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX processes")
def test_two_jax_processes_train_as_one(tmp_path):
    run_program("jax_process", tmp_path / "one", 0, 1, 0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    both = [start_program("jax_process", tmp_path / "two", port, 2, process) for process in (0, 1)]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert_same_weights(zoo.load(tmp_path / "one"), zoo.load(tmp_path / "two"))
