"""The interpretable layers, one file each."""

from keras_interp.layers.dynamic_k import DynamicKConv2D, DynamicKDense
from keras_interp.layers.hard_concrete_gate import HardConcreteGate
from keras_interp.layers.interpretable_sgd import InterpretableSGDDense
from keras_interp.layers.label_sensitive_gate import LabelSensitiveGate
from keras_interp.layers.sparse_reconstruction_ae import SparseReconstructionAE
from keras_interp.layers.x_layer import XLayer

__all__ = [
    "DynamicKConv2D",
    "DynamicKDense",
    "HardConcreteGate",
    "InterpretableSGDDense",
    "LabelSensitiveGate",
    "SparseReconstructionAE",
    "XLayer",
]
