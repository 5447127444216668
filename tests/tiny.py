"""A backbone, zoo entries and data small enough for tests to train on every backend in a second."""

import keras
import numpy as np
from keras import layers

from keras_interp import models
from keras_interp.backbones.batch_normalization import FusedBatchNormalization
from keras_interp.backbones.preprocessing import pixel_normalization
from keras_interp.data import ArrayDataset
from keras_interp.zoo import registry
from keras_interp.zoo.entry import Recipe
from keras_interp.zoo.papers import dynk, fl, lsg, xnet

# Options of `compile` for a step without a graph, which TensorFlow traces a hundred times as long as it computes. That both
# compute the same is in models/test_contract.py. JAX compiles each operation of such a step, which saves nothing.
EAGER = {"run_eagerly": keras.backend.backend() == "tensorflow"}


def tiny_backbone(input_shape=(32, 32, 3), filters=16):
    """Two convolutions, (h, w, 3) to (h/8, w/8, filters)."""
    inputs = keras.Input(input_shape, name="pixels")
    x = layers.Conv2D(6, 3, 4, "same", use_bias=False, name="first_convolution")(pixel_normalization(inputs))
    x = layers.ReLU(name="first_relu")(FusedBatchNormalization(name="first_normalization")(x))
    x = layers.Conv2D(filters, 3, 2, "same", use_bias=False, name="last_convolution")(x)
    x = layers.ReLU(name="last_relu")(FusedBatchNormalization(name="last_normalization")(x))
    return keras.Model(inputs, x, name="tiny")


def toy_dataset():
    """64 random images of ten classes."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (64, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 64).astype("int32")
    return ArrayDataset(images, labels, tuple("abcdefghij"), "toy")


def register():
    """Adds the entries "tiny_lsg", "tiny_std", "tiny_fl", "tiny_dynk" and "tiny_xnet" to the zoo, in this process."""
    registry.ENTRIES["tiny_fl"] = fl.NetworkEntry(
        name="tiny_fl",
        description="For tests.",
        network="fl",
        hidden_units=(8, 4),
        dataset="cifar10",
        class_names=lsg.CIFAR10_LABELS,
        input_shape=(32, 32, 3),
        recipe=Recipe(epochs=3, batch_size=16, optimizer="adam", learning_rate=0.01, dtype_policy="float32"),
    )
    registry.ENTRIES["tiny_dynk"] = dynk.ConnectionEntry(
        name="tiny_dynk",
        description="For tests.",
        method="Dynamic-K activation",
        model_class=models.DynamicKClassifier,
        options={"k": 2},
        backbone=tiny_backbone,
        dataset="cifar10",
        class_names=lsg.CIFAR10_LABELS,
        input_shape=(32, 32, 3),
        recipe=Recipe(epochs=3, batch_size=16, dtype_policy="float32"),
    )
    registry.ENTRIES["tiny_xnet"] = xnet.AttributeEntry(
        name="tiny_xnet",
        description="For tests.",
        method="drop loss",
        backbone=tiny_backbone,
        dataset="celeb_a_mini",
        input_shape=(16, 16, 3),
        recipe=Recipe(epochs=3, batch_size=16, schedule="steps", min_positives=2, dtype_policy="float32"),
    )
    for name, kind in (("tiny_lsg", lsg.GATED), ("tiny_std", lsg.STANDARD)):
        registry.ENTRIES[name] = lsg.FilterEntry(
            name=name,
            description="For tests.",
            backbone=tiny_backbone,
            last_convolution="last_convolution",
            filters_per_class=2,
            recipe=Recipe(epochs=3, batch_size=16, dtype_policy="float32"),
            **kind,
        )
