"""Keras networks that are interpretable by training, and a zoo of trained models."""

from keras_interp import backbones, data, evaluate, explain, layers, models, optimizers, zoo

__version__ = "0.1.0"

__all__ = ["backbones", "data", "evaluate", "explain", "layers", "models", "optimizers", "zoo"]
