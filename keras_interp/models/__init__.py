"""One file for each method: the whole of it, from the graph to the explanation."""

from keras_interp.models.classifier import Classifier, Regressor
from keras_interp.models.dynamic_k import DynamicKClassifier, convert
from keras_interp.models.explanation_module import COMPARISONS, ExplanationModule, LassoModule
from keras_interp.models.feature_leveling import FeatureLevelingNetwork, L0Network
from keras_interp.models.label_sensitive import LabelSensitiveClassifier
from keras_interp.models.self_explaining import SelfExplainingNetwork
from keras_interp.models.xnet import NeuronMatching, XNet, category_means, match_neurons

__all__ = [
    "COMPARISONS",
    "Classifier",
    "DynamicKClassifier",
    "ExplanationModule",
    "FeatureLevelingNetwork",
    "L0Network",
    "LabelSensitiveClassifier",
    "LassoModule",
    "NeuronMatching",
    "Regressor",
    "SelfExplainingNetwork",
    "XNet",
    "category_means",
    "convert",
    "match_neurons",
]
