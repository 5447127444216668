"""Models by name: list, describe, build, load and save them."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_interp.models.base import InterpretableModel
from keras_interp.typing import PathLike, Shape
from keras_interp.zoo import artifacts, listing
from keras_interp.zoo.entry import Paper, Recipe
from keras_interp.zoo.hub import models_of
from keras_interp.zoo.registry import ENTRIES, facts_of, get_entry
from keras_interp.zoo.store import find_folder, find_local, load_folder, location_of


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Facts about a zoo model.

    Attributes:
        name, description, method, paper, architecture, dataset, class_names, input_shape: as in the registry.
        parameters: number of parameters of the shipped model, for a network with gates that of its compact form. None without
            weights.
        metrics: measured figures on the test split, {metric: value}; some models ship with figures but without weights.
        paper_metrics: the paper's figures under the same names.
        recipe: the recipe of the shipped weights, or the intended one.
        comparison: whether it is a row of a paper's comparisons.
        trained: whether weights are available with this installation, in the mirror or on the Hub.
        location: its place on the Hub, as "hf://user/repo@commit", or None.
        license: license of code and weights.
        revision: date of the shipped weights, or None.
        sha256: {file: sha256} of the shipped artifact.
    """

    name: str
    description: str
    method: str
    paper: Paper
    architecture: str
    dataset: str
    class_names: tuple
    input_shape: tuple
    parameters: int | None
    metrics: Mapping
    paper_metrics: Mapping
    recipe: Recipe
    comparison: bool
    trained: bool
    location: str | None
    license: str
    revision: str | None
    sha256: Mapping


def list_models(
    pattern: str = "*", trained: bool | None = None, hub: str | None = None, comparisons: bool = False
) -> list[str]:
    """Names of the zoo's models, or of a user's models on the Hub.

    Args:
        pattern: `fnmatch` pattern, as "lsg_*".
        trained: True for those with weights, False for those without, None for all.
        comparisons: whether `"*"` lists the rows of the papers' comparisons too: other methods, starts and depths.
        hub: user or organization whose repositories with keras-interp models are listed instead.

    Returns:
        A list of names that `load` takes: those with weights first, each part sorted.

    Raises:
        HubError: if the Hub does not respond.

    Examples:

    >>> list_models("lsg_*alexnet*")
    ['lsg_fixed_alexnet_cifar10', 'lsg_fixed_cold_alexnet_cifar10']
    """
    if hub is not None:
        return [f"hf://{model.id}" for model in models_of(hub, pattern)]
    comparison = {name: entry.comparison for name, entry in ENTRIES.items()}
    return listing.select(comparison, pattern, trained, comparisons, is_trained)


def is_trained(name: str) -> bool:
    """True if a model has weights with this installation, in the mirror or on the Hub."""
    return find_local(name) is not None or location_of(name) is not None


def info(name: str) -> ModelInfo:
    """Facts about a model, see `ModelInfo`.

    Raises:
        KeyError: for an unknown name, with similar ones.
    """
    facts = listing.describe(name, facts_of(get_entry(name)))
    return ModelInfo(**{**facts, "paper": Paper(**facts["paper"]), "recipe": Recipe(**facts["recipe"])})


def build(
    name: str,
    num_classes: int | None = None,
    input_shape: Shape | None = None,
    class_names: Sequence[str] | None = None,
    dataset: Any = None,
) -> keras.Model:
    """Builds a model without trained weights, compiled, in any size.

    Args:
        name: name of the model.
        num_classes: number of classes, or of a regression's outputs; defaults to the model's own.
        input_shape: shape of one input, as (height, width, channels) or (columns,); defaults to the model's own.
        class_names: names of the outputs.
        dataset: an `ArrayDataset` that defines classes and input shape and, for tables, the means and deviations for scaling
            columns and target; without it, they are not scaled.

    Returns:
        A compiled `keras.Model`.

    Examples:

    >>> build("lsg_resnet20_cifar10", num_classes=5, input_shape=(64, 64, 3)).output_shape
    (None, 5)
    """
    return get_entry(name).build(num_classes, input_shape, class_names, dataset).compile_by_default()


def load(name: str | pathlib.Path, weights: bool = True, custom_objects: Mapping[str, type] | None = None) -> keras.Model:
    """Loads a trained model, ready to predict, explain and continue training.

    Args:
        name: name of a zoo model; or a folder that `save`, `train` or `download` wrote; or "hf://user/repo", with "@revision"
            after it for a branch, a tag or, best, a commit: a repository made by `publish`, or one in Keras's layout with
            layers of Keras and keras-interp. A zoo model comes from the installation, the mirror that the environment variable
            `KERAS_INTERP_ZOO` names, or the Hub.
        weights: False builds the zoo model without its weights.
        custom_objects: {name: class} of your own layers that a model in a folder or on the Hub may use. They are trusted.

    Returns:
        A compiled model that takes raw pixels in 0..255, or raw rows of a table. The x-features of an explanation module have
        the names in its folder's `concepts.json`, if any.

    Raises:
        KeyError: for an unknown name, with similar ones.
        FileNotFoundError: for a zoo model whose weights are not available.
        HubError: if the Hub does not provide the model; the message suggests a fix.
        ArtifactError: for altered or foreign files, before any of their code runs.
        ValueError: for a `concepts.json` that is damaged or belongs to another model.
    """
    if isinstance(name, str) and name in ENTRIES:
        if not weights:
            return build(name)
        folder = find_folder(name)
        model = load_folder(folder, artifacts.pins_of(name, folder))
    else:
        model = load_folder(find_folder(name), None, custom_objects)
    # A plain Keras model, such as a compact form, has no task.
    return model.compile_by_default() if isinstance(model, InterpretableModel) else model


def save(model: keras.Model, folder: PathLike, golden_inputs: np.ndarray | None = None) -> pathlib.Path:
    """Saves a model as a folder that `load` reads, see `artifacts.save`."""
    return artifacts.save(model, folder, golden_inputs)
