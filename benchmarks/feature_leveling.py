"""Prints, from one run: what hard-concrete gates cost a training step, and what the compact network saves.

    python benchmarks/feature_leveling.py [--steps 100]

Times on one machine mean little on another; the ratios do. The networks compared are timed in turns. Half of all gates are
closed in the compact networks; the shipped ones are timed too.
"""

import argparse
import ctypes
import functools
import pathlib
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_interp import backbones, models, zoo

# glibc gives large blocks back to the system and takes them again at each step or not, by the layout of the heap: by chance a
# step of either network takes up to half as long again. Here they are kept.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
if hasattr(libc := ctypes.CDLL(None), "mallopt"):
    for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        libc.mallopt(option, 2**30)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=100)
arguments = parser.parse_args()

SIZES = {"MNIST": ((28, 28, 1), (300, 100), 10, 64), "CIFAR-10 cat/deer": ((32, 32, 3), (2048, 1024), 2, 32)}
# Each network is trained for so many epochs of `--steps` steps, in turns; the fastest counts.
EPOCHS = 7
rng = np.random.default_rng(0)


def fastest(calls, count):
    """Least seconds of each of several functions, called in turns: what other work on the machine disturbs least."""
    times = [[] for _ in calls]
    for function in calls:
        function()
    for _ in range(count):
        for function, list_ in zip(calls, times):
            start = time.perf_counter()
            function()
            list_.append(time.perf_counter() - start)
    return [min(list_) for list_ in times]


def bytes_on_disk(model):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.weights.h5"
        model.save_weights(path)
        return path.stat().st_size


def compiled(model):
    """The model as one compiled function: what serving runs, without the overhead of `predict`."""
    if keras.backend.backend() == "tensorflow":
        function = tf.function(lambda x: model(x, training=False))
    else:
        import jax

        function = jax.jit(lambda x: model(x, training=False))
    return lambda x: np.asarray(function(x))


def close_half(model):
    for gate in model.gates:
        values = rng.permuted(np.linspace(-4, 4, gate.scaled_log_alpha.shape[0]))
        gate.scaled_log_alpha.assign(values / gate.learning_rate_multiplier)
    return model


table = Table("what", "plain", "gated or compact", "ratio", title=f"{keras.backend.backend()}, Keras {keras.__version__}")
for title, (shape, units, classes, batch_size) in SIZES.items():
    scaling = backbones.unit_scaling
    plain = models.Classifier(backbones.mlp(units, shape, scaling()), classes).compile_by_default(keras.optimizers.Adam())
    gated = models.FeatureLevelingNetwork(units, classes, shape, preprocessing=scaling()).compile_by_default()
    batch = rng.integers(0, 256, (batch_size, *shape), dtype="uint8"), rng.integers(0, classes, batch_size).astype("int32")
    # One batch again and again: what is compared is the step, and not how batches are put together.
    data = tf.data.Dataset.from_tensors(batch).repeat(arguments.steps)
    epochs = [functools.partial(model.fit, data, verbose=0) for model in (plain, gated)]
    slow, fast = (1000 * seconds / arguments.steps for seconds in fastest(epochs, EPOCHS))
    table.add_row(f"{title}: training step, batch {batch_size}", f"{slow:.2f} ms", f"{fast:.2f} ms", f"{fast / slow:.3f}")
    compacts = {"half of the gates closed": close_half(gated).compact()}
    shipped = {"MNIST": "fl_mlp_mnist"}.get(title)
    if shipped in zoo.list_models(trained=True):
        compacts[shipped] = zoo.load(shipped).compact()
    for name, compact in compacts.items():
        sizes = [bytes_on_disk(keras.Model(model.inputs, model.outputs)) for model in (plain, compact)]
        table.add_row(f"{title}, {name}: bytes", *(f"{size:,}" for size in sizes), f"{sizes[1] / sizes[0]:.3f}")
        for count in (1, 1000):
            inputs = keras.ops.convert_to_tensor(rng.uniform(0, 255, (count, *shape)).astype("float32"))
            calls = [functools.partial(compiled(model), inputs) for model in (plain, compact)]
            slow, fast = fastest(calls, arguments.steps)
            row = f"{title}, {name}: predict {count:,}", f"{1000 * slow:.3f} ms", f"{1000 * fast:.3f} ms", f"{fast / slow:.3f}"
            table.add_row(*row)
Console().print(table)
