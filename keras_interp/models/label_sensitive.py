"""Label-sensitive gates (LSG): a classifier whose last filters each serve one or a few classes.

Paper: "Training Interpretable Convolutional Neural Networks towards Class-Specific Filters". A matrix G (classes x filters)
defines which filters each class may use. The standard path, used at test time, does not use G. In the gated path the feature
maps of an image of class y are multiplied by G_y; training through both paths (Algorithm 1) makes the filters class-specific,
and an L1 term makes G sparse.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_interp.checks import check_options
from keras_interp.layers.label_sensitive_gate import (
    LabelSensitiveGate,
    fixed_gate_matrix,
    gate_sparsity_penalty,
    project_gate,
    union_of_rows,
)
from keras_interp.models.base import class_indices
from keras_interp.models.classifier import Classifier
from keras_interp.models.objective import ObjectiveTrainer
from keras_interp.typing import ArrayLike, Tensor


@keras.saving.register_keras_serializable("keras_interp")
class LabelSensitiveClassifier(ObjectiveTrainer, Classifier):
    """A `Classifier` trained with label-sensitive gates.

    The model itself is the standard path. With E the epoch, counted from `initial_epoch`, training follows Algorithm 1: if E %
    `period` == 1 (and E ≥ `first_gated_epoch`) a step minimizes λ (CE_G + a |‖G‖₁ − s|), CE_G being the cross-entropy through
    the gate, and G takes a plain gradient step and is projected; in all other epochs a step minimizes the standard
    cross-entropy and G does not move. Both are one pass through the backbone: the gate multiplies the pooled features, which
    is the same as multiplying the maps.

    The log of a step holds `accuracy` and the other compiled metrics for the standard path in every epoch, `gated_loss` and
    `gated_accuracy` for the gated path, and `gate_density`.

    Args:
        backbone: a functional `keras.Model` that ends in feature maps, see `Classifier`.
        num_classes: number of classes.
        class_names: names of the classes.
        scheme: "alternating" for Algorithm 1, or "joint" for both paths in each step (Eq. 3; the paper's footnote 1).
        period: a gated epoch comes every `period` epochs.
        first_gated_epoch: epochs before this one are all standard.
        gate_weight: λ of Eq. 3.
        sparsity_weight: a of Eq. 2, for the sum norm ‖G‖₁.
        target_norm: s of Eq. 2; by default the number of filters, the smallest norm that the projection allows.
        gate_learning_rate: step size ε of G. The L1 term alone closes an entry in 1 / (λ · a · ε) gated steps, 1,667 by
            default: choose it to fit the length of the run.
        initial_gate: initial value of every entry of G.
        fixed_gate: None to learn G. A number of filters per class (`fixed_gate_matrix`), or a matrix (num_classes, filters),
            keeps G fixed (section 4.4).
        align_readout: whether the last layer starts aligned with the fixed gate: the weights of a filter exclusive to one
            class keep their norm but point towards that class and equally away from the others. From random weights, as in the
            paper, some of a class's filters stay weaker than those of similar classes.
        name: name of the model.
        dtype: dtype policy for training, see `Classifier`.
        task: "classification" or "multilabel", see `Classifier`. An image with several classes uses the union of their gate
            rows, the largest entry of each filter; one without a class passes ungated.

    Examples:

    >>> from keras_interp.backbones import cifar_resnet
    >>> model = LabelSensitiveClassifier(cifar_resnet(depth=8), num_classes=10)
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    >>> images, labels = np.zeros((20, 32, 32, 3), "uint8"), np.arange(20) % 10
    >>> history = model.fit(images, labels, epochs=2, verbose=0)
    >>> model.gate.shape
    (10, 64)
    """

    objective_metrics = ("gated_loss", "gated_accuracy", "gate_density")

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        scheme: str = "alternating",
        period: int = 3,
        first_gated_epoch: int = 1,
        gate_weight: float = 1.0,
        sparsity_weight: float = 6e-3,
        target_norm: float | None = None,
        gate_learning_rate: float = 0.1,
        initial_gate: float = 0.5,
        fixed_gate: int | ArrayLike | None = None,
        align_readout: bool = False,
        name: str | None = None,
        dtype: Any = None,
        task: str = "classification",
    ) -> None:
        super().__init__(backbone, num_classes, class_names, name, dtype, task=task)
        check_options(
            locals(),
            scheme=("alternating", "joint"),
            # Standard epochs must remain.
            period="integer [2, inf)" if scheme == "alternating" else "integer [1, inf)",
            first_gated_epoch="integer [0, inf)",
            **dict.fromkeys(("gate_weight", "sparsity_weight", "gate_learning_rate"), "[0, inf)"),
        )
        self.scheme = scheme
        self.period = period
        self.first_gated_epoch = first_gated_epoch
        self.gate_weight = gate_weight
        self.sparsity_weight = sparsity_weight
        self.target_norm = float(target_norm if target_norm is not None else self.num_filters)
        self.gate_learning_rate = gate_learning_rate
        self.fixed_gate = None if fixed_gate is None else np.asarray(fixed_gate).tolist()

        self.gate_layer = LabelSensitiveGate(self.num_classes, initial_gate, name="label_sensitive_gate")
        self.gate_layer.build((None, self.num_filters))
        if fixed_gate is not None:
            self.gate_layer.gate.assign(self._fixed_matrix(self.fixed_gate))
        self.align_readout = align_readout
        if align_readout:
            self._align_readout()
        # 1 while steps go through the gate, else 0. A variable, since tracing would freeze a Python flag.
        self.phase = self.add_weight(
            name="phase", shape=(), initializer="zeros", dtype="float32", trainable=False, autocast=False, aggregation="mean"
        )
        self.gated_loss = keras.metrics.Mean(name="gated_loss")
        several = task == "multilabel"
        accuracy = keras.metrics.BinaryAccuracy if several else keras.metrics.SparseCategoricalAccuracy
        self.gated_accuracy = accuracy(name="gated_accuracy", **({"threshold": 0.0} if several else {}))
        self.gate_density = keras.metrics.Mean(name="gate_density")

    def _fixed_matrix(self, fixed_gate):
        if isinstance(fixed_gate, int) and not isinstance(fixed_gate, bool):
            return fixed_gate_matrix(self.num_classes, self.num_filters, fixed_gate)
        matrix = np.asarray(fixed_gate, "float32")
        if matrix.shape != (self.num_classes, self.num_filters) or not ((matrix >= 0) & (matrix <= 1)).all():
            raise ValueError(
                f"`fixed_gate` must be a number of filters or a matrix ({self.num_classes}, {self.num_filters}) with "
                f"entries in [0, 1]. Received: shape={matrix.shape}, {np.unique(matrix)[:8]}"
            )
        return matrix

    def _align_readout(self):
        gate, readout = self.gate, self.get_layer("logits").kernel
        own = np.count_nonzero(gate, axis=0) == 1
        if self.fixed_gate is None or self.num_classes < 2 or not own.any():
            raise ValueError(
                "`align_readout` needs several classes and a `fixed_gate` with filters exclusive to one class. "
                f"Received: fixed_gate={self.fixed_gate}"
            )
        directions = (gate[:, own] > 0).T - 1 / self.num_classes
        kernel = ops.convert_to_numpy(readout).copy()
        lengths = np.linalg.norm(kernel[own], axis=1, keepdims=True)
        kernel[own] = directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths
        readout.assign(kernel)

    # --- The objective: Eq. 3, alternating (Algorithm 1) or joint.

    @property
    def extra_variables(self) -> list[keras.Variable]:
        return [self.gate_layer.gate] if self.fixed_gate is None else []

    def objective(self, extra: list[Tensor], x: Any, y: Any, sample_weight: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 3 for one batch: through the gate, through the standard path, or both; see `ObjectiveTrainer`."""
        gate = extra[0] if extra else ops.convert_to_tensor(self.gate_layer.gate)
        _, pooled, logits = self._feature_view(x, training=True)
        if self.task == "multilabel":
            gated = pooled * ops.cast(union_of_rows(gate, y), pooled.dtype)
        else:
            gated = self.gate_layer.apply(pooled, class_indices(y), gate)
        gated_logits = self.get_layer("logits")(gated)
        gated_loss = self.task_loss(y, gated_logits, sample_weight)
        gated_cost = self.gate_weight * (gated_loss + self.sparsity_weight * gate_sparsity_penalty(gate, self.target_norm))
        standard_loss = self.task_loss(y, logits, sample_weight)
        if self.scheme == "joint":
            loss = standard_loss + gated_cost
        else:
            loss = ops.where(self.phase > 0, gated_cost, standard_loss)
        return loss, {"y_pred": logits, "gated_logits": gated_logits, "gated_loss": gated_loss}

    def update_extra(self, extra: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """A plain gradient step of G and the projection (Algorithm 1, lines 6 to 8); none in a standard epoch."""
        moving = True if self.scheme == "joint" else self.phase > 0
        return [
            ops.where(moving, project_gate(gate - self.gate_learning_rate * gradient), gate)
            for gate, gradient in zip(extra, gradients)
        ]

    def log_objective(self, y: Any, sample_weight: Any, outputs: Any) -> None:
        """Updates the metrics of the gated path (means over examples, like `loss` and `accuracy`) and of the gate."""
        self.gated_loss.update_state(outputs["gated_loss"], sample_weight=ops.shape(outputs["y_pred"])[0])
        labels = y if self.task == "multilabel" else class_indices(y)
        self.gated_accuracy.update_state(labels, outputs["gated_logits"])
        self.gate_density.update_state(self.gate_layer.density())

    def is_gated_epoch(self, epoch: int) -> bool:
        """True if an epoch, counted from 0, trains through the gate."""
        return self.scheme == "alternating" and epoch >= self.first_gated_epoch and epoch % self.period == 1

    def set_phase(self, gated: bool) -> None:
        """Sets the path that the next steps train, for `train_on_batch` loops; `fit` does it every epoch."""
        self.phase.assign(float(gated))

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        schedule = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self.set_phase(self.is_gated_epoch(epoch)),
            on_train_end=lambda logs: self._warn_of_open_gate(schedule.params["epochs"]),  # pyright: ignore[reportOptionalSubscript]
        )
        return [schedule, *super().training_callbacks()]

    def _warn_of_open_gate(self, epochs):
        if self.scheme == "alternating" and not any(map(self.is_gated_epoch, range(epochs))):
            warnings.warn(
                f"No epoch went through the gate: epochs with epoch % {self.period} == 1 from {self.first_gated_epoch} on do, "
                "counted from `initial_epoch`. Fit more epochs at once, or give `initial_epoch`, or scheme='joint'.",
                stacklevel=2,
            )
        # The first projection opens the gate; it takes 1 / (λ a ε) steps to close it.
        if self.fixed_gate is None and self.sparsity_weight and self.gate.mean() > 0.9:
            warnings.warn(
                f"The gate is still open (density {self.gate.mean():.2f}): train longer or raise `gate_learning_rate`.",
                stacklevel=2,
            )

    # --- The trained gate.

    @property
    def gate(self) -> np.ndarray:
        """The gate matrix G, float32 array (classes, filters)."""
        return ops.convert_to_numpy(self.gate_layer.gate)

    def units_of_classes(self, targets: np.ndarray, threshold: float = 0.5) -> np.ndarray:
        """Mask of the filters whose gate exceeds `threshold`, for each class of `targets`: booleans (n, filters)."""
        return self.gate[np.asarray(targets)] > threshold

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Names of the filters with the classes whose gate exceeds 0.5, as in "filter 12 (cat, dog)"."""
        names = []
        for number, column in enumerate(self.gate.T > 0.5):
            owners = [label for label, passes in zip(self.class_names, column) if passes]
            owners = ["all"] if len(owners) == self.num_classes else owners
            names.append(f"filter {number} ({', '.join(owners)})" if owners else f"filter {number}")
        return tuple(names)

    def get_config(self) -> dict[str, Any]:
        names = (
            *("scheme", "period", "first_gated_epoch", "gate_weight", "sparsity_weight", "target_norm"),
            *("gate_learning_rate", "fixed_gate", "align_readout"),
        )
        config = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **config, "initial_gate": self.gate_layer.initial_value}
