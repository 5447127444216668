"""The models, one file for each method, from the graph to the explanation."""

from keras_interp.models.classifier import Classifier, Regressor
from keras_interp.models.dynamic_k import DynamicKClassifier, convert
from keras_interp.models.explanation_module import COMPARISONS, ExplanationModule
from keras_interp.models.feature_leveling import FeatureLevelingNetwork
from keras_interp.models.l0_network import L0Network
from keras_interp.models.label_sensitive import LabelSensitiveClassifier
from keras_interp.models.lasso_module import LassoModule
from keras_interp.models.neuron_matching import NeuronMatching, match_neurons
from keras_interp.models.self_explaining import SelfExplainingNetwork
from keras_interp.models.xnet import XNet

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
    "convert",
    "match_neurons",
]
