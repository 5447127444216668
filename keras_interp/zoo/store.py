"""Lookup of models: names become folders of the installation, a mirror or the Hub."""

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence

import keras

from keras_interp.explain import ConceptNotes
from keras_interp.models.concept_explainer import ConceptExplainer
from keras_interp.typing import PathLike
from keras_interp.zoo import artifacts
from keras_interp.zoo.hub import NEEDED, Reference, fetch, is_reference
from keras_interp.zoo.listing import LOCATIONS, MIRROR
from keras_interp.zoo.registry import ENTRIES, get_entry


def location_of(name: str) -> Reference | None:
    """The `Reference`, with its commit, of a published zoo model, or None."""
    locations = json.loads(LOCATIONS.read_text())
    return Reference.parse(locations[name]) if name in locations else None


def find_local(name: str) -> pathlib.Path | None:
    """Folder of a zoo model in the installation or the mirror, or None."""
    folder = artifacts.shipped_folder(name)
    if folder is None and MIRROR in os.environ:
        mirrored = pathlib.Path(os.environ[MIRROR], name)
        return mirrored if (mirrored / artifacts.CONFIG).is_file() else None
    return folder


def find_folder(name: str | pathlib.Path, files: Sequence[str] = NEEDED) -> pathlib.Path:
    """Folder that `load` takes a model from, after a download if it is on the Hub.

    Args:
        name: as for `load`.
        files: the files to download, if they exist.

    Returns:
        A `pathlib.Path`.

    Raises:
        KeyError, FileNotFoundError, HubError, ArtifactError: as for `load`.
    """
    if is_reference(name):
        return fetch(Reference.parse(name), files=files)
    if isinstance(name, pathlib.Path) or any(separator in name for separator in "/\\"):
        if not pathlib.Path(name).is_dir():
            raise artifacts.ArtifactError(f"There is no folder of a model at this path. Received: {name}")
        return pathlib.Path(name)
    if name not in ENTRIES and pathlib.Path(name, artifacts.CONFIG).is_file():
        return pathlib.Path(name)
    get_entry(name)
    folder, location = find_local(name), location_of(name)
    if folder is not None:
        return folder
    if location is None:
        raise FileNotFoundError(
            f"This model's weights are neither in this installation nor on the Hub. Set {MIRROR} to the `zoo` folder "
            f"of a checkout that has them, or train it with: keras-interp train {name} --data-dir DIR, then load the folder "
            f"that it writes. Received: {name!r}"
        )
    return fetch(location, artifacts.pins_of(name), files)


def copy_artifact(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copies the files of an artifact, each atomically, into a folder, replacing those of another one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in artifacts.FILES:
        if not (source / name).is_file():
            # Users' notes are kept.
            if name != artifacts.CONCEPTS:
                (folder / name).unlink(missing_ok=True)
        else:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                os.replace(shutil.copyfile(source / name, pathlib.Path(scratch) / name), folder / name)
    return folder


def load_folder(
    folder: pathlib.Path, pins: Mapping[str, str] | None = None, custom_objects: Mapping[str, type] | None = None
) -> keras.Model:
    """The model in a folder, see `artifacts.load`, with the names that users gave to its x-features."""
    model = artifacts.load(folder, pins, custom_objects)
    if isinstance(model, ConceptExplainer):
        ConceptNotes(folder / artifacts.CONCEPTS).apply(model)
    return model


def download(names: Iterable[str], folder: PathLike) -> list[pathlib.Path]:
    """Copies models into a folder, a mirror for work without a network.

    `load` takes models by name from there if the environment variable `KERAS_INTERP_ZOO` names the folder.

    Args:
        names: names of zoo models, or "hf://user/repo" with or without "@revision".
        folder: folder to write; each model gets a subfolder named after it or its repository.

    Returns:
        The folders of the models, `pathlib.Path`s.

    Raises:
        KeyError, FileNotFoundError, HubError, ArtifactError: as for `load`. Complete models stay.
        ValueError: for two models that would go to the same folder.
    """
    names = [names] if isinstance(names, str) else list(names)
    targets = {}
    for name in names:
        folder_name = Reference.parse(name).repo_id.split("/")[1] if is_reference(name) else get_entry(name).name
        target = pathlib.Path(folder) / folder_name
        if target in targets.values():
            raise ValueError(f"Two models would go to {target}; download one of them to another folder. Received: {names}")
        targets[name] = target
    return [copy_artifact(find_folder(name, artifacts.FILES), target) for name, target in targets.items()]
