"""Feature leveling: a network that hands each feature to its linear output layer at the level where the feature is ready.

Paper: "Not All Features Are Equal: Feature Leveling Deep Neural Networks for Better Interpretation". Before each hidden layer
a hard-concrete gate splits the features: those that the output layer can use directly (level k) go there, the others go on.
The output is linear in all levels, so their contributions explain it; an L0 term closes gates, and layers behind closed gates
disappear. `L0Network` is the paper's baseline by Louizos et al. (2017), whose gates prune instead.
"""

import functools
from collections.abc import Mapping

import keras
import numpy as np
from keras import layers, ops

from keras_interp.data.schema import written
from keras_interp.explain.explanation import Explanation
from keras_interp.explain.gradients import input_gradient
from keras_interp.graphs import predict_all
from keras_interp.models.base import readout
from keras_interp.models.gated_network import GatedNetwork, as_list, masked, select, units_where
from keras_interp.typing import Inputs, Target


@keras.saving.register_keras_serializable("keras_interp")
class FeatureLevelingNetwork(GatedNetwork):
    """Dense or convolutional layers whose features go to the linear output at the level where they are ready (Eq. 4 and 8).

    With f_0 the scaled input and f_k the output of hidden layer k, gate k splits f_{k-1} into the level features l_k and the
    input h_k of hidden layer k, see `HardConcreteGate`; the output is a linear function of (l_1, ..., l_K, f_K). The loss is
    the task's plus λ times the mean over the levels of the gates' expected L0. In a convolutional network, strided
    convolutions without activation and bias reduce the maps of a level, so that the output stays linear in them.

    The log holds `gate<k>_open`, the number of gates open at test time, and `gate<k>_expected`, the expected L0 in training.

    Args:
        hidden_units: number of units, or filters, of each hidden layer.
        num_outputs: number of classes; optional if `class_names` is given. A regression has one output.
        input_shape: (columns,), or (height, width, channels), which dense layers flatten.
        task: "classification", with integer labels, or "regression".
        class_names: names of the outputs.
        preprocessing: a Keras layer that scales raw inputs, as `backbones.unit_scaling()` or `backbones.column_scaling(rows)`.
        activation: activation of the hidden layers.
        kernel_size: size of the kernels of convolutions; None for dense layers.
        strides: strides of the convolutions; defaults to 1, 2, 1, 2, ...
        reduced_filters: number of filters of the convolutions that reduce the maps of a level.
        reduced_size: largest height and width that remain after this reduction.
        l0_weight: λ of Eq. 8, at least 0.
        l0_reduction: "mean" over a level's gates; "sum" over them divided by `num_samples`, as Louizos et al.; or "weighted",
            the penalty of the authors' code: a mean in which each gate weighs 1 + ½ mean(w²), plus ½ mean(b²) of its layer;
            the authors sum over the levels, so their penalty weight is λ divided by the number of levels.
        num_samples: number of training examples, for "sum".
        gate_learning_rate_multiplier: learning rate of the gates relative to the weights.
        gate_options: further arguments of `HardConcreteGate`.
        column_names: names of a table's columns.
        target_mean, target_scale: mean and standard deviation of a regression's target, see `Regressor`.
        seed: seed for gates and their noise.
        name: name of the model.
        dtype: dtype policy for training, see `Classifier`.

    Raises:
        ValueError: for options outside their ranges, or shapes that do not fit.

    Examples:

    >>> model = FeatureLevelingNetwork((16, 8), num_outputs=2, input_shape=(3,), seed=0)
    >>> _ = model.compile_by_default(keras.optimizers.Adam(1e-2))
    >>> rows = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    >>> history = model.fit(rows, (rows[:, 0] > 0).astype("int32"), verbose=0)
    >>> model.explain(rows).check_completeness()
    >>> model.compact().output_shape
    (None, 2)
    """

    def _level_units(self, number):
        """Indices of the units of level `number` (from 0) that the output takes: those with a gate, at any position, of 0."""
        if number == len(self.hidden_units):
            return np.arange(self.hidden_units[-1])
        return units_where(self.gate_values()[number] == 0)

    def _parts(self):
        """Features that each level passes to the output for a zero input, and the matching rows of the output's kernel."""
        kernel = ops.convert_to_numpy(self.get_layer("logits").kernel)
        origin = np.zeros((1, *self.input_shape[1:]), "float32")
        parts = [ops.convert_to_numpy(part)[0] for part in as_list(self._part_view(origin, training=False))]
        return parts, np.split(kernel, np.cumsum([len(part) for part in parts])[:-1])

    def _reductions(self, number):
        """The convolutions that reduce the maps of level `number`, in order."""
        prefix = f"level{number + 1}_reduction"
        return [layer for layer in self.layers if layer.name.startswith(prefix)]

    def _compact_bias(self):
        """The output's bias, plus the constant contributions of layers that no input reaches."""
        parts, rows = self._parts()
        bias = ops.convert_to_numpy(self.get_layer("logits").bias)
        return bias + sum(part @ row for part, row in zip(parts[self.depth + 1 :], rows[self.depth + 1 :]))

    def compact(self) -> keras.Model:
        """The same function without gates, and without the units, weight rows and layers that closed gates disable.

        Per-position gates stay as constant masks unless they are open or closed for a whole map.

        Returns:
            A plain functional `keras.Model` of Keras's own layers with the same inputs and outputs, equal up to rounding; its
            `count_params()` is the true size of the network. If all gates are closed it is a linear model.
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
                level = select(features, units)
                if number < len(gates):
                    level = masked(level, gates[number][..., units] == 0)
                part_rows = rows[number]
                width = self._level_view.outputs[1 + number].shape[-1]
                for layer in self._reductions(number):
                    weights[layer.name] = [ops.convert_to_numpy(layer.kernel)[:, :, units]]
                    units, width = np.arange(layer.filters), layer.filters
                    level = layers.Conv2D.from_config({**layer.get_config(), "dtype": "float32"})(level)
                parts.append(layers.Flatten(name=f"level{number + 1}_features")(level) if level.ndim == 4 else level)
                kernel.append(part_rows.reshape(-1, width, self.num_outputs)[:, units].reshape(-1, self.num_outputs))
            if number < self.depth:
                units = units_where(gates[number] > 0)
                features = masked(select(features, units), gates[number][..., units])
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

    def prune(self) -> None:
        """Sets all weights disabled by closed gates to zero, and moves the constants of unreached layers into the bias.

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
            reached[units_where(gates[number] > 0) if number < depth else []] = 1
            layer.kernel.assign(ops.convert_to_numpy(layer.kernel) * reached[:, None])
            layer.bias.assign(ops.convert_to_numpy(layer.bias) * (number < depth))

    # --- Explanations by levels.

    def input_levels(self) -> np.ndarray:
        """Level of each input feature, an int array (columns,), or shaped like an image: 1 if the output takes it, else the
        lowest level of a hidden unit or map that the output takes and that depends on it; 0 if none does. With convolutions a
        channel counts as a whole, except the pixels that the output takes."""
        gates = self.gate_values()
        # Dependence of each unit on each input, through nonzero weights.
        size = gates[0].shape[-1]
        depends, found = np.eye(size, dtype=bool), np.zeros(size, int)
        for number in range(self.depth + 1):
            # Level 1 is handled per feature below, not per channel.
            reached = depends[:, self._level_units(number)].any(axis=1) & (number > 0)
            found = np.where((found == 0) & reached, number + 1, found)
            if number < self.depth:
                kernel = ops.convert_to_numpy(self.hidden_layers[number].kernel)
                connected = (kernel != 0).any(axis=tuple(range(kernel.ndim - 2)))
                passes = np.isin(np.arange(len(connected)), units_where(gates[number] > 0))
                depends = (depends & passes).astype("float32") @ connected > 0
        found = np.where(gates[0] == 0, 1, found)
        shape = self.input_shape[1:]
        return found.reshape(shape) if found.size == np.prod(shape) else np.broadcast_to(found, shape).copy()

    def _unit_groups(self):
        """Level features of each unit: one, or with a schema all level-1 features of one column."""
        first = self._level_units(0)
        counts = [len(self._level_units(number)) for number in range(self.depth + 1)]
        if self.schema is None:
            return list(np.arange(sum(counts))[:, None])
        sources = self.schema.sources[first]
        return [*(np.flatnonzero(sources == one) for one in np.unique(sources)), *np.arange(counts[0], sum(counts))[:, None]]

    @property
    def unit_levels(self) -> np.ndarray:
        """Level, from 1, of each unit that the output takes: integers (units,)."""
        counts = [len(self._level_units(number)) for number in range(self.depth + 1)]
        levels = np.repeat(np.arange(1, len(counts) + 1), counts)
        return levels[[group[0] for group in self._unit_groups()]]

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Names of the units that the output takes, as in "level 1: longitude" or "level 2: unit 17".

        With a `schema` the units of level 1 are the table's original columns, all categories of one together.
        """
        names = []
        for number in range(self.depth + 1):
            for unit in self._level_units(number):
                name = f"{'map' if self.kernel_size else 'unit'} {unit}"
                if number == 0 and self.schema is not None:
                    name = self.schema.columns[self.schema.sources[unit]].name
                elif number == 0 and self.column_names:
                    name = self.column_names[unit]
                elif number == 0 and len(self.input_shape) == 4 and not self.kernel_size:
                    name = f"pixel {tuple(int(i) for i in np.unravel_index(unit, self.input_shape[1:]))}"
                names.append(f"level {number + 1}: {name}")
        return tuple(names[group[0]] for group in self._unit_groups())

    def _column_view(self, inputs, scaled, level_gradients):
        """Keyword arguments of an `Explanation` about a table's columns: names, values and contributions."""
        if inputs.ndim != 2:
            return {}
        # The network is linear around each row, so gradients times inputs are the columns' contributions.
        added = (level_gradients * scaled[:, None]).sum(axis=1)
        if self.schema is None:
            names = self.column_names or tuple(f"column {index}" for index in range(inputs.shape[1]))
            return {"column_names": names, "column_contributions": added}
        columns = self.schema.columns
        table = self.schema.decode(inputs)
        values = np.array([[written(value) for value in table[column.name]] for column in columns], object).T
        starts = np.searchsorted(self.schema.sources, np.arange(len(columns)))
        names = tuple(column.name for column in columns)
        unit_values = np.full((len(inputs), len(self.unit_names)), "", object)
        for index, name in enumerate(self.unit_names):
            if name.startswith("level 1: "):
                unit_values[:, index] = values[:, names.index(name.removeprefix("level 1: "))]
        return {
            "column_names": names,
            "column_contributions": np.add.reduceat(added, starts, axis=1),
            "column_values": values,
            "unit_values": unit_values,
        }

    def _effects(self):
        """Effect of each level's features on each output, arrays (outputs, ...) shaped like the level; exact, since the
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

    def explain(self, inputs: Inputs, target: Target = None, batch_size: int = 256) -> Explanation:
        """Explains one output for each input by the level features.

        Args:
            inputs: images (n, height, width, channels) of pixels in 0..255, or rows (n, columns).
            target: the class to explain: None for the predicted one, a class name or index, or a sequence of n of them.
            batch_size: inputs in a batch.

        Returns:
            An `Explanation` with one contribution for each feature or map that the output takes; with the bias they add up to
            the logit, in a regression to the value in its own unit. `level_gradients` are the gradients of each level's part
            of the logit with respect to the scaled inputs (section 5.2); for convolutions, `maps` are the contributions by
            position, brought to one size.

        Raises:
            ValueError: for inputs of the wrong shape, NaN or infinite values, or an unknown target.
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
        contributions, level_gradients = np.concatenate(features, axis=1), np.stack(gradients, axis=1)
        return Explanation(
            inputs=inputs,
            logits=logits,
            class_names=self.class_names,
            target=targets,
            unit_names=self.unit_names,
            contributions=np.stack([contributions[:, group].sum(axis=1) for group in self._unit_groups()], axis=1),
            bias=self._output_bias()[targets],
            maps=_same_size(maps) if self.kernel_size else None,
            levels=self.unit_levels,
            level_gradients=level_gradients,
            **self._column_view(inputs, scaled, level_gradients),
        )

    def level_contributions(self, inputs: Inputs, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Contribution of each level to each output.

        Args:
            inputs: as for `explain`.
            batch_size: inputs in a batch.

        Returns:
            float32 arrays (n, levels, outputs) and (outputs,): the contributions, and the bias, which add up to the outputs.

        Raises:
            ValueError: for inputs of the wrong shape, NaN or infinite values.
        """
        inputs = self.check_inputs(inputs)
        parts = as_list(predict_all(self._part_view, inputs, batch_size))
        rows = self._parts()[1]
        contributions = np.stack([part @ row for part, row in list(zip(parts, rows))[: self.depth + 1]], axis=1)
        return contributions * np.float32(self.target_scale), self._output_bias()

    def _output_bias(self):
        """Part of the outputs that no level accounts for, in their unit."""
        return (self._compact_bias() * self.target_scale + self.target_mean).astype("float32")

    def intervene(self, inputs: Inputs, values: Mapping[str | int, float], batch_size: int = 256) -> np.ndarray:
        """Outputs when some of the features that the output takes are set manually.

        Args:
            inputs: as for `explain`.
            values: {unit name or index among `unit_names`: value}; 0 drops the feature. A map is set as a whole.
            batch_size: inputs in a batch.

        Returns:
            float32 array (n, outputs).

        Raises:
            KeyError: for an unknown unit, or one that the output does not take.
            ValueError: for a value other than 0 for a categorical column.
        """
        inputs = self.check_inputs(inputs)
        _, *levels, _ = predict_all(self._level_view, inputs, batch_size)
        groups = self._unit_groups()
        numbers = np.repeat(range(self.depth + 1), [len(self._level_units(number)) for number in range(self.depth + 1)])
        units = np.concatenate([self._level_units(number) for number in range(self.depth + 1)])
        for unit, value in values.items():
            group = groups[self.unit_index(unit)]
            if len(group) > 1 and value != 0:
                raise ValueError(
                    "A categorical column can only be dropped, as {name: 0}; for another value change the table. "
                    f"Received: {unit!r}: {value!r}"
                )
            for index in group:
                levels[numbers[index]][..., units[index]] = value
        return predict_all(self._output_of_levels, levels, batch_size)


def _same_size(maps):
    """Merges maps (n, h, w, units) of several sizes into the largest size, scaled so that the mean is the contribution."""
    height, width = maps[0].shape[1:3]
    enlarged = []
    for level in maps:
        _, h, w, _ = level.shape
        rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
        # Each small pixel covers several large ones, which share its contribution.
        shares = np.bincount(rows, minlength=h)[:, None] * np.bincount(columns, minlength=w)
        enlarged.append((level / shares[:, :, None])[:, rows][:, :, columns] * (height * width))
    return np.concatenate(enlarged, axis=-1)
