"""What several methods share in explaining a prediction."""

from keras_interp.explain.explanation import Explanation
from keras_interp.explain.gradients import input_gradient

__all__ = ["Explanation", "input_gradient"]
