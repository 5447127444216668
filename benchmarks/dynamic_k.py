"""Prints time and peak memory of a `DynamicKDense` step, forward and backward, against the naive form and against Dense.

    python benchmarks/dynamic_k.py [--repeats 5] [--k 5]

The naive form takes the top k of a tensor (batch, units, inputs), as most implementations do. Each case runs in a process of
its own, compiled; memory is what the case adds to the process. Times on one machine mean little on another; the ratios do.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

SIZES = ((256, 10, 512), (256, 365, 512), (256, 365, 2048))
KINDS = ("dense", "naive", "ours")


def measure(kind, batch, units, inputs, k, repeats):
    """Seconds, and bytes of peak memory, of one case in this process."""
    import keras
    import numpy as np
    from keras import ops

    from keras_interp.layers.dynamic_k import sum_of_largest

    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(batch, inputs)), 0).astype("float32")
    kernel = rng.normal(size=(inputs, units)).astype("float32")
    functions = {
        "dense": ops.matmul,
        "naive": lambda x, w: ops.sum(ops.top_k(x[:, None, :] * ops.transpose(w), k)[0], axis=-1),
        "ours": lambda x, w: sum_of_largest(x, w, k),
    }

    def loss(x, w):
        return ops.sum(ops.square(functions[kind](x, w)))

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        values = tf.Variable(features), tf.Variable(kernel)

        @tf.function
        def gradients():
            with tf.GradientTape() as tape:
                value = loss(*map(tf.convert_to_tensor, values))
            return tape.gradient(value, values)

        def step():
            return [gradient.numpy() for gradient in map(tf.convert_to_tensor, gradients())]
    else:
        import jax

        compiled = jax.jit(jax.grad(loss, (0, 1)))

        def step():
            return [np.asarray(gradient) for gradient in compiled(features, kernel)]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        kind, *sizes = arguments.case.split()
        print(json.dumps(measure(kind, *map(int, sizes), arguments.k, arguments.repeats)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("batch, units, inputs", *(f"{kind}: step, memory" for kind in KINDS), "naive / ours: time, memory")
    table.title = f"k = {arguments.k}, {os.environ.get('KERAS_BACKEND', 'tensorflow')}"
    for sizes in SIZES:
        found = {}
        for kind in KINDS:
            case = " ".join(map(str, (kind, *sizes)))
            command = [sys.executable, __file__, "--case", case, "--repeats", arguments.repeats, "--k", arguments.k]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            output = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, env=environment)
            found[kind] = json.loads(output.stdout.splitlines()[-1])
        cells = [f"{1000 * seconds:.1f} ms, {size / 1e6:.0f} MB" for seconds, size in found.values()]
        ratios = [naive / max(ours, 1e-9) for naive, ours in zip(found["naive"], found["ours"])]
        table.add_row(", ".join(map(str, sizes)), *cells, f"{ratios[0]:.2f}, {ratios[1]:.1f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
