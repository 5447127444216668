"""Keras networks that are interpretable by training, and a zoo of trained models."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["backbones", "data", "explain", "layers", "metrics", "models", "optimizers", "zoo"]


if TYPE_CHECKING:
    from keras_interp import backbones, data, explain, layers, metrics, models, optimizers, zoo


def __getattr__(name: str) -> Any:
    # On demand: the command answers `--help` and `list` without Keras.
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
