"""Loads each model that travels in the wheel, and has it predict and explain."""

import pathlib
import sys

import numpy as np

import keras_interp
from keras_interp import zoo
from keras_interp.zoo import artifacts

if not pathlib.Path(keras_interp.__file__).is_relative_to(sys.prefix):
    sys.exit(f"This is not the installed wheel: {keras_interp.__file__}")
names = [name for name in zoo.list_models() if artifacts.shipped_folder(name)]
assert "lsg_resnet20_cifar10" in names and len(names) < len(zoo.list_models())
for name in names:
    model, folder = zoo.load(name), artifacts.shipped_folder(name)
    artifacts.check_golden(model, folder)
    with np.load(folder / artifacts.GOLDEN) as golden:
        model.explain(golden["inputs"]).check_completeness(1e-3)
    print(f"{name} loads, predicts and explains from the wheel")
try:
    zoo.load("fl_mlp_cifar10_cat_deer")
except FileNotFoundError as error:
    print(f"As it should be: {error}")
else:
    sys.exit("A large model came with the wheel")
