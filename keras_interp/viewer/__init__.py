"""The concept viewer: a local web page to look at x-features, name them, vote on them and take part in the study."""

from keras_interp.viewer.concepts import Concepts, check_model
from keras_interp.viewer.page import build, require_gradio, serve

__all__ = ["Concepts", "build", "check_model", "require_gradio", "serve"]
