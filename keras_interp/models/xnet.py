"""XNet: a classifier with a layer of neurons that each stand for a named attribute.

Paper: "XNet: Towards Training Explainable Neural Networks". Between the pooled features and the logits is a dense layer with
one neuron for each attribute, as "bald" or "bangs". The drop loss of a neuron is the classification loss on the images with
its attribute when the neuron is dropped. Training minimizes the classification loss minus α times the smallest drop loss (Eq.
2), so that the classification of these images comes to depend on that neuron.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_interp.checks import check_attributes, check_features, check_labels, check_options
from keras_interp.explain.gradients import input_gradient
from keras_interp.graphs import keep_views, predict_all
from keras_interp.layers.x_layer import XLayer
from keras_interp.models.base import is_array, output_names, readout
from keras_interp.models.classifier import LinearReadout, pooled_features
from keras_interp.models.objective import NamedMeans, ObjectiveTrainer, num_replicas, sum_over_replicas
from keras_interp.numerics import group_means
from keras_interp.typing import ArrayLike, Inputs, Tensor

REDUCTIONS = ("min", "sum", "mean")


TARGETS = 'An XNet trains on targets {"label": labels, "attributes": 0 or 1 (batch, attributes)}.'


@keras.saving.register_keras_serializable("keras_interp")
class XNet(ObjectiveTrainer, LinearReadout):
    """Backbone, global average pooling, one neuron for each attribute, an `XLayer`, and the logits (section 2.1).

    The logit of class c is Σ_j w_jc · h_j + b_c over the neurons j. A training step minimizes

        L(θ, X) − α · min_j L(θ̂_j, X_j)

    with X_j the images of the batch that have attribute j, and θ̂_j the network without neuron j (Eq. 2). The backbone runs
    once. Attributes that no image of the batch has are left out; if none remain, so is the whole term. Sums and counts of each
    attribute are first added over the replicas, so the minimum is over the whole batch.

    Training data are pairs (images, {"label": labels, "attributes": 0 or 1 (batch, attributes)}), as `data.Batches` gives
    them; `evaluate` takes plain labels too. The log holds `task_loss`, `drop_loss` (the factor of α, at most the cap) and
    `drop_loss_<attribute>`, uncapped, in nats; and `active_neurons`, the number of neurons active on any example of the epoch.
    `accuracy` is that of the whole network. Sample weights apply to all losses: an example of weight 0 counts as absent, one
    of weight 2 as present twice.

    Args:
        backbone: a functional `keras.Model` that ends in feature maps, or in features, see `Classifier`. Prefer one that ends
            in a batch normalization, as `backbones.resnet(..., normalize_output=True)`: features behind a ReLU have large
            means, so the first steps at a high learning rate can permanently deactivate neurons (dying ReLUs).
        attributes: names of the attributes, one neuron for each.
        num_classes: number of classes; optional if `class_names` is given.
        class_names: names of the classes.
        alpha: weight α of the drop loss, at least 0; 0 is the paper's baseline.
        reduction: "min" for Eq. 2, or "sum" (Eq. 1) or "mean" over the attributes, with which only one neuron's drop loss
            rises (section 4).
        drop_loss_cap: None, or a bound in nats above which a drop loss is not raised further. Without it the objective has no
            lower bound.
        activation: activation of the neurons.
        name: name of the model.
        dtype: dtype policy for training, see `Classifier`; neurons and logits are always float32.

    Raises:
        TypeError, ValueError: as for `Classifier`; and for missing or duplicate attributes, a negative α, an unknown
            reduction, or a cap that is not positive.

    Examples:

    >>> from keras_interp.backbones import cifar_resnet
    >>> model = XNet(cifar_resnet(depth=8), ["bald", "bangs"], class_names=["old", "young"])
    >>> model = model.compile_by_default()
    >>> images = np.zeros((8, 32, 32, 3), "uint8")
    >>> targets = {"label": np.arange(8) % 2, "attributes": np.eye(2)[np.arange(8) % 2]}
    >>> history = model.fit(images, targets, verbose=0)
    >>> model.drop_losses(images, targets["label"]).shape
    (8, 2)
    """

    def __init__(
        self,
        backbone: keras.Model,
        attributes: Sequence[str],
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        alpha: float = 0.05,
        reduction: str = "min",
        drop_loss_cap: float | None = None,
        activation: str = "relu",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        class_names = output_names(num_classes, class_names, "num_classes")
        attributes = tuple(attributes) if not isinstance(attributes, str) else ()
        if not attributes or len(set(attributes)) < len(attributes):
            raise ValueError(f"`attributes` must be a non-empty sequence of unique names. Received: attributes={attributes}")
        check_options(locals(), alpha="[0, inf)", reduction=REDUCTIONS, drop_loss_cap="(0, inf) or None")
        count = len(attributes)
        maps, pooled = pooled_features(backbone)
        explained = layers.Dense(count, activation, dtype="float32", name="explained")
        neurons = explained(pooled)
        x_layer = XLayer(count, dtype="float32", name="x_layer")
        super().__init__(
            keras.Model(backbone.inputs[0], neurons),
            lambda h: readout(x_layer(h), len(class_names)),
            class_names,
            name=name,
            dtype=dtype,
        )
        self.attributes = attributes
        self.alpha = float(alpha)
        self.reduction = reduction
        self.drop_loss_cap = drop_loss_cap
        # The neuron of each attribute, a permutation matrix (attributes, neurons); see `NeuronMatching`.
        self.matching = self.add_weight(
            name="matching",
            shape=(count, count),
            initializer="identity",
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="mean",
        )
        self.task_metric = keras.metrics.Mean(name="task_loss")
        self.drop_metric = keras.metrics.Mean(name="drop_loss")
        self.active_neurons = ActiveNeurons(count)
        self.attribute_metrics = NamedMeans([f"drop_loss_{attribute}" for attribute in attributes], "drop_losses")
        keep_views(
            self,
            _backbone_view=keras.Model(backbone.inputs[0], maps, name="backbone"),
            _explained_view=keras.Model(backbone.inputs[0], [maps, pooled, neurons, self.outputs[0]]),
        )

    # --- The objective: Eq. 2, or Eq. 1.

    @property
    def objective_metrics(self) -> tuple[str, ...]:
        return ("task_loss", "drop_loss", "active_neurons", *self.attribute_metrics.log_names)

    def targets_of(self, y: Any) -> Any:
        return y["label"] if isinstance(y, dict) else y

    def objective(self, extra: list[Tensor], x: Any, y: Any, sample_weight: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 2 for one batch, see `ObjectiveTrainer`."""
        self._check_names(y)
        self._check_shape(y["attributes"].shape)
        labels, attributes = y["label"], ops.cast(y["attributes"], "float32")
        count = len(self.attributes)
        # Arrays were checked; in a stream, values other than 0 and 1 make the loss NaN, which stops training.
        attributes = ops.where((attributes == 0) | (attributes == 1), attributes, float("nan"))
        members = ops.transpose(ops.reshape(attributes, (-1, count)))
        weights = ops.ones_like(members[0])
        if sample_weight is not None:
            weights = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
            members = members * weights
        neurons, _, logits = self._feature_view(x, training=True)
        task_loss = self.task_loss(labels, logits, sample_weight)
        # (attributes, batch): the loss of each example without the neuron of each attribute.
        losses = ops.take(self._dropped_losses(neurons, labels), ops.argmax(self.matching, axis=1), axis=0)
        # Weighted means, in nats: an example of weight 0 counts as absent, one of weight 2 as present twice.
        sums, totals = ops.sum(losses * members, axis=1), ops.sum(members, axis=1)
        all_sums, all_totals, size, weight = sum_over_replicas(
            [sums, totals, ops.cast(ops.size(weights), "float32"), ops.sum(weights)]
        )
        present = all_totals > 0
        divisor = ops.where(present, all_totals, 1.0)
        drop_losses = all_sums / divisor
        chosen = self._chosen_attributes(drop_losses, present)
        raised, limit = chosen, 0.0
        if self.drop_loss_cap is not None:
            reached = ops.cast(drop_losses >= self.drop_loss_cap, "float32")
            # Drop losses beyond the cap count as the cap: the objective does not jump, and has no gradient there.
            raised, limit = chosen * (1.0 - reached), self.drop_loss_cap * ops.sum(chosen * reached)
        # The share of this replica, in the unit of the mean over its part of the batch.
        drop_loss = num_replicas() * ops.sum(raised * sums / divisor) + limit
        outputs = {"y_pred": logits, "task_loss": task_loss, "sums": sums, "weights": totals}
        outputs["active"] = ops.sum(ops.cast(neurons != 0, "float32"), axis=0)
        outputs["drop_loss"] = ops.sum(raised * drop_losses) + limit
        outputs["has_drop_loss"] = ops.cast(ops.any(present), "float32")
        # A Keras loss divides a weighted sum by the number of examples, so the task loss grows with the weights: the drop loss
        # must, too.
        reduction = getattr(self.loss, "reduction", "sum_over_batch_size")
        if reduction == "mean_with_sample_weight":
            share = 1.0
        else:
            share = weight if reduction == "sum" else weight / ops.maximum(size, 1.0)
        return task_loss - self.alpha * share * drop_loss, outputs

    def _dropped_losses(self, neurons, labels):
        """Compiled loss (neurons, batch) of each example with each neuron dropped."""
        logits = self.get_layer("logits")(self.get_layer("x_layer")(neurons, drop="all"))
        logits = ops.reshape(logits, (-1, self.num_classes))
        labels = ops.tile(labels, (self.num_filters, *(1,) * (len(labels.shape) - 1)))
        return ops.reshape(self.example_losses(labels, logits), (self.num_filters, -1))

    def _chosen_attributes(self, drop_losses, present):
        """Weights (attributes,) of the drop losses of the attributes that are present."""
        counted = ops.cast(present, "float32")
        if self.reduction == "min":
            smallest = ops.argmin(ops.where(present, drop_losses, np.inf))
            return counted * ops.one_hot(smallest, len(self.attributes))
        return counted / ops.maximum(ops.sum(counted), 1.0) if self.reduction == "mean" else counted

    def log_objective(self, y: Any, sample_weight: Any, outputs: Any) -> None:
        """Updates the metrics of the drop losses."""
        examples = ops.cast(ops.shape(outputs["y_pred"])[0], "float32")
        self.task_metric.update_state(outputs["task_loss"], sample_weight=examples)
        # A batch without attributes has no drop loss.
        self.drop_metric.update_state(outputs["drop_loss"], sample_weight=examples * outputs["has_drop_loss"])
        self.attribute_metrics.update_state(outputs["sums"], outputs["weights"])
        self.active_neurons.update_state(outputs["active"])

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        def warn(epoch, logs):
            if logs and logs.get("active_neurons") == 0:
                self._warn_of_dead_neurons(f"any example of epoch {epoch}")

        return [*super().training_callbacks(), keras.callbacks.LambdaCallback(on_epoch_end=warn)]

    def _warn_of_dead_neurons(self, where):
        warnings.warn(
            f"No neuron is active on {where}: the logits are constants, and explanations are zeros. Start again from "
            "`XNet.orient`, on a backbone that ends in a batch normalization, as "
            "`backbones.resnet(..., normalize_output=True)`, or with a lower learning rate.",
            stacklevel=3,
        )

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Like `keras.Model.fit`, on targets with labels and attributes; arrays are checked before the first step.

        Warns if no neuron was active in a whole epoch.

        Raises:
            TypeError: for targets without attributes. ValueError: as for `Classifier`; and for attributes that differ in
                number or names, are not 0 or 1, or occur in no example; and for `class_weight`, which Keras supports only for
                plain targets: give `sample_weight`.
        """
        if kwargs.get("class_weight") is not None:
            raise ValueError("Give `sample_weight` instead of `class_weight`. Received: class_weight")
        dataset: Any = getattr(x, "dataset", None)
        if hasattr(dataset, "attributes"):
            self.check_dataset(dataset)
        elif is_array(x):
            y = self._checked_targets(y)
        elif isinstance(targets := getattr(dataset, "targets", None), dict):
            self._check_order(dataset)
            self._checked_targets(targets)
        elif hasattr(x, "element_spec"):
            self._check_stream(x)
        return super().fit(x, y, *args, **kwargs)

    def check_data(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        self._check_order(getattr(x, "dataset", None))
        return super().check_data(x, y, sample_weight)

    def _check_order(self, dataset):
        names = tuple(getattr(dataset, "attribute_names", ()) or ())
        if names and names != self.attributes:
            raise ValueError(f"The attributes must be {self.attributes}, in this order. Received: {names}")

    def _check_batch(self, x, y, sample_weight):
        if isinstance(y, dict) and "attributes" in y:
            y = {**y, "attributes": self._attribute_rows(y["attributes"], len(y["label"])).astype("float32")}
        return super()._check_batch(x, y, sample_weight)

    def _check_stream(self, stream):
        """Raises for a `tf.data.Dataset` without these attributes: on JAX, an error in a step costs the weights."""
        spec = stream.element_spec
        targets: Any = spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
        self._check_names(targets)
        shape = targets["attributes"].shape
        if shape.rank is None or shape[-1] is None:
            shape = next(iter(stream))[1]["attributes"].shape
        self._check_shape(shape)

    @staticmethod
    def _check_names(y):
        if not isinstance(y, dict) or not {"label", "attributes"} <= set(y):
            raise TypeError(f"{TARGETS} Received: {sorted(y) if isinstance(y, dict) else type(y).__name__}")

    def _check_shape(self, shape):
        # A TensorFlow stream may leave it unknown.
        shape, count = (None, None) if getattr(shape, "rank", 2) is None else tuple(shape), len(self.attributes)
        if len(shape) != 2 or shape[-1] not in (None, count):
            raise ValueError(
                f"The attributes must have the shape (batch, {count}): {', '.join(self.attributes)}. Received: shape={shape}"
            )

    def check_targets(self, targets: Any) -> Any:
        """Returns labels (n,), or these with attributes, as a dict, or raises."""
        if not isinstance(targets, dict):
            return super().check_targets(targets)
        self._check_names(targets)
        labels = check_labels(targets["label"], self.num_classes, self.class_names)
        return {"label": labels, "attributes": self._attribute_rows(targets["attributes"], len(labels)).astype("float32")}

    def _checked_targets(self, y):
        """Targets to train on, with at least one example of each attribute."""
        self._check_names(y)
        checked = self.check_targets(y)
        self._checked_attributes(checked["attributes"], len(checked["label"]))
        return checked

    def _attribute_rows(self, attributes, count):
        """Attributes as uint8 (n, attributes)."""
        attributes = check_attributes(attributes, self.attributes)
        if len(attributes) != count:
            raise ValueError(f"Each of {count} labels needs a row of attributes. Received: {len(attributes)} rows")
        return attributes

    def _checked_attributes(self, attributes, count):
        """The same, with at least one example of each attribute."""
        attributes = self._attribute_rows(attributes, count)
        for attribute, found in zip(self.attributes, attributes.sum(axis=0)):
            if not found:
                raise ValueError(f"No example has the attribute of a neuron. Received: {attribute!r}")
        return attributes

    def check_dataset(self, dataset: Any) -> None:
        """Raises unless an `ArrayDataset` has this model's attributes, each in at least one example.

        Raises:
            TypeError: for a dataset without attributes. ValueError: for different attributes, or one that no example has.
        """
        if getattr(dataset, "attributes", None) is None:
            raise TypeError(f"An XNet needs a dataset with attributes. Received: {type(dataset).__name__} without")
        self.check_columns(dataset)
        if tuple(dataset.attribute_names) != self.attributes:
            raise ValueError(f"The attributes must be {self.attributes}. Received: {tuple(dataset.attribute_names)}")
        self._checked_attributes(dataset.attributes, len(dataset))

    # --- Matching of neurons and attributes.

    @property
    def neuron_of_attribute(self) -> np.ndarray:
        """Index of each attribute's neuron, integers (attributes,)."""
        return ops.convert_to_numpy(self.matching).argmax(axis=1)

    def match(self, neurons: ArrayLike) -> None:
        """Sets the neuron of each attribute.

        Args:
            neurons: a permutation of the neuron indices, one for each attribute.

        Raises:
            ValueError: for anything but a permutation.
        """
        neurons = np.asarray(neurons)
        if neurons.dtype.kind not in "ui" or sorted(neurons.tolist()) != list(range(self.num_filters)):
            raise ValueError(f"`neurons` must be a permutation of 0 to {self.num_filters - 1}. Received: {neurons.tolist()}")
        self.matching.assign(np.eye(self.num_filters, dtype="float32")[neurons])

    def orient(self, labels: np.ndarray, attributes: np.ndarray) -> None:
        """Turns each neuron, before training, towards the class that most examples with its attribute have.

        The neuron's weight to that class becomes positive, those to the others negative, and its bias 1, so that it is active.
        The paper leaves this to chance: training cannot raise the drop loss of a neuron that happens to oppose the class of
        its images, or that is inactive.

        Args:
            labels: integers (n,) of the training examples.
            attributes: 0 or 1 (n, attributes).

        Raises:
            ValueError: for labels out of range; for attributes that are not 0 or 1, or that no example has.
        """
        labels = check_labels(labels, self.num_classes, self.class_names)
        attributes = self._checked_attributes(attributes, len(labels))
        classes = (attributes.T.astype(int) @ np.eye(self.num_classes, dtype=int)[labels]).argmax(axis=1)
        kernel, _ = self.readout_weights()
        signs = np.full(kernel.shape, -1.0, "float32")
        signs[self.neuron_of_attribute, classes] = 1.0
        self.get_layer("logits").kernel.assign(np.abs(kernel) * signs)
        bias = self.get_layer("explained").bias
        bias.assign(np.ones(bias.shape, "float32"))

    # --- Explanations by neurons.

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Names of the neurons with their attributes, as in "neuron 1 (bald)"."""
        attribute = dict(zip(self.neuron_of_attribute.tolist(), self.attributes))
        return tuple(f"neuron {number} ({attribute[number]})" for number in range(self.num_filters))

    @property
    def _unit(self):
        return "neuron"

    def unit_index(self, unit: int | str) -> int:
        """The index of a neuron, given by its index, its name or its attribute."""
        if isinstance(unit, str) and unit in self.attributes:
            return int(self.neuron_of_attribute[self.attributes.index(unit)])
        if isinstance(unit, str) and "(" in unit and unit not in self.unit_names:
            # Ambiguous: the number or the attribute could be meant.
            raise KeyError(f"The neurons are {self.unit_names}. Received: {unit!r}")
        return super().unit_index(unit)

    def drop_losses(self, images: Inputs, labels: ArrayLike | None = None, batch_size: int = 256) -> np.ndarray:
        """Classification loss of each image without each neuron: L(θ̂_j, x).

        Args:
            images: array (n, height, width, channels) of pixels in 0..255, or rows (n, columns).
            labels: integers (n,); defaults to the predicted ones.
            batch_size: images in a batch.

        Returns:
            float32 array (n, neurons), in nats.

        Raises:
            ValueError: for images of the wrong shape, NaN or infinite pixels, or labels out of range.
        """
        _, neurons, logits = self.features(images, batch_size)
        classes = logits.argmax(axis=-1) if labels is None else check_labels(labels, self.num_classes, self.class_names)
        if len(classes) != len(neurons):
            raise ValueError(f"There must be one label for each of {len(neurons)} images. Received: {len(classes)} labels")
        return self.drop_losses_of(neurons, classes)

    def drop_losses_of(self, neurons: np.ndarray, labels: ArrayLike) -> np.ndarray:
        """Like `drop_losses`, from activations (n, neurons) and labels (n,)."""
        log_probabilities = ops.convert_to_numpy(ops.log_softmax(self.dropped_logits(neurons)))
        return -np.take_along_axis(log_probabilities, np.asarray(labels)[None, :, None], axis=2)[..., 0].T

    def dropped_logits(self, neurons: np.ndarray) -> np.ndarray:
        """Logits (neurons, n, classes) of activations (n, neurons), with each neuron dropped; float32 arrays."""
        kernel, bias = self.readout_weights()
        return (neurons @ kernel + bias) - neurons.T[..., None] * kernel[:, None]

    def backbone_features(self, images: Inputs, batch_size: int = 256) -> np.ndarray:
        """Pooled features that the neurons are computed from.

        Useful for a fast search or a probe: an `XNet` on an input of features trains in seconds.

        Args:
            images: array (n, height, width, channels) of pixels in 0..255, or rows (n, columns).
            batch_size: images in a batch.

        Returns:
            float32 array (n, filters).

        Raises:
            ValueError: for images of the wrong shape, or NaN or infinite pixels.
        """
        images = self.check_inputs(images)
        return predict_all(self._explained_view, images, batch_size)[1].astype("float32", copy=False)

    def drop_loss_matrix(self, images: Inputs, labels: ArrayLike, attributes: ArrayLike, batch_size: int = 256) -> np.ndarray:
        """Mean drop loss of each neuron over the images with each attribute (Algorithm 1).

        Args:
            images: array (n, height, width, channels) of pixels in 0..255, or rows (n, columns).
            labels: integers (n,).
            attributes: 0 or 1 (n, attributes).
            batch_size: images in a batch.

        Returns:
            float32 array (attributes, neurons), in nats.

        Raises:
            ValueError: as for `drop_losses`; and for attributes that are not 0 or 1, or that no image has.
        """
        labels = check_labels(labels, self.num_classes, self.class_names)
        attributes = self._checked_attributes(attributes, len(labels))
        return group_means(self.drop_losses(images, labels, batch_size), attributes)

    def neuron_maps(self, images: Inputs, batch_size: int = 256) -> np.ndarray:
        """Class activation maps of the neurons: where in the image each activation arises (Zhou et al., 2016).

        Args:
            images: array (n, height, width, channels) of pixels in 0..255.
            batch_size: images in a batch.

        Returns:
            float32 array (n, h, w, neurons), whose mean over h and w is the activation.

        Raises:
            ValueError: for images of the wrong shape, NaN or infinite pixels, or a backbone without feature maps.
        """
        maps, _, _ = self._explained(self.check_inputs(images), batch_size)
        if maps.ndim == 2:
            raise ValueError("Activation maps need a backbone that ends in feature maps. Received: one that ends in features")
        return maps

    def _explained(self, images, batch_size):
        maps, _, neurons, logits = predict_all(self._explained_view, images, batch_size)
        check_features(neurons, logits)
        if not neurons.any():
            self._warn_of_dead_neurons(f"any of these {len(images)} inputs")
        if maps.ndim == 2:
            return neurons, neurons, logits
        kernel, bias = (ops.convert_to_numpy(weight) for weight in self.get_layer("explained").weights)
        parts = maps.astype("float32") @ kernel + bias
        if self.get_layer("explained").activation is keras.activations.relu:
            # ReLU passes the whole sum, or nothing.
            return parts * (neurons > 0)[:, None, None], neurons, logits
        # The change made by another activation has no position, so it is spread evenly.
        return parts + (neurons - parts.mean(axis=(1, 2)))[:, None, None], neurons, logits

    def saliency(self, images: Inputs, batch_size: int = 64) -> np.ndarray:
        """Saliency maps of the neurons (Simonyan et al., 2013): the sensitivity of each neuron to each pixel.

        They are gradients of the neuron's sum before its activation, so an inactive neuron has a map too.

        Args:
            images: array (n, height, width, channels) of pixels in 0..255.
            batch_size: maps (pairs of an image and a neuron) computed at once.

        Returns:
            float32 array (n, neurons, height, width): the largest magnitude over the channels, per unit of pixel value.

        Raises:
            ValueError: for images of the wrong shape, or NaN or infinite pixels.
        """
        images = self.check_inputs(images).astype("float32")
        if images.ndim != 4:
            raise ValueError(f"Saliency maps need images. Received: shape={images.shape}")
        kernel = self.get_layer("explained").kernel
        pieces = []
        rows = max(batch_size // self.num_filters, 1)
        for start in range(0, len(images), rows):
            batch = images[start : start + rows]
            # The gradients of all neurons in one pass: each neuron gets a copy of the images.
            copies = np.tile(batch, (self.num_filters, *(1,) * (batch.ndim - 1)))
            own = ops.transpose(ops.repeat(ops.convert_to_tensor(kernel), len(batch), axis=1))
            gradient = input_gradient(lambda x, own=own: self._pooled(x) * own, copies)
            gradient = np.abs(ops.convert_to_numpy(gradient)).max(axis=-1)
            pieces.append(np.swapaxes(gradient.reshape(self.num_filters, len(batch), *gradient.shape[1:]), 0, 1))
        return np.concatenate(pieces)

    def _pooled(self, x):
        return ops.cast(self._explained_view(x, training=False)[1], "float32")

    def top_images(self, images: Inputs, labels: ArrayLike, count: int = 9, batch_size: int = 256) -> np.ndarray:
        """Images with the highest drop loss for each neuron (Figures 5 and 6).

        Args:
            images: array (n, height, width, channels) of pixels in 0..255.
            labels: integers (n,).
            count: images for each neuron.
            batch_size: images in a batch.

        Returns:
            Indices of the images, integers (neurons, count), highest drop loss first.

        Raises:
            ValueError: as for `drop_losses`.
        """
        return np.argsort(-self.drop_losses(images, labels, batch_size), axis=0, kind="stable")[:count].T

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["backbone"] = keras.saving.serialize_keras_object(self._backbone_view)
        return {
            **config,
            "attributes": list(self.attributes),
            "num_classes": self.num_classes,
            "alpha": self.alpha,
            "reduction": self.reduction,
            "drop_loss_cap": self.drop_loss_cap,
            "activation": keras.activations.serialize(self.get_layer("explained").activation),
        }


class ActiveNeurons(keras.metrics.Metric):
    """Number of neurons that are active on any example.

    Args:
        count: number of neurons.
    """

    def __init__(self, count: int, name: str = "active_neurons") -> None:
        super().__init__(name=name, dtype="float32")
        self.examples = self.add_variable((count,), "zeros", name="examples")

    def update_state(self, examples: Tensor, sample_weight: Any = None) -> None:
        """Adds counts (neurons,) of examples on which each neuron is active."""
        self.examples.assign_add(examples)

    def result(self) -> Tensor:
        return ops.sum(ops.cast(ops.convert_to_tensor(self.examples) > 0, "float32"))
