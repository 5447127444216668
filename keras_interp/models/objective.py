"""Training with an objective that is more than one loss: the part that all methods share, once per backend."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_interp.guards import nan_unless
from keras_interp.typing import Tensor

if TYPE_CHECKING:
    from keras_interp.models.base import InterpretableModel


# At run time a plain mixin that can precede any model class; for type checkers a model.
_Base = InterpretableModel if TYPE_CHECKING else object


class ObjectiveTrainer(_Base):
    """Mixin for an `InterpretableModel` whose objective has extra variables that the optimizer must not touch.

    A method provides three functions:

    - `objective(extra, x, y, sample_weight)` returns the loss (a scalar, the mean over the replica's own batch, without the
      layers' regularization) and a structure of tensors for the log. `extra` are the extra variables as tensors.
    - `update_extra(extra, gradients)` returns the new values of the extra variables; the gradients are summed over replicas.
    - `log_objective(y, sample_weight, outputs)` updates the method's metrics, the attributes named in `objective_metrics`.

    The extra variables must be weights of the model with `trainable=False, autocast=False, aggregation="mean"`.
    """

    extra_variables: Sequence[keras.Variable] = ()
    objective_metrics: Sequence[str] = ()
    gradient_sums: Any = None

    def task_loss(self, y: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        """Compiled loss (standardized for a regression) as a mean over the replica's batch, for any number of replicas."""
        if self.loss is None:
            raise ValueError("Compile the model with a loss before training it. Received: loss=None")
        if self.task == "regression":
            y, y_pred = self.standardize(self.values_like(y, y_pred)), self.standardize(y_pred)
        loss = keras.losses.get(self.loss)
        if isinstance(loss, keras.losses.Loss):
            # A Keras loss is divided by the number of replicas.
            return loss(y, y_pred, sample_weight=sample_weight) * num_replicas()
        values = loss(y, y_pred)
        if sample_weight is not None:
            # Weights (batch, 1) would broadcast values (batch,) to a matrix.
            values = values * ops.reshape(ops.cast(sample_weight, values.dtype), ops.shape(values))
        # A replica's share of a last, small batch may be empty.
        return ops.sum(values) / ops.maximum(ops.cast(ops.size(values), values.dtype), 1)

    def example_losses(self, y: Tensor, y_pred: Tensor) -> Tensor:
        """Compiled loss of each example, a tensor (batch,)."""
        loss = keras.losses.get(self.loss)
        return loss.call(y, y_pred) if isinstance(loss, keras.losses.Loss) else loss(y, y_pred)

    def update_extra(self, extra: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """New values of the extra variables; unchanged by default."""
        return extra

    def log_objective(self, y: Any, sample_weight: Any, outputs: Any) -> None:
        """Updates the method's metrics; a no-op by default."""

    def targets_of(self, y: Any) -> Any:
        """Targets of the compiled loss and metrics, from those of the data; the same by default."""
        return y

    def weights_of(self, sample_weight: Any) -> Any:
        """Weights of the examples; if targets have several parts, `fit` gives each of them the same weights."""
        return sample_weight["label"] if isinstance(sample_weight, dict) else sample_weight

    def make_train_function(self, force: bool = False) -> Any:
        self.prepare_training()
        return super().make_train_function(force)

    def prepare_training(self) -> None:
        """Creates the state of a step outside the optimizer: sums of the extra variables' gradients over several steps."""
        # Not in `compile`: Keras does not compile a loaded model whose class overrides it.
        if self._unscaled_optimizer().gradient_accumulation_steps and self.gradient_sums is None and self.extra_variables:
            with self.distribute_strategy.scope() if keras.backend.backend() == "tensorflow" else contextlib.nullcontext():
                self.gradient_sums = GradientSums([tuple(variable.shape) for variable in self.extra_variables])

    def _unscaled_optimizer(self):
        return getattr(self.optimizer, "inner_optimizer", self.optimizer)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Compiled loss of outputs, for evaluation.

        Raises:
            NotImplementedError: with `training=True`: the objective is more than a loss of the outputs, and minimizing this
                loss alone would omit what makes the model interpretable.
        """
        if training:
            raise NotImplementedError(
                f"The objective of {type(self).__name__} is more than a loss of its outputs: train it with `fit` or "
                "`train_on_batch`, or minimize `objective(extra, x, y, sample_weight)` in your own loop. For the plain loss, "
                "give training=False."
            )
        return super().compute_loss(x, self.targets_of(y), y_pred, self.weights_of(sample_weight), training)

    def train_step(self, *args: Any) -> Any:
        if keras.backend.backend() == "tensorflow":
            return self._tensorflow_train_step(*args)
        if keras.backend.backend() == "jax":
            return self._jax_train_step(*args)
        raise NotImplementedError(
            f"{type(self).__name__} trains on the TensorFlow and JAX backends. Received: {keras.backend.backend()}"
        )

    def _tensorflow_train_step(self, data):
        import tensorflow as tf

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        sample_weight = self.weights_of(sample_weight)
        y, usable = self.checked_batch(x, y)
        extra = [tf.convert_to_tensor(variable) for variable in self.extra_variables]
        with tf.GradientTape() as tape:
            tape.watch(extra)
            loss, outputs = self.objective(extra, x, y, sample_weight)
            # Gradients are summed over replicas, and every replica has the same weight regularization.
            loss = nan_unless(usable, loss + self._layer_losses()) / num_replicas()
            scaled_loss = self.optimizer.scale_loss(loss)
        trainable = self.trainable_variables
        gradients = tape.gradient(scaled_loss, [*trainable, *extra])
        extra_gradients = gradients[len(trainable) :]
        if extra_gradients:
            extra_gradients = tf.distribute.get_replica_context().all_reduce("sum", extra_gradients)
        scale = self.optimizer.scale_loss(tf.ones(()))
        updates = self._extra_updates(extra, extra_gradients, scale)
        self.optimizer.apply_gradients(zip(gradients, trainable))
        for variable, value in updates:
            variable.assign(value)
        return self._log_step(loss * num_replicas(), x, y, sample_weight, outputs)

    def _jax_train_step(self, state, data):
        import jax

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        sample_weight = self.weights_of(sample_weight)
        y, usable = self.checked_batch(x, y)
        trainable, non_trainable, optimizer_state, metrics = state
        extra_ids = {id(variable): number for number, variable in enumerate(self.extra_variables)}
        positions = {extra_ids[id(v)]: p for p, v in enumerate(self.non_trainable_variables) if id(v) in extra_ids}
        extra = [non_trainable[positions[number]] for number in range(len(positions))]

        def scope(trainable, non_trainable, metrics):
            pairs = [
                *zip(self.trainable_variables, trainable),
                *zip(self.non_trainable_variables, non_trainable),
                *zip(self.optimizer.variables, optimizer_state),
                *zip(self.metrics_variables, metrics),
            ]
            return keras.StatelessScope(state_mapping=pairs, collect_losses=True)

        def scaled_objective(trainable, extra):
            with scope(trainable, non_trainable, metrics) as inner:
                loss, outputs = self.objective(extra, x, y, sample_weight)
                loss = nan_unless(usable, loss + self._layer_losses())
                scaled_loss = self.optimizer.scale_loss(loss)
            return scaled_loss, (loss, outputs, [inner.get_current_value(v) for v in self.non_trainable_variables])

        gradient_function = jax.value_and_grad(scaled_objective, argnums=(0, 1), has_aux=True)
        (_, (loss, outputs, non_trainable)), (gradients, extra_gradients) = gradient_function(trainable, extra)
        with scope(trainable, non_trainable, metrics) as inner:
            scale = self.optimizer.scale_loss(ops.ones(()))
            updates = self._extra_updates(extra, extra_gradients, scale)
            for variable, value in updates:
                inner.add_update((variable, value))
            non_trainable = [inner.get_current_value(variable) for variable in self.non_trainable_variables]
            optimizer_state = [inner.get_current_value(variable) for variable in self.optimizer.variables]
            logs = self._log_step(loss, x, y, sample_weight, outputs)
        metrics = [inner.get_current_value(variable) for variable in self.metrics_variables]
        trainable, optimizer_state = self.optimizer.stateless_apply(optimizer_state, gradients, trainable)
        return logs, (trainable, non_trainable, optimizer_state, metrics)

    def _layer_losses(self):
        """Sum of the layers' losses: regularizers of weights and activities."""
        return sum(ops.sum(ops.cast(loss, "float32")) for loss in self.losses)

    def _extra_updates(self, extra, gradients, scale):
        """Pairs of a variable and its new value: the extra variables, and the sums of their gradients over several steps.

        If a gradient overflowed, the old values stay, as a loss-scaled optimizer also skips such a step. Called before the
        optimizer counts the step.
        """
        gradients = [gradient / scale for gradient in gradients]
        finite = [ops.all(ops.isfinite(gradient)) for gradient in gradients]
        gradients = [ops.where(ok, g, ops.zeros_like(g)) for ok, g in zip(finite, gradients)]
        sums, moves = [], [True] * len(extra)
        # With a scaled loss, the inner optimizer does not count a step that overflowed.
        optimizer = self._unscaled_optimizer()
        if (steps := optimizer.gradient_accumulation_steps) and extra:
            last = (ops.convert_to_tensor(optimizer._iterations) + 1) % steps == 0
            before = [ops.convert_to_tensor(variable) for variable in self.gradient_sums.variables]
            totals = [old + gradient for old, gradient in zip(before, gradients)]
            gradients, moves = [total / steps for total in totals], [last] * len(extra)
            kept = [ops.where(ok, ops.where(last, 0.0, total), old) for ok, total, old in zip(finite, totals, before)]
            sums = list(zip(self.gradient_sums.variables, kept))
        values = self.update_extra(extra, gradients)
        values = [ops.where(ops.logical_and(ok, move), new, old) for ok, move, new, old in zip(finite, moves, values, extra)]
        return [*zip(self.extra_variables, values), *sums]

    def _log_step(self, loss, x, y, sample_weight, outputs):
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(outputs["y_pred"])[0])
        super().compute_metrics(x, self.targets_of(y), outputs["y_pred"], sample_weight=sample_weight)
        self.log_objective(y, sample_weight, outputs)
        return self.get_metrics_result()

    def _get_metrics_result_or_logs(self, logs):
        # Keras treats a log with names other than the metrics' as the user's own, and would average over the replicas' means
        # when an evaluation omits the objective's metrics.
        found = self.get_metrics_result()
        return {name: found[name] for name in logs} if isinstance(logs, dict) and set(logs) <= set(found) else logs

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        # Only evaluation gets here: the objective's metrics have no value then, so its log omits them.
        logs = super().compute_metrics(x, self.targets_of(y), y_pred, sample_weight=self.weights_of(sample_weight))
        return {name: value for name, value in logs.items() if name not in self.objective_metrics}


def num_replicas() -> int:
    """Number of replicas; losses are divided by it because gradients are summed."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sums of tensors over the replicas that share a batch, as a list; no gradient flows through."""
    tensors = [ops.stop_gradient(tensor) for tensor in tensors]
    if num_replicas() == 1:
        return tensors
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce("sum", tensors)


class GradientSums(keras.metrics.Metric):
    """Sums of gradients over the parts of a step, for optimizers that accumulate them.

    A metric, since every backend passes the state of metrics through a step; it has no result and is not reset at the end of
    an epoch. Keras does not save it: `zoo.train`'s checkpoints do, and a model from a `.keras` file starts a new step.

    Args:
        shapes: shapes of the gradients.
        name: name of the metric.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], name: str = "gradient_sums") -> None:
        super().__init__(name=name, dtype="float32")
        for number, shape in enumerate(shapes):
            self.add_variable(shape, "zeros", name=f"sum_{number}")

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """No-op: a step assigns the sums."""

    def result(self) -> dict[str, Tensor]:
        return {}

    def reset_state(self) -> None:
        pass


class NamedMeans(keras.metrics.Metric):
    """Means of several values, each under its own name in the log; one cheap update for all.

    Args:
        names: names in the log.
        name: name of the metric.
    """

    log_names: tuple[str, ...]

    def __init__(self, names: Sequence[str], name: str = "means") -> None:
        super().__init__(name=name)
        # Bypasses Keras's attribute tracking, which would wrap it.
        self.__dict__["log_names"] = tuple(names)
        self.totals = self.add_variable((len(names),), "zeros", name="totals")
        self.weights_of_totals = self.add_variable((len(names),), "zeros", name="weights")

    def update_state(self, totals: Tensor, weights: Tensor, sample_weight: Any = None) -> None:
        """Adds sums (names,) of values, and the count or total weight (names,) of the values in each."""
        self.totals.assign_add(totals)
        self.weights_of_totals.assign_add(weights)

    def result(self) -> dict[str, Tensor]:
        means = ops.divide_no_nan(ops.convert_to_tensor(self.totals), ops.convert_to_tensor(self.weights_of_totals))
        return dict(zip(self.log_names, ops.unstack(means, len(self.log_names))))
