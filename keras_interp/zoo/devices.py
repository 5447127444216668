"""Devices and processes that share a batch."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def num_replicas(model: keras.Model) -> int:
    """Number of devices that share a training batch."""
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(np.prod(distribution.device_mesh.shape))


def check_processes(strategy: Any, coordinator: str | None, num_processes: int, process_id: int) -> None:
    """Raises for devices or processes that this backend cannot use, before any data are read."""
    backend = keras.backend.backend()
    processes = f"coordinator={coordinator!r}, num_processes={num_processes}, process_id={process_id}"
    if backend == "jax" and strategy is not None:
        raise ValueError(f"On JAX all devices are used; `strategy` is for TensorFlow. Received: strategy={strategy!r}")
    if backend != "jax" and (coordinator is not None or num_processes != 1 or process_id):
        raise ValueError(
            f"Several machines train on the JAX backend: set KERAS_BACKEND=jax. Received: {processes} on {backend}"
        )
    if (coordinator is None) != (num_processes == 1) or not 0 <= process_id < num_processes:
        raise ValueError(
            f"Several processes need a `coordinator`, `num_processes` and a smaller `process_id`. Received: {processes}"
        )


@contextlib.contextmanager
def distribution(strategy: Any, coordinator: str | None, num_processes: int, process_id: int) -> Iterator[None]:
    """Context in which models are built and trained over all devices."""
    if keras.backend.backend() == "jax":
        if coordinator is not None:
            keras.distribution.initialize(coordinator, num_processes, process_id)
        devices = keras.distribution.list_devices()
        previous = keras.distribution.distribution()
        if len(devices) > 1:
            # Each process feeds its own share of a batch: no sharding needed.
            keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False))
        try:
            yield
        finally:
            # Later work of process 0 alone must not wait for the others.
            keras.distribution.set_distribution(previous)
        return
    with _tensorflow_strategy(strategy).scope() if strategy is not None else contextlib.nullcontext():
        yield


def _tensorflow_strategy(strategy):
    import tensorflow as tf

    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "TensorFlow's MultiWorkerMirroredStrategy does not run under Keras 3's fit (keras-team/keras#20585). Several "
            "machines train on the JAX backend: KERAS_BACKEND=jax with --coordinator HOST:PORT --num-processes N "
            "--process-id I. Received: a multi-worker strategy"
        )
    if strategy == "mirrored":
        return tf.distribute.MirroredStrategy()
    if not isinstance(strategy, tf.distribute.Strategy):
        raise ValueError(f"`strategy` must be None, 'mirrored' or a tf.distribute.Strategy. Received: strategy={strategy!r}")
    return strategy
