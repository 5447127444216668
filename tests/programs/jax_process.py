"""One of several JAX processes that train tiny_lsg: OUTPUT PORT PROCESSES PROCESS."""

import sys

import jax

output, port, processes, process = sys.argv[1], *map(int, sys.argv[2:])
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")

from keras_interp import zoo  # noqa: E402
from tests.tiny import register, toy_dataset  # noqa: E402

register()
several = {"coordinator": f"127.0.0.1:{port}", "num_processes": processes, "process_id": process} if processes > 1 else {}
zoo.train("tiny_lsg", output=output, dataset=toy_dataset(), epochs=2, batch_size=32, dtype_policy="float32", **several)
