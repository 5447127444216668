"""What several methods share in explaining a prediction."""

from keras_interp.explain.explanation import Explanation

__all__ = ["Explanation"]
