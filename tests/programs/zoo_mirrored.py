"""Trains tiny_lsg on one device and on two mirrored ones: FOLDER/one, FOLDER/two."""

import sys

import tensorflow as tf

from keras_interp import zoo
from tests.tiny import register, toy_dataset

register()
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
for name, strategy in {"one": None, "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}.items():
    folder = f"{sys.argv[1]}/{name}"
    zoo.train("tiny_lsg", output=folder, dataset=toy_dataset(), epochs=2, batch_size=32, strategy=strategy, verbose=0)
