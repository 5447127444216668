"""Where a model lies: names become folders, of the installation, a mirror or the Hub."""

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
    """The `Reference`, with its commit, of a zoo model that was published, or None."""
    locations = json.loads(LOCATIONS.read_text())
    return Reference.parse(locations[name]) if name in locations else None


def find_local(name: str) -> pathlib.Path | None:
    """The folder of a zoo model that came with the installation or lies in the mirror, or None."""
    folder = artifacts.shipped_folder(name)
    if folder is None and MIRROR in os.environ:
        mirrored = pathlib.Path(os.environ[MIRROR], name)
        return mirrored if (mirrored / artifacts.CONFIG).is_file() else None
    return folder


def find_folder(name: str | pathlib.Path, files: Sequence[str] = NEEDED) -> pathlib.Path:
    """The folder that `load` takes a model from, after a download where it lies on the Hub.

    Args:
        name: as for `load`.
        files: the files to download, as far as there are such.

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
            f"No weights of this model come with this installation, nor are they on the Hub. Set {MIRROR} to the `zoo` folder "
            f"of a checkout that has them, or train it with: keras-interp train {name} --data-dir DIR, then load the folder "
            f"that it writes. Received: {name!r}"
        )
    return fetch(location, artifacts.pins_of(name), files)


def copy_artifact(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copies the files of an artifact, each whole or not at all, into a folder, in the place of another one's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in artifacts.FILES:
        if not (source / name).is_file():
            # What a person wrote is not thrown away.
            if name != artifacts.CONCEPTS:
                (folder / name).unlink(missing_ok=True)
        else:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                os.replace(shutil.copyfile(source / name, pathlib.Path(scratch) / name), folder / name)
    return folder


def load_folder(
    folder: pathlib.Path, pins: Mapping[str, str] | None = None, custom_objects: Mapping[str, type] | None = None
) -> keras.Model:
    """The model in a folder, see `artifacts.load`, with the names that persons gave to its x-features."""
    model = artifacts.load(folder, pins, custom_objects)
    if isinstance(model, ConceptExplainer):
        ConceptNotes(folder / artifacts.CONCEPTS).apply(model)
    return model


def download(names: Iterable[str], folder: PathLike) -> list[pathlib.Path]:
    """Makes a mirror of models in a folder, to work without a network.

    `load` takes models by name from there, where the environment variable `KERAS_INTERP_ZOO` names the folder.

    Args:
        names: names of zoo models, or "hf://user/repo" with or without "@revision".
        folder: where to; each model in a folder of its name, or of its repository's.

    Returns:
        The folders of the models, `pathlib.Path`s.

    Raises:
        KeyError, FileNotFoundError, HubError, ArtifactError: as for `load`. What was complete by then stays.
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
