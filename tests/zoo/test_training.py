import csv
import dataclasses
import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_interp import data, zoo
from keras_interp.data import LazyDataset, segmentation
from keras_interp.zoo import artifacts, registry, training
from keras_interp.zoo.papers import dynk
from tests.tiny import register

register()
ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = {"epochs": 3, "batch_size": 16, "dtype_policy": "float32", "verbose": 0}


def read_log(folder):
    with open(folder / "training_log.csv", newline="") as file:
        return list(csv.DictReader(file))


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


def test_other_settings_in_the_same_folder_are_refused(toy_dataset, tmp_path):
    zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, "epochs": 1})
    with pytest.raises(ValueError, match="epochs 1 instead of 2"):
        zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, "epochs": 2})


def test_other_data_of_the_same_name_and_size_are_refused(toy_dataset, tmp_path):
    zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, "epochs": 1})
    for change in ({"inputs": toy_dataset.inputs[::-1]}, {"targets": (toy_dataset.targets + 1) % 10}):
        with pytest.raises(ValueError, match=r"holds a checkpoint of another run.*fingerprint"):
            zoo.train(
                "tiny_std", output=tmp_path, dataset=dataclasses.replace(toy_dataset, **change), **{**SETTINGS, "epochs": 1}
            )
    zoo.train("tiny_std", output=tmp_path, dataset=dataclasses.replace(toy_dataset), **{**SETTINGS, "epochs": 1})


def test_the_fingerprint_of_images_on_demand(rng):
    images = [{"image": rng.integers(0, 256, (9, 9, 3), "uint8"), "label": number % 2} for number in range(100)]
    prints = {LazyDataset(source, (8, 8), ("a", "b")).fingerprint() for source in (images, images[::-1], images[:99])}
    assert len(prints) == 3 and LazyDataset(images, (8, 8), ("a", "b")).fingerprint() in prints


def test_a_start_that_failed_does_not_block_its_folder(toy_dataset, tmp_path):
    with pytest.raises(ValueError, match="`schedule` must be"):
        zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, "schedule": "none"})
    zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, "epochs": 1})


PROGRAM = """
import os, sys
import keras, numpy as np
from keras_interp import data, zoo
from tests.tiny import register
register()
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    tf.config.experimental.enable_op_determinism()
rng = np.random.default_rng(0)
dataset = data.ArrayDataset(
    rng.integers(0, 256, (64, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 64).astype("int32"), tuple("abcdefghij"), "toy")
# start
zoo.train("tiny_lsg", output=sys.argv[1], dataset=dataset, epochs=4, batch_size=16, dtype_policy="float32")
"""


# Sleeps in each batch, so that the kill comes within an epoch.
SLOW_PROGRAM = PROGRAM.replace(
    "# start",
    """
import time
original = data.Batches.__getitem__
data.Batches.__getitem__ = lambda self, number: (time.sleep(0.25), original(self, number))[1]
""",
)


def test_killed_in_the_middle_of_an_epoch_it_resumes_to_the_same_weights(tmp_path, run_python):
    run_python(PROGRAM, tmp_path / "whole")
    killed = subprocess.Popen(
        [sys.executable, "-c", SLOW_PROGRAM, str(tmp_path / "killed")], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    deadline = time.time() + 300
    backup = tmp_path / "killed" / "backup"
    while not ((backup / "checkpoint.weights.h5").is_file() and len(read_log(backup)) >= 2):
        assert killed.poll() is None and time.time() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "model.weights.h5").exists()
    run_python(PROGRAM, tmp_path / "killed")
    whole, resumed = zoo.load(tmp_path / "whole"), zoo.load(tmp_path / "killed")
    for a, b in zip(whole.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)
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
    for a, b in zip(whole.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)
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


def test_other_classes_are_not_measured(toy_dataset, tmp_path):
    zoo.train("tiny_std", output=tmp_path, dataset=toy_dataset, **{**SETTINGS, "epochs": 1})
    other = dataclasses.replace(toy_dataset, class_names=tuple("jihgfedcba"))
    with pytest.raises(ValueError, match=r"classes must be \('a', 'b'"):
        zoo.evaluate(tmp_path, dataset=other)
    numbered = dataclasses.replace(toy_dataset, class_names=tuple(map(str, range(10))))
    assert zoo.evaluate(tmp_path, dataset=numbered)["values"] == zoo.evaluate(tmp_path, dataset=toy_dataset)["values"]


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


MIRRORED = """
import sys
import numpy as np, tensorflow as tf
from keras_interp import data, zoo
from tests.tiny import register
register()
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (64, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 64).astype("int32")
dataset = data.ArrayDataset(images, labels, tuple("abcdefghij"), "toy")
strategies = {"one": None, "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}
for name, strategy in strategies.items():
    folder = sys.argv[1] + "/" + name
    zoo.train("tiny_lsg", output=folder, dataset=dataset, epochs=2, batch_size=32, strategy=strategy, verbose=0)
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
def test_train_on_two_mirrored_devices(tmp_path, run_python):
    run_python(MIRRORED, tmp_path)
    one, two = zoo.load(tmp_path / "one"), zoo.load(tmp_path / "two")
    for a, b in zip(one.get_weights(), two.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)


PROCESSES = """
import sys
import jax
if sys.argv[3] != "1":
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
import numpy as np
from keras_interp import data, zoo
from tests.tiny import register
register()
output, port, processes, process = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
dataset = data.ArrayDataset(
    rng.integers(0, 256, (64, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 64).astype("int32"), tuple("abcdefghij"), "toy")
several = {} if processes == 1 else dict(coordinator=f"127.0.0.1:{port}", num_processes=processes, process_id=process)
zoo.train("tiny_lsg", output=output, dataset=dataset, epochs=2, batch_size=32, dtype_policy="float32", **several)
"""


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX processes")
def test_two_jax_processes_train_as_one(tmp_path, run_python):
    from tests.models.test_distribution import free_port

    run_python(PROCESSES, tmp_path / "one", 0, 1, 0)
    port = free_port()
    arguments = [[sys.executable, "-c", PROCESSES, str(tmp_path / "two"), str(port), "2", str(process)] for process in (0, 1)]
    both = [subprocess.Popen(a, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for a in arguments]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    one, two = zoo.load(tmp_path / "one"), zoo.load(tmp_path / "two")
    for a, b in zip(one.get_weights(), two.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)
