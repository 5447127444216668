"""Self-explaining neural networks (SENN): a linear model whose features and coefficients are networks of the input.

Paper: Alvarez-Melis and Jaakkola, "Towards Robust Interpretability with Self-Explaining Neural Networks" (NeurIPS 2018). A
concept encoder computes a few concepts h_k(x), a second network their relevances θ_kc(x), and the logit of class c is Σ_k
θ_kc(x) h_k(x). A decoder ties the concepts to the input, and a robustness loss makes θ change slowly, so that the network is
close to the linear model that an explanation shows. This is the fully connected variant, a baseline of feature leveling.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import layers, ops

from keras_interp.checks import check_features, check_options
from keras_interp.explain.explanation import Explanation
from keras_interp.explain.gradients import input_gradient
from keras_interp.graphs import keep_views, predict_all
from keras_interp.models.base import TASKS, InterpretableModel, output_names
from keras_interp.models.objective import ObjectiveTrainer
from keras_interp.typing import Inputs, Shape, Target, Tensor


@keras.saving.register_keras_serializable("keras_interp")
class SelfExplainingNetwork(ObjectiveTrainer, InterpretableModel):
    """A fully connected self-explaining network for classification or regression (section 3 of the paper).

    The model is the graph from raw inputs to logits: two dense networks of the same size, encoder and relevances, with about
    twice the weights of the plain network. The decoder, a third one, is used only in training and `reconstruct`.

    A step minimizes the task loss and, with a weight each,

    - the reconstruction loss (section 4): squared error of the decoded concepts, a mean over examples and inputs;
    - the concept sparsity (section 4): |h|, a mean over examples and concepts;
    - the robustness loss (section 3): Σ_c ‖∇f_c − Σ_k θ_kc ∇h_k‖², a mean over examples, for gradients with respect to the
      preprocessed input. By the product rule the difference is g_c = Σ_k h_k ∇θ_kc, the gradient of f_c with h held constant.
      One backward pass estimates the sum without bias: with a random sign s_c for each class and example, ‖Σ_c s_c g_c‖² has
      the mean Σ_c ‖g_c‖². For one output it is exact.

    The log of a step holds the three as `reconstruction_loss`, `concept_sparsity` and `robustness_loss`, before their weights;
    with a `robustness_weight` of 0 the last is neither computed nor logged. Sample weights apply only to the task loss.

    Args:
        hidden_units: number of units of each hidden layer of encoder and relevances; the decoder has them in reverse order.
        num_outputs: number of classes; optional if `class_names` is given, and for a regression.
        input_shape: shape of one input: (columns,), or (height, width, channels), which is flattened.
        num_concepts: number of concepts.
        task: "classification" or "regression".
        class_names: names of the outputs. Defaults to "0", "1", ..., and "target" for a regression.
        preprocessing: a layer that scales the raw inputs, as `keras_interp.backbones.unit_scaling()`, or None.
        reconstruction_weight: weight of the reconstruction loss.
        concept_sparsity_weight: weight of the concept sparsity.
        robustness_weight: weight of the robustness loss, the paper's λ.
        target_mean, target_scale: mean and standard deviation of a regression's target, in its own unit. The loss is computed
            on the standardized target; predictions and contributions are in the target's unit.
        name: name of the model.
        dtype: dtype policy of the hidden layers and for training; defaults to the global one. Concepts, relevances and logits
            are always float32.

    Raises:
        TypeError: for a `preprocessing` that is not a layer.
        ValueError: for sizes that are not positive, negative weights, an unknown task, a number of class names that is not
            `num_outputs`, or target options that do not fit the task.

    Examples:

    >>> model = SelfExplainingNetwork((16, 8), num_outputs=3, input_shape=(4,), num_concepts=5)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    >>> rows, labels = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    >>> history = model.fit(rows, labels, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'concept_sparsity', 'loss', 'reconstruction_loss', 'robustness_loss']
    >>> model.explain(rows).contributions.shape
    (30, 5)
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        num_outputs: int | None = None,
        input_shape: Shape | None = None,
        num_concepts: int = 10,
        task: str = "classification",
        class_names: Sequence[str] | None = None,
        preprocessing: keras.Layer | None = None,
        reconstruction_weight: float = 1.0,
        concept_sparsity_weight: float = 1e-4,
        robustness_weight: float = 1e-4,
        target_mean: float = 0.0,
        target_scale: float = 1.0,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        weights = dict.fromkeys(("reconstruction_weight", "concept_sparsity_weight", "robustness_weight"), "[0, inf)")
        sizes = dict.fromkeys(("hidden_units", "input_shape", "num_concepts"), "integer [1, inf)")
        check_options(locals(), task=TASKS, **sizes, **weights)
        class_names = output_names(num_outputs, class_names or (("target",) if task == "regression" else None))
        if task == "regression" and (len(class_names) != 1 or not target_scale > 0):
            raise ValueError(
                "A regression has one output and a positive `target_scale`. "
                f"Received: {len(class_names)} outputs, target_scale={target_scale}"
            )
        if task == "classification" and (target_mean, target_scale) != (0, 1):
            raise ValueError(
                "`target_mean` and `target_scale` are for regressions. "
                f"Received: task='classification', target_mean={target_mean}, target_scale={target_scale}"
            )
        if preprocessing is not None and not isinstance(preprocessing, keras.Layer):
            raise TypeError(f"`preprocessing` must be a Keras layer. Received: {preprocessing!r}")

        dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        inputs = keras.Input(tuple(input_shape), name="inputs")  # pyright: ignore[reportArgumentType]
        preprocessed = inputs if preprocessing is None else preprocessing(inputs)
        scaled = layers.Flatten(dtype="float32", name="flatten")(preprocessed)
        concepts = _dense(scaled, hidden_units, num_concepts, "concepts", dtype)
        relevances = _dense(scaled, hidden_units, num_concepts * len(class_names), "relevances", dtype)
        relevances = layers.Reshape((num_concepts, len(class_names)), dtype="float32", name="relevance_matrix")(relevances)
        outputs = layers.Dot(axes=1, dtype="float32", name="logits")([concepts, relevances])
        if task == "regression":
            outputs = layers.Rescaling(float(target_scale), float(target_mean), dtype="float32", name="target")(outputs)
        super().__init__(inputs, outputs, class_names, task, target_mean, target_scale, name, dtype)

        reconstruction = _dense(concepts, hidden_units[::-1], scaled.shape[-1], "reconstruction", dtype)
        self.decoder = keras.Model(concepts, reconstruction, name="decoder")
        keep_views(
            self,
            _view=keras.Model(inputs, [scaled, concepts, relevances, outputs]),
            _relevances=keras.Model(scaled, relevances),
            preprocessing=preprocessing,
        )
        self._preprocessed_shape = tuple(preprocessed.shape[1:])
        self.hidden_units = tuple(map(int, hidden_units))
        self.num_concepts = int(num_concepts)
        self.reconstruction_weight = float(reconstruction_weight)
        self.concept_sparsity_weight = float(concept_sparsity_weight)
        self.robustness_weight = float(robustness_weight)
        # From the global seed. Keras does not save a generator's state: a loaded model draws other signs.
        self.seed_generator = keras.random.SeedGenerator()
        self.reconstruction_loss = keras.metrics.Mean(name="reconstruction_loss")
        self.concept_sparsity = keras.metrics.Mean(name="concept_sparsity")
        if self.robustness_weight:
            self.robustness_loss = keras.metrics.Mean(name="robustness_loss")

    # --- The objective: sections 3 and 4.

    @property
    def objective_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that only training has."""
        names = ("reconstruction_loss", "concept_sparsity", "robustness_loss")
        return names if self.robustness_weight else names[:2]

    def objective(self, extra: list[Tensor], x: Any, y: Any, sample_weight: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Task loss and weighted penalties of one batch; see `ObjectiveTrainer`."""
        scaled, concepts, _, outputs = self._view(x, training=True)
        penalties = {
            "reconstruction_loss": ops.mean(ops.square(self.decoder(concepts, training=True) - scaled)),
            "concept_sparsity": ops.mean(ops.abs(concepts)),
        }
        loss = (
            self.task_loss(y, outputs, sample_weight)
            + self.reconstruction_weight * penalties["reconstruction_loss"]
            + self.concept_sparsity_weight * penalties["concept_sparsity"]
        )
        if self.robustness_weight:
            penalties["robustness_loss"] = self._robustness_loss(scaled, concepts)
            loss = loss + self.robustness_weight * penalties["robustness_loss"]
        return loss, {"y_pred": outputs, **penalties}

    def _robustness_loss(self, scaled, concepts):
        shape = ops.shape(concepts)[0], self.num_outputs
        signs = 2.0 * ops.cast(keras.random.randint(shape, 0, 2, seed=self.seed_generator), "float32") - 1.0
        combine = self.get_layer("logits")
        # The concepts come from outside the function, so its gradient treats them as constant; the loss's gradient reaches
        # them.
        gradient = input_gradient(lambda x: signs * combine([concepts, self._relevances(x)]), scaled)
        return ops.mean(ops.sum(ops.square(gradient), axis=-1))

    def log_objective(self, y: Any, sample_weight: Any, outputs: Any) -> None:
        """Updates the metrics of the penalties, means over examples."""
        examples = ops.shape(outputs["y_pred"])[0]
        for name in self.objective_metrics:
            getattr(self, name).update_state(outputs[name], sample_weight=examples)

    # --- Explanations.

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Names of the concepts."""
        return tuple(f"concept {number}" for number in range(self.num_concepts))

    def activations(self, inputs: Inputs, batch_size: int = 256) -> list[np.ndarray]:
        """Concepts h, relevances θ and outputs, in one pass.

        Args:
            inputs: raw inputs (n, ...).
            batch_size: inputs in a batch.

        Returns:
            float32 arrays (n, concepts), (n, concepts, outputs), (n, outputs).

        Raises:
            ValueError: for inputs of the wrong shape, or NaN or infinite values.
        """
        found = predict_all(self._view, self.check_inputs(inputs), batch_size)[1:]
        check_features(*found)
        return found

    def explain(self, inputs: Inputs, target: Target = None, batch_size: int = 256) -> Explanation:
        """Explains one output for each input by the concepts.

        Args:
            inputs: raw inputs (n, ...).
            target: the class to explain: None for the predicted one, a class name or index, or a sequence of n of them.
            batch_size: inputs in a batch.

        Returns:
            An `Explanation` whose contributions θ_kc(x) · h_k(x) add up to the target's logit. For a regression they are in
            the target's unit, and its mean is the bias.

        Raises:
            ValueError: for inputs of the wrong shape, NaN or infinite values, or an unknown target.
        """
        inputs = self.check_inputs(inputs)
        concepts, relevances, outputs = self.activations(inputs, batch_size)
        targets = self.explained_outputs(target, outputs)
        return Explanation(
            inputs=inputs,
            logits=outputs,
            class_names=self.class_names,
            target=targets,
            unit_names=self.unit_names,
            contributions=concepts * relevances[np.arange(len(targets)), :, targets] * np.float32(self.target_scale),
            bias=np.full(len(targets), self.target_mean, "float32"),
        )

    def intervene(self, inputs: Inputs, values: Mapping[str | int, float], batch_size: int = 256) -> np.ndarray:
        """Outputs for inputs when some concepts are set manually; the relevances stay those of the inputs.

        Args:
            inputs: raw inputs (n, ...).
            values: {concept's name or index: value}, as "concept 3" or 3; 0 drops the concept.
            batch_size: inputs in a batch.

        Returns:
            float32 array (n, outputs).

        Raises:
            KeyError: for an unknown concept.
            ValueError: as for `activations`.
        """
        concepts, relevances, _ = self.activations(inputs, batch_size)
        for unit, value in values.items():
            concepts[:, self.unit_index(unit)] = value
        logits = np.einsum("nk,nkc->nc", concepts, relevances)
        return logits * np.float32(self.target_scale) + np.float32(self.target_mean)

    def reconstruct(self, inputs: Inputs, batch_size: int = 256) -> np.ndarray:
        """Inputs as the decoder rebuilds them from their concepts.

        Args:
            inputs: raw inputs (n, ...).
            batch_size: inputs in a batch.

        Returns:
            float32 array in the shape and the unit of the preprocessed inputs.

        Raises:
            ValueError: as for `activations`.
        """
        concepts, _, _ = self.activations(inputs, batch_size)
        return predict_all(self.decoder, concepts, batch_size).reshape(-1, *self._preprocessed_shape)

    def get_config(self) -> dict[str, Any]:
        names = ("reconstruction_weight", "concept_sparsity_weight", "robustness_weight", "target_mean", "target_scale")
        return {
            "hidden_units": list(self.hidden_units),
            "num_outputs": self.num_outputs,
            "input_shape": list(self.input_shape[1:]),
            "num_concepts": self.num_concepts,
            "task": self.task,
            "class_names": list(self.class_names),
            "preprocessing": keras.saving.serialize_keras_object(self.preprocessing),
            **{name: getattr(self, name) for name in names},
            "name": self.name,
            "dtype": self.dtype_policy.name,
            **self._facts(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> Self:
        layer = keras.saving.deserialize_keras_object(config["preprocessing"], custom_objects=custom_objects)
        return cls._with_facts({**config, "preprocessing": layer})


def _dense(x, hidden_units, num_outputs, name, dtype):
    """Hidden layers and float32 linear outputs, which give the layers their `name`."""
    for number, units in enumerate(hidden_units, start=1):
        x = layers.Dense(units, "relu", dtype=dtype, name=f"{name}_hidden{number}")(x)
    return layers.Dense(num_outputs, dtype="float32", name=name)(x)
