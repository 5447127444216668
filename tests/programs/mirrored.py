"""Trains every case on one device and two mirrored ones: FOLDER/CASE.{one,two}.npz, FOLDER/last_batch.npz."""

import contextlib
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_interp.layers import dynamic_k
from keras_interp.models import DynamicKClassifier, XNet
from tests.programs.trainings import TRAININGS, rows_backbone, train


def small_last_batch():
    """Accuracies by `predict` and `evaluate`, and whether the weights are finite after a batch of one example."""
    dynamic_k.CHUNK_SIZE = 100
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(11, 12)).astype("float32"), rng.integers(0, 3, 11).astype("int32")
    attributes = (np.arange(22).reshape(11, 2) % 3 == 0).astype("float32")
    cross_entropy = keras.losses.sparse_categorical_crossentropy
    results = {}
    for kind in ("dynamic", "xnet"):
        keras.utils.set_random_seed(1)
        model = (
            DynamicKClassifier(rows_backbone(), 3, k=4)
            if kind == "dynamic"
            else XNet(rows_backbone(), ["a", "b"], 3, alpha=0.1)
        )
        # A function, and not a Keras loss: the mean over an empty share of a batch is the model's.
        model.compile("sgd", lambda y, logits: cross_entropy(y, logits, from_logits=True), metrics=["accuracy"])
        right = model.predict(rows, batch_size=4, verbose=0).argmax(axis=1) == labels
        found = model.evaluate(rows, labels, batch_size=4, verbose=0, return_dict=True)
        assert set(found) == {"loss", "accuracy"}, found
        results[kind] = [right.mean(), found["accuracy"]]
        # Nine examples: the last batch of 4 has one, and a replica none.
        targets = labels[:9] if kind == "dynamic" else {"label": labels[:9], "attributes": attributes[:9]}
        model.fit(rows[:9], targets, batch_size=4, verbose=0)
        results[f"{kind} weights"] = np.array([np.isfinite(w).all() for w in model.get_weights()])
    return results


folder = sys.argv[1]
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for case in TRAININGS:
    for name, scope in (("one", contextlib.nullcontext()), ("two", mirrored.scope())):
        # Otherwise Keras counts names on from the first training of a process.
        keras.utils.clear_session()
        with scope:
            np.savez(f"{folder}/{case}.{name}.npz", **train(case))
with mirrored.scope():
    np.savez(f"{folder}/last_batch.npz", **small_last_batch())
