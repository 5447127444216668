"""Prints, from one run: many explanation modules trained together against one after another, and the bias of small batches.

    python benchmarks/explanation_module.py [--targets 30] [--examples 2048] [--epochs 10] [--hidden-units 160 40]

The activations are made up: a few factors behind 768 dimensions, and logits that depend on them. Times on one machine mean
little on another; the ratio does. Each way is timed from the second `fit` on, since the first one compiles; one after another,
a single module stands for all, times their number.

The second table shows the sparse penalty of Eq. 3 in the trained modules, taken over batches and averaged, beside that over
all examples: a logarithm of a mean over few examples is too small.
"""

import argparse
import time

import keras
import numpy as np
from keras import layers, ops
from rich.console import Console
from rich.table import Table

from keras_interp import models

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--targets", type=int, default=30)
parser.add_argument("--examples", type=int, default=2048)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--hidden-units", type=int, nargs="+", default=[160, 40])
parser.add_argument("--bias-epochs", type=int, default=20, help="epochs before the bias is measured")
arguments = parser.parse_args()

DIMENSIONS, FACTORS, BATCHES = 768, 20, (8, 16, 50, 256)
rng = np.random.default_rng(0)
factors = np.maximum(rng.normal(size=(arguments.examples, FACTORS)), 0)
rows = (factors @ np.maximum(rng.normal(size=(FACTORS, DIMENSIONS)), 0)).astype("float32")
classes = np.arange(arguments.examples) % (arguments.targets + 1)
keras.utils.set_random_seed(0)
inputs = keras.Input((DIMENSIONS,))
layer = layers.ReLU(name="layer")(inputs)
classifier = keras.Model(inputs, layers.Dense(arguments.targets + 1)(layers.Dense(64, "relu")(layer)))


def module(targets):
    options = {"targets": range(targets), "hidden_units": arguments.hidden_units}
    return models.ExplanationModule(classifier, "layer", **options).compile_by_default()


def seconds(one):
    one.fit(rows, classes, verbose=0)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        one.fit(rows, classes, epochs=arguments.epochs, verbose=0)
        times.append((time.perf_counter() - start) / arguments.epochs)
    return min(times)


together = module(arguments.targets)
batched, alone = seconds(together), seconds(module(1))
title = f"{keras.backend.backend()}, Keras {keras.__version__}, {arguments.examples:,} examples"
table = Table("way", "an epoch", "ratio", title=title)
table.add_row(f"{arguments.targets} modules together", f"{batched:.2f} s", "1.00")
table.add_row("one after another", f"{arguments.targets * alone:.2f} s", f"{arguments.targets * alone / batched:.2f}")
Console().print(table)

together.fit(rows, classes, epochs=arguments.bias_epochs, verbose=0)
autoencoder = together.autoencoder


def mean_penalty(size):
    order = rng.permutation(arguments.examples)[: arguments.examples // size * size]
    penalties = []
    for start in range(0, len(order), size):
        z = rows[order[start : start + size]]
        errors = autoencoder.reconstruction_errors(z, autoencoder(z)[2])
        penalties.append(ops.convert_to_numpy(autoencoder.reconstruction_penalty(errors)).mean())
    return np.mean(penalties)


whole = mean_penalty(arguments.examples)
table = Table("batch", "mean penalty", "of the whole", title="Sparse penalty over batches")
for size in BATCHES:
    penalty = mean_penalty(size)
    table.add_row(str(size), f"{penalty:.4f}", f"{penalty / whole:.4f}")
table.add_row("all", f"{whole:.4f}", "1.0000")
Console().print(table)
