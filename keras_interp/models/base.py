"""The base of all models: a task, named outputs, checked inputs, and a matching loss."""

import contextlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import layers, ops

from keras_interp.checks import (
    RANGE_TOLERANCE,
    check_attributes,
    check_inputs,
    check_labels,
    check_options,
    check_values,
    check_weights,
    column_names_of,
    is_named_table,
)
from keras_interp.data.arrays import Batches
from keras_interp.data.schema import TableSchema
from keras_interp.guards import StopAtNaN, nan_unless
from keras_interp.optimizers import CoupledSGD
from keras_interp.typing import Tensor

PIXELS = (0.0, 255.0)
# Of networks of dense layers.
TASKS = ("classification", "regression")
# Keras loss functions that expect probabilities by default.
PROBABILITY_LOSSES = ("sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy")


class InterpretableModel(keras.Model):
    """A functional model of one task whose outputs have names.

    Args:
        inputs: the input tensor of the graph.
        outputs: the output tensor: float32 logits (batch, classes), or for a regression one value (batch, 1).
        class_names: names of the outputs.
        task: "classification"; "multilabel" for classes of which an input may have several, or none; or "regression".
        target_mean, target_scale: for a regression, mean and standard deviation of the target in its own unit. The loss is
            computed on the standardized target; predictions and other metrics are in the target's unit.
        name: name of the model.
        dtype: dtype policy for training; defaults to the global one. "mixed_float16" makes `compile` scale the loss. The
            layers keep their own.

    Attributes:
        input_range: smallest and largest allowed input value: (0, 255) for images, None for tables. Set it to None for a
            backbone that does not take raw pixels.
    """

    def __init__(
        self,
        inputs: Tensor,
        outputs: Tensor,
        class_names: Sequence[str],
        task: str = "classification",
        target_mean: float = 0.0,
        target_scale: float = 1.0,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        # Layers compute in their own policies; this one only tells `compile` whether to scale the loss.
        self.dtype_policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        self.class_names = tuple(class_names)
        self.task = task
        self.target_mean = float(target_mean)
        self.target_scale = float(target_scale)
        self.input_range = PIXELS if len(inputs.shape) == 4 else None
        self._column_names = ()
        self._schema = None

    @property
    def schema(self) -> TableSchema | None:
        """Meaning of the numeric columns of a model made for a `data.Table`: names, categories, gaps; or None.

        A model with a schema takes raw data frames, with text, booleans and gaps.

        Raises:
            ValueError: for a schema with a different number of columns.
        """
        return self._schema

    @schema.setter
    def schema(self, schema: TableSchema | None) -> None:
        if schema is not None:
            self.column_names = schema.column_names
        # Bypasses Keras's attribute tracking, which would wrap its parts.
        self.__dict__["_schema"] = schema

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of a table's columns, in the model's order; () if unknown.

        Data frames and dicts of columns are reordered by name; a column "name=category" is 1 where the column "name" holds
        "category". A model without names adopts those of the first named table that it is fitted to.

        Raises:
            ValueError: for names that are not unique, or not one per column.
        """
        return self._column_names

    @column_names.setter
    def column_names(self, names: Iterable[str] | None) -> None:
        names = tuple(names or ())
        if names and (len(self.input_shape) != 2 or len(names) != self.input_shape[-1] or len(set(names)) < len(names)):
            raise ValueError(f"Each of {self.input_shape[1:]} columns must have a unique name. Received: {len(names)} names")
        self._column_names = names

    def _facts(self):
        """The part of the config that is not a constructor option."""
        facts = {"column_names": list(self.column_names)} if self.column_names else {}
        facts |= {} if self.schema is None else {"schema": self.schema.to_config()}
        return {**facts, "input_range": self.input_range} if len(self.input_shape) == 4 else facts

    @classmethod
    def _with_facts(cls, config):
        """Model from a config of constructor options and `_facts`."""
        config = dict(config)
        if "labels" in config:  # The name before 0.1.0.
            config["class_names"] = config.pop("labels")
        facts = {name: config.pop(name) for name in ("column_names", "input_range") if name in config}
        schema = config.pop("schema", None)
        model = cls(**config)
        for name, value in facts.items():
            setattr(model, name, None if value is None else tuple(value))
        model.schema = None if schema is None else TableSchema.from_config(schema)
        return model

    @property
    def num_outputs(self) -> int:
        """Number of outputs."""
        return len(self.class_names)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for a regression."""
        return 0 if self.task == "regression" else self.num_outputs

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """An optimizer that suits fine-tuning."""
        return CoupledSGD(0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def compile_by_default(self, optimizer: Any = None) -> Self:
        """Compiles the model with the loss and metrics of its task, by default for fine-tuning; returns it."""
        optimizer = optimizer or self.default_optimizer()
        if self.task == "classification":
            self.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        elif self.task == "multilabel":
            accuracy = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
            self.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True), metrics=[accuracy])
        else:
            self.compile(optimizer, keras.losses.MeanSquaredError(), metrics=[keras.metrics.RootMeanSquaredError("rmse")])
        return self

    @property
    def _loss_name(self):
        return "BinaryCrossentropy" if self.task == "multilabel" else "SparseCategoricalCrossentropy"

    def readout_weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (features, outputs) and bias (outputs,) from the last features to the outputs, in the outputs' unit."""
        kernel, bias = (np.asarray(ops.convert_to_numpy(weight)) for weight in self.get_layer("logits").weights)
        if self.task == "classification":
            return kernel, bias
        return kernel * np.float32(self.target_scale), bias * np.float32(self.target_scale) + np.float32(self.target_mean)

    def standardize(self, targets: Any) -> Any:
        """Targets or predictions in the unit of the loss: standard deviations for a regression, else unchanged."""
        return (targets - self.target_mean) / self.target_scale if self.task == "regression" else targets

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        y, usable = self.checked_batch(x, y)
        if self.task == "regression":
            y, y_pred = self.standardize(self.values_like(y, y_pred)), self.standardize(y_pred)
        return nan_unless(usable, super().compute_loss(x, y, y_pred, sample_weight, training))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        if self.task == "regression":
            y = self.values_like(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    @staticmethod
    def values_like(y: Tensor, y_pred: Tensor) -> Tensor:
        """Regression values, (batch,) or (batch, 1), as float32 in the shape of the predictions (batch, 1).

        A loss or metric function would broadcast the two shapes to a matrix (batch, batch).
        """
        return ops.reshape(ops.cast(y, "float32"), ops.shape(y_pred))

    def checked_batch(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        """Targets of a streamed batch, made safe for the loss, and whether the batch is valid.

        A step cannot raise on a value. Depending on the backend, a label out of range gives an error, NaN or a loss of zero,
        and a NaN pixel may vanish in a ReLU: such labels are replaced by 0 and the loss is set to NaN, which stops training.

        Args:
            x: tensors of inputs, or None.
            y: tensor of labels (batch,) or (batch, 1), or a dict with these as "label"; other targets pass unchanged.

        Returns:
            The targets, and a boolean scalar: False for labels out of range or with fractions, inputs that are NaN,
            infinite, or out of `input_range`.
        """
        usable = ops.convert_to_tensor(True)
        for values in keras.tree.flatten(x):
            if values is None or (dtype := keras.backend.standardize_dtype(values.dtype)) in ("bool", "uint8"):
                continue
            # An explanation module does not train on images.
            if self.input_range is not None and _rank(values) == len(self.input_shape):
                low, high = self.input_range
                inside = ops.logical_and(values >= low - RANGE_TOLERANCE, values <= high + RANGE_TOLERANCE)
                usable = ops.logical_and(usable, ops.all(inside))
            elif keras.backend.is_float_dtype(dtype):
                usable = ops.logical_and(usable, ops.all(ops.isfinite(ops.cast(values, "float32"))))
        labels = _labels_of(y)
        if self.task == "regression" or not hasattr(labels, "shape"):
            return y, usable
        if self.task == "multilabel" or is_one_hot(labels):
            values = ops.cast(labels, "float32")
            if self.task == "multilabel":
                fits = ops.logical_or(values == 0, values == 1)
            else:  # Rows of several labels are another task.
                fits = ops.abs(ops.sum(values, axis=-1) - 1) < 1e-3
            return y, ops.logical_and(usable, ops.all(fits))
        if not keras.backend.is_float_dtype(labels.dtype):
            # 256 classes overflow to 0 in 8 bits.
            labels = ops.cast(labels, "int32")
        fits = ops.logical_and(labels >= 0, labels < self.num_classes)
        if keras.backend.is_float_dtype(labels.dtype):
            fits = ops.logical_and(fits, labels == ops.floor(labels))
        labels = ops.where(fits, labels, ops.zeros_like(labels))
        return {**y, "label": labels} if isinstance(y, dict) else labels, ops.logical_and(usable, ops.all(fits))

    def prune(self) -> None:
        """Sets weights without effect to zero, which keeps a saved model small. A no-op for most models."""

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks that every `fit` of this model runs before the user's."""
        return []

    def check_inputs(self, inputs: Any) -> np.ndarray:
        """Returns inputs as an array in the order of the model's columns, see `checks.check_inputs`, or raises."""
        if isinstance(inputs, (list, tuple)) and len(inputs) == 1 and np.ndim(inputs[0]) == len(self.input_shape):
            inputs = inputs[0]
        if isinstance(inputs, Mapping) and set(inputs) == {self.inputs[0].name}:
            values = inputs[self.inputs[0].name]
            inputs = values if np.ndim(values) == len(self.input_shape) else inputs
        if self.schema is not None and is_named_table(inputs) and not set(self.column_names) <= set(column_names_of(inputs)):
            inputs = self.schema.encode(inputs)
        dtype = getattr(self.layers[min(1, len(self.layers) - 1)], "compute_dtype", "float32")
        return check_inputs(inputs, self.input_shape, self.column_names, self.input_range, dtype)

    def check_columns(self, dataset: Any) -> None:
        """Raises if a dataset's columns differ from the model's in names or order.

        Raises:
            ValueError: with a way to reorder them.
        """
        names = tuple(getattr(dataset, "column_names", ()) or ())
        if names and self.column_names and names != self.column_names:
            raise ValueError(
                "The columns must be those of the model, in its order: build the dataset from "
                "`table[list(model.column_names)]`, or pass `dataset.select_columns(model.column_names)`. "
                f"Received: columns {list(names)} for {list(self.column_names)}"
            )

    def check_data(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        """Returns inputs, targets and weights in a form that Keras accepts, or raises.

        Arrays, lists, tensors and data frames become arrays, see `check_inputs` and `check_targets`. `data.Batches` of arrays
        are checked, and so is the first batch of a `keras.utils.PyDataset`; a stream passes unchanged.
        """
        if isinstance(x, Batches):
            inputs, targets = (getattr(x.dataset, part, None) for part in ("inputs", "targets"))
            self.check_columns(x.dataset)
            if inputs is not None:
                self.check_inputs(inputs)
            if targets is not None:
                self.check_targets(targets)
        elif isinstance(x, keras.utils.PyDataset) and len(x):  # pyright: ignore[reportArgumentType]
            first = x[0]
            self.check_inputs(first[0] if isinstance(first, tuple) else first)
        elif is_array(x):
            x = self.check_inputs(x)
            y = None if y is None else self.check_targets(y)
            if sample_weight is not None and not isinstance(sample_weight, dict):
                sample_weight = check_weights(sample_weight, len(x))
        return x, y, sample_weight

    def _adopt_names(self, x):
        """Adopts the column names of the table that the model is fitted to, if it has none."""
        table = getattr(x, "dataset", x)
        if is_named_table(table) and not self._is_table(table):
            return
        names = column_names_of(table) or getattr(table, "column_names", ())
        if names and not self.column_names and len(self.input_shape) == 2 and len(names) == self.input_shape[-1]:
            self.column_names = names
            self.schema = getattr(table, "schema", None)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Mapping[Any, float] | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Like `keras.Model.fit`, after checking array inputs and targets, and that the loss takes logits.

        Inputs may be arrays, lists, tensors or data frames, see `column_names`. Labels are class indices or names out of
        `class_names`; those of a stream may be one-hot if the loss takes that.

        Raises:
            ValueError: for arrays of the wrong shape, NaN or infinite inputs, pixels or labels out of range, or a loss that
                takes probabilities or has an `ignore_class`: give such examples the weight 0.
            TypeError: for labels that are not integers.
            FloatingPointError: at the first NaN or infinite loss, which bad inputs or labels in a stream cause. Model and
                optimizer are then restored to their state before that epoch.
        """
        table = x
        x, y, sample_weight = self.check_data(x, y, sample_weight)
        self._adopt_names(table)
        self._warn_of_scaled_stream(x)
        class_weight = self._indexed(class_weight)
        if isinstance(validation_data, (tuple, list)):
            checked = self.check_data(*validation_data)
            validation_data = checked[: len(validation_data)]
        elif validation_data is not None:
            self.check_data(validation_data)
        if getattr(self.loss, "ignore_class", None) is not None:
            raise ValueError(
                f"Give examples to ignore a `sample_weight` of 0. Received: ignore_class={self.loss.ignore_class}"
            )
        if self.task != "regression" and (
            isinstance(self.loss, str)
            or getattr(self.loss, "__name__", "") in PROBABILITY_LOSSES
            or getattr(self.loss, "from_logits", True) is False
        ):
            raise ValueError(
                "The model outputs logits, so the loss must take logits, as "
                f"keras.losses.{self._loss_name}(from_logits=True). Received: loss={self.loss!r}"
            )
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]
        guard = StopAtNaN()
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            # Built now, so that the guard can keep its state; it would otherwise be created in the first step.
            with self.distribute_strategy.scope() if keras.backend.backend() == "tensorflow" else contextlib.nullcontext():
                self.optimizer.build(self.trainable_variables)
        try:
            return super().fit(
                x,
                y,
                batch_size,
                epochs,
                verbose,
                [guard, *self.training_callbacks(), *callbacks],
                validation_split,
                validation_data,
                shuffle,
                class_weight,
                sample_weight,
                **kwargs,
            )
        except FloatingPointError:
            # Only now: when a callback raises, Keras's JAX trainer restores its own last state.
            guard.restore()
            raise

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Like `keras.Model.evaluate`, after the checks of `fit`. The loss is NaN for a stream with bad inputs or labels."""
        if not kwargs.get("_use_cached_eval_dataset"):  # `fit` has checked these.
            self._warn_of_scaled_stream(x)
            x, y, sample_weight = self.check_data(x, y, sample_weight)
        return super().evaluate(x, y, batch_size, verbose, sample_weight, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.predict`, after checking inputs: arrays as a whole, streams batch by batch.

        Raises:
            ValueError: for inputs of the wrong shape, NaN or infinite values, pixels out of range, or missing columns.
        """
        stream = hasattr(x, "element_spec") or inspect.isgenerator(x)
        spread = keras.backend.backend() == "tensorflow" and self.distribute_strategy.num_replicas_in_sync > 1
        if stream and not spread:
            x = ((self.check_inputs(batch[0] if isinstance(batch, tuple) else batch),) for batch in x)
        return super().predict(x if stream else self.check_data(x)[0], *args, **kwargs)

    def __call__(self, inputs, *args, **kwargs):
        return super().__call__(self.check_inputs(inputs) if self._is_table(inputs) else inputs, *args, **kwargs)

    def _is_table(self, inputs):
        # A dict may also be Keras's way to name the input.
        return is_named_table(inputs) and not (isinstance(inputs, Mapping) and set(inputs) == {self.inputs[0].name})

    def _indexed(self, class_weight):
        """Class weights by index, from weights by index or name."""
        if class_weight is None or self.task != "classification":
            return class_weight
        indexed = {}
        for key, weight in class_weight.items():
            (index,) = check_labels([key], self.num_classes, self.class_names)
            indexed[int(index)] = weight
        return indexed

    def _warn_of_scaled_stream(self, x):
        """Warns if the first batch of a `tf.data.Dataset` of float images looks divided by 255."""
        spec = getattr(x, "element_spec", None)
        spec = spec[0] if isinstance(spec, tuple) else spec
        if self.input_range is None or spec is None or not getattr(spec, "dtype", None) or not spec.dtype.is_floating:
            return
        first = next(iter(x.take(1)), None)
        values = None if first is None else np.asarray(first[0] if isinstance(first, tuple) else first)
        if values is not None and np.isfinite(values).all() and values.max() <= 1:
            self.check_inputs(values)

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.train_on_batch`, after the checks of `fit`."""
        return super().train_on_batch(*self._check_batch(x, y, sample_weight), *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.test_on_batch`, after the checks of `fit`."""
        return super().test_on_batch(*self._check_batch(x, y, sample_weight), *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """Like `keras.Model.predict_on_batch`, after the checks of `predict`."""
        return super().predict_on_batch(self.check_data(x)[0])

    def _check_batch(self, x, y, sample_weight):
        """Like `check_data`, for a batch of a stream, whose labels may be one-hot."""
        labels = _labels_of(y)
        if self.task == "classification" and np.ndim(labels) == 2 and np.shape(labels)[1] == self.num_classes:
            return self.check_data(x)[0], y, sample_weight
        return self.check_data(x, y, sample_weight)

    def check_targets(self, targets: Any) -> Any:
        """Returns labels, or regression values, as an array (n,), or raises; for a multilabel model, 0 and 1 in an array
        (n, classes)."""
        if self.task == "classification":
            return check_labels(targets, self.num_classes, self.class_names)
        if self.task == "multilabel":
            return check_attributes(targets, self.class_names).astype("float32")
        return check_values(targets)

    def unit_index(self, unit: int | str) -> int:
        """The index of a unit among `unit_names`, given by its name or index.

        Raises:
            KeyError: for an unknown unit.
        """
        names = self.unit_names
        index = names.index(unit) if isinstance(unit, str) and unit in names else unit
        if isinstance(index, (int, np.integer)) and 0 <= index < len(names):
            return int(index)
        raise KeyError(
            f"A unit is one of the {len(names)} `unit_names`, {names[0]!r} to {names[-1]!r}, or its index. Received: {unit!r}"
        )

    def explained_outputs(self, target: Any, outputs: np.ndarray) -> np.ndarray:
        """Output indices (n,) for a `target` of `explain`, given outputs (n, classes)."""
        if target is None:
            return outputs.argmax(axis=-1)
        targets = [target] * len(outputs) if isinstance(target, str) or np.ndim(target) == 0 else list(target)
        if len(targets) != len(outputs):
            raise ValueError(f"`target` must be one class or one for each of {len(outputs)} inputs. Received: {target}")
        numbers = [self.class_names.index(t) if isinstance(t, str) and t in self.class_names else t for t in targets]
        if not all(isinstance(n, (int, np.integer)) and 0 <= n < self.num_outputs for n in numbers):
            raise ValueError(
                f"`target` must be a class index below {self.num_outputs} or one of {list(self.class_names)}. "
                f"Received: {target}"
            )
        return np.array(numbers, int)


def output_names(num_outputs: int | None, class_names: Sequence[str] | None, argument: str = "num_outputs") -> tuple[str, ...]:
    """Names of the outputs: those given, or their indices as text.

    Raises:
        ValueError: if neither is given, or they disagree.
    """
    class_names = tuple(class_names) if class_names is not None else ()
    count = num_outputs or len(class_names)
    if not count or (class_names and len(class_names) != count):
        raise ValueError(
            f"Give `{argument}`, or `class_names`, or both with the same number. "
            f"Received: {argument}={num_outputs}, {len(class_names)} class names"
        )
    return class_names or tuple(str(number) for number in range(count))


def readout(
    features: Tensor,
    num_outputs: int,
    task: str = "classification",
    target_mean: float = 0.0,
    target_scale: float = 1.0,
    kernel_regularizer: Any = None,
) -> Tensor:
    """Adds the last layers of a model: float32 logits, or a regression value in the target's unit."""
    check_options(locals(), task=(*TASKS, "multilabel"))
    logits = layers.Dense(num_outputs, kernel_regularizer=kernel_regularizer, dtype="float32", name="logits")(features)
    if task != "regression":
        return logits
    if num_outputs != 1 or not target_scale > 0:
        raise ValueError(
            "A regression has one output and a positive `target_scale`. "
            f"Received: {num_outputs} outputs, target_scale={target_scale}"
        )
    return layers.Rescaling(float(target_scale), float(target_mean), dtype="float32", name="target")(logits)


def is_array(x: Any) -> bool:
    """True for examples in memory, False for a stream of batches."""
    return isinstance(x, (list, tuple, Mapping)) or hasattr(x, "__array__") or is_named_table(x)


def is_one_hot(labels: Tensor) -> bool:
    """True for one-hot rows, False for class indices."""
    return _rank(labels) == 2 and labels.shape[-1] != 1


def class_indices(labels: Tensor) -> Tensor:
    """Class indices, an int32 tensor (batch,), from indices (batch,) or (batch, 1), or one-hot rows (batch, classes)."""
    return ops.argmax(labels, axis=-1) if is_one_hot(labels) else ops.reshape(ops.cast(labels, "int32"), (-1,))


def _labels_of(y) -> Any:
    """Labels of a batch's targets, which may have other parts, or None."""
    return y.get("label") if isinstance(y, dict) else y


def _rank(tensor):
    # A TensorFlow stream may leave it unknown.
    return tensor.shape.rank if hasattr(tensor.shape, "rank") else len(tensor.shape)
