"""Models that are linear in their last features: the plain baselines, and the base of the gated classifier."""

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import keras
import numpy as np
from keras import layers

from keras_interp.checks import check_features, check_options
from keras_interp.explain.explanation import Explanation
from keras_interp.graphs import keep_views, predict_all
from keras_interp.models.base import InterpretableModel, output_names, readout
from keras_interp.typing import Inputs, Target, Tensor

# What the outputs of a classifier may be.
CLASS_TASKS = ("classification", "multilabel")


class Features(typing.NamedTuple):
    """Result of `features` for n inputs, as float32 arrays.

    Attributes:
        maps: last feature maps (n, h, w, filters), or the last units (n, units) of a model without maps.
        pooled: the features (n, filters) that the last layer takes.
        logits: outputs (n, classes).
    """

    maps: np.ndarray
    pooled: np.ndarray
    logits: np.ndarray


class LinearReadout(InterpretableModel):
    """A backbone and one last layer, named "logits", on its features, which are filters averaged over the map, or units."""

    def __init__(
        self,
        backbone: keras.Model,
        make_outputs: Callable[[Tensor], Tensor],
        class_names: Sequence[str],
        task: str = "classification",
        target_mean: float = 0.0,
        target_scale: float = 1.0,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        features, pooled = pooled_features(backbone)
        outputs = make_outputs(pooled)
        super().__init__(backbone.inputs[0], outputs, class_names, task, target_mean, target_scale, name, dtype)
        self._concepts = None
        feature_view = keras.Model(self.inputs[0], [features, pooled, outputs])
        keep_views(self, _feature_view=feature_view, _head=keras.Model(pooled, outputs, name="head"))

    @property
    def head(self) -> keras.Model:
        """Submodel from the pooled features (batch, filters) to the outputs, sharing the last layer.

        An uncompiled `keras.Model`: to train the last layer alone, compute the `features` once and fit this.
        """
        return self._head

    @property
    def num_filters(self) -> int:
        """Number of filters of the last feature maps."""
        return self._feature_view.outputs[0].shape[-1]

    @property
    def concepts(self) -> list[str] | None:
        """Concept of each unit, as named by Network Dissection: a list, with "" for a unit without one; or None.

        Raises:
            ValueError: for a number of names that differs from the number of units.
        """
        return None if self._concepts is None else list(self._concepts)

    @concepts.setter
    def concepts(self, names: Sequence[str] | None) -> None:
        if names is not None and len(names) != self.num_filters:
            raise ValueError(f'There must be a concept, or "", for each of {self.num_filters} units. Received: {len(names)}')
        self._concepts = None if names is None else tuple(names)

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Names of the filters of the last feature maps, or of the last units, with their concepts if known."""
        concepts = self.concepts or ("",) * self.num_filters
        return tuple(f"{self._unit} {number}" + (f" ({name})" if name else "") for number, name in enumerate(concepts))

    @property
    def _unit(self):
        return "filter" if self._feature_view.outputs[0].ndim == 4 else "unit"

    def features(self, images: Inputs, batch_size: int = 256) -> Features:
        """Last feature maps, pooled features and logits of images, in one pass; for rows, the last units (twice) and the
        logits.

        Args:
            images: array (n, height, width, channels) of pixels in 0..255, or rows (n, columns).
            batch_size: images in a batch.

        Returns:
            `Features`: float32 arrays `maps` (n, h, w, filters), `pooled` (n, filters) and `logits` (n, classes).

        Raises:
            ValueError: for images of the wrong shape, or NaN or infinite pixels or features.
        """
        images = self.check_inputs(images)
        outputs = predict_all(self._feature_view, images, batch_size)
        maps, pooled, logits = (np.asarray(output, "float32") for output in outputs)
        check_features(pooled, logits)
        return Features(maps, pooled, logits)

    def explain(self, images: Inputs, target: Target = None, batch_size: int = 256) -> Explanation:
        """Explains one output for each input by the filters of the last feature maps, or by the last units.

        Args:
            images: array (n, height, width, channels) of pixels in 0..255, uint8 or float, or rows (n, columns).
            target: the class to explain: None for the predicted one, a class name or index, or a sequence of n of them.
            batch_size: images in a batch.

        Returns:
            An `Explanation` whose contributions w_kc · a_k and bias add up to the target's logit; `maps` are the feature maps
            times w_kc, and `class_activation_map` is their sum over the filters (Zhou et al., 2016).

        Raises:
            ValueError: for images of the wrong shape, NaN or infinite pixels, or an unknown target.
        """
        images = self.check_inputs(images)
        maps, pooled, logits = self._explained(images, batch_size)
        targets = self.explained_outputs(target, logits)
        weights = self.acting_weights(pooled, targets)
        return Explanation(
            inputs=images,
            logits=logits,
            class_names=self.class_names,
            target=targets,
            unit_names=self.unit_names,
            contributions=pooled * weights,
            bias=self.readout_weights()[1][targets],
            maps=maps * weights[:, None, None, :] if maps.ndim == 4 else None,
            units_of_target=self.units_of_classes(targets),
            task=self.task,
        )

    def _explained(self, images, batch_size):
        """Contributing features by position, if any, and pooled; and the logits, see `features`."""
        return self.features(images, batch_size)

    def acting_weights(self, pooled: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Weights (n, filters) with which pooled features (n, filters) act on one output each, `targets` (n,)."""
        return self.readout_weights()[0].T[targets]

    def units_of_classes(self, targets: np.ndarray) -> np.ndarray | None:
        """Mask of the filters that belong to each class of `targets`, booleans (n, filters); None if the model assigns
        none."""
        return None

    def intervene(self, images: Inputs, values: Mapping[str | int, float], batch_size: int = 256) -> np.ndarray:
        """Logits of images when some filters' pooled activations are set manually.

        Args:
            images: array (n, height, width, 3) of pixels in 0..255.
            values: {unit name or index: value}, as "filter 12" or 12; 0 drops the filter.
            batch_size: images in a batch.

        Returns:
            float32 array (n, classes).

        Raises:
            KeyError: for an unknown unit.
        """
        _, pooled, _ = self.features(images, batch_size)
        for unit, value in values.items():
            pooled[:, self.unit_index(unit)] = value
        return self.logits_of(pooled)

    def logits_of(self, pooled: np.ndarray) -> np.ndarray:
        """Outputs (n, outputs) of pooled features (n, filters), as float32 arrays."""
        return predict_all(self._head, pooled, 1024)

    def unit_index(self, unit: int | str) -> int:
        # The classes in a unit's name may change with training, its index does not.
        named = re.fullmatch(rf"{self._unit} (\d+)(?: \(.*\))?", unit) if isinstance(unit, str) else None
        return super().unit_index(int(named[1]) if named else unit)

    def _task_config(self):
        # Left out where it is the default, as in configs of before.
        return {"task": self.task} if self.task == "multilabel" else {}

    def get_config(self) -> dict[str, Any]:
        backbone = keras.Model(self.inputs[0], self._feature_view.outputs[0], name="backbone")
        return {
            "backbone": keras.saving.serialize_keras_object(backbone),
            "class_names": list(self.class_names),
            "name": self.name,
            "dtype": self.dtype_policy.name,
            **self._facts(),
            **({"concepts": list(self.concepts)} if self.concepts else {}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> Self:
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        concepts = config.pop("concepts", None)
        model = cls._with_facts(config)
        model.concepts = concepts
        return model


def pooled_features(backbone: keras.Model) -> tuple[Tensor, Tensor]:
    """Output tensor of a backbone, and the same averaged over the map if it is feature maps.

    Raises:
        TypeError: for a model without a graph. ValueError: for more than one input or output, or the wrong rank.
    """
    if not isinstance(backbone, keras.Model) or not getattr(backbone, "inputs", None):
        raise TypeError(
            "`backbone` must be a functional keras.Model or a built Sequential, to whose graph the logits are added. "
            f"Received: {type(backbone).__name__}"
        )
    features = backbone.outputs[0]
    if len(backbone.inputs) != 1 or len(backbone.outputs) != 1 or features.ndim not in (2, 4):
        raise ValueError(
            "`backbone` must have one input and one output of shape (batch, height, width, filters) or (batch, filters). "
            f"Received: {len(backbone.inputs)} inputs, output shapes {[tuple(o.shape) for o in backbone.outputs]}"
        )
    if features.ndim == 2:
        return features, features
    return features, layers.GlobalAveragePooling2D(dtype="float32", name="pooling")(features)


@keras.saving.register_keras_serializable("keras_interp")
class Classifier(LinearReadout):
    """Backbone, global average pooling, one dense layer: a flat functional graph from raw pixels to float32 logits.

    The logit of class c is Σ_k w_kc · a_k + b_c over the filters k of the last feature maps, with a_k the filter's mean over
    the map. `explain` shows these contributions and the class activation map; `intervene` sets filters to given values.

    Args:
        backbone: a functional `keras.Model` (or a built `Sequential`) with one input and one output: feature maps
            (batch, height, width, filters), or features (batch, filters).
        num_classes: number of classes; optional if `class_names` is given.
        class_names: names of the classes, in the order of the logits. By default "0", "1", ...
        name: name of the model.
        dtype: dtype policy for training; defaults to the global one. "mixed_float16" makes `compile` scale the loss. The
            layers of the backbone keep their own.
        l1_weight: weight of the L1 norm of the last layer's weights in the loss, at least 0.
        task: "classification", or "multilabel" if an image may have several classes, or none: targets are then 0 and 1 in an
            array (n, classes), and each logit is independent.

    Raises:
        TypeError: for a backbone without a graph (a subclassed model).
        ValueError: for a backbone of the wrong output rank, or a number of class names that is not `num_classes`.

    Examples:

    >>> from keras_interp.backbones import cifar_resnet
    >>> model = Classifier(cifar_resnet(20), num_classes=10)
    >>> model.predict(np.zeros((1, 32, 32, 3), "uint8"), verbose=0).shape
    (1, 10)
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        name: str | None = None,
        dtype: Any = None,
        l1_weight: float = 0.0,
        task: str = "classification",
    ) -> None:
        class_names = output_names(num_classes, class_names, "num_classes")
        check_options(locals(), l1_weight="[0, inf)", task=CLASS_TASKS)
        regularizer = keras.regularizers.L1(l1_weight) if l1_weight else None
        make_outputs = partial(readout, num_outputs=len(class_names), kernel_regularizer=regularizer)
        super().__init__(backbone, make_outputs, class_names, task, name=name, dtype=dtype)
        self.l1_weight = float(l1_weight)

    def get_config(self) -> dict[str, Any]:
        l1 = {"l1_weight": self.l1_weight} if self.l1_weight else {}
        return {**super().get_config(), "num_classes": self.num_classes, **l1, **self._task_config()}


@keras.saving.register_keras_serializable("keras_interp")
class Regressor(LinearReadout):
    """Backbone, global average pooling if it ends in maps, and one dense unit: the regression counterpart of `Classifier`.

    Args:
        backbone: as for `Classifier`.
        target_mean, target_scale: mean and standard deviation of the target, in its own unit. The loss is computed on the
            standardized target; predictions and contributions are in the target's unit.
        class_names: names of the output, a sequence of one.
        name: name of the model.
        dtype: dtype policy for training, see `Classifier`.

    Raises:
        TypeError, ValueError: as for `Classifier`, and for a scale that is not positive.

    Examples:

    >>> from keras_interp.backbones import mlp
    >>> model = Regressor(mlp((64, 32), input_shape=(13,)), target_mean=2.0, target_scale=1.2)
    >>> model.predict(np.zeros((1, 13), "float32"), verbose=0).shape
    (1, 1)
    """

    def __init__(
        self,
        backbone: keras.Model,
        target_mean: float = 0.0,
        target_scale: float = 1.0,
        class_names: Sequence[str] = ("target",),
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        scaling = {"task": "regression", "target_mean": target_mean, "target_scale": target_scale}
        make_outputs = partial(readout, num_outputs=len(class_names), **scaling)
        super().__init__(backbone, make_outputs, tuple(class_names), **scaling, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target_mean": self.target_mean, "target_scale": self.target_scale}
