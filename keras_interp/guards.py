"""Guards of training for problems that cannot be checked beforehand: streams, diverging losses, processes."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_interp.typing import Tensor


def require_one_process(what: str) -> None:
    """Raises `NotImplementedError` with several JAX processes, none of which holds all that `what` needs."""
    if keras.backend.backend() != "jax":
        return
    import jax

    if jax.process_count() > 1:
        raise NotImplementedError(
            f"{what} by one process, which must see the whole dataset: train on one machine. "
            f"Received: {jax.process_count()} processes"
        )


def nan_unless(usable: Tensor, loss: Tensor) -> Tensor:
    """The loss, or NaN without a gradient if the batch is not usable, see `InterpretableModel.checked_batch`."""
    return ops.where(usable, loss, float("nan"))


# Products of two such weights overflow float32.
LARGEST_WEIGHT = 1e18


class StopAtNaN(keras.callbacks.Callback):
    """Stops training at the first loss that is not finite, before the weights of that epoch replace a checkpoint."""

    # Lets the steps of the JAX backend run ahead; the loss is checked once it is available.
    async_safe = True
    model: Any

    def __init__(self) -> None:
        super().__init__()
        self._kept, self._earlier, self._epoch = [], [], 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # State before the previous epoch, whose last step may have broken the weights unnoticed.
        self._earlier = self._kept
        variables = {id(variable): variable for variable in (*self.model.variables, *self.model.optimizer.variables)}
        self._kept = [(variable, np.array(ops.convert_to_numpy(variable))) for variable in variables.values()]
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            if batch == 0 and self._earlier:
                self._kept, self._epoch = self._earlier, self._epoch - 1
            raise FloatingPointError(
                f"The loss is not finite at batch {batch} of epoch {self._epoch}, from 0. The likely causes are a label "
                "outside [0, num_classes), attributes other than 0 and 1, NaN or infinite inputs, pixels outside 0..255, or a "
                f"learning rate that is too high. The model has its weights from before this epoch. Received: loss={loss}"
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # No loss shows the effect of the last step on the weights.
        for variable in self.model.trainable_variables:
            largest = np.abs(ops.convert_to_numpy(variable).astype("float32")).max(initial=0.0)
            if not largest < LARGEST_WEIGHT:
                raise FloatingPointError(
                    f"The weights are not finite, or too large, after the last step of epoch {epoch}, from 0: the learning "
                    f"rate is too high. The model has its weights from before this epoch. "
                    f"Received: {largest:.3g} in {variable.path}"
                )

    def restore(self) -> None:
        """Restores model and optimizer to their state at the beginning of the epoch."""
        for variable, value in self._kept:
            variable.assign(value)
