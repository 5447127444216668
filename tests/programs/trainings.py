"""Trainings that must give the same weights on one device and on several."""

import keras
import numpy as np

from keras_interp.data import Batches
from keras_interp.layers import dynamic_k
from keras_interp.models import (
    DynamicKClassifier,
    ExplanationModule,
    FeatureLevelingNetwork,
    LabelSensitiveClassifier,
    SelfExplainingNetwork,
    XNet,
)
from keras_interp.optimizers import CoupledSGD
from tests.tiny import tiny_backbone

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def results(model, history):
    weights = {weight.path: np.asarray(weight) for weight in model.weights}
    return {**weights, **{f"log {name}": np.array(values) for name, values in history.items()}}


def row_data(columns, classes=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, columns)).astype("float32"), rng.integers(0, classes, 64).astype("int32"), rng


def rows_backbone():
    inputs = keras.Input((12,))
    return keras.Model(inputs, keras.layers.Dense(10, "relu", name="units")(inputs))


def label_sensitive(scheme):
    backbone = tiny_backbone()
    features = keras.layers.Conv2D(16, 1, name="regularised", kernel_regularizer=keras.regularizers.L2(0.1))(backbone.output)
    backbone = keras.Model(backbone.input, features)
    model = LabelSensitiveClassifier(backbone, 10, scheme=scheme, sparsity_weight=0.02, name="model")
    model.compile(CoupledSGD(0.02, momentum=0.9, weight_decay=1e-3), CROSS_ENTROPY, metrics=["accuracy"], jit_compile=False)
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (32, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 32).astype("int32")
    return results(model, model.fit(Batches(data, 16, pad=2, flip=True), epochs=2, verbose=0, shuffle=False).history)


def leveling():
    # The same draw of noise on every replica: one for the batch, of a fixed seed.
    model = FeatureLevelingNetwork((8, 6), 3, (5,), l0_weight=0.5, seed=2, name="model")
    model.compile_by_default(keras.optimizers.Adam(0.01))
    rows, labels, _ = row_data(5)
    return results(model, model.fit(rows, labels, batch_size=16, shuffle=False, verbose=0).history)


def dynamic():
    size, dynamic_k.CHUNK_SIZE = dynamic_k.CHUNK_SIZE, 100
    model = DynamicKClassifier(rows_backbone(), 3, k=4, name="model")
    model.compile_by_default(CoupledSGD(0.05, momentum=0.9, weight_decay=1e-3))
    rows, labels, _ = row_data(12)
    history = model.fit(rows, labels, batch_size=16, shuffle=False, verbose=0).history
    dynamic_k.CHUNK_SIZE = size
    return results(model, history)


def xnet():
    model = XNet(rows_backbone(), ["a", "b", "c"], 2, alpha=0.5, name="model")
    model.get_layer("explained").bias.assign([1.0, 1.0, 1.0])
    model.compile_by_default(CoupledSGD(0.05, momentum=0.9, weight_decay=1e-3))
    rows, labels, rng = row_data(12, 2)
    # Of a batch of 16 the second half goes to the second replica: "b" is in the first alone, and "c" in neither of one batch.
    attributes = (rng.random((64, 3)) < 0.4).astype("float32")
    attributes[np.arange(64) % 16 >= 8, 1] = 0
    attributes[16:32, 2] = 0
    targets = {"label": labels, "attributes": attributes}
    return results(model, model.fit(rows, targets, batch_size=16, shuffle=False, verbose=0).history)


def explanation():
    inputs = keras.Input((12,))
    units = keras.layers.Dense(10, "relu", name="units")(inputs)
    classifier = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(9, "relu")(units)))
    options = {"num_features": 3, "hidden_units": (8, 6), "dropout": 0.0, "start": "classifier", "name": "model"}
    model = ExplanationModule(classifier, "units", **options).compile_by_default(keras.optimizers.SGD(1e-3))
    rows, labels, _ = row_data(12)
    return results(model, model.fit(rows, labels, batch_size=16, verbose=0).history)


def self_explaining(task, robustness_weight):
    outputs, scale = (3, 1.0) if task == "classification" else (1, 2.0)
    options = {"concept_sparsity_weight": 0.01, "target_scale": scale, "name": "model"}
    model = SelfExplainingNetwork((8, 6), outputs, (4,), 5, task, robustness_weight=robustness_weight, **options)
    loss = CROSS_ENTROPY if task == "classification" else keras.losses.MeanSquaredError()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, jit_compile=False)
    rows, labels, _ = row_data(4)
    return results(model, model.fit(rows, labels, batch_size=16, shuffle=False, verbose=0).history)


TRAININGS = {
    "alternating": lambda: label_sensitive("alternating"),
    "joint": lambda: label_sensitive("joint"),
    "leveling": leveling,
    "dynamic": dynamic,
    "xnet": xnet,
    "explanation": explanation,
    "senn": lambda: self_explaining("classification", 0.0),
    # With one output the signs cancel.
    "senn of values": lambda: self_explaining("regression", 0.1),
}


def train(case):
    """Weights and logs of a case by their names."""
    keras.utils.set_random_seed(1)
    return TRAININGS[case]()
