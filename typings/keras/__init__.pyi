# Keras has no annotations, and the types inferred of its operations are unions of tensors and None. Here tensors are `Any`,
# see `ops.pyi`; of all else the inferred types serve.
from typing import Any

from keras._tf_keras.keras import activations as activations
from keras._tf_keras.keras import backend as backend
from keras._tf_keras.keras import callbacks as callbacks
from keras._tf_keras.keras import config as config
from keras._tf_keras.keras import constraints as constraints
from keras._tf_keras.keras import distribution as distribution
from keras._tf_keras.keras import dtype_policies as dtype_policies
from keras._tf_keras.keras import initializers as initializers
from keras._tf_keras.keras import layers as layers
from keras._tf_keras.keras import metrics as metrics
from keras._tf_keras.keras import models as models
from keras._tf_keras.keras import optimizers as optimizers
from keras._tf_keras.keras import random as random
from keras._tf_keras.keras import regularizers as regularizers
from keras._tf_keras.keras import saving as saving
from keras._tf_keras.keras import utils as utils
from keras.src.backend import KerasTensor as KerasTensor
from keras.src.backend import StatelessScope as StatelessScope
from keras.src.backend import Variable as Variable
from keras.src.layers.layer import Layer as Layer
from keras.src.models.model import Model as _Model
from keras.src.models.sequential import Sequential as _Sequential
from keras.src.ops.operation import Operation as Operation

from . import ops as ops

__version__: str
# Arguments and results whose types cannot be told from the defaults.
applications: Any
losses: Any
tree: Any

def Input(*args: Any, **kwargs: Any) -> Any: ...

class Model(_Model):
    fit: Any
    evaluate: Any
    predict: Any

class Sequential(Model, _Sequential): ...
