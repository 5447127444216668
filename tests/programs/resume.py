"""Trains tiny_lsg into each of the given FOLDERs in turn, deterministically; with PAUSE set, each batch takes that long."""

import os
import sys
import time

import keras

from keras_interp import data, zoo
from tests.tiny import register, toy_dataset

register()
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
if pause := float(os.environ.get("PAUSE", "0")):
    original = data.Batches.__getitem__
    data.Batches.__getitem__ = lambda self, number: (time.sleep(pause), original(self, number))[1]
for folder in sys.argv[1:]:
    zoo.train("tiny_lsg", output=folder, dataset=toy_dataset(), epochs=4, batch_size=16, dtype_policy="float32")
