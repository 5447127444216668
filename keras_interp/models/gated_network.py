"""Base of the networks with hard-concrete gates before their layers, which level features or prune them."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import layers, ops

from keras_interp.checks import check_options
from keras_interp.graphs import keep_views
from keras_interp.layers.hard_concrete_gate import HardConcreteGate
from keras_interp.models.base import TASKS, InterpretableModel, output_names, readout
from keras_interp.models.objective import NamedMeans, num_replicas
from keras_interp.typing import Shape, Tensor


class GatedNetwork(InterpretableModel):
    """Dense or convolutional layers with hard-concrete gates before them, and the expected L0 of the gates in the loss."""

    # True if closed gates hand features to the output layer, False if they prune them.
    leveled = True

    def __init__(
        self,
        hidden_units: Sequence[int],
        num_outputs: int | None = None,
        input_shape: Shape | None = None,
        task: str = "classification",
        class_names: Sequence[str] | None = None,
        preprocessing: keras.Layer | None = None,
        activation: Any = "relu",
        kernel_size: int | tuple[int, int] | None = None,
        strides: Sequence[int] | None = None,
        reduced_filters: int = 8,
        reduced_size: int = 7,
        l0_weight: float = 0.1,
        l0_reduction: str = "mean",
        num_samples: int | None = None,
        gate_learning_rate_multiplier: float = 10.0,
        gate_options: Mapping[str, Any] | None = None,
        column_names: Sequence[str] | None = None,
        target_mean: float = 0.0,
        target_scale: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        hidden_units = tuple(hidden_units)
        if task == "regression":
            num_outputs, class_names = num_outputs or 1, class_names or ("target",)
        class_names = output_names(num_outputs, class_names)
        reductions = ("mean", "sum", "weighted")
        check_options(locals(), hidden_units="integer [1, inf)", l0_weight="[0, inf)", l0_reduction=reductions, task=TASKS)
        if not hidden_units:
            raise ValueError("`hidden_units` must not be empty. Received: hidden_units=()")
        if input_shape is None or len(input_shape) not in ((3,) if kernel_size else (1, 3)) or None in tuple(input_shape):
            raise ValueError(
                "`input_shape` must be (columns,) or (height, width, channels); convolutions take the latter. "
                f"Received: input_shape={input_shape}, kernel_size={kernel_size}"
            )
        if kernel_size and not self.leveled:
            raise ValueError(f"An `L0Network` has dense layers. Received: kernel_size={kernel_size}")
        if l0_reduction == "sum" and not num_samples:
            raise ValueError(
                "The sum over gates is divided by the number of training examples: give `num_samples`. Received: None"
            )
        if strides is not None and len(strides) != len(hidden_units):
            raise ValueError(f"`strides` must be one for each of {len(hidden_units)} layers. Received: strides={strides}")
        dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        activation = keras.activations.get(activation)
        options = {"learning_rate_multiplier": gate_learning_rate_multiplier, "dtype": dtype, **(gate_options or {})}

        inputs = keras.Input(tuple(input_shape), name="inputs")
        scaled = inputs if preprocessing is None else preprocessing(inputs)
        features = layers.Flatten(dtype=dtype, name="flatten")(scaled) if len(input_shape) == 3 and not kernel_size else scaled
        if kernel_size and strides is None:
            strides = [1 + number % 2 for number in range(len(hidden_units))]
        gates, hidden, levels, parts = [], [], [], []

        def split(features):
            number = len(gates) + 1
            offset = None if seed is None else seed + number
            gates.append(HardConcreteGate(**options, seed=offset, name=f"gate{number}"))
            return gates[-1](features)

        def add_level(level):
            levels.append(level)
            number, side = len(levels), max(level.shape[1:-1], default=0)
            while side > reduced_size:
                # No activation and no bias: the output stays linear in the level.
                convolution = layers.Conv2D(
                    reduced_filters, 3, 2, "same", use_bias=False, dtype=dtype, name=f"level{number}_reduction_from{side}"
                )
                level, side = convolution(level), -(-side // 2)
            parts.append(layers.Flatten(name=f"level{number}_features")(level) if level.ndim == 4 else level)

        for number, units in enumerate(hidden_units, start=1):
            level, passed = split(features)
            if self.leveled:
                add_level(level)
            if kernel_size and strides is not None:
                layer = layers.Conv2D(
                    units, kernel_size, strides[number - 1], "same", activation=activation, dtype=dtype, name=f"hidden{number}"
                )
            else:
                layer = layers.Dense(units, activation, dtype=dtype, name=f"hidden{number}")
            hidden.append(layer)
            features = layer(passed)
        add_level(features if self.leveled else split(features)[1])
        joined = layers.Concatenate(dtype="float32", name="levels")(parts) if len(parts) > 1 else parts[0]
        outputs = readout(joined, len(class_names), task, target_mean, target_scale)
        super().__init__(inputs, outputs, class_names, task, target_mean, target_scale, name, dtype)

        self.hidden_units = hidden_units
        self.kernel_size = kernel_size
        self.l0_weight = l0_weight
        self.l0_reduction = l0_reduction
        self.num_samples = num_samples
        self.column_names = column_names
        self._config = {
            "hidden_units": list(hidden_units),
            "input_shape": list(input_shape),
            "task": task,
            "class_names": list(class_names),
            "activation": keras.activations.serialize(activation),
            "kernel_size": kernel_size,
            "strides": None if strides is None else list(strides),
            "reduced_filters": reduced_filters,
            "reduced_size": reduced_size,
            "l0_weight": l0_weight,
            "l0_reduction": l0_reduction,
            "num_samples": num_samples,
            "gate_learning_rate_multiplier": gate_learning_rate_multiplier,
            "gate_options": gate_options,
            "target_mean": self.target_mean,
            "target_scale": self.target_scale,
            "seed": seed,
        }
        numbers = range(1, len(gates) + 1)
        self.gate_counts = NamedMeans([f"gate{number}_{kind}" for kind in ("open", "expected") for number in numbers], "gates")
        keep_views(
            self,
            gates=gates,
            hidden_layers=hidden,
            _preprocessing=preprocessing,
            _level_view=keras.Model(inputs, [scaled, *levels, outputs]),
            _part_view=keras.Model(inputs, parts),
            _levels_of_scaled=keras.Model(scaled, levels),
            _output_of_levels=keras.Model(levels, outputs),
        )

    # --- The objective: Eq. 8.

    def l0_penalty(self) -> Tensor:
        """Expected L0 of the gates, mean over the levels, reduced by `l0_reduction`; a scalar tensor."""
        penalties = []
        # The layer that each gate feeds.
        fed = [*self.hidden_layers, self.get_layer("logits")]
        for number, gate in enumerate(self.gates):
            probability = gate.open_probability()
            if self.l0_reduction == "sum":
                penalties.append(ops.sum(probability) / self.num_samples)
            elif self.l0_reduction == "weighted":
                kernel, bias = (ops.convert_to_tensor(weight) for weight in fed[number].weights)
                axes = [axis for axis in range(kernel.ndim) if axis != kernel.ndim - 2]
                weighted = probability * (1.0 + 0.5 * ops.mean(ops.square(kernel), axes))
                penalties.append(ops.mean(weighted) + 0.5 * ops.mean(ops.square(bias)))
            else:
                penalties.append(ops.mean(probability))
        return sum(penalties) / len(penalties)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        # Not in `compute_metrics`, where Keras's JAX trainer has no weights.
        counts = [*(gate.num_open() for gate in self.gates), *(gate.expected_open() for gate in self.gates)]
        self.gate_counts.update_state(ops.stack(counts), ops.ones(len(counts)))
        task_loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        # Gradients are summed over replicas, and every replica has the same gates.
        return task_loss + self.l0_weight * self.l0_penalty() / num_replicas()

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """An optimizer that suits fine-tuning."""
        return keras.optimizers.Adam(1e-3)

    # --- Parts that closed gates make superfluous.

    def gate_values(self) -> list[np.ndarray]:
        """Gates at test time, a list of float32 arrays."""
        return [ops.convert_to_numpy(gate.test_gate()) for gate in self.gates]

    @property
    def depth(self) -> int:
        """Number of hidden layers that an input still reaches: those before the first fully closed gate."""
        reached = [bool((gate > 0).any()) for gate in self.gate_values()][: len(self.hidden_units)]
        return reached.index(False) if False in reached else len(reached)

    def get_config(self) -> dict[str, Any]:
        preprocessing = self._preprocessing and keras.saving.serialize_keras_object(self._preprocessing)
        config = {**self._config, "preprocessing": preprocessing, "name": self.name, "dtype": self.dtype_policy.name}
        return {**config, **self._facts()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> Self:
        config = dict(config)
        if config["preprocessing"] is not None:
            config["preprocessing"] = keras.saving.deserialize_keras_object(config["preprocessing"], custom_objects)
        return cls._with_facts(config)


def units_where(accepted: np.ndarray) -> np.ndarray:
    """Indices of the units, the last axis, for which `accepted` holds at any position."""
    return np.flatnonzero(accepted.reshape(-1, accepted.shape[-1]).any(axis=0))


def select(features: Tensor, units: np.ndarray) -> Tensor:
    """Selects features or channels by index; a no-op if all are selected."""
    if len(units) == features.shape[-1]:
        return features
    if features.ndim == 4:
        return ops.take(features, units, axis=-1)
    # Picking whole rows is faster than single entries of each row, and compilers fold the transpositions into the product.
    return ops.transpose(ops.take(ops.transpose(features), units, axis=0))


def masked(features: Tensor, gate: np.ndarray) -> Tensor:
    """Maps times gates that differ between positions; a constant gate is left to the weights."""
    return features if gate.ndim == 1 or (gate == 1).all() else ops.multiply(features, gate.astype("float32"))


def as_list(outputs: Any) -> Sequence:
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]
