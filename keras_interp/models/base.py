"""What the models of all methods share: a task, named outputs, inputs that are checked, and a loss that fits."""

import keras
import numpy as np
from keras import layers, ops

from keras_interp.checks import check_inputs, check_labels, check_values
from keras_interp.data.arrays import Batches
from keras_interp.optimizers import CoupledSGD


class InterpretableModel(keras.Model):
    """A functional model of one task whose outputs have names.

    Args:
        inputs: the input tensor of the graph.
        outputs: the output tensor: float32 logits (batch, classes), or for a regression one value (batch, 1).
        labels: names of the outputs.
        task: "classification" or "regression".
        target_mean, target_scale: for a regression, mean and standard deviation of the target in its own unit. The loss is
            that of the standardised target; predictions and other metrics are in the target's unit.
        name: name of the model.
        dtype: dtype policy that the model is trained in, by default the global one; "mixed_float16" makes `compile` scale the
            loss. The layers keep their own.
    """

    def __init__(
        self, inputs, outputs, labels, task="classification", target_mean=0.0, target_scale=1.0, name=None, dtype=None
    ):
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        # Not for computing, which the layers do each in their own: it tells `compile` whether to scale the loss.
        self.dtype_policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        self.labels = tuple(labels)
        self.task = task
        self.target_mean = float(target_mean)
        self.target_scale = float(target_scale)

    @property
    def num_outputs(self):
        """Number of outputs."""
        return len(self.labels)

    @property
    def num_classes(self):
        """Number of classes; a regression has none."""
        return self.num_outputs if self.task == "classification" else 0

    def default_optimizer(self):
        """An optimizer that suits fine-tuning."""
        return CoupledSGD(0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def compile_by_default(self, optimizer=None):
        """Compiles the model with the loss and the metrics of its task, by default for fine-tuning; returns it."""
        optimizer = optimizer or self.default_optimizer()
        if self.task == "classification":
            self.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        else:
            self.compile(optimizer, keras.losses.MeanSquaredError(), metrics=[keras.metrics.RootMeanSquaredError("rmse")])
        return self

    def readout_weights(self):
        """Kernel (features, outputs) and bias (outputs,) from the last features to the outputs, in the outputs' unit."""
        kernel, bias = (np.asarray(ops.convert_to_numpy(weight)) for weight in self.get_layer("logits").weights)
        if self.task == "classification":
            return kernel, bias
        return kernel * np.float32(self.target_scale), bias * np.float32(self.target_scale) + np.float32(self.target_mean)

    def standardize(self, targets):
        """Targets, or predictions, in the unit of the loss: standard deviations for a regression, else as they are."""
        return targets if self.task == "classification" else (targets - self.target_mean) / self.target_scale

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        y, usable = self.checked_batch(x, y)
        if self.task == "regression":
            y, y_pred = self.standardize(ops.cast(y, "float32")), self.standardize(y_pred)
        return nan_unless(usable, super().compute_loss(x, y, y_pred, sample_weight, training))

    def checked_batch(self, x, y):
        """The targets of a batch of a stream as the loss can take them, and whether the batch is as it should be.

        A step cannot raise on a value. A label out of range is an error, NaN or a loss of zero, depending on the backend, and
        a NaN pixel may get lost in a ReLU: here such a label becomes 0, and the loss is to be NaN, at which training stops.

        Args:
            x: tensors of inputs, or None.
            y: tensor of class numbers (batch,) or (batch, 1), or a dict with these as "label"; other targets pass as they are.

        Returns:
            The targets, and a boolean scalar: False for class numbers out of range or with fractions, NaN or infinite inputs.
        """
        usable = ops.convert_to_tensor(True)
        for values in keras.tree.flatten(x):
            if values is not None and keras.backend.is_float_dtype(values.dtype):
                usable = ops.logical_and(usable, ops.all(ops.isfinite(values)))
        labels = y.get("label") if isinstance(y, dict) else y
        if self.task != "classification" or not hasattr(labels, "shape") or _is_one_hot(labels):
            return y, usable
        if not keras.backend.is_float_dtype(labels.dtype):
            # In 8 bits, 256 classes would be 0.
            labels = ops.cast(labels, "int32")
        fits = ops.logical_and(labels >= 0, labels < self.num_classes)
        if keras.backend.is_float_dtype(labels.dtype):
            fits = ops.logical_and(fits, labels == ops.floor(labels))
        labels = ops.where(fits, labels, ops.zeros_like(labels))
        return {**y, "label": labels} if isinstance(y, dict) else labels, ops.logical_and(usable, ops.all(fits))

    def prune(self):
        """Sets weights that cannot act to zero, which keeps a stored model small. Nothing to do for most models."""

    def training_callbacks(self):
        """Callbacks that every `fit` of this model runs with, before the user's."""
        return [StopAtNaN()]

    def check_data(self, x, y=None):
        """Raises where inputs or targets that are arrays, or `data.Batches` of arrays, are not what the model takes."""
        if isinstance(x, Batches):
            x, y = (getattr(x.dataset, part, None) for part in ("inputs", "targets"))
        if hasattr(x, "__array__"):
            check_inputs(x, self.input_shape)
        if hasattr(y, "__array__") or isinstance(y, dict):
            self.check_targets(y)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        *args,
        **kwargs,
    ):
        """As `keras.Model.fit`, after checking inputs and targets where they are arrays, and that the loss takes logits.

        Labels are class numbers; those of a stream may be one-hot, where the loss takes that.

        Raises:
            ValueError: for arrays of another shape, NaN or infinite inputs, labels out of range, or a loss of probabilities or
                with an `ignore_class`: give such examples the weight 0.
            TypeError: for labels that are not integers.
            FloatingPointError: at the first loss that is NaN or infinite, which a stream's bad inputs and labels make it.
        """
        self.check_data(x, y)
        if isinstance(validation_data, (tuple, list)):
            self.check_data(*validation_data[:2])
        elif validation_data is not None:
            self.check_data(validation_data)
        classifies = self.task == "classification"
        if getattr(self.loss, "ignore_class", None) is not None:
            raise ValueError(
                f"Give examples that are to be ignored a `sample_weight` of 0. Received: ignore_class={self.loss.ignore_class}"
            )
        if classifies and (isinstance(self.loss, str) or getattr(self.loss, "from_logits", True) is False):
            raise ValueError(
                "The model's outputs are logits, so the loss must be one of logits, as "
                f"keras.losses.SparseCategoricalCrossentropy(from_logits=True). Received: loss={self.loss!r}"
            )
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]
        callbacks = [*self.training_callbacks(), *callbacks]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.evaluate`, after the checks of `fit`. The loss of a stream with bad inputs or labels is NaN."""
        self.check_data(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`, after checking inputs that are arrays.

        Raises:
            ValueError: for an array of another shape, or NaN or infinite values.
        """
        self.check_data(x)
        return super().predict(x, *args, **kwargs)

    def check_targets(self, targets):
        """Returns class numbers, or the values of a regression, as an array (n,), or raises."""
        return check_labels(targets, self.num_classes) if self.task == "classification" else check_values(targets)

    def explained_outputs(self, target, outputs):
        """The numbers (n,) of the outputs that a `target` of `explain` names, for outputs (n, classes)."""
        if target is None:
            return outputs.argmax(axis=-1)
        targets = [target] * len(outputs) if isinstance(target, str) or np.ndim(target) == 0 else list(target)
        if len(targets) != len(outputs):
            raise ValueError(f"`target` must name one class or one for each of {len(outputs)} inputs. Received: {target}")
        numbers = [self.labels.index(t) if isinstance(t, str) and t in self.labels else t for t in targets]
        if not all(isinstance(n, (int, np.integer)) and 0 <= n < self.num_outputs for n in numbers):
            raise ValueError(
                f"`target` must be a class number below {self.num_outputs} or one of {list(self.labels)}. Received: {target}"
            )
        return np.array(numbers, int)


def require_one_process(what):
    """Raises `NotImplementedError` in one of several JAX processes, none of which has all of the model: `what` needs it."""
    if keras.backend.backend() != "jax":
        return
    import jax

    if jax.process_count() > 1:
        raise NotImplementedError(
            f"{what} by one process, which sees the whole data set: train on one machine. "
            f"Received: {jax.process_count()} processes"
        )


def predict_all(view, inputs, batch_size):
    """The outputs of a view of a model for any number of inputs.

    On one device, where JAX would spread its batches over several: a last, smaller batch would not divide by their number.
    Raises as `require_one_process` does, where anything is spread.
    """
    distribution = keras.distribution.distribution() if keras.backend.backend() == "jax" else None
    if distribution is None:
        return view.predict(inputs, batch_size, verbose=0)
    require_one_process("Outputs are computed")
    keras.distribution.set_distribution(None)
    try:
        return view.predict(inputs, batch_size, verbose=0)
    finally:
        keras.distribution.set_distribution(distribution)


def output_labels(num_outputs, labels, argument="num_outputs"):
    """Names of the outputs: those given, or their numbers.

    Raises:
        ValueError: where neither is given, or they do not agree.
    """
    labels = tuple(labels) if labels is not None else ()
    count = num_outputs or len(labels)
    if not count or (labels and len(labels) != count):
        raise ValueError(
            f"Give `{argument}`, or `labels`, or both with the same number. "
            f"Received: {argument}={num_outputs}, {len(labels)} labels"
        )
    return labels or tuple(str(number) for number in range(count))


def readout(features, num_outputs, task="classification", target_mean=0.0, target_scale=1.0, kernel_regularizer=None):
    """The last layers of a model: float32 logits, or for a regression the value in the target's unit."""
    logits = layers.Dense(num_outputs, kernel_regularizer=kernel_regularizer, dtype="float32", name="logits")(features)
    if task == "classification":
        return logits
    if task != "regression":
        raise ValueError(f"`task` must be 'classification' or 'regression'. Received: task={task!r}")
    if num_outputs != 1 or not target_scale > 0:
        raise ValueError(
            "A regression has one output and a positive `target_scale`. "
            f"Received: {num_outputs} outputs, target_scale={target_scale}"
        )
    return layers.Rescaling(float(target_scale), float(target_mean), dtype="float32", name="target")(logits)


def nan_unless(usable, loss):
    """The loss, or NaN without a gradient where a batch is not usable, see `InterpretableModel.checked_batch`."""
    return ops.where(usable, loss, float("nan"))


def _is_one_hot(labels):
    # A stream of TensorFlow may leave the rank open.
    rank = labels.shape.rank if hasattr(labels.shape, "rank") else len(labels.shape)
    return rank == 2 and labels.shape[-1] != 1


class StopAtNaN(keras.callbacks.Callback):
    """Stops training at the first loss that is not finite, before the weights of that epoch replace a checkpoint."""

    # Lets the steps of the JAX backend run ahead; the loss is looked at as soon as it is there.
    async_safe = True

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            raise FloatingPointError(
                f"The loss is not finite at batch {batch}. The likely causes are a label outside [0, num_classes), attributes "
                f"other than 0 and 1, NaN or infinite inputs, or a learning rate that is too high. Received: loss={loss}"
            )
