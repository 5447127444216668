"""A classifier that is linear in its last feature maps: the plain baseline, and what the gated classifier builds on."""

import re

import keras
import numpy as np
from keras import layers, ops

from keras_interp.checks import check_images, check_labels
from keras_interp.explain.explanation import Explanation


@keras.saving.register_keras_serializable("keras_interp")
class Classifier(keras.Model):
    """Backbone, global average pooling, one dense layer: a flat functional graph from raw pixels to float32 logits.

    The logit of class c is Σ_k w_kc · a_k + b_c over the filters k of the last feature maps, with a_k the filter's mean over
    the map. `explain` shows these contributions and the class activation map; `intervene` sets filters to other values.

    Args:
        backbone: a functional `keras.Model` (or a built `Sequential`) with one input and one output: feature maps
            (batch, height, width, filters), or features (batch, filters).
        num_classes: number of classes; may be left out where `labels` are given.
        labels: names of the classes, in the order of the logits. By default "0", "1", ...
        name: name of the model.
        dtype: dtype policy that the model is trained in, by default the global one; "mixed_float16" makes `compile` scale the
            loss. The layers of the backbone keep their own.

    Raises:
        TypeError: for a backbone without a graph (a subclassed model).
        ValueError: for a backbone of another output rank, or a number of labels that is not `num_classes`.

    Example:

    >>> from keras_interp.backbones import cifar_resnet
    >>> model = Classifier(cifar_resnet(20), num_classes=10)
    >>> model.predict(np.zeros((1, 32, 32, 3), "uint8"), verbose=0).shape
    (1, 10)
    """

    def __init__(self, backbone, num_classes=None, labels=None, name=None, dtype=None):
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
        num_classes = num_classes or (len(labels) if labels else None)
        if not num_classes or (labels and len(labels) != num_classes):
            raise ValueError(
                "Give `num_classes`, or `labels`, or both with the same number. "
                f"Received: num_classes={num_classes}, {len(labels or ())} labels"
            )
        pooled = features
        if features.ndim == 4:
            pooled = layers.GlobalAveragePooling2D(dtype="float32", name="pooling")(features)
        logits = layers.Dense(num_classes, dtype="float32", name="logits")(pooled)
        super().__init__(inputs=backbone.inputs[0], outputs=logits, name=name)
        # Not for computing, which the layers do each in their own: it tells `compile` whether to scale the loss.
        self.dtype_policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        self.num_classes = int(num_classes)
        self.labels = tuple(labels) if labels else tuple(str(number) for number in range(num_classes))
        # A second view on the same layers. Past Keras's attribute tracking, which would count every weight twice.
        self.__dict__["_feature_view"] = keras.Model(self.inputs[0], [features, pooled, logits])

    @property
    def num_filters(self):
        """Number of filters of the last feature maps."""
        return self._feature_view.outputs[0].shape[-1]

    @property
    def unit_names(self):
        """Names of the filters of the last feature maps."""
        return tuple(f"filter {number}" for number in range(self.num_filters))

    def features(self, images, batch_size=256):
        """Last feature maps, pooled features and logits of images, in one pass.

        Args:
            images: array (n, height, width, 3) of pixels in 0..255.
            batch_size: images in a batch.

        Returns:
            float32 arrays (n, h, w, filters), (n, filters), (n, classes).
        """
        images = check_images(images, self.input_shape)
        return [np.asarray(output, "float32") for output in self._feature_view.predict(images, batch_size, verbose=0)]

    def explain(self, images, target=None, batch_size=256):
        """Explains the logit of one class for each image by the filters of the last feature maps.

        Args:
            images: array (n, height, width, 3) of pixels in 0..255, uint8 or float.
            target: the class to explain: None for the predicted one, a label's name or number, or a sequence of n of them.
            batch_size: images in a batch.

        Returns:
            An `Explanation` whose contributions w_kc · a_k and bias add up to the target's logit; `maps` are the feature maps
            times w_kc, and `class_activation_map` is their sum over the filters (Zhou et al., 2016).

        Raises:
            ValueError: for images of another shape, NaN or infinite pixels, or an unknown target.
        """
        images = check_images(images, self.input_shape)
        maps, pooled, logits = self.features(images, batch_size)
        targets = self._targets(target, logits)
        kernel, bias = (np.asarray(ops.convert_to_numpy(weight)) for weight in self.get_layer("logits").weights)
        weights = kernel.T[targets]
        return Explanation(
            images=images,
            logits=logits,
            labels=self.labels,
            target=targets,
            unit_names=self.unit_names,
            contributions=pooled * weights,
            bias=bias[targets],
            maps=maps * weights[:, None, None, :] if maps.ndim == 4 else None,
            units_of_target=self.units_of_classes(targets),
        )

    def units_of_classes(self, targets):
        """Which filters belong to each class of `targets`, as booleans (n, filters); None where the model assigns none."""
        return None

    def intervene(self, images, values, batch_size=256):
        """Logits of images when some filters' pooled activations are set by hand.

        Args:
            images: array (n, height, width, 3) of pixels in 0..255.
            values: {unit name or number: value}, as "filter 12" or 12; 0 drops the filter.
            batch_size: images in a batch.

        Returns:
            float32 array (n, classes).

        Raises:
            KeyError: for an unknown unit.
        """
        _, pooled, _ = self.features(images, batch_size)
        for unit, value in values.items():
            pooled[:, self._unit_index(unit)] = value
        return self.logits_of(pooled)

    def logits_of(self, pooled):
        """Logits (n, classes) of pooled features (n, filters), as float32 arrays."""
        kernel, bias = (np.asarray(ops.convert_to_numpy(weight)) for weight in self.get_layer("logits").weights)
        return pooled @ kernel + bias

    def _unit_index(self, unit):
        # The classes in a unit's name may change with training, its number does not.
        named = re.fullmatch(r"filter (\d+)(?: \(.*\))?", unit) if isinstance(unit, str) else None
        unit = int(named[1]) if named else unit
        if isinstance(unit, (int, np.integer)) and 0 <= unit < self.num_filters:
            return int(unit)
        raise KeyError(f"A unit is one of 'filter 0' to 'filter {self.num_filters - 1}', or its number. Received: {unit!r}")

    def _targets(self, target, logits):
        if target is None:
            return logits.argmax(axis=-1)
        targets = [target] * len(logits) if isinstance(target, str) or np.ndim(target) == 0 else list(target)
        if len(targets) != len(logits):
            raise ValueError(f"`target` must name one class or one for each of {len(logits)} images. Received: {target}")
        numbers = [self.labels.index(t) if isinstance(t, str) and t in self.labels else t for t in targets]
        if not all(isinstance(n, (int, np.integer)) and 0 <= n < self.num_classes for n in numbers):
            raise ValueError(
                f"`target` must be a class number below {self.num_classes} or one of {list(self.labels)}. Received: {target}"
            )
        return np.array(numbers, int)

    def training_callbacks(self):
        """Callbacks that every `fit` of this model runs with, before the user's."""
        return [StopAtNaN()]

    def fit(self, x=None, y=None, *args, callbacks=None, **kwargs):
        """As `keras.Model.fit`, after checking images and labels where they are arrays, and that the loss takes logits.

        Raises:
            ValueError: for arrays of another shape, labels out of range, or a loss of probabilities.
            TypeError: for labels that are not integers.
            FloatingPointError: at the first loss that is NaN or infinite.
        """
        if hasattr(x, "__array__"):
            check_images(x, self.input_shape)
        if hasattr(y, "__array__"):
            check_labels(y, self.num_classes)
        if isinstance(self.loss, str) or getattr(self.loss, "from_logits", True) is False:
            raise ValueError(
                "The model's outputs are logits, so the loss must be one of logits, as "
                f"keras.losses.SparseCategoricalCrossentropy(from_logits=True). Received: loss={self.loss!r}"
            )
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]
        return super().fit(x, y, *args, callbacks=[*self.training_callbacks(), *callbacks], **kwargs)

    def get_config(self):
        backbone = keras.Model(self.inputs[0], self._feature_view.outputs[0], name="backbone")
        return {
            "backbone": keras.saving.serialize_keras_object(backbone),
            "num_classes": self.num_classes,
            "labels": list(self.labels),
            "name": self.name,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        return cls(**config)


class StopAtNaN(keras.callbacks.Callback):
    """Stops training at the first loss that is not finite, before the weights of that epoch replace a checkpoint."""

    # Lets the steps of the JAX backend run ahead; the loss is looked at as soon as it is there.
    async_safe = True

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            raise FloatingPointError(
                f"The loss is not finite at batch {batch}. The likely causes are a label outside [0, num_classes), NaN or "
                f"infinite inputs, or a learning rate that is too high. Received: loss={loss}"
            )
