"""Prints, from one run: what the drop loss costs a training step, for three neurons and for forty.

    python benchmarks/xnet.py [--steps 20] [--batch-size 128] [--width 32]

Times on one machine mean little on another; the ratios do. The networks are timed in turns, on one batch again and again, and
the fastest turn counts: the plain `Classifier` on the same backbone, the XNet, and the XNet's baseline with α = 0.
"""

import argparse
import functools
import time

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_interp import backbones, models

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--width", type=int, default=32, help="width of the ResNet-18")
arguments = parser.parse_args()

TURNS = 5
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (arguments.batch_size, 64, 64, 3), dtype="uint8")
labels = rng.integers(0, 2, arguments.batch_size).astype("int32")
keras.config.set_dtype_policy("mixed_bfloat16")


def backbone():
    return backbones.resnet(18, arguments.width, "small", (64, 64, 3), normalize_output=True)


def epoch(model, targets):
    data = tf.data.Dataset.from_tensors((images, targets)).repeat(arguments.steps)
    return functools.partial(model.compile_by_default().fit, data, verbose=0)


networks = {"plain classifier": epoch(models.Classifier(backbone(), 2), labels)}
for count in (3, 40):
    names = [f"attribute {number}" for number in range(count)]
    targets = {"label": labels, "attributes": rng.integers(0, 2, (arguments.batch_size, count)).astype("float32")}
    for alpha in (0.05, 0.0):
        networks[f"{count} neurons, α = {alpha}"] = epoch(models.XNet(backbone(), names, 2, alpha=alpha), targets)
for train in networks.values():
    train()
seconds = {name: [] for name in networks}
for _ in range(TURNS):
    for name, train in networks.items():
        start = time.perf_counter()
        train()
        seconds[name].append((time.perf_counter() - start) / arguments.steps)
plain = min(seconds["plain classifier"])
title = (
    f"{keras.backend.backend()}, Keras {keras.__version__}, ResNet-18 of width {arguments.width}, batch {arguments.batch_size}"
)
table = Table("network", "step", "ratio", title=title)
for name, times in seconds.items():
    table.add_row(name, f"{1000 * min(times):.1f} ms", f"{min(times) / plain:.3f}")
Console().print(table)
