"""Saves a tiny_lsg that was trained for two epochs to FOLDER, with golden inputs."""

import sys

import numpy as np

from keras_interp import zoo
from tests.tiny import register

register()
images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype="uint8")
model = zoo.build("tiny_lsg")
model.fit(images, np.arange(16) % 10, epochs=2, verbose=0)
zoo.save(model, sys.argv[1], golden_inputs=images)
