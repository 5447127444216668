"""The interpretable layers, one file each."""

from keras_interp.layers.label_sensitive_gate import LabelSensitiveGate

__all__ = ["LabelSensitiveGate"]
