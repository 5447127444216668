"""Explanations of predictions, shared by several methods."""

from keras_interp.explain.concept_notes import ConceptNotes
from keras_interp.explain.excitation_backprop import ExcitationBackprop, excitation_backprop
from keras_interp.explain.excitation_rules import winning_probabilities
from keras_interp.explain.explanation import Explanation
from keras_interp.explain.gradients import input_gradient

__all__ = [
    "ConceptNotes",
    "ExcitationBackprop",
    "Explanation",
    "excitation_backprop",
    "input_gradient",
    "winning_probabilities",
]
