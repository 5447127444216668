"""Feature leveling: a network that hands each feature to its linear output layer at the level where the feature is ready.

Paper: "Not All Features Are Equal: Feature Leveling Deep Neural Networks for Better Interpretation". Before each hidden layer
a hard-concrete gate splits the features: those that the output layer can use as they are (level k) go there, the others go on.
The output is linear in all levels, so it is explained by their contributions; an L0 term closes gates, and layers behind
closed gates disappear. `L0Network` is the paper's baseline by Louizos et al. (2017), whose gates prune instead.
"""

import functools

import keras
import numpy as np
from keras import layers, ops

from keras_interp.explain.explanation import Explanation
from keras_interp.explain.gradients import input_gradient
from keras_interp.layers.hard_concrete_gate import HardConcreteGate
from keras_interp.models.base import InterpretableModel, output_names, predict_all, readout
from keras_interp.models.objective import NamedMeans, num_replicas


class GatedNetwork(InterpretableModel):
    """Dense or convolutional layers with hard-concrete gates before them, and the expected L0 of the gates in the loss."""

    # Whether closed gates hand features to the output layer, or prune them.
    leveled = True

    def __init__(
        self,
        hidden_units,
        num_outputs=None,
        input_shape=None,
        task="classification",
        class_names=None,
        preprocessing=None,
        activation="relu",
        kernel_size=None,
        strides=None,
        reduced_filters=8,
        reduced_size=7,
        l0_weight=0.1,
        l0_reduction="mean",
        num_samples=None,
        gate_learning_rate_multiplier=10.0,
        gate_options=None,
        column_names=None,
        target_mean=0.0,
        target_scale=1.0,
        seed=None,
        name=None,
        dtype=None,
    ):
        hidden_units = tuple(hidden_units)
        if task == "regression":
            num_outputs, class_names = num_outputs or 1, class_names or ("target",)
        class_names = output_names(num_outputs, class_names)
        if not hidden_units or min(hidden_units) < 1:
            raise ValueError(f"`hidden_units` must be one or more positive numbers. Received: hidden_units={hidden_units}")
        if input_shape is None or len(input_shape) not in ((3,) if kernel_size else (1, 3)) or None in tuple(input_shape):
            raise ValueError(
                "`input_shape` must be (columns,) or (height, width, channels); convolutions take the latter. "
                f"Received: input_shape={input_shape}, kernel_size={kernel_size}"
            )
        if kernel_size and not self.leveled:
            raise ValueError(f"An `L0Network` has dense layers. Received: kernel_size={kernel_size}")
        if not l0_weight >= 0:
            raise ValueError(f"`l0_weight` must not be negative. Received: l0_weight={l0_weight}")
        if l0_reduction not in ("mean", "sum", "weighted"):
            raise ValueError(f"`l0_reduction` must be 'mean', 'sum' or 'weighted'. Received: l0_reduction={l0_reduction!r}")
        if l0_reduction == "sum" and not num_samples:
            raise ValueError(
                "A sum over gates is divided by the number of training examples: give `num_samples`. Received: None"
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
            if kernel_size:
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
        # Past Keras's attribute tracking, which would count every weight twice.
        self.__dict__["gates"], self.__dict__["hidden_layers"] = gates, hidden
        self.__dict__["_preprocessing"] = preprocessing
        self.__dict__["_level_view"] = keras.Model(inputs, [scaled, *levels, outputs])
        self.__dict__["_part_view"] = keras.Model(inputs, parts)
        self.__dict__["_levels_of_scaled"] = keras.Model(scaled, levels)
        self.__dict__["_output_of_levels"] = keras.Model(levels, outputs)

    # --- The objective: Eq. 8.

    def l0_penalty(self):
        """The expected L0 of the gates, mean over the levels, in the unit that `l0_reduction` says; a scalar tensor."""
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

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # Here and not in `compute_metrics`, where Keras's JAX trainer has no weights.
        counts = [*(gate.num_open() for gate in self.gates), *(gate.expected_open() for gate in self.gates)]
        self.gate_counts.update_state(ops.stack(counts), ops.ones(len(counts)))
        task_loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        # Gradients are summed over replicas, and every replica has the same gates.
        return task_loss + self.l0_weight * self.l0_penalty() / num_replicas()

    def default_optimizer(self):
        """An optimizer that suits fine-tuning."""
        return keras.optimizers.Adam(1e-3)

    # --- What the closed gates make superfluous.

    def gate_values(self):
        """The gates of test time, a list of float32 arrays."""
        return [ops.convert_to_numpy(gate.test_gate()) for gate in self.gates]

    @property
    def depth(self):
        """Number of hidden layers that an input still reaches: those before the first gate that is closed as a whole."""
        reached = [bool((gate > 0).any()) for gate in self.gate_values()][: len(self.hidden_units)]
        return reached.index(False) if False in reached else len(reached)

    def get_config(self):
        preprocessing = self._preprocessing and keras.saving.serialize_keras_object(self._preprocessing)
        config = {**self._config, "preprocessing": preprocessing, "name": self.name, "dtype": self.dtype_policy.name}
        return {**config, **self._facts()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        if config["preprocessing"] is not None:
            config["preprocessing"] = keras.saving.deserialize_keras_object(config["preprocessing"], custom_objects)
        return cls._with_facts(config)


@keras.saving.register_keras_serializable("keras_interp")
class FeatureLevelingNetwork(GatedNetwork):
    """Dense or convolutional layers whose features go to the linear output at the level where they are ready (Eq. 4 and 8).

    With f_0 the scaled input and f_k the output of hidden layer k, gate k splits f_{k-1} into the level features l_k and the
    input h_k of hidden layer k, see `HardConcreteGate`; the output is a linear function of (l_1, ..., l_K, f_K). The loss is
    the task's plus λ times the mean over the levels of the gates' expected L0. Where the layers are convolutions, the maps of
    a level are reduced by strided convolutions without activation and bias, so that the output stays linear in them.

    The log holds `gate<k>_open`, how many gates are open at test time, and `gate<k>_expected`, the expected L0 in training.

    Args:
        hidden_units: numbers of units, or of filters, of the hidden layers.
        num_outputs: number of classes; may be left out where `class_names` are given. A regression has one output.
        input_shape: (columns,), or (height, width, channels), which dense layers flatten.
        task: "classification", with integer labels, or "regression".
        class_names: names of the outputs.
        preprocessing: a Keras layer that scales raw inputs, as `backbones.unit_scaling()` or `backbones.column_scaling(rows)`.
        activation: activation of the hidden layers.
        kernel_size: size of the kernels of convolutions; None for dense layers.
        strides: steps of the convolutions; by default 1, 2, 1, 2, ...
        reduced_filters: filters of the convolutions that reduce the maps of a level.
        reduced_size: height and width to which they reduce at least.
        l0_weight: λ of Eq. 8, at least 0.
        l0_reduction: "mean" over a level's gates; "sum" over them divided by `num_samples`, as Louizos et al.; or "weighted",
            the penalty of the authors' code: a mean in which each gate weighs 1 + ½ mean(w²), plus ½ mean(b²) of its layer;
            the authors add up the levels, so that their weight of the penalty is λ divided by the number of levels.
        num_samples: number of training examples, for "sum".
        gate_learning_rate_multiplier: how much faster than the weights the gates learn.
        gate_options: further arguments of `HardConcreteGate`.
        column_names: names of a table's columns.
        target_mean, target_scale: mean and standard deviation of a regression's target, see `Regressor`.
        seed: seed of gates and their noise.
        name: name of the model.
        dtype: dtype policy of the training, see `Classifier`.

    Raises:
        ValueError: for options outside their ranges, or shapes that do not fit.

    Example:

    >>> model = FeatureLevelingNetwork((16, 8), num_outputs=2, input_shape=(3,), seed=0)
    >>> _ = model.compile_by_default(keras.optimizers.Adam(1e-2))
    >>> rows = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    >>> history = model.fit(rows, (rows[:, 0] > 0).astype("int32"), verbose=0)
    >>> model.explain(rows).check_completeness()
    >>> model.compact().output_shape
    (None, 2)
    """

    def _level_units(self, number):
        """Numbers of the units of level `number` (from 0) that the output takes: those with a gate, at any position, of 0."""
        if number == len(self.hidden_units):
            return np.arange(self.hidden_units[-1])
        return _units_where(self.gate_values()[number] == 0)

    def _parts(self):
        """For the input zero, what each level passes to the output, and the rows of the output's kernel that take it."""
        kernel = ops.convert_to_numpy(self.get_layer("logits").kernel)
        origin = np.zeros((1, *self.input_shape[1:]), "float32")
        parts = [ops.convert_to_numpy(part)[0] for part in _as_list(self._part_view(origin, training=False))]
        return parts, np.split(kernel, np.cumsum([len(part) for part in parts])[:-1])

    def _reductions(self, number):
        """The convolutions that reduce the maps of level `number`, in order."""
        prefix = f"level{number + 1}_reduction"
        return [layer for layer in self.layers if layer.name.startswith(prefix)]

    def _compact_bias(self):
        """The output's bias, with what the layers add that no input reaches."""
        parts, rows = self._parts()
        bias = ops.convert_to_numpy(self.get_layer("logits").bias)
        return bias + sum(part @ row for part, row in zip(parts[self.depth + 1 :], rows[self.depth + 1 :]))

    def compact(self):
        """The same function without gates, and without the units, weight rows and layers that closed gates make dead.

        Gates per position stay as constant masks where they are neither open nor closed for a whole map.

        Returns:
            A plain functional `keras.Model` of Keras's own layers with the same inputs and outputs, equal up to rounding;
            `count_params()` of it is the honest size of the network. Where all gates are closed it is a linear model.
        """
        gates, rows = self.gate_values(), self._parts()[1]
        inputs = keras.Input(self.input_shape[1:], name="inputs")
        features = inputs if self._preprocessing is None else self._preprocessing(inputs)
        if not self.kernel_size and features.ndim == 4:
            features = layers.Flatten(name="flatten")(features)
        parts, kernel, weights = [], [], {}
        for number in range(self.depth + 1):
            units = self._level_units(number)
            if len(units):
                level = _select(features, units)
                if number < len(gates):
                    level = _masked(level, gates[number][..., units] == 0)
                part_rows = rows[number]
                width = self._level_view.outputs[1 + number].shape[-1]
                for layer in self._reductions(number):
                    weights[layer.name] = [ops.convert_to_numpy(layer.kernel)[:, :, units]]
                    units, width = np.arange(layer.filters), layer.filters
                    level = layers.Conv2D.from_config({**layer.get_config(), "dtype": "float32"})(level)
                parts.append(layers.Flatten(name=f"level{number + 1}_features")(level) if level.ndim == 4 else level)
                kernel.append(part_rows.reshape(-1, width, self.num_outputs)[:, units].reshape(-1, self.num_outputs))
            if number < self.depth:
                units = _units_where(gates[number] > 0)
                features = _masked(_select(features, units), gates[number][..., units])
                layer = self.hidden_layers[number]
                scale = gates[number][units, None] if gates[number].ndim == 1 else 1.0
                weights[layer.name] = [
                    ops.convert_to_numpy(layer.kernel)[..., units, :] * scale,
                    ops.convert_to_numpy(layer.bias),
                ]
                features = type(layer).from_config({**layer.get_config(), "dtype": "float32"})(features)
        weights["logits"] = [np.concatenate(kernel), self._compact_bias()]
        joined = layers.Concatenate(name="levels")(parts) if len(parts) > 1 else parts[0]
        outputs = readout(joined, self.num_outputs, self.task, self.target_mean, self.target_scale)
        model = keras.Model(inputs, outputs, name=f"{self.name}_compact")
        for name, values in weights.items():
            model.get_layer(name).set_weights(values)
        return model

    def prune(self):
        """Sets to zero all weights that closed gates keep from acting, and moves what unreached layers add into the bias.

        The outputs stay the same up to rounding; the zeros take no room in a compressed file.
        """
        gates, depth, (_, rows) = self.gate_values(), self.depth, self._parts()
        self.get_layer("logits").bias.assign(self._compact_bias())
        for number, part_rows in enumerate(rows):
            taken = np.zeros(self._level_view.outputs[1 + number].shape[-1], bool)
            taken[self._level_units(number) if number <= depth else []] = True
            reductions = self._reductions(number)
            if reductions:
                kernel = ops.convert_to_numpy(reductions[0].kernel)
                reductions[0].kernel.assign(kernel * taken[:, None])
                part_rows *= number <= depth
            else:
                part_rows.reshape(-1, len(taken), part_rows.shape[1])[:, ~taken] = 0
        self.get_layer("logits").kernel.assign(np.concatenate(rows))
        for number, layer in enumerate(self.hidden_layers):
            reached = np.zeros(gates[number].shape[-1])
            reached[_units_where(gates[number] > 0) if number < depth else []] = 1
            layer.kernel.assign(ops.convert_to_numpy(layer.kernel) * reached[:, None])
            layer.bias.assign(ops.convert_to_numpy(layer.bias) * (number < depth))

    # --- What the levels say.

    def input_levels(self):
        """The level of each input feature, an int array (columns,), or shaped like an image: 1 where the output takes it, else
        the lowest level of a hidden unit or map that the output takes and that depends on it; 0 where none does. With
        convolutions a channel counts as a whole, apart from the pixels that the output takes."""
        gates = self.gate_values()
        # Whether each unit depends on each input, by weights that are not zero.
        size = gates[0].shape[-1]
        depends, found = np.eye(size, dtype=bool), np.zeros(size, int)
        for number in range(self.depth + 1):
            # What the output takes at level 1 is known for each feature below, not for a channel as a whole.
            reached = depends[:, self._level_units(number)].any(axis=1) & (number > 0)
            found = np.where((found == 0) & reached, number + 1, found)
            if number < self.depth:
                kernel = ops.convert_to_numpy(self.hidden_layers[number].kernel)
                connected = (kernel != 0).any(axis=tuple(range(kernel.ndim - 2)))
                passes = np.isin(np.arange(len(connected)), _units_where(gates[number] > 0))
                depends = (depends & passes).astype("float32") @ connected > 0
        found = np.where(gates[0] == 0, 1, found)
        shape = self.input_shape[1:]
        return found.reshape(shape) if found.size == np.prod(shape) else np.broadcast_to(found, shape).copy()

    @property
    def unit_levels(self):
        """The level, from 1, of each unit that the output takes: integers (units,)."""
        counts = [len(self._level_units(number)) for number in range(self.depth + 1)]
        return np.repeat(np.arange(1, len(counts) + 1), counts)

    @property
    def unit_names(self):
        """Names of the units that the output takes, as in "level 1: longitude" or "level 2: unit 17"."""
        names = []
        for number in range(self.depth + 1):
            for unit in self._level_units(number):
                name = f"{'map' if self.kernel_size else 'unit'} {unit}"
                if number == 0 and self.column_names:
                    name = self.column_names[unit]
                elif number == 0 and len(self.input_shape) == 4 and not self.kernel_size:
                    name = f"pixel {tuple(int(i) for i in np.unravel_index(unit, self.input_shape[1:]))}"
                names.append(f"level {number + 1}: {name}")
        return tuple(names)

    def _effects(self):
        """The effect of each level's features on each output, arrays (outputs, ...) shaped like the level; exact, since the
        outputs are linear in them."""
        shapes = [output.shape[1:] for output in self._level_view.outputs[1:-1]]
        origins = [ops.zeros((self.num_outputs, *shape), "float32") for shape in shapes]
        own = np.eye(self.num_outputs, dtype="float32")

        def effect(number):
            def own_outputs(level):
                outputs = self._output_of_levels([*origins[:number], level, *origins[number + 1 :]], training=False)
                return outputs * own

            return ops.convert_to_numpy(input_gradient(own_outputs, origins[number]))

        return [effect(number) for number in range(len(shapes))]

    def explain(self, inputs, target=None, batch_size=256):
        """Explains one output for each input by the level features.

        Args:
            inputs: images (n, height, width, channels) of pixels in 0..255, or rows (n, columns).
            target: the class to explain: None for the predicted one, a label's name or number, or a sequence of n of them.
            batch_size: inputs in a batch.

        Returns:
            An `Explanation` with one contribution for each feature or map that the output takes; with the bias they add up to
            the logit, in a regression to the value in its own unit. `level_gradients` are the gradients of each level's part
            of the logit with respect to the scaled inputs (section 5.2); for convolutions, `maps` are the contributions by
            position, brought to one size.

        Raises:
            ValueError: for inputs of another shape, NaN or infinite values, or an unknown target.
        """
        inputs = self.check_inputs(inputs)
        scaled, *levels, logits = predict_all(self._level_view, inputs, batch_size)
        targets = self.explained_outputs(target, logits)
        effects, count = self._effects(), self.depth + 1
        features, maps, gradients = [], [], []
        for number in range(count):
            units = self._level_units(number)
            parts = levels[number][..., units] * effects[number][targets][..., units]
            features.append(parts.sum(axis=tuple(range(1, parts.ndim - 1))))
            maps.append(parts)
            chunks = [slice(start, start + batch_size) for start in range(0, len(inputs), batch_size)]

            def part_of_logit(x, number=number, chunk=None):
                return self._levels_of_scaled(x, training=False)[number] * effects[number][targets[chunk]]

            pieces = [input_gradient(functools.partial(part_of_logit, chunk=chunk), scaled[chunk]) for chunk in chunks]
            gradients.append(np.concatenate([ops.convert_to_numpy(piece) for piece in pieces]))
        return Explanation(
            inputs=inputs,
            logits=logits,
            class_names=self.class_names,
            target=targets,
            unit_names=self.unit_names,
            contributions=np.concatenate(features, axis=1),
            bias=self._output_bias()[targets],
            maps=_same_size(maps) if self.kernel_size else None,
            levels=self.unit_levels,
            level_gradients=np.stack(gradients, axis=1),
        )

    def level_contributions(self, inputs, batch_size=256):
        """What each level adds to each output.

        Args:
            inputs: as for `explain`.
            batch_size: inputs in a batch.

        Returns:
            float32 arrays (n, levels, outputs) and (outputs,): the contributions, and the bias, which add up to the outputs.

        Raises:
            ValueError: for inputs of another shape, NaN or infinite values.
        """
        inputs = self.check_inputs(inputs)
        parts = _as_list(predict_all(self._part_view, inputs, batch_size))
        rows = self._parts()[1]
        contributions = np.stack([part @ row for part, row in list(zip(parts, rows))[: self.depth + 1]], axis=1)
        return contributions * np.float32(self.target_scale), self._output_bias()

    def _output_bias(self):
        """The part of the outputs that no level accounts for, in their unit."""
        return (self._compact_bias() * self.target_scale + self.target_mean).astype("float32")

    def intervene(self, inputs, values, batch_size=256):
        """Outputs when some of the features that the output takes are set by hand.

        Args:
            inputs: as for `explain`.
            values: {unit name or number among `unit_names`: value}; 0 drops the feature. A map is set as a whole.
            batch_size: inputs in a batch.

        Returns:
            float32 array (n, outputs).

        Raises:
            KeyError: for an unknown unit, or one that no output takes.
        """
        inputs = self.check_inputs(inputs)
        _, *levels, _ = predict_all(self._level_view, inputs, batch_size)
        names, numbers = self.unit_names, self.unit_levels - 1
        units = np.concatenate([self._level_units(number) for number in range(self.depth + 1)])
        for unit, value in values.items():
            index = unit_number(unit, names)
            levels[numbers[index]][..., units[index]] = value
        return predict_all(self._output_of_levels, levels, batch_size)


@keras.saving.register_keras_serializable("keras_interp")
class L0Network(GatedNetwork):
    """Dense layers whose inputs and hidden units are pruned by hard-concrete gates (Louizos et al., 2017).

    A gate stands before every layer, the output layer included, and what a closed gate keeps out is not used at all. The loss
    is the task's plus λ times the mean over the layers of the gates' expected L0. Arguments as for `FeatureLevelingNetwork`,
    without convolutions.

    Example:

    >>> L0Network((300, 100), num_outputs=10, input_shape=(28, 28, 1)).output_shape
    (None, 10)
    """

    leveled = False

    def explain(self, inputs, target=None, batch_size=256):
        """Explains one output for each input by the last hidden units, in which it is linear.

        Args:
            inputs: images (n, height, width, channels) of pixels in 0..255, or rows (n, columns).
            target: the class to explain: None for the predicted one, a label's name or number, or a sequence of n of them.
            batch_size: inputs in a batch.

        Returns:
            An `Explanation` whose contributions and bias add up to the logit.

        Raises:
            ValueError: for inputs of another shape, NaN or infinite values, or an unknown target.
        """
        inputs = self.check_inputs(inputs)
        _, units, logits = predict_all(self._level_view, inputs, batch_size)
        targets = self.explained_outputs(target, logits)
        kernel, bias = self.readout_weights()
        names = tuple(f"unit {number}" for number in range(self.hidden_units[-1]))
        contributions = units * kernel.T[targets]
        return Explanation(inputs, logits, self.class_names, targets, names, contributions, bias[targets])

    def intervene(self, inputs, values, batch_size=256):
        """Outputs when some of the last hidden units are set by hand.

        Args:
            inputs: as for `explain`.
            values: {unit name or number: value}, as "unit 12" or 12; 0 drops the unit.
            batch_size: inputs in a batch.

        Returns:
            float32 array (n, outputs).

        Raises:
            KeyError: for an unknown unit.
        """
        inputs = self.check_inputs(inputs)
        _, units, _ = predict_all(self._level_view, inputs, batch_size)
        names = [f"unit {number}" for number in range(self.hidden_units[-1])]
        for unit, value in values.items():
            units[:, unit_number(unit, names)] = value
        kernel, bias = self.readout_weights()
        return units @ kernel + bias

    def compact(self):
        """The same function without gates, and without the inputs, units and weight rows that closed gates make dead.

        Returns:
            A plain functional `keras.Model` with the same inputs and outputs, equal up to rounding.

        Raises:
            ValueError: where all gates before a layer are closed: the output is a constant.
        """
        units = [_units_where(gate > 0) for gate in self.gate_values()]
        if not all(map(len, units)):
            raise ValueError(
                "All gates before one layer are closed, so that the output is a constant: train again with a smaller "
                f"`l0_weight`. Received: {[len(open_units) for open_units in units]} open gates"
            )
        inputs = keras.Input(self.input_shape[1:], name="inputs")
        features = inputs if self._preprocessing is None else self._preprocessing(inputs)
        features = _select(layers.Flatten(name="flatten")(features) if features.ndim == 4 else features, units[0])
        for layer, kept in zip(self.hidden_layers, units[1:]):
            features = layers.Dense.from_config({**layer.get_config(), "units": len(kept), "dtype": "float32"})(features)
        outputs = readout(features, self.num_outputs, self.task, self.target_mean, self.target_scale)
        model = keras.Model(inputs, outputs, name=f"{self.name}_compact")
        kept_outputs = [*units[1:], np.arange(self.num_outputs)]
        for number, layer in enumerate([*self.hidden_layers, self.get_layer("logits")]):
            kernel, bias = (ops.convert_to_numpy(weight) for weight in layer.weights)
            rows, columns = units[number], kept_outputs[number]
            scale = self.gate_values()[number][rows, None]
            model.get_layer(layer.name).set_weights([kernel[np.ix_(rows, columns)] * scale, bias[columns]])
        return model

    def prune(self):
        """Sets to zero all weights that closed gates keep from acting. The outputs stay the same."""
        gates = self.gate_values()
        for number, layer in enumerate([*self.hidden_layers, self.get_layer("logits")]):
            acts = gates[number + 1] > 0 if number < len(self.hidden_layers) else True
            layer.kernel.assign(ops.convert_to_numpy(layer.kernel) * (gates[number][:, None] > 0) * acts)
            layer.bias.assign(ops.convert_to_numpy(layer.bias) * acts)


def unit_number(unit, names):
    """The number of a unit that is given by its name or number.

    Raises:
        KeyError: for an unknown unit.
    """
    number = names.index(unit) if unit in names else unit
    if isinstance(number, (int, np.integer)) and 0 <= number < len(names):
        return int(number)
    raise KeyError(f"A unit is one of the {len(names)} `unit_names`, or its number. Received: {unit!r}")


def _units_where(accepted):
    """Numbers of the units, the last axis, for which `accepted` holds at any position."""
    return np.flatnonzero(accepted.reshape(-1, accepted.shape[-1]).any(axis=0))


def _select(features, units):
    """The features or channels of these numbers; no operation where it is all of them."""
    if len(units) == features.shape[-1]:
        return features
    if features.ndim == 4:
        return ops.take(features, units, axis=-1)
    # Whole rows are faster to pick than single numbers of each row, and compilers fold the transpositions into the product.
    return ops.transpose(ops.take(ops.transpose(features), units, axis=0))


def _masked(features, gate):
    """Maps times gates that differ between positions; a gate that does not is left to the weights."""
    return features if gate.ndim == 1 or (gate == 1).all() else ops.multiply(features, gate.astype("float32"))


def _same_size(maps):
    """Maps (n, h, w, units) of several sizes as one array of the largest size, scaled so that the mean is the contribution."""
    height, width = maps[0].shape[1:3]
    enlarged = []
    for level in maps:
        _, h, w, _ = level.shape
        rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
        # Each small pixel covers as many large ones as fall on it, so what it contributes is shared among these.
        shares = np.bincount(rows, minlength=h)[:, None] * np.bincount(columns, minlength=w)
        enlarged.append((level / shares[:, :, None])[:, rows][:, :, columns] * (height * width))
    return np.concatenate(enlarged, axis=-1)


def _as_list(outputs):
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]
