"""Base of all methods to find x-features: a trained classifier, one of its layers, and a linear predictor of its logits."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import layers

from keras_interp.checks import check_labels, check_options
from keras_interp.explain.excitation_backprop import ExcitationBackprop
from keras_interp.explain.explanation import Explanation
from keras_interp.graphs import keep_views, predict_all, set_weights
from keras_interp.models.base import InterpretableModel, output_names
from keras_interp.typing import ArrayLike, Inputs, Target

# Images whose heatmaps are computed at once; each has its own kernels, those of its module.
HEATMAP_BATCH = 32


class ConceptExplainer(InterpretableModel):
    """A trained classifier with a few x-features E for some of its classes and a linear predictor v that rebuilds its logits.

    A subclass defines how x-features are found, with `fit`, `encode`, `predictor` and `_priors`.

    Args:
        classifier, layer, targets, class_names, heatmap_layer, name: see `ExplanationModule`.
        positive_share, concept_names: see `ExplanationModule`.

    Attributes:
        num_features: largest number of x-features of a target.
    """

    def __init__(
        self,
        classifier: keras.Model,
        layer: str,
        targets: Sequence[str | int] | None,
        class_names: Sequence[str] | None,
        positive_share: float,
        heatmap_layer: str | None,
        concept_names: Mapping[str | int, Sequence[str]] | None,
        name: str | None,
    ) -> None:
        inputs, activations, logits = _explained_tensors(classifier, layer)
        check_options(locals(), positive_share="(0, 1)")
        class_names = getattr(classifier, "class_names", None) if class_names is None else tuple(class_names)
        class_names = output_names(logits.shape[-1], class_names, "labels")
        # The trained part is float32 under every policy: the loss needs no scaling.
        super().__init__(inputs, logits, class_names, name=name, dtype="float32")
        # The input range of a foreign classifier is known only if it scales pixels itself.
        own = isinstance(classifier, InterpretableModel)
        scales = any(isinstance(one, (layers.Rescaling, layers.Normalization)) for one in classifier.layers[:3])
        self.input_range = classifier.input_range if own else self.input_range if scales else None
        self.column_names = getattr(classifier, "column_names", ())
        self.layer_name = layer
        self.heatmap_layer = heatmap_layer
        self.positive_share = positive_share
        targets = range(len(class_names)) if targets is None else targets
        if isinstance(targets, str) or not hasattr(targets, "__iter__"):
            raise TypeError(f"`targets` must be a sequence of names or indices. Received: targets={targets!r}")
        self.target_indices = tuple(self._class_number(target) for target in targets)
        if not self.target_indices or len(set(self.target_indices)) < len(self.target_indices):
            raise ValueError(f"`targets` must be a non-empty sequence of unique classes. Received: targets={targets}")
        # The number of x-features may be known only once weights are loaded: the setter checks it.
        self._concept_names = self._checked_names(concept_names or {})
        self.num_dimensions = activations.shape[-1]
        keep_views(
            self,
            _activation_view=keras.Model(inputs, [activations, logits]),
            _classifier_view=keras.Model(inputs, logits, name="classifier"),
        )
        if heatmap_layer is not None:
            # Fail early if the layer is missing or unreachable.
            self._propagation(layer)

    def _class_number(self, target):
        number = self.class_names.index(target) if isinstance(target, str) and target in self.class_names else target
        if isinstance(number, (int, np.integer)) and not isinstance(number, bool) and 0 <= number < self.num_classes:
            return int(number)
        raise ValueError(f"A target must be a class name or an index below {self.num_classes}. Received: {target!r}")

    def set_classifier_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Sets the classifier's weights to those from `get_weights` of a model with the same graph."""
        set_weights(self._classifier_view, weights)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the classes that are explained, one for each module."""
        return tuple(self.class_names[number] for number in self.target_indices)

    @property
    def concept_names(self) -> dict[str | int, tuple[str, ...]]:
        """Human-readable names of the x-features: {target: names of its x-features, "" if unnamed}.

        Keys are class names, or the index of a class that shares its name with another.

        Set it with names or indices of targets as keys. Omitted targets and x-features beyond the last name stay unnamed.
        `explain` uses the names, and a saved model keeps them.

        Raises:
            ValueError: for a class without a module, or more names than x-features.
            TypeError: for names that are not text.

        Examples:

        >>> from keras_interp.models import ExplanationModule
        >>> classifier = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu", name="units"), layers.Dense(2)])
        >>> module = ExplanationModule(classifier, "units", class_names=("wren", "jay"), num_features=2, hidden_units=(4,))
        >>> module.concept_names = {"jay": ["blue wing"]}
        >>> module.explain(np.ones((1, 6)), "jay").unit_names
        ('blue wing', 'x-feature 1')
        """
        keys = (
            name if self.class_names.count(name) == 1 else number for name, number in zip(self.targets, self.target_indices)
        )
        return {key: names for key, names in zip(keys, self._concept_names) if any(names)}

    @concept_names.setter
    def concept_names(self, concept_names: Mapping[str | int, Sequence[str]]) -> None:
        checked = self._checked_names(concept_names)
        longest = max(checked, key=len)
        if len(longest) > self.num_features:
            raise ValueError(f"A target has {self.num_features} x-features to name. Received: {longest}")
        self._concept_names = checked

    def _checked_names(self, concept_names):
        found: dict[int, tuple[str, ...]] = dict.fromkeys(self.target_indices, ())
        for target, names in concept_names.items():
            if (number := self._class_number(target)) not in found:
                raise ValueError(f"The explained classes are {self.targets}. Received: names of {target!r}")
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"The names of x-features must be a sequence of strings. Received: {names!r}")
            found[number] = tuple(names)
        return tuple(found.values())

    def feature_names(self, target: str | int) -> tuple[str, ...]:
        """Names of the x-features of a target, given by its name or index: its `concept_names`, or "x-feature 3"."""
        module = self.target_indices.index(self._class_number(target))
        given, names = self._concept_names[module], _numbered(self.num_features)
        return tuple(given[number] or name if number < len(given) else name for number, name in enumerate(names))

    def activations(self, images: Inputs, batch_size: int = 256) -> list[np.ndarray]:
        """The activations of the explained layer, and the classifier's logits.

        Args:
            images: array (n, height, width, channels) of raw pixels, or rows (n, columns).
            batch_size: images in a batch.

        Returns:
            float32 arrays (n, dimensions) and (n, classes).

        Raises:
            ValueError: for images of the wrong shape, or NaN or infinite values.
            NotImplementedError: with several JAX processes.
        """
        images = self.check_inputs(images)
        return [np.asarray(output, "float32") for output in predict_all(self._activation_view, images, batch_size)]

    def x_features(self, images: Inputs, batch_size: int = 256) -> np.ndarray:
        """X-features of images (n, height, width, channels) or rows: a float32 array (n, modules, features)."""
        return self.encode(self.activations(images, batch_size)[0])

    def predict_targets(self, images: Inputs, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Rebuilt logits of the targets, and the classifier's own, both float32 arrays (n, modules).

        Raises:
            ValueError: for images of the wrong shape, or NaN or infinite values.
        """
        z, logits = self.activations(images, batch_size)
        return self.rebuild(z), logits[:, list(self.target_indices)]

    def rebuild(self, z: np.ndarray) -> np.ndarray:
        """Rebuilt logits, a float32 array (n, modules), from activations (n, dimensions) as `activations` returns them."""
        kernel, bias = self.predictor()
        return (self.encode(z) * kernel).sum(axis=-1) + bias

    def explain(self, images: Inputs, target: Target = None, batch_size: int = 256, contrastive: bool = True) -> Explanation:
        """Explains the rebuilt logit of one target for each input by its x-features.

        Args:
            images: array (n, height, width, channels) of raw pixels, or rows (n, columns).
            target: the class to explain, one of `targets`: a name or index, or a sequence of n of them; None for the one with
                the largest logit.
            batch_size: images in a batch.
            contrastive: as for `heatmaps`.

        Returns:
            An `Explanation` whose contributions v_i · E_i and bias add up to the rebuilt logit of the target, which replaces
            the classifier's own in `logits`. For images, `maps` spread each contribution over its heatmap, or evenly if that
            is empty. The units have the `concept_names` of each input's target, see `Explanation.names_of`.

        Raises:
            ValueError: for images of the wrong shape, NaN or infinite values, or a class without a module.
        """
        images = self.check_inputs(images)
        z, logits = self.activations(images, batch_size)
        numbers, modules = np.array(self.target_indices), self._modules_of(target, logits)
        kernel, bias = self.predictor()
        rows = np.arange(len(images))
        contributions = self.encode(z)[rows, modules] * kernel[modules]
        heat = self._heatmaps(images, z, modules, contrastive) if images.ndim == 4 else None
        logits = logits.copy()
        logits[rows, numbers[modules]] = contributions.sum(axis=1) + bias[modules]
        names = {number: self.feature_names(number) for number in np.unique(numbers[modules]).tolist()}
        return Explanation(
            inputs=images,
            logits=logits,
            class_names=self.class_names,
            target=numbers[modules],
            unit_names=next(iter(names.values())) if len(names) == 1 else _numbered(self.num_features),
            unit_names_of_target=names,
            contributions=contributions,
            bias=bias[modules],
            maps=None if heat is None else self._spread(contributions, heat),
        )

    def _modules_of(self, target, logits):
        """Module indices (n,) for a `target` of `explain`."""
        if target is None:
            return logits[:, list(self.target_indices)].argmax(axis=1)
        classes = self.explained_outputs(target, logits)
        if unknown := sorted(set(classes.tolist()) - set(self.target_indices)):
            raise ValueError(f"The explained classes are {self.targets}. Received: {[self.class_names[n] for n in unknown]}")
        return np.array([self.target_indices.index(number) for number in classes], int)

    @staticmethod
    def _spread(contributions, heat):
        """Contributions (n, features) spread over heatmaps (n, features, h, w): (n, h, w, features), whose means they are."""
        total = heat.sum(axis=(2, 3), keepdims=True)
        even = np.full_like(heat, 1 / heat[0, 0].size)
        shares = np.where(total > 0, heat / np.maximum(total, 1e-30), even)
        return np.moveaxis(shares * contributions[:, :, None, None] * heat[0, 0].size, 1, -1)

    def heatmaps(self, images: Inputs, target: Target = None, batch_size: int = 256, contrastive: bool = True) -> np.ndarray:
        """Heatmaps of where each x-feature comes from: winning probabilities of excitation backprop (section 2.4).

        Args:
            images: array (n, height, width, channels) of raw pixels.
            target: as for `explain`.
            batch_size: images in a batch.
            contrastive: whether to subtract the winning probabilities of an x-feature's dual, whose weights are negated, as in
                the paper, see `ExcitationBackprop`. That tells the x-features apart. Without it, all evidence for each counts,
                which shows the object as a whole: most of it supports the dual too.

        Returns:
            float32 array (n, features, h, w), at least 0, in the size of `heatmap_layer` or of the image.

        Raises:
            ValueError: as for `explain`; and for rows, or a layer on the way for which excitation backprop is undefined.
        """
        return self._heatmaps(*self._with_modules(images, target, batch_size), contrastive)

    def target_heatmaps(
        self, images: Inputs, target: Target = None, batch_size: int = 256, contrastive: bool = True
    ) -> np.ndarray:
        """Heatmap of a target's logit itself, without x-features: the explanation that they compete with.

        Winning probabilities of excitation backprop, like `heatmaps`, in one map.

        Args:
            images, target, batch_size, contrastive: as for `heatmaps`.

        Returns:
            float32 array (n, 1, h, w), at least 0.

        Raises:
            ValueError: as for `heatmaps`.
        """
        images, _, modules = self._with_modules(images, target, batch_size)
        propagation = self._propagation(self._classifier_view.outputs[0]._keras_history.operation.name, contrastive)
        return propagation(images, neurons=np.array(self.target_indices)[modules][:, None], batch_size=HEATMAP_BATCH)

    def _with_modules(self, images, target, batch_size):
        """Checked images, their activations, and the module indices (n,) for `target`."""
        images = self.check_inputs(images)
        if images.ndim != 4:
            raise ValueError(f"Heatmaps need images. Received: shape={images.shape}")
        z, logits = self.activations(images, batch_size)
        return images, z, self._modules_of(target, logits)

    def _heatmaps(self, images, z, modules, contrastive):
        propagation = self._propagation(self.layer_name)
        shape = self._classifier_view.get_layer(self.layer_name).output.shape[1:]
        pieces = []
        for start in range(0, len(images), HEATMAP_BATCH):
            part = slice(start, start + HEATMAP_BATCH)
            priors = self._priors(z[part], modules[part], contrastive)
            maps = propagation(images[part], priors=priors.reshape(*priors.shape[:2], *shape))
            pieces.append(np.maximum(maps, 0.0))
        return np.concatenate(pieces)

    def _propagation(self, start, contrastive=False):
        # Kept, since each new one compiles again.
        kept, key = self.__dict__.setdefault("_propagations", {}), (start, self.heatmap_layer, contrastive)
        if key not in kept:
            kept[key] = ExcitationBackprop(self._classifier_view, start, self.heatmap_layer, contrastive)
        return kept[key]

    def fitting_data(self, x: Inputs, y: ArrayLike | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Training data of a fit: activations (n, dimensions) of the images, and logits and weights of the targets.

        Args:
            x: images (n, height, width, channels) of raw pixels, or rows (n, columns).
            y: labels (n,); defaults to the classifier's decisions.

        Returns:
            A float32 array, and {"logits", "weights"}: float32 arrays (n, modules), see `example_weights`.

        Raises:
            ValueError: as for `ExplanationModule.fit`.
        """
        x, classes = self.check_inputs(x), None if y is None else check_labels(y, self.num_classes, self.class_names)
        if classes is not None and len(classes) != len(x):
            raise ValueError(f"There must be one label for each of the {len(x)} inputs. Received: {len(classes)} labels")
        z, logits = self.activations(x)
        classes = logits.argmax(axis=1) if classes is None else classes
        return z, {"logits": logits[:, list(self.target_indices)], "weights": self.example_weights(classes)}

    def example_weights(self, classes: np.ndarray) -> np.ndarray:
        """Weights (n, modules) of examples of these classes (n,), with a mean of 1 for each module.

        Raises:
            ValueError: for a target without examples, or without examples of other classes.
        """
        positive = np.asarray(classes)[:, None] == np.array(self.target_indices)
        share = positive.mean(axis=0)
        for target, found in zip(self.targets, share):
            if not 0 < found < 1:
                raise ValueError(f"A target needs examples of its class and of others. Received: {found:.0%} are {target!r}")
        weights = np.where(positive, self.positive_share / share, (1 - self.positive_share) / (1 - share))
        return weights.astype("float32")

    def encode(self, z: np.ndarray) -> np.ndarray:
        """X-features of activations (n, dimensions), a float32 array (n, modules, features)."""
        raise NotImplementedError

    def predictor(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernels v (modules, features) and biases (modules,) of the linear predictors, float32 arrays."""
        raise NotImplementedError

    def _priors(self, z, modules, contrastive):
        """Start of excitation backprop: probabilities of the activations, possibly signed, for each x-feature.

        Args:
            z: activations (n, dimensions).
            modules: numbers (n,) of the modules.
            contrastive: as for `heatmaps`.

        Returns:
            A float32 array (n, features, dimensions).
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            "classifier": keras.saving.serialize_keras_object(self._classifier_view),
            "layer": self.layer_name,
            "heatmap_layer": self.heatmap_layer,
            "positive_share": self.positive_share,
            "targets": list(self.target_indices),
            "class_names": list(self.class_names),
            # As pairs: JSON keys are text, and some of these may be integers.
            "concept_names": [[target, list(names)] for target, names in self.concept_names.items()],
            "name": self.name,
            **self._facts(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> Self:
        classifier = keras.saving.deserialize_keras_object(config["classifier"], custom_objects=custom_objects)
        names = dict(config.get("concept_names") or {})
        return cls._with_facts({**config, "classifier": classifier, "concept_names": names})


def _numbered(count):
    return tuple(f"x-feature {number}" for number in range(count))


def _explained_tensors(classifier, layer):
    """Input, flat activations of the layer, and logits, of a frozen copy of the classifier."""
    if not isinstance(classifier, keras.Model) or not getattr(classifier, "inputs", None) or len(classifier.inputs) != 1:
        raise TypeError(
            "`classifier` must be a functional keras.Model or a built Sequential with one input. "
            f"Received: {type(classifier).__name__}"
        )
    candidates = {one.name: one for one in classifier.layers if getattr(getattr(one, "output", None), "ndim", 0) in (2, 4)}
    if layer not in candidates:
        inner = [
            one.name
            for one in classifier.layers
            if isinstance(one, keras.Model) and layer in [part.name for part in one.layers]
        ]
        hint = f" That layer lies in the nested model {inner[0]!r}: build the classifier in one graph." if inner else ""
        raise ValueError(f"`layer` must be one of {', '.join(candidates)}.{hint} Received: layer={layer!r}")
    if (made := _made_into_probabilities(classifier.outputs[0])) is not None:
        raise ValueError(
            "The classifier must end in logits: build it with `classifier_activation=None` or take the output before the "
            f"{made[1]}. Received: {made[0]!r} with probabilities"
        )
    original = keras.Model(classifier.inputs[0], classifier.outputs[0])
    copy = keras.models.clone_model(original)
    set_weights(copy, original.get_weights())
    copy.trainable = False
    activations = copy.get_layer(layer).output
    if activations.ndim == 4:
        activations = layers.Flatten(dtype="float32", name="explained_activations")(activations)
    return copy.inputs[0], activations, copy.outputs[0]


def _made_into_probabilities(output):
    """Names of the layer or operation that makes a model's output probabilities, and of its function; None for logits."""
    operation = output._keras_history.operation
    activation = getattr(operation, "activation", None)
    names = (type(operation).__name__, getattr(activation, "__name__", ""))
    found = [name for name in names if name.lower().replace("_", "") in ("softmax", "sigmoid", "logsoftmax", "logsigmoid")]
    if found:
        return operation.name, found[0].lower()
    if isinstance(operation, keras.Model):
        return _made_into_probabilities(operation.outputs[output._keras_history.tensor_index])
    if isinstance(operation, (layers.Identity, layers.Reshape, layers.Flatten)) or names == ("Activation", "linear"):
        return _made_into_probabilities(operation.input)
    return None
