"""Trained models on disk: Keras's own files, checked by sha256 and against an allow-list before anything is deserialized."""

import contextlib
import datetime
import hashlib
import io
import json
import math
import os
import pathlib
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import keras
import numpy as np

from keras_interp.explain.concept_notes import FILE_NAME as CONCEPTS
from keras_interp.graphs import set_weights
from keras_interp.typing import PathLike
from keras_interp.zoo.listing import PINS, shipped_root

FORMAT = 1
CONFIG, METADATA, WEIGHTS, GOLDEN, METRICS = "config.json", "metadata.json", "model.weights.h5", "golden.npz", "metrics.json"
LOG, CARD, EXPLANATION = "training_log.csv", "README.md", "explanation.png"
# Files that `load` needs, and all files of an artifact.
REQUIRED = (CONFIG, METADATA, WEIGHTS)
FILES = (*REQUIRED, GOLDEN, METRICS, LOG, CARD, EXPLANATION, CONCEPTS)

_KERAS_MODULES = ("keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints")
# Layers whose config holds code, or a path to it.
_CODE_LAYERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")


class ArtifactError(ValueError):
    """A model folder is incomplete, altered, foreign, or of a newer format."""


def shipped_folder(name: str) -> pathlib.Path | None:
    """Folder of a model that came with the checkout or the installed package, or None."""
    folder = shipped_root() / name
    return folder if (folder / CONFIG).is_file() else None


def save(
    model: keras.Model,
    folder: PathLike,
    golden_inputs: np.ndarray | None = None,
    storage_dtype: str = "float32",
    provenance: Mapping[str, Any] | None = None,
    custom_objects: Mapping[str, type] | None = None,
) -> pathlib.Path:
    """Saves a model, without optimizer state, as a folder that `load` and Keras itself can read.

    Args:
        model: a built `keras.Model` of this package.
        folder: folder to write; an existing artifact's other files (metrics, card, figures) stay.
        golden_inputs: uint8 array (n, height, width, 3); stored with their logits, to check loading.
        storage_dtype: "float32", or "float16" to halve the file. The golden logits are those of the stored weights.
        provenance: dict for `metadata.json`: the origin of the model.
        custom_objects: {name: class} of your own layers, which `load` needs too.

    Returns:
        The folder as a `pathlib.Path`.

    Raises:
        ArtifactError: for a model of classes that `load` would refuse.
    """
    from keras_interp import __version__

    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Without compile state and optimizer variables; in a temporary folder, so that a crash leaves no partial file.
    model = _uncompiled_copy(model, storage_dtype, custom_objects)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        scratch = pathlib.Path(scratch)
        keras.saving.save_model(model, scratch / "model", zipped=False)
        metadata = json.loads((scratch / "model" / METADATA).read_text())
        metadata["date_saved"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        metadata["keras_interp"] = {"format": FORMAT, "version": __version__, "provenance": provenance or {}}
        (scratch / "model" / METADATA).write_text(json.dumps(metadata, indent=1) + "\n")
        config = json.loads((scratch / "model" / CONFIG).read_text())
        (scratch / "model" / CONFIG).write_text(json.dumps(config, separators=(",", ":")) + "\n")
        _rewrite_weights(scratch / "model" / WEIGHTS, storage_dtype)
        if golden_inputs is not None:
            logits = np.asarray(model.predict(golden_inputs, verbose=0), "float32")
            np.savez_compressed(scratch / "model" / GOLDEN, inputs=golden_inputs, logits=logits)
        folder.mkdir(exist_ok=True)
        for path in (scratch / "model").iterdir():
            if path.is_file():
                os.replace(path, folder / path.name)
    return folder


def _uncompiled_copy(model, storage_dtype, custom_objects):
    config = _without_compile_state(keras.saving.serialize_keras_object(model))
    check_config(config, custom_objects)
    copy = keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)
    stored = [np.asarray(weight, storage_dtype).astype(weight.dtype) for weight in model.get_weights()]
    for variable, values in zip(copy.weights, stored):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ArtifactError(
                f"Weights must be finite as {storage_dtype}. Received: NaN or infinite values in {variable.path}"
            )
    set_weights(copy, stored)
    return copy


def _without_compile_state(config):
    """A config without the state of `compile`, at any depth."""
    if isinstance(config, list):
        return [_without_compile_state(value) for value in config]
    if not isinstance(config, dict):
        return config
    return {key: _without_compile_state(value) for key, value in config.items() if key != "compile_config"}


def _rewrite_weights(path, storage_dtype):
    """Packs the weights: compressed, and in the storage dtype."""
    packed = io.BytesIO()
    with h5py.File(path, "r") as source, h5py.File(packed, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                values = item[()]
                values = values.astype(storage_dtype) if values.dtype.kind == "f" else values
                # For a small array compression costs more than it saves.
                target.create_dataset(name, data=values, compression="gzip" if values.size > 1000 else None)
            else:
                target.require_group(name)
            target[name].attrs.update(item.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    path.write_bytes(packed.getvalue())


def load(
    folder: PathLike, pins: Mapping[str, str] | None = None, custom_objects: Mapping[str, type] | None = None
) -> keras.Model:
    """Loads a model folder, uncompiled, after checking it.

    Args:
        folder: folder in the layout of `save` or of `keras.saving`.
        pins: {file name: sha256} that the files must match, or None.
        custom_objects: {name: class} of layers beyond the allow-list that the caller trusts.

    Raises:
        ArtifactError: if a file is missing, altered, truncated or of a newer format, or the config names a class outside the
            allow-list. Code in the artifact is never executed.
    """
    folder = pathlib.Path(folder)
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise ArtifactError(f"A model folder holds {CONFIG}, {METADATA} and {WEIGHTS}. Received: {folder} without {name}")
    verify(folder, pins or {})
    metadata, config = _read_json(folder / METADATA), _without_compile_state(_read_json(folder / CONFIG))
    ours = metadata.get("keras_interp", {})
    if not isinstance(ours, dict):
        raise ArtifactError(f"`keras_interp` must be a JSON object. Received: {folder / METADATA}: {ours!r}")
    found = ours.get("format", FORMAT)
    if type(found) is not int or not 1 <= found <= FORMAT:
        raise ArtifactError(
            f"This keras-interp reads artifacts up to format {FORMAT}; install a newer version. Received: format {found}"
        )
    check_config(config, custom_objects)
    try:
        model = keras.saving.deserialize_keras_object(config, custom_objects=custom_objects, safe_mode=True)
    except Exception as error:  # Backends raise their own errors, as for a layer that does not fit into memory.
        raise ArtifactError(f"The config does not make a model. Received: {folder / CONFIG}: {error}") from error
    if not isinstance(model, keras.Model):
        raise ArtifactError(f"The config does not make a model. Received: {folder / CONFIG}: {type(model).__name__}")
    try:
        _check_sizes(folder / WEIGHTS, sum(math.prod(variable.shape) for variable in model.variables))
        model.load_weights(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise ArtifactError(
            f"The weights do not fit the model or are damaged. Received: {folder / WEIGHTS}: {error}"
        ) from error
    return model


def _check_sizes(path, count):
    """Raises a `ValueError` for a weight file much larger than the `count` numbers of its model, or with links.

    A small file can claim any size: by compression, a dataset that was never written, or groups that hold each other. The
    limit leaves room for the state of an optimizer and metrics.
    """
    seen = set()

    def numbers(group):
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is a link")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr  # pyright: ignore[reportAttributeAccessIssue]
            if address in seen:
                raise ValueError(f"{name!r} is there twice")
            seen.add(address)
            if isinstance(item, h5py.Group):
                yield from numbers(item)
            elif item.is_virtual or item.external:
                raise ValueError(f"{name!r} takes its numbers from another file")
            # bfloat16 is stored as two bytes without a type.
            elif not (item.dtype.kind in "fiub" or item.dtype == "V2"):
                raise ValueError(f"{name!r} holds {item.dtype}")
            else:
                yield math.prod(item.shape or ())

    with h5py.File(path, "r") as file:
        found = sum(numbers(file))
    if found > 4 * count + 10_000:
        raise ValueError(f"{found:,} numbers for a model of {count:,}")


def _read_json(path):
    try:
        value = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"The file is not JSON. Received: {path}: {error}") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"The file must hold a JSON object. Received: {path}: {type(value).__name__}")
    return value


def verify(folder: PathLike, pins: Mapping[str, str]) -> None:
    """Raises an `ArtifactError` naming the first file whose sha256 is not the pinned one."""
    for name, expected in pins.items():
        path = pathlib.Path(folder) / name
        if not path.is_file():
            raise ArtifactError(f"A file of the artifact is missing. Received: {path}")
        found = sha256(path)
        if found != expected:
            raise ArtifactError(
                f"A file of the artifact is not the published one: expected sha256 {expected[:12]}... "
                f"Received: {path} with sha256 {found[:12]}..."
            )


def sha256(path: PathLike) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pins() -> dict[str, dict[str, str]]:
    """Pinned files of all shipped models: {name: {file name: sha256}}."""
    return json.loads(PINS.read_text()) if PINS.is_file() else {}


def read_metrics(name: str) -> dict[str, Any] | None:
    """Measured figures of a model that ships, with or without weights: the content of its `metrics.json`, or None."""
    folder = shipped_root() / name
    if not (folder / METRICS).is_file():
        return None
    verify(folder, {METRICS: read_pins().get(name, {}).get(METRICS, "")})
    return _read_json(folder / METRICS)


def pins_of(name: str, folder: PathLike | None = None) -> dict[str, str]:
    """Pinned files of a zoo model that must be checked in a folder; all by default.

    In a copy from outside the installation, only the files that `load` needs: users may have edited its card.

    Raises:
        ArtifactError: if a required file is not pinned: nothing ships unchecked.
    """
    pins = read_pins().get(name, {})
    if not set(REQUIRED) <= set(pins):
        raise ArtifactError(f"The files of a shipped model must be pinned in {PINS.name}. Received: {name} without pins")
    return pins if folder in (None, shipped_folder(name)) else {file: pins[file] for file in REQUIRED}


def pin(name: str, folder: PathLike) -> None:
    """Pins the current files of a shipped model, except users' notes. For maintainers; needs a checkout."""
    files = sorted(path for path in pathlib.Path(folder).iterdir() if path.is_file() and path.name != CONCEPTS)
    pins = {**read_pins(), name: {path.name: sha256(path) for path in files}}
    PINS.write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n")


def golden_difference(model: keras.Model, folder: PathLike) -> float:
    """Largest difference between a model's logits on the stored golden inputs and the stored logits."""
    with np.load(pathlib.Path(folder) / GOLDEN, allow_pickle=False) as golden:
        return float(np.abs(model.predict(golden["inputs"], verbose=0) - golden["logits"]).max())


def check_golden(model: keras.Model, folder: PathLike) -> None:
    """Raises an `ArtifactError` if a model's outputs on the golden inputs differ from those in its folder.

    Tolerance 1e-3, relative above 1: backends and processors round differently.
    """
    folder = pathlib.Path(folder)
    try:
        with np.load(folder / GOLDEN, allow_pickle=False) as golden:
            largest = max(1.0, float(np.abs(golden["logits"]).max()))
        difference = golden_difference(model, folder)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"The golden outputs cannot be read. Received: {folder / GOLDEN}: {error}") from error
    if not difference <= 1e-3 * largest:
        raise ArtifactError(
            f"The model does not reproduce its golden outputs. Received: {folder}, where they differ by up to {difference:.3g}"
        )


def check_config(config: Any, custom_objects: Mapping[str, type] | None = None) -> None:
    """Checks every class that a Keras config names. Allowed are this package's, Keras's layers and operations without code in
    their config, and `custom_objects`.

    Raises:
        ArtifactError: for any other class, before anything is deserialized.
    """
    if isinstance(config, dict):
        if "class_name" in config:
            _check_class(config.get("module"), config["class_name"], config.get("registered_name"), custom_objects or {})
        for value in config.values():
            check_config(value, custom_objects)
    elif isinstance(config, (list, tuple)):
        for value in config:
            check_config(value, custom_objects)


def _check_class(module, class_name, registered_name, custom_objects):
    if not isinstance(class_name, str) or not isinstance(registered_name, str | None):
        raise ArtifactError(f"The config must name a class by a string. Received: {class_name!r}")
    # Check the classes that Keras will find under these names.
    if keras.saving.get_registered_object(registered_name or class_name, custom_objects) in custom_objects.values():
        return
    if module is None and class_name in ("__keras_tensor__", "__tuple__", "__numpy__", "__ellipsis__", "__slice__"):
        return
    registered = keras.saving.get_registered_object(f"keras_interp>{class_name}")
    # Keras finds it by its registered name; the module is that at saving time and may have moved.
    ours = str(module).split(".")[0] == "keras_interp" or module == getattr(registered, "__module__", None)
    if registered is not None and registered_name == f"keras_interp>{class_name}" and ours:
        return
    if module in _KERAS_MODULES and class_name not in _CODE_LAYERS and registered_name in (None, class_name):
        parent = keras
        with contextlib.suppress(AttributeError):
            for part in module.split(".")[1:]:
                parent = getattr(parent, part)
            if isinstance(getattr(parent, str(class_name)), type):
                return
    if str(module).startswith("keras.src.ops.") and registered_name in (None, class_name):
        operation = getattr(sys.modules.get(str(module)), str(class_name), None)
        if isinstance(operation, type) and issubclass(operation, keras.Operation):
            return
    if (module, class_name) in (("keras.src.models.functional", "Functional"), ("keras.src.models.sequential", "Sequential")):
        return
    raise ArtifactError(
        "The config names a class outside the allow-list (the layers of keras-interp and of Keras), so it was not loaded. "
        f"Received: {module}.{class_name}"
    )
