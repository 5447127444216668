"""Feature extractors as functional graphs, from raw pixels to feature maps."""

from keras_interp.backbones.alexnet import cifar_alexnet
from keras_interp.backbones.resnet import cifar_resnet

__all__ = ["cifar_alexnet", "cifar_resnet"]
