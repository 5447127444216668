"""One file for each method: the whole of it, from the graph to the explanation."""

from keras_interp.models.classifier import Classifier, Regressor
from keras_interp.models.label_sensitive import LabelSensitiveClassifier

__all__ = ["Classifier", "LabelSensitiveClassifier", "Regressor"]
