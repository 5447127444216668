"""Label-sensitive gate: a matrix of the filters that each class may use.

Paper: "Training Interpretable Convolutional Neural Networks towards Class-Specific Filters" (LSG).
A matrix G (classes, filters) with entries in [0, 1] multiplies the feature maps of an image of class y by the row G_y.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_interp.checks import check_options
from keras_interp.typing import Shape, Tensor


def project_gate(gate: Tensor) -> Tensor:
    """Projects a gate matrix onto the constraints of Eq. 2: every filter's largest entry is 1, all entries lie in [0, 1].

    Each column is divided by its largest magnitude over the classes, then clipped (Algorithm 1, lines 7 and 8). A column of
    zeros stays zero, and a column whose largest magnitude is negative keeps its sign: it is clipped, never flipped.

    Args:
        gate: float tensor (classes, filters).

    Returns:
        A tensor of the same shape and dtype.
    """
    largest = ops.max(ops.abs(gate), axis=0, keepdims=True)
    return ops.clip(gate / ops.maximum(largest, keras.config.epsilon()), 0.0, 1.0)


def gate_sparsity_penalty(gate: Tensor, target_norm: float) -> Tensor:
    """Sparsity term of Eq. 2, the distance |‖G‖₁ − s| of the gate's sum norm from a target.

    Args:
        gate: float tensor (classes, filters) with entries in [0, 1].
        target_norm: the target s, a sum over all entries. Since every filter keeps one entry of 1, the smallest reachable
            norm is the number of filters.

    Returns:
        A scalar tensor.
    """
    return ops.abs(ops.sum(ops.abs(gate)) - target_norm)


def fixed_gate_matrix(num_classes: int, num_filters: int, filters_per_class: int) -> np.ndarray:
    """Manually fixed gate of section 4.4 and Figure 8: some filters exclusive to each class, the rest shared by all.

    Args:
        num_classes: number of classes.
        num_filters: number of filters.
        filters_per_class: number of filters exclusive to each class; the paper takes 6 of the 64 of ResNet-20 (4 are left to
            share) and 25 of the 256 of AlexNet (6 are left).

    Returns:
        float32 array (classes, filters) of zeros and ones.

    Raises:
        ValueError: if the classes together need more filters than there are.

    Examples:

    >>> fixed_gate_matrix(num_classes=2, num_filters=5, filters_per_class=2)
    array([[1., 1., 0., 0., 1.],
           [0., 0., 1., 1., 1.]], dtype=float32)
    """
    owned = num_classes * filters_per_class
    if filters_per_class < 1 or owned > num_filters:
        raise ValueError(
            f"`filters_per_class` must be at least 1, and at most {num_filters // num_classes} for {num_classes} classes and "
            f"{num_filters} filters. Received: filters_per_class={filters_per_class}"
        )
    matrix = np.ones((num_classes, num_filters), "float32")
    matrix[:, :owned] = np.repeat(np.eye(num_classes, dtype="float32"), filters_per_class, axis=1)
    return matrix


def union_of_rows(gate: Tensor, labels: Tensor) -> Tensor:
    """The rows of a gate for images of several classes: of each filter the largest entry that one of the classes has.

    Args:
        gate: tensor (classes, filters).
        labels: 0 and 1, a tensor (batch, classes).

    Returns:
        A tensor (batch, filters); ones for an image without a class.

    Examples:

    >>> np.asarray(union_of_rows(np.array([[1.0, 0.25], [0.0, 1.0]]), np.array([[1, 0], [1, 1], [0, 0]]))).tolist()
    [[1.0, 0.25], [1.0, 1.0], [1.0, 1.0]]
    """
    labels = ops.cast(labels, gate.dtype)
    largest = ops.max(labels[:, :, None] * gate[None], axis=1)
    return ops.where(ops.any(labels > 0, axis=-1, keepdims=True), largest, ops.ones_like(largest))


@keras.saving.register_keras_serializable("keras_interp")
class LabelSensitiveGate(keras.layers.Layer):
    """Multiplies the features of each example by the gate row of its label (section 3.2, Figure 2).

    The weight `gate` (classes, filters) is float32 under every dtype policy and is left alone by optimizers: its objective
    takes a plain gradient step and a projection of its own (see `LabelSensitiveClassifier`). It is kept equal over replicas.

    Args:
        num_classes: number of classes, the rows of the gate.
        initial_value: initial value of every entry, in (0, 1].
        **kwargs: as for every Keras layer.

    Call arguments:
        features: float tensor (batch, ..., filters), feature maps or pooled features.
        labels: integer tensor (batch,) or (batch, 1), each in [0, num_classes).

    Returns:
        A tensor like `features`.

    Raises:
        ValueError: for an `initial_value` outside (0, 1], features without a filter axis, or labels of the wrong rank.
        TypeError: for labels that are not integers.

    Examples:

    >>> gate = LabelSensitiveGate(num_classes=10)
    >>> tuple(gate(np.ones((2, 8, 8, 64), "float32"), np.array([3, 7])).shape)
    (2, 8, 8, 64)
    >>> float(gate.density())
    0.5
    """

    def __init__(self, num_classes: int, initial_value: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_options(locals(), num_classes="integer [1, inf)", initial_value="(0, 1]")
        self.num_classes = int(num_classes)
        self.initial_value = float(initial_value)

    def build(self, features_shape: Shape, labels_shape: Shape | None = None) -> None:
        if len(features_shape) < 2 or features_shape[-1] is None:
            raise ValueError(
                "`features` must have the shape (batch, ..., filters) with a known number of filters. "
                f"Received: shape={tuple(features_shape)}"
            )
        self.gate = self.add_weight(
            name="gate",
            shape=(self.num_classes, features_shape[-1]),
            initializer=keras.initializers.Constant(self.initial_value),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="mean",
        )

    def call(self, features: Tensor, labels: Tensor) -> Tensor:
        return self.apply(features, labels, self.gate)

    def apply(self, features: Tensor, labels: Tensor, gate: Tensor) -> Tensor:
        """Like `call`, with the gate as a tensor (classes, filters), to take gradients with respect to it."""
        if not keras.backend.is_int_dtype(labels.dtype):
            raise TypeError(f"`labels` must be integers. Received: dtype={keras.backend.standardize_dtype(labels.dtype)}")
        if len(labels.shape) == 2 and labels.shape[-1] == 1:
            labels = ops.squeeze(labels, -1)
        if len(labels.shape) != 1:
            raise ValueError(f"`labels` must have the shape (batch,) or (batch, 1). Received: shape={tuple(labels.shape)}")
        rows = ops.cast(ops.take(gate, labels, axis=0), features.dtype)
        return features * ops.reshape(rows, (-1, *(1,) * (len(features.shape) - 2), features.shape[-1]))

    def project(self) -> None:
        """Projects the weight in place, see `project_gate`."""
        self.gate.assign(project_gate(self.gate))

    def density(self) -> Tensor:
        """Gate density ‖G‖₁ / (classes · filters), in [0, 1]; the "L1 norm" of Table 1. Lower is sparser; at least 1/classes
        once projected."""
        return ops.mean(ops.abs(self.gate))

    def sparsity_penalty(self, target_norm: float) -> Tensor:
        """See `gate_sparsity_penalty`."""
        return gate_sparsity_penalty(self.gate, target_norm)

    def tighten(self, threshold: float = 0.5) -> None:
        """Rounds the weight in place to zeros and ones (section 3.3): a filter with exactly one entry of at least `threshold`
        becomes that class's own (one-hot column), every other filter is shared by all classes (all-one column).

        Args:
            threshold: h of the paper, in (0, 1].
        """
        check_options(locals(), threshold="(0, 1]")
        high = ops.convert_to_numpy(self.gate) >= threshold
        self.gate.assign(np.where(high.sum(axis=0) == 1, high, True).astype("float32"))

    def fix(self, filters_per_class: int) -> None:
        """Sets the weight to the manually fixed matrix of section 4.4, see `fixed_gate_matrix`."""
        num_classes, num_filters = self.gate.shape
        self.gate.assign(fixed_gate_matrix(num_classes, num_filters, filters_per_class))

    def compute_output_shape(self, features_shape: Shape, labels_shape: Shape | None = None) -> Shape:
        return features_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes, "initial_value": self.initial_value}
