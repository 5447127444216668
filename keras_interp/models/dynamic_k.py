"""Dynamic-K: a classifier whose classes each use only the K units that contribute most to them.

Paper: "Adaptive Activation Thresholding: Dynamic Routing Type Behavior for Interpretability in Convolutional Neural Networks".
The last layer is a `DynamicKDense`; training is plain, with coupled weight decay, which drives weights that are never chosen
to zero: from 0.1 to below 1e-3 if the learning rates of all steps, times weight decay / (1 − momentum), sum to 5.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_interp.checks import check_options
from keras_interp.graphs import set_weights
from keras_interp.layers.dynamic_k import DynamicKDense
from keras_interp.models.base import output_names
from keras_interp.models.classifier import CLASS_TASKS, Classifier, LinearReadout
from keras_interp.numerics import group_means
from keras_interp.typing import ArrayLike, Inputs


@keras.saving.register_keras_serializable("keras_interp")
class DynamicKClassifier(LinearReadout):
    """Backbone, global average pooling, and a `DynamicKDense` layer (section 4).

    The logit of class c is the sum of the K largest w_ic x_i over the units i, plus its bias, so K units explain it
    completely.

    Args:
        backbone: a functional `keras.Model` that ends in feature maps, or in features, see `Classifier`.
        num_classes: number of classes; optional if `class_names` is given.
        k: number K of units used for a class, at most the number of units.
        class_names: names of the classes.
        nonnegative: whether to drop negative contributions, see `DynamicKDense`.
        name: name of the model.
        dtype: dtype policy for training, see `Classifier`.
        task: "classification" or "multilabel", see `Classifier`.

    Raises:
        TypeError, ValueError: as for `Classifier`, and for a k that the number of units does not allow.

    Examples:

    >>> from keras_interp.backbones import cifar_resnet
    >>> model = DynamicKClassifier(cifar_resnet(depth=8), num_classes=10, k=5)
    >>> explanation = model.explain(np.zeros((1, 32, 32, 3), "uint8"))
    >>> explanation.check_completeness()
    >>> int(np.count_nonzero(explanation.contributions)) <= 5
    True
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int | None = None,
        k: int = 5,
        class_names: Sequence[str] | None = None,
        nonnegative: bool = False,
        name: str | None = None,
        dtype: Any = None,
        task: str = "classification",
    ) -> None:
        class_names = output_names(num_classes, class_names, "num_classes")
        check_options(locals(), task=CLASS_TASKS)
        layer = DynamicKDense(len(class_names), k, nonnegative=nonnegative, dtype="float32", name="logits")
        super().__init__(backbone, layer, class_names, task, name=name, dtype=dtype)

    def acting_weights(self, pooled: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Weights of the chosen units, 0 for all others, see `LinearReadout.acting_weights`."""
        _, counts = self.get_layer("logits").contributions(pooled, np.asarray(targets))
        return super().acting_weights(pooled, targets) * ops.convert_to_numpy(counts)

    def class_graph(self, images: Inputs, classes: ArrayLike, batch_size: int = 256) -> np.ndarray:
        """Strength of each unit's connection to each class on the data: mean contributions (Figure 6).

        Args:
            images: array (n, height, width, channels).
            classes: integers (n,), the class of each image, whose logit is explained.
            batch_size: images in a batch.

        Returns:
            float32 array (classes, units), NaN for a class without images.

        Raises:
            ValueError: for images of the wrong shape, NaN or infinite pixels, or classes out of range or of the wrong length.

        Examples:

        >>> from keras_interp.backbones import mlp
        >>> model = DynamicKClassifier(mlp((8,), input_shape=(4,)), num_classes=3, k=2)
        >>> model.class_graph(np.ones((6, 4)), np.arange(6) % 3).shape
        (3, 8)
        """
        contributions = self.explain(images, classes, batch_size).contributions
        return group_means(contributions, np.eye(self.num_classes, dtype="float32")[self.check_targets(classes)])

    def get_config(self) -> dict[str, Any]:
        layer = self.get_layer("logits")
        options = {"num_classes": self.num_classes, "k": layer.k, "nonnegative": layer.nonnegative}
        return {**super().get_config(), **options, **self._task_config()}


def convert(
    model: keras.Model, k: int, class_names: Sequence[str] | None = None, nonnegative: bool = False, name: str | None = None
) -> DynamicKClassifier:
    """Replaces the last dense layer of a trained classifier by a `DynamicKDense` with its weights, for fine-tuning.

    The model itself stays unchanged. Fine-tune all of the result, or only its `head` on features that are computed once. It is
    compiled with a weight decay of 5e-4; for unused weights to vanish, compile it with one that fits the number of steps, see
    `optimizers.vanishing_weight_decay`.

    Args:
        model: a `Classifier` or `DynamicKClassifier`, or any functional `keras.Model` with one input whose last layer is a
            `keras.layers.Dense`. Activations in or after that layer are dropped, since the result has logits, and so are its
            regularizers.
        k: number K of units used for a class.
        class_names: names of the classes; defaults to those of the model.
        nonnegative: see `DynamicKDense`.
        name: name of the new model.

    Returns:
        A `DynamicKClassifier`, compiled for fine-tuning.

    Raises:
        TypeError: for a model that has no graph, does not end in a dense layer, or is not a classifier.
        ValueError: for a k that the number of units does not allow.

    Examples:

    >>> from keras_interp.backbones import cifar_resnet
    >>> from keras_interp.optimizers import CoupledSGD, vanishing_weight_decay
    >>> plain = Classifier(cifar_resnet(depth=8), num_classes=10)
    >>> dynamic = convert(plain, k=5)
    >>> images, classes = np.zeros((20, 32, 32, 3), "uint8"), np.arange(20) % 10
    >>> _, features, _ = dynamic.features(images)
    >>> head = dynamic.head
    >>> decay = vanishing_weight_decay([0.1] * 40, momentum=0.9)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> head.compile(CoupledSGD(0.1, momentum=0.9, weight_decay=decay), loss)
    >>> history = head.fit(features, classes, epochs=40, verbose=0)
    """
    graph = isinstance(model, keras.Model) and getattr(model, "inputs", None)
    dense = model.outputs[0]._keras_history.operation if graph else None
    if isinstance(dense, (keras.layers.Activation, keras.layers.Softmax)):
        dense = dense.input._keras_history.operation  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(dense, (keras.layers.Dense, DynamicKDense)) or len(model.inputs) != 1:
        raise TypeError(
            "`convert` takes a functional `keras.Model` with one input whose last layer is dense. "
            f"Received: {type(model).__name__} with the last layer {type(dense).__name__}"
        )
    features = dense.input
    if len(model.outputs) != 1 or model.outputs[0].ndim != 2 or dense.units < 2:
        shapes = [tuple(output.shape) for output in model.outputs]
        raise TypeError(f"`convert` takes a classifier with one output (batch, classes). Received: outputs of shapes {shapes}")
    pooling = features._keras_history.operation  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(pooling, keras.layers.GlobalAveragePooling2D) and not pooling.keepdims:
        features = pooling.input  # Feature maps, for explanations.
    # A copy, so that fine-tuning does not change the original.
    original = keras.Model(model.inputs[0], features)
    backbone = keras.models.clone_model(original)
    set_weights(backbone, original.get_weights())
    class_names = getattr(model, "class_names", None) if class_names is None else class_names
    # Layers that compute in float16 need a scaled loss, whatever the model's own policy is.
    halves = any(layer.dtype_policy.name == "mixed_float16" for layer in model.layers)
    dtype = "mixed_float16" if halves else model.dtype_policy.name
    converted = DynamicKClassifier(backbone, dense.units, k, class_names, nonnegative, name, dtype)
    bias = dense.bias if dense.use_bias else ops.zeros(dense.units)
    converted.get_layer("logits").set_weights([ops.convert_to_numpy(weight) for weight in (dense.kernel, bias)])
    if isinstance(model, (Classifier, DynamicKClassifier)):
        converted.concepts = model.concepts
    return converted.compile_by_default()
