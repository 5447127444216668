"""The zoo: trained models by name, and what it takes to train, measure and save them."""

from keras_interp.zoo.artifacts import ArtifactError
from keras_interp.zoo.catalogue import build, info, list_models, load, save
from keras_interp.zoo.entry import Recipe
from keras_interp.zoo.evaluation import evaluate
from keras_interp.zoo.hub import HubError
from keras_interp.zoo.publishing import publish
from keras_interp.zoo.store import download
from keras_interp.zoo.training import train

__all__ = [
    "ArtifactError",
    "HubError",
    "Recipe",
    "build",
    "download",
    "evaluate",
    "info",
    "list_models",
    "load",
    "publish",
    "save",
    "train",
]
