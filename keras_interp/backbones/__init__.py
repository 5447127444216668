"""Feature extractors as functional graphs, from raw inputs to features."""

from keras_interp.backbones.alexnet import cifar_alexnet
from keras_interp.backbones.applications import mobilenet, vgg19
from keras_interp.backbones.mlp import mlp
from keras_interp.backbones.preprocessing import column_scaling, pixel_normalization, unit_scaling
from keras_interp.backbones.resnet import cifar_resnet, resnet

__all__ = [
    "cifar_alexnet",
    "cifar_resnet",
    "column_scaling",
    "mlp",
    "mobilenet",
    "pixel_normalization",
    "resnet",
    "unit_scaling",
    "vgg19",
]
