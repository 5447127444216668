"""The zoo: trained models by name, and tools to train, measure and save them."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_interp.zoo.artifacts import ArtifactError
    from keras_interp.zoo.catalogue import build, info, list_models, load, save
    from keras_interp.zoo.entry import Recipe
    from keras_interp.zoo.evaluation import evaluate
    from keras_interp.zoo.hub import HubError
    from keras_interp.zoo.own import fit
    from keras_interp.zoo.publishing import publish
    from keras_interp.zoo.store import download
    from keras_interp.zoo.training import train

# Module of each name, imported on demand.
_MODULES = {
    "ArtifactError": "artifacts",
    "HubError": "hub",
    "Recipe": "entry",
    "build": "catalogue",
    "download": "store",
    "evaluate": "evaluation",
    "fit": "own",
    "info": "catalogue",
    "list_models": "catalogue",
    "load": "catalogue",
    "publish": "publishing",
    "save": "catalogue",
    "train": "training",
}

__all__ = [
    "ArtifactError",
    "HubError",
    "Recipe",
    "build",
    "download",
    "evaluate",
    "fit",
    "info",
    "list_models",
    "load",
    "publish",
    "save",
    "train",
]


def __getattr__(name):
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
