"""Prints, from one run: what gates cost a training step, and the speed of loading, explaining, attacking and feeding.

    python benchmarks/benchmark.py [--batch-size 256] [--steps 20]

Times on one machine mean little on another; the ratios do. Gated and standard steps are timed in turns, so that a change of
the machine's load touches both.
"""

import argparse
import importlib
import resource
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_interp import backbones, data, metrics, models, zoo

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--batch-size", type=int, default=256)
parser.add_argument("--steps", type=int, default=20)
arguments = parser.parse_args()


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


rng = np.random.default_rng(0)
images = rng.integers(0, 256, (4 * arguments.batch_size, 32, 32, 3), dtype="uint8")
labels = rng.integers(0, 10, len(images)).astype("int32")
batch = images[: arguments.batch_size], labels[: arguments.batch_size]

# The module: in `backbones` the function of that name hides it.
resnet = importlib.import_module("keras_interp.backbones.resnet")
fused = resnet.FusedBatchNormalization
steps = {}
for policy in ("float32", "mixed_bfloat16"):
    keras.config.set_dtype_policy(policy)
    for name, model_class, normalization in (
        ("standard", models.Classifier, fused),
        ("gated", models.LabelSensitiveClassifier, fused),
        ("unfused", models.Classifier, lambda name: keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)),
    ):
        resnet.FusedBatchNormalization = normalization
        model = model_class(backbones.cifar_resnet(20), 10).compile_by_default()
        if name == "gated":
            model.set_phase(True)
        model.train_on_batch(*batch)
        steps[policy, name] = model
times = {key: [] for key in steps}
for _ in range(arguments.steps):
    for key, model in steps.items():
        times[key].append(seconds(lambda model=model: model.train_on_batch(*batch)))
keras.config.set_dtype_policy("float32")
resnet.FusedBatchNormalization = fused
medians = {key: statistics.median(values) for key, values in times.items()}

table = Table("what", "value", title=f"{keras.backend.backend()}, Keras {keras.__version__}, batch {arguments.batch_size}")
for policy in ("float32", "mixed_bfloat16"):
    standard, gated = medians[policy, "standard"], medians[policy, "gated"]
    table.add_row(f"standard step, ResNet-20, {policy}", f"{1000 * standard:.0f} ms")
    table.add_row(f"gated step, {policy}", f"{1000 * gated:.0f} ms = {gated / standard:.3f} of the standard step")
    unfused = medians[policy, "unfused"]
    table.add_row(f"Keras's batch normalization, {policy}", f"{1000 * unfused:.0f} ms = {unfused / standard:.3f} of ours")

PEAK = """
import resource, sys, keras, numpy as np
from keras_interp import backbones, models
model = getattr(models, sys.argv[1])(backbones.cifar_resnet(20), 10).compile_by_default()
if hasattr(model, "set_phase"):
    model.set_phase(True)
images = np.zeros((int(sys.argv[2]), 32, 32, 3), "uint8")
for _ in range(3):
    model.train_on_batch(images, np.zeros(len(images), "int32"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
peaks = [
    float(subprocess.check_output([sys.executable, "-c", PEAK, name, str(arguments.batch_size)], stderr=subprocess.DEVNULL))
    for name in ("Classifier", "LabelSensitiveClassifier")
]
table.add_row("peak memory of standard training", f"{peaks[0]:.0f} MB, the process as a whole")
table.add_row("peak memory of gated training", f"{peaks[1]:.0f} MB = {peaks[1] / peaks[0]:.3f} of the standard")

if "lsg_resnet20_cifar10" in zoo.list_models(trained=True):
    table.add_row("zoo.load, after importing Keras", f"{seconds(lambda: zoo.load('lsg_resnet20_cifar10')):.2f} s")
model = zoo.build("lsg_resnet20_cifar10")
model.explain(images)
model.predict(images, 256, verbose=0)
table.add_row("explain", f"{len(images) / seconds(lambda: model.explain(images)):.0f} images/s")
table.add_row("predict", f"{len(images) / seconds(lambda: model.predict(images, 256, verbose=0)):.0f} images/s")

victims = images[:20]
# Not the model itself, which refuses the local search's probes: they lie outside 0..255.
unchecked = keras.Model(model.inputs, model.outputs)
predict = lambda pixels: unchecked.predict(pixels, 1000, verbose=0)  # noqa: E731
own_labels = predict(victims).argmax(axis=1)
for name, attack, options in (
    ("one-pixel attack", metrics.one_pixel_attack, {"population": 40, "generations": 3}),
    ("local-search attack", metrics.local_search_attack, {"rounds": 5}),
):
    start = time.perf_counter()
    result = attack(predict, victims, own_labels, progress=False, **options)
    table.add_row(name, f"{result.queries / (time.perf_counter() - start):.0f} queries/s")

batches = data.Batches((images, labels), arguments.batch_size, pad=4, flip=True)
feeding = statistics.median(seconds(lambda number=number: batches[number % len(batches)]) for number in range(40))
share = feeding / medians["mixed_bfloat16", "standard"]
table.add_row("input pipeline, one batch with crop and flip", f"{1000 * feeding:.1f} ms = {share:.3f} of the standard step")

table.add_row("peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
Console().print(table)
