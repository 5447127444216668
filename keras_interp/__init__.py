"""Keras networks that are interpretable by training, and a zoo of trained models."""

from keras_interp import backbones, data, explain, layers, metrics, models, optimizers, zoo

__version__ = "0.1.0"

__all__ = ["backbones", "data", "explain", "layers", "metrics", "models", "optimizers", "zoo"]
