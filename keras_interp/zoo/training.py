"""Training a zoo model by its recipe: resumable, on one device or many."""

import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import time

import h5py
import keras
import numpy as np

from keras_interp import data
from keras_interp.zoo import artifacts
from keras_interp.zoo.registry import get_entry

BACKUP = "backup"
CHECKPOINT = "checkpoint.weights.h5"
GOLDEN_IMAGES = 8


def train(
    name,
    data_dir=None,
    output=None,
    *,
    dataset=None,
    validation=0.0,
    strategy=None,
    coordinator=None,
    num_processes=1,
    process_id=0,
    verbose=2,
    **overrides,
):
    """Trains a zoo model on its data set, and saves it as an artifact.

    A checkpoint and the log are written after every epoch; called again with the same arguments, training goes on where it
    stopped, and ends with the weights of an uninterrupted run. On TensorFlow `strategy` spreads a batch over local GPUs; on
    JAX all local devices share it, and `coordinator` joins the processes of several machines, each feeding its share.

    Args:
        name: name of the model, see `list_models`.
        data_dir: folder of the prepared data sets, see `data.load`.
        output: folder for checkpoints, log and the trained artifact; by default `runs/<name>`.
        dataset: an `ArrayDataset` or `LazyDataset` to train on instead of the entry's own; with other classes than the
            entry's, the model is built for these.
        validation: share of the training examples that is held out of training and measured after each epoch, for choosing
            hyperparameters. The test split is never read here.
        strategy: None, "mirrored", or a `tf.distribute.Strategy` for one machine.
        coordinator: "HOST:PORT" of process 0, on JAX.
        num_processes: number of JAX processes.
        process_id: this process, from 0.
        verbose: as for `model.fit`.
        **overrides: fields of the `Recipe` to change, as `epochs=10`.

    Returns:
        The trained model in float32, compiled.

    Raises:
        KeyError: for an unknown name. TypeError: for an unknown recipe field.
        FileNotFoundError: for a data set that is not prepared. ValueError: for a strategy that cannot work here, or an output
            folder that holds a checkpoint of another run: other settings, or other data of the same name.
    """
    entry = get_entry(name)
    recipe = dataclasses.replace(entry.recipe, **overrides)
    output = pathlib.Path(output or pathlib.Path("runs") / name)
    if not 0.0 <= validation < 1.0:
        raise ValueError(f"`validation` must lie in [0, 1). Received: validation={validation}")
    if recipe.epochs < 1:
        raise ValueError(f"`epochs` must be at least 1. Received: epochs={recipe.epochs}")
    _check_processes(strategy, coordinator, num_processes, process_id)
    dataset = dataset or entry.load_data("train", data_dir)
    dataset, kept = _hold_out(dataset, validation, recipe)
    process = (process_id, num_processes)
    training_set = dataset[:kept]
    options = {"process": process, "workers": os.cpu_count() if isinstance(dataset, data.LazyDataset) else 1}
    augmentation = {"pad": recipe.pad, "flip": recipe.flip, "min_positives": recipe.min_positives}
    batches = data.Batches(training_set, recipe.batch_size, seed=recipe.seed, **augmentation, **options)
    held_out = data.Batches(dataset[kept:], recipe.batch_size, shuffle=False, **options) if validation else None
    class_names = dataset.class_names or entry.class_names
    settings = {"model": name, "class_names": class_names, **dict(entry.options), **dataclasses.asdict(recipe)}
    settings |= {"dataset": dataset.name, "training_examples": kept, "input_shape": dataset.input_shape}
    settings["fingerprint"] = dataset.fingerprint()
    state = _prepare_output(output, settings, process_id)
    log = EpochLog(state / artifacts.LOG)

    with _distribution(strategy, coordinator, num_processes, process_id):
        keras.utils.set_random_seed(recipe.seed)
        with _dtype_policy(recipe.dtype_policy):
            model = entry.build(class_names=class_names, dataset=training_set)
            entry.initialize(model, data_dir)
        model.compile_by_default(recipe.build_optimizer(len(batches)))
        model.fit(
            batches,
            epochs=recipe.epochs,
            initial_epoch=_agreed(restore_checkpoint(model, state / CHECKPOINT), num_processes),
            validation_data=held_out,
            shuffle=False,  # Keras would shuffle the batches, which are shuffled already, by a global seed.
            verbose=verbose if process_id == 0 else 0,
            callbacks=[
                keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch)),
                *entry.callbacks(model, training_set, data_dir),
                log,
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: save_checkpoint(model, state / CHECKPOINT, epoch + 1)
                ),
            ],
        )
        weights, replicas = model.get_weights(), num_replicas(model)

    trained = entry.build(class_names=class_names, dataset=training_set)
    trained.set_weights(weights)
    entry.finish(trained, data_dir)
    if process_id == 0:
        provenance = {
            "model": name,
            "dataset": dataset.name,
            "training_examples": kept,
            "recipe": dataclasses.asdict(recipe),
            "training_seconds": round(log.seconds()),
            "parameters": sum(int(np.prod(weight.shape)) for weight in trained.trainable_variables),
            "storage_dtype": entry.storage_dtype,
            "replicas": replicas,
            "processes": num_processes,
            "backend": keras.backend.backend(),
            "keras": keras.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        }
        golden, _ = (dataset[kept:] if validation else dataset).read(slice(0, GOLDEN_IMAGES))
        if not entry.shows_examples:
            golden = np.random.default_rng(0).integers(0, 256, golden.shape, "uint8")
        artifacts.save(trained, output, golden, entry.storage_dtype, provenance)
        shutil.copyfile(state / artifacts.LOG, output / artifacts.LOG)
    return trained.compile_by_default()


def num_replicas(model):
    """Number of devices that share a batch of this model's training."""
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(np.prod(distribution.device_mesh.shape))


def _check_processes(strategy, coordinator, num_processes, process_id):
    """Raises for devices or processes that this backend cannot train on, before any data are read."""
    backend = keras.backend.backend()
    processes = f"coordinator={coordinator!r}, num_processes={num_processes}, process_id={process_id}"
    if backend == "jax" and strategy is not None:
        raise ValueError(f"On JAX all devices are used; `strategy` is for TensorFlow. Received: strategy={strategy!r}")
    if backend != "jax" and (coordinator is not None or num_processes != 1 or process_id):
        raise ValueError(
            f"Several machines train on the JAX backend: set KERAS_BACKEND=jax. Received: {processes} on {backend}"
        )
    if (coordinator is None) != (num_processes == 1) or not 0 <= process_id < num_processes:
        raise ValueError(
            f"Several processes need a `coordinator`, their number and this one's number below it. Received: {processes}"
        )


@contextlib.contextmanager
def _distribution(strategy, coordinator, num_processes, process_id):
    """Spreads what is built and trained within over the devices."""
    if keras.backend.backend() == "jax":
        if coordinator is not None:
            keras.distribution.initialize(coordinator, num_processes, process_id)
        devices = keras.distribution.list_devices()
        previous = keras.distribution.distribution()
        if len(devices) > 1:
            # Each process feeds its own share of a batch, so nothing is left to shard.
            keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False))
        try:
            yield
        finally:
            # What process 0 does alone afterwards must not wait for the others.
            keras.distribution.set_distribution(previous)
        return
    with _tensorflow_strategy(strategy).scope() if strategy is not None else contextlib.nullcontext():
        yield


def _tensorflow_strategy(strategy):
    import tensorflow as tf

    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "TensorFlow's MultiWorkerMirroredStrategy does not run under Keras 3's fit (keras-team/keras#20585). Several "
            "machines train on the JAX backend: KERAS_BACKEND=jax with --coordinator HOST:PORT --num-processes N "
            "--process-id I. Received: a multi-worker strategy"
        )
    if strategy == "mirrored":
        return tf.distribute.MirroredStrategy()
    if not isinstance(strategy, tf.distribute.Strategy):
        raise ValueError(f"`strategy` must be None, 'mirrored' or a tf.distribute.Strategy. Received: strategy={strategy!r}")
    return strategy


@contextlib.contextmanager
def _dtype_policy(name):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def _hold_out(dataset, validation, recipe):
    """The data set with the held-out examples last, drawn at random, and the number of the others.

    The held-out part is rounded to whole batches, which any number of devices that share a batch can share too.
    """
    if not validation:
        return dataset, len(dataset)
    held_out = round(len(dataset) * validation)
    if not held_out:
        raise ValueError(f"No example of {len(dataset)} is held out. Received: validation={validation}")
    held_out = held_out // recipe.batch_size * recipe.batch_size or held_out
    return dataset[np.random.default_rng((recipe.seed, 2)).permutation(len(dataset))], len(dataset) - held_out


def _prepare_output(output, settings, process_id):
    """The folder of this process's checkpoints; refuses one with a checkpoint of other settings or data.

    Settings without a checkpoint are those of a start that failed: nothing would be mixed, so they are replaced.
    """
    state = output / (BACKUP if process_id == 0 else f"{BACKUP}_{process_id}")
    state.mkdir(parents=True, exist_ok=True)
    path = state / "settings.json"
    # Through JSON, in which a tuple is a list.
    settings = json.loads(json.dumps(settings))
    if path.is_file() and (state / CHECKPOINT).is_file():
        found = json.loads(path.read_text())
        differences = [f"{key} {found.get(key)!r} instead of {settings.get(key)!r}" for key in _differing(found, settings)]
        if differences:
            raise ValueError(
                "The output folder holds a checkpoint of another run; remove it or choose another folder. "
                f"Received: output={output} with {'; '.join(differences)}"
            )
        return state
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(settings))
    partial.replace(path)
    return state


def _differing(found, settings):
    """Keys of two dicts under which they differ."""
    return [key for key in dict.fromkeys([*found, *settings]) if found.get(key) != settings.get(key)]


def _agreed(epochs, num_processes):
    """The number of finished epochs, after checking that all processes have restored the same."""
    if num_processes > 1:
        from jax.experimental import multihost_utils

        restored = np.unique(multihost_utils.process_allgather(np.array(epochs)))
        if len(restored) > 1:
            raise ValueError(
                "The processes' checkpoints are of different epochs, as after a kill between two of them; copy the checkpoint "
                f"of one to all others. Received: finished epochs {restored.tolist()}"
            )
    return epochs


def save_checkpoint(model, path, epochs):
    """Saves weights, optimizer state, the state of the model's random noise (which Keras does not save) and the number of
    finished epochs in one file that a crash cannot leave half written."""
    partial = path.with_name(f"partial_{path.name}")
    model.save_weights(partial)
    with h5py.File(partial, "a") as file:
        file.attrs["epochs"] = epochs
        for number, state in enumerate(_noise_states(model)):
            file.attrs[f"noise_{number}"] = keras.ops.convert_to_numpy(state)
    partial.replace(path)


def restore_checkpoint(model, path):
    """Restores what `save_checkpoint` saved; returns the number of finished epochs, 0 without a checkpoint."""
    if not path.is_file():
        return 0
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    with h5py.File(path) as file:
        for number, state in enumerate(_noise_states(model)):
            state.assign(file.attrs[f"noise_{number}"])
        return int(file.attrs["epochs"])


def _noise_states(model):
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


class EpochLog(keras.callbacks.Callback):
    """Writes the log of each epoch as a row of a CSV file. After a resumption the rows of repeated epochs are replaced.

    Args:
        path: the file.
    """

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)
        self.rows = {}

    def on_train_begin(self, logs=None):
        if self.path.is_file():
            with self.path.open(newline="") as file:
                self.rows = {int(row["epoch"]): row for row in csv.DictReader(file)}

    def seconds(self):
        """Time that the epochs took, over all runs."""
        return sum(float(row["seconds"]) for row in self.rows.values())

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.time()

    def on_epoch_end(self, epoch, logs=None):
        values = {key: f"{float(value):.6g}" for key, value in (logs or {}).items()}
        learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = f"{time.time() - self.start:.1f}"
        self.rows[epoch] = {"epoch": epoch, **values, "learning_rate": f"{learning_rate:.6g}", "seconds": seconds}
        rows = [self.rows[number] for number in sorted(self.rows) if number <= epoch]
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            # Some figures are not there in every epoch.
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.path)
