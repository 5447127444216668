"""Trains zoo models by their recipes: resumable, on one or many devices."""

import contextlib
import dataclasses
import os
import pathlib
import platform
import shutil
from typing import Any

import keras
import numpy as np

from keras_interp import data
from keras_interp.typing import PathLike
from keras_interp.zoo import artifacts
from keras_interp.zoo.checkpoints import CHECKPOINT, EpochLog, agreed, prepare_output, restore_checkpoint, save_checkpoint
from keras_interp.zoo.devices import check_processes, distribution, num_replicas
from keras_interp.zoo.entry import Entry
from keras_interp.zoo.registry import get_entry

GOLDEN_IMAGES = 8


def train(
    name: str | Entry,
    data_dir: PathLike | None = None,
    output: PathLike | None = None,
    *,
    dataset: Any = None,
    validation: float = 0.0,
    strategy: Any = None,
    coordinator: str | None = None,
    num_processes: int = 1,
    process_id: int = 0,
    verbose: Any = 2,
    **overrides: Any,
) -> keras.Model:
    """Trains a zoo model on its dataset, and saves it as an artifact.

    A checkpoint and the log are written after every epoch; called again with the same arguments, training resumes where it
    stopped, and ends with the weights of an uninterrupted run. On TensorFlow `strategy` spreads a batch over local GPUs; on
    JAX all local devices share it, and `coordinator` joins the processes of several machines, each feeding its share.

    Args:
        name: name of the model, see `list_models`; or an entry that is not in the zoo.
        data_dir: folder of the prepared datasets, see `data.load`.
        output: folder for checkpoints, log and the trained artifact; by default `runs/<name>`.
        dataset: an `ArrayDataset` or `LazyDataset` to train on instead of the entry's own; with other classes than the
            entry's, the model is built for these.
        validation: share of the training examples to hold out and measure after each epoch, for choosing hyperparameters. The
            test split is never read here.
        strategy: None, "mirrored", or a `tf.distribute.Strategy` for one machine.
        coordinator: "HOST:PORT" of process 0, on JAX.
        num_processes: number of JAX processes.
        process_id: index of this process, from 0.
        verbose: as for `model.fit`.
        **overrides: fields of the `Recipe` to change, as `epochs=10`.

    Returns:
        The trained model in float32, compiled.

    Raises:
        KeyError: for an unknown name. TypeError: for an unknown recipe field.
        FileNotFoundError: for a dataset that is not prepared. ValueError: for a strategy that cannot work here, or an output
            folder that holds a checkpoint of another run: other settings, or other data of the same name.
    """
    entry = name if isinstance(name, Entry) else get_entry(name)
    name = entry.name
    recipe = dataclasses.replace(entry.recipe, **overrides)
    output = pathlib.Path(output or pathlib.Path("runs") / name)
    if not 0.0 <= validation < 1.0:
        raise ValueError(f"`validation` must lie in [0, 1). Received: validation={validation}")
    if recipe.epochs < 1:
        raise ValueError(f"`epochs` must be at least 1. Received: epochs={recipe.epochs}")
    check_processes(strategy, coordinator, num_processes, process_id)
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
    state = prepare_output(output, settings, process_id)
    log = EpochLog(state / artifacts.LOG)

    with distribution(strategy, coordinator, num_processes, process_id):
        keras.utils.set_random_seed(recipe.seed)
        with _dtype_policy(recipe.dtype_policy):
            model = entry.build(class_names=class_names, dataset=training_set)
            entry.initialize(model, data_dir)
        model.compile_by_default(recipe.build_optimizer(len(batches)))
        model.fit(
            batches,
            epochs=recipe.epochs,
            initial_epoch=agreed(restore_checkpoint(model, state / CHECKPOINT), num_processes),
            validation_data=held_out,
            shuffle=False,  # Keras would shuffle the batches, which are already shuffled, by a global seed.
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


@contextlib.contextmanager
def _dtype_policy(name):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def _hold_out(dataset, validation, recipe):
    """The dataset with randomly drawn held-out examples last, and the number of the others.

    The held-out part is rounded to whole batches, so that devices that share a batch can share it too.
    """
    if not validation:
        return dataset, len(dataset)
    held_out = round(len(dataset) * validation)
    if not held_out:
        raise ValueError(f"No example of {len(dataset)} is held out. Received: validation={validation}")
    held_out = held_out // recipe.batch_size * recipe.batch_size or held_out
    return dataset[np.random.default_rng((recipe.seed, 2)).permutation(len(dataset))], len(dataset) - held_out
