"""Checkpoints and log of a run, from which it resumes."""

import csv
import json
import pathlib
import time
from typing import Any

import h5py
import keras
import numpy as np

from keras_interp.typing import PathLike

BACKUP = "backup"


CHECKPOINT = "checkpoint.weights.h5"


def prepare_output(output: pathlib.Path, settings: dict[str, Any], process_id: int) -> pathlib.Path:
    """Folder of this process's checkpoints; refuses a checkpoint of other settings or data.

    Settings without a checkpoint are from a failed start and are replaced.
    """
    state = output / (BACKUP if process_id == 0 else f"{BACKUP}_{process_id}")
    state.mkdir(parents=True, exist_ok=True)
    path = state / "settings.json"
    # JSON turns tuples into lists.
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
    """Keys at which two dicts differ."""
    return [key for key in dict.fromkeys([*found, *settings]) if found.get(key) != settings.get(key)]


def agreed(epochs: int, num_processes: int) -> int:
    """Number of finished epochs, after checking that all processes restored the same."""
    if num_processes > 1:
        from jax.experimental import multihost_utils

        restored = np.unique(multihost_utils.process_allgather(np.array(epochs)))
        if len(restored) > 1:
            raise ValueError(
                "The processes' checkpoints are from different epochs, as after a kill between writes; copy the checkpoint "
                f"of one to all others. Received: finished epochs {restored.tolist()}"
            )
    return epochs


def save_checkpoint(model: keras.Model, path: pathlib.Path, epochs: int) -> None:
    """Saves weights, optimizer state, state that Keras omits (`_unsaved`) and the number of finished epochs atomically in one
    file."""
    partial = path.with_name(f"partial_{path.name}")
    model.save_weights(partial)
    with h5py.File(partial, "a") as file:
        file.attrs["epochs"] = epochs
        for number, variable in enumerate(_unsaved(model)):
            file[f"unsaved_{number}"] = keras.ops.convert_to_numpy(variable)
    partial.replace(path)


def restore_checkpoint(model: keras.Model, path: pathlib.Path) -> int:
    """Restores a checkpoint of `save_checkpoint`; returns the number of finished epochs, 0 without a checkpoint."""
    if not path.is_file():
        return 0
    model.optimizer.build(model.trainable_variables)
    if hasattr(model, "prepare_training"):
        model.prepare_training()
    model.load_weights(path)
    with h5py.File(path) as file:
        for number, variable in enumerate(_unsaved(model)):
            variable.assign(np.asarray(file[f"unsaved_{number}"]))
        return int(np.asarray(file.attrs["epochs"]))


def _unsaved(model):
    """Training state that Keras does not save: random states, and the gradient sums of an incomplete step."""
    noise = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    sums = getattr(model, "gradient_sums", None)
    return noise + (list(sums.variables) if sums is not None else [])


class EpochLog(keras.callbacks.Callback):
    """Writes the log of each epoch as a row of a CSV file. On resuming, rows of repeated epochs are replaced.

    Args:
        path: the file.
    """

    model: Any

    def __init__(self, path: PathLike) -> None:
        super().__init__()
        self.path = pathlib.Path(path)
        self.rows = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.path.is_file():
            with self.path.open(newline="") as file:
                self.rows = {int(row["epoch"]): row for row in csv.DictReader(file)}

    def seconds(self) -> float:
        """Total time of the epochs, over all runs."""
        return sum(float(row["seconds"]) for row in self.rows.values())

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.start = time.time()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        values = {key: f"{float(value):.6g}" for key, value in (logs or {}).items()}
        learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = f"{time.time() - self.start:.1f}"
        self.rows[epoch] = {"epoch": epoch, **values, "learning_rate": f"{learning_rate:.6g}", "seconds": seconds}
        rows = [self.rows[number] for number in sorted(self.rows) if number <= epoch]
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            # Not every epoch has all figures.
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.path)
