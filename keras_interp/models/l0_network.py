"""The baseline of feature leveling by Louizos et al. (2017): hard-concrete gates that prune."""

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers, ops

from keras_interp.explain.explanation import Explanation
from keras_interp.graphs import predict_all
from keras_interp.models.base import readout
from keras_interp.models.gated_network import GatedNetwork, select, units_where
from keras_interp.typing import Inputs, Target


@keras.saving.register_keras_serializable("keras_interp")
class L0Network(GatedNetwork):
    """Dense layers whose inputs and hidden units are pruned by hard-concrete gates (Louizos et al., 2017).

    A gate stands before every layer, including the output layer, and features behind a closed gate are not used at all. The
    loss is the task's plus λ times the mean over the layers of the gates' expected L0. Arguments as for
    `FeatureLevelingNetwork`, without convolutions.

    Examples:

    >>> L0Network((300, 100), num_outputs=10, input_shape=(28, 28, 1)).output_shape
    (None, 10)
    """

    leveled = False

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Names of the last hidden units."""
        return tuple(f"unit {number}" for number in range(self.hidden_units[-1]))

    def explain(self, inputs: Inputs, target: Target = None, batch_size: int = 256) -> Explanation:
        """Explains one output for each input by the last hidden units, in which it is linear.

        Args:
            inputs: images (n, height, width, channels) of pixels in 0..255, or rows (n, columns).
            target: the class to explain: None for the predicted one, a class name or index, or a sequence of n of them.
            batch_size: inputs in a batch.

        Returns:
            An `Explanation` whose contributions and bias add up to the logit.

        Raises:
            ValueError: for inputs of the wrong shape, NaN or infinite values, or an unknown target.
        """
        inputs = self.check_inputs(inputs)
        _, units, logits = predict_all(self._level_view, inputs, batch_size)
        targets = self.explained_outputs(target, logits)
        kernel, bias = self.readout_weights()
        contributions = units * kernel.T[targets]
        return Explanation(inputs, logits, self.class_names, targets, self.unit_names, contributions, bias[targets])

    def intervene(self, inputs: Inputs, values: Mapping[str | int, float], batch_size: int = 256) -> np.ndarray:
        """Outputs when some of the last hidden units are set manually.

        Args:
            inputs: as for `explain`.
            values: {unit name or index: value}, as "unit 12" or 12; 0 drops the unit.
            batch_size: inputs in a batch.

        Returns:
            float32 array (n, outputs).

        Raises:
            KeyError: for an unknown unit.
        """
        inputs = self.check_inputs(inputs)
        _, units, _ = predict_all(self._level_view, inputs, batch_size)
        for unit, value in values.items():
            units[:, self.unit_index(unit)] = value
        kernel, bias = self.readout_weights()
        return units @ kernel + bias

    def compact(self) -> keras.Model:
        """The same function without gates, and without the inputs, units and weight rows that closed gates disable.

        Returns:
            A plain functional `keras.Model` with the same inputs and outputs, equal up to rounding.

        Raises:
            ValueError: if all gates before a layer are closed, which makes the output constant.
        """
        units = [units_where(gate > 0) for gate in self.gate_values()]
        if not all(map(len, units)):
            raise ValueError(
                "All gates before one layer are closed, so the output is constant: retrain with a smaller "
                f"`l0_weight`. Received: {[len(open_units) for open_units in units]} open gates"
            )
        inputs = keras.Input(self.input_shape[1:], name="inputs")
        features = inputs if self._preprocessing is None else self._preprocessing(inputs)
        features = select(layers.Flatten(name="flatten")(features) if features.ndim == 4 else features, units[0])
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

    def prune(self) -> None:
        """Sets all weights disabled by closed gates to zero. The outputs stay the same."""
        gates = self.gate_values()
        for number, layer in enumerate([*self.hidden_layers, self.get_layer("logits")]):
            acts = gates[number + 1] > 0 if number < len(self.hidden_layers) else True
            layer.kernel.assign(ops.convert_to_numpy(layer.kernel) * (gates[number][:, None] > 0) * acts)
            layer.bias.assign(ops.convert_to_numpy(layer.bias) * acts)
