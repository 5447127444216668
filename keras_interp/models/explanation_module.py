"""The explanation module: a few concepts inside any trained classifier, from which its decision can be rebuilt.

Paper: "Embedding Deep Networks into Visual Explanations". A `SparseReconstructionAE` embeds the activations of one layer of a
trained network into a few x-features for each class that is to be explained. A linear predictor on them rebuilds the logit of
the class, so the x-features explain it, and a sparse reconstruction of the layer keeps them apart from each other. The
network itself does not change.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_interp.checks import check_labels
from keras_interp.data.arrays import Batches
from keras_interp.explain.excitation_backprop import ExcitationBackprop, winning_probabilities
from keras_interp.explain.explanation import Explanation
from keras_interp.layers.sparse_reconstruction_ae import SparseReconstructionAE, pull_away
from keras_interp.models.base import InterpretableModel, output_names, predict_all
from keras_interp.models.objective import NamedMeans, ObjectiveTrainer, num_replicas, sum_over_replicas
from keras_interp.weights import set_weights

# The paper's comparison methods, as options of `ExplanationModule`: a network without reconstruction (NN), an autoencoder
# that also predicts (SAE), and one that only reconstructs (CAE). For feature selection there is `LassoModule`.
COMPARISONS = {
    "srae": {},
    "nn": {"reconstruction_weight": 0.0},
    "sae": {"sparsity": "mean"},
    "cae": {"sparsity": "mean", "faithfulness_weight": 0.0},
}
# Where the first fit begins, see `ExplanationModule`.
STARTS = ("random", "classifier")
# Images whose heatmaps are computed at once; each has kernels of its own, those of its module.
HEATMAP_BATCH = 32


class ConceptExplainer(InterpretableModel):
    """A trained classifier, with a few x-features E for some of its classes and a linear predictor v that rebuilds its logits.

    What is common to the ways to find x-features. A subclass says how with `fit`, `encode`, `predictor` and `_priors`.

    Args:
        classifier, layer, targets, labels, heatmap_layer, name: see `ExplanationModule`.
        positive_share, concept_names: see `ExplanationModule`.

    Attributes:
        num_features: largest number of x-features of a target.
    """

    def __init__(self, classifier, layer, targets, class_names, positive_share, heatmap_layer, concept_names, name):
        inputs, activations, logits = _explained_tensors(classifier, layer)
        if not 0 < positive_share < 1:
            raise ValueError(f"`positive_share` must lie in (0, 1). Received: positive_share={positive_share}")
        class_names = getattr(classifier, "class_names", None) if class_names is None else tuple(class_names)
        class_names = output_names(logits.shape[-1], class_names, "labels")
        super().__init__(inputs, logits, class_names, name=name)
        # What another classifier takes is known where it scales pixels itself.
        own = isinstance(classifier, InterpretableModel)
        scales = any(isinstance(one, (layers.Rescaling, layers.Normalization)) for one in classifier.layers[:3])
        self.input_range = classifier.input_range if own else self.input_range if scales else None
        self.column_names = getattr(classifier, "column_names", ())
        self.layer_name = layer
        self.heatmap_layer = heatmap_layer
        self.positive_share = positive_share
        targets = range(len(class_names)) if targets is None else targets
        if isinstance(targets, str) or not hasattr(targets, "__iter__"):
            raise TypeError(f"`targets` must be a sequence of names or numbers. Received: targets={targets!r}")
        self.target_numbers = tuple(self._class_number(target) for target in targets)
        if not self.target_numbers or len(set(self.target_numbers)) < len(self.target_numbers):
            raise ValueError(f"`targets` must be different classes, one at least. Received: targets={targets}")
        # How many x-features there are to name may be known only with the weights: the setter checks that.
        self._concept_names = self._checked_names(concept_names or {})
        self.num_dimensions = activations.shape[-1]
        # Past Keras's attribute tracking, which would count every weight twice.
        self.__dict__["_activation_view"] = keras.Model(inputs, [activations, logits])
        self.__dict__["_classifier_view"] = keras.Model(inputs, logits, name="classifier")
        if heatmap_layer is not None:
            # Rather now than after a training: the layer must be there, and a way to it.
            self._propagation(layer)

    def _class_number(self, target):
        number = self.class_names.index(target) if isinstance(target, str) and target in self.class_names else target
        if isinstance(number, (int, np.integer)) and not isinstance(number, bool) and 0 <= number < self.num_classes:
            return int(number)
        raise ValueError(f"A target must be a label or a number below {self.num_classes}. Received: {target!r}")

    def set_classifier_weights(self, weights):
        """Gives the classifier other weights, those of `get_weights` of a model of the same graph."""
        set_weights(self._classifier_view, weights)

    @property
    def targets(self):
        """Names of the classes that are explained, one for each module."""
        return tuple(self.class_names[number] for number in self.target_numbers)

    @property
    def concept_names(self):
        """What persons call the x-features: {target: names of its x-features, "" for one without}.

        Targets are given by their names; those that share a name with another class, by their numbers.

        Set it with names or numbers of targets as keys. Targets that are left out have no names, and no x-features beyond the
        last name. `explain` uses the names, and a saved model keeps them.

        Raises:
            ValueError: for a class that is not explained, or more names than x-features.
            TypeError: for names that are not text.

        Example:

        >>> classifier = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu", name="units"), layers.Dense(2)])
        >>> module = ExplanationModule(classifier, "units", class_names=("wren", "jay"), num_features=2, hidden_units=(4,))
        >>> module.concept_names = {"jay": ["blue wing"]}
        >>> module.explain(np.ones((1, 6)), "jay").unit_names
        ('blue wing', 'x-feature 1')
        """
        keys = (
            name if self.class_names.count(name) == 1 else number for name, number in zip(self.targets, self.target_numbers)
        )
        return {key: names for key, names in zip(keys, self._concept_names) if any(names)}

    @concept_names.setter
    def concept_names(self, concept_names):
        checked = self._checked_names(concept_names)
        longest = max(checked, key=len)
        if len(longest) > self.num_features:
            raise ValueError(f"A target has {self.num_features} x-features to name. Received: {longest}")
        self._concept_names = checked

    def _checked_names(self, concept_names):
        found = dict.fromkeys(self.target_numbers, ())
        for target, names in concept_names.items():
            if (number := self._class_number(target)) not in found:
                raise ValueError(f"The explained classes are {self.targets}. Received: names of {target!r}")
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"The names of x-features must be a sequence of strings. Received: {names!r}")
            found[number] = tuple(names)
        return tuple(found.values())

    def feature_names(self, target):
        """Names of the x-features of a target, given by its name or number: its `concept_names`, or "x-feature 3"."""
        module = self.target_numbers.index(self._class_number(target))
        given, names = self._concept_names[module], _numbered(self.num_features)
        return tuple(given[number] or name if number < len(given) else name for number, name in enumerate(names))

    def activations(self, images, batch_size=256):
        """The activations of the explained layer, and the classifier's logits.

        Args:
            images: array (n, height, width, channels) of raw pixels, or rows (n, columns).
            batch_size: images in a batch.

        Returns:
            float32 arrays (n, dimensions) and (n, classes).

        Raises:
            ValueError: for images of another shape, NaN or infinite values.
            NotImplementedError: in one of several JAX processes.
        """
        images = self.check_inputs(images)
        return [np.asarray(output, "float32") for output in predict_all(self._activation_view, images, batch_size)]

    def x_features(self, images, batch_size=256):
        """The x-features of images (n, height, width, channels), or rows: a float32 array (n, modules, features)."""
        return self.encode(self.activations(images, batch_size)[0])

    def predict_targets(self, images, batch_size=256):
        """The rebuilt logits of the targets, and the classifier's own, both float32 arrays (n, modules).

        Raises:
            ValueError: for images of another shape, NaN or infinite values.
        """
        z, logits = self.activations(images, batch_size)
        return self.rebuild(z), logits[:, list(self.target_numbers)]

    def rebuild(self, z):
        """The rebuilt logits (n, modules) of activations (n, dimensions), which `activations` gives, a float32 array."""
        kernel, bias = self.predictor()
        return (self.encode(z) * kernel).sum(axis=-1) + bias

    def explain(self, images, target=None, batch_size=256, contrastive=True):
        """Explains the rebuilt logit of one target for each input by its x-features.

        Args:
            images: array (n, height, width, channels) of raw pixels, or rows (n, columns).
            target: the class to explain, one of `targets`: a name or number, or a sequence of n of them; None for the one with
                the largest logit.
            batch_size: images in a batch.
            contrastive: as for `heatmaps`.

        Returns:
            An `Explanation` whose contributions v_i · E_i and bias add up to the rebuilt logit of the target, which stands in
            `logits` in the place of the classifier's own. For images, `maps` are the `heatmaps` with each contribution spread
            over its map; where a heatmap is empty, evenly. The units have their `concept_names`, for each input those of its
            target, see `Explanation.names_of`.

        Raises:
            ValueError: for images of another shape, NaN or infinite values, or a class that is not explained.
        """
        images = self.check_inputs(images)
        z, logits = self.activations(images, batch_size)
        numbers, modules = np.array(self.target_numbers), self._modules_of(target, logits)
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
        """Numbers (n,) of the modules that a `target` of `explain` names."""
        if target is None:
            return logits[:, list(self.target_numbers)].argmax(axis=1)
        classes = self.explained_outputs(target, logits)
        if unknown := sorted(set(classes.tolist()) - set(self.target_numbers)):
            raise ValueError(f"The explained classes are {self.targets}. Received: {[self.class_names[n] for n in unknown]}")
        return np.array([self.target_numbers.index(number) for number in classes], int)

    @staticmethod
    def _spread(contributions, heat):
        """Contributions (n, features) over heatmaps (n, features, h, w): (n, h, w, features), whose means they are."""
        total = heat.sum(axis=(2, 3), keepdims=True)
        even = np.full_like(heat, 1 / heat[0, 0].size)
        shares = np.where(total > 0, heat / np.maximum(total, 1e-30), even)
        return np.moveaxis(shares * contributions[:, :, None, None] * heat[0, 0].size, 1, -1)

    def heatmaps(self, images, target=None, batch_size=256, contrastive=True):
        """Where in the image each x-feature comes from: winning probabilities of excitation backprop (section 2.4).

        Args:
            images: array (n, height, width, channels) of raw pixels.
            target: as for `explain`.
            batch_size: images in a batch.
            contrastive: whether what wins for the dual of an x-feature, whose weights are negated, is taken off, as in the
                paper, see `ExcitationBackprop`. That tells the x-features apart. Without it, all of the evidence for each
                counts, which shows the object as a whole: most of it is for the dual too.

        Returns:
            float32 array (n, features, h, w), at least 0, of the size of `heatmap_layer` or of the image.

        Raises:
            ValueError: as for `explain`; and for rows, or a layer on the way that excitation backprop is not defined for.
        """
        return self._heatmaps(*self._with_modules(images, target, batch_size), contrastive)

    def target_heatmaps(self, images, target=None, batch_size=256, contrastive=True):
        """Where in the image a target's logit itself comes from, without x-features: the explanation that they compete with.

        Winning probabilities of excitation backprop, as `heatmaps`, in one map.

        Args:
            images, target, batch_size, contrastive: as for `heatmaps`.

        Returns:
            float32 array (n, 1, h, w), at least 0.

        Raises:
            ValueError: as for `heatmaps`.
        """
        images, _, modules = self._with_modules(images, target, batch_size)
        propagation = self._propagation(self._classifier_view.outputs[0]._keras_history.operation.name, contrastive)
        return propagation(images, neurons=np.array(self.target_numbers)[modules][:, None], batch_size=HEATMAP_BATCH)

    def _with_modules(self, images, target, batch_size):
        """Images, checked, with their activations and the numbers (n,) of the modules that `target` names."""
        images = self.check_inputs(images)
        if images.ndim != 4:
            raise ValueError(f"Heatmaps are of images. Received: shape={images.shape}")
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
        # Kept, since each one is compiled anew.
        kept, key = self.__dict__.setdefault("_propagations", {}), (start, self.heatmap_layer, contrastive)
        if key not in kept:
            kept[key] = ExcitationBackprop(self._classifier_view, start, self.heatmap_layer, contrastive)
        return kept[key]

    def fitting_data(self, x, y=None):
        """What a fit is made of: activations (n, dimensions) of the images, and logits and weights of the targets.

        Args:
            x: images (n, height, width, channels) of raw pixels, or rows (n, columns).
            y: class numbers (n,); by default the decisions of the classifier.

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
        return z, {"logits": logits[:, list(self.target_numbers)], "weights": self.example_weights(classes)}

    def example_weights(self, classes):
        """Weights (n, modules) of examples of these classes (n,), with a mean of 1 for each module.

        Raises:
            ValueError: for a target without examples, or without any of other classes.
        """
        positive = np.asarray(classes)[:, None] == np.array(self.target_numbers)
        share = positive.mean(axis=0)
        for target, found in zip(self.targets, share):
            if not 0 < found < 1:
                raise ValueError(f"A target needs examples of its class, and others. Received: {found:.0%} are {target!r}")
        weights = np.where(positive, self.positive_share / share, (1 - self.positive_share) / (1 - share))
        return weights.astype("float32")

    def encode(self, z):
        """The x-features (n, modules, features) of activations (n, dimensions), a float32 array."""
        raise NotImplementedError

    def predictor(self):
        """Kernels v (modules, features) and biases (modules,) of the linear predictors, float32 arrays."""
        raise NotImplementedError

    def _priors(self, z, modules, contrastive):
        """What excitation backprop starts from: probabilities of the activations, which may be signed, for each x-feature.

        Args:
            z: activations (n, dimensions).
            modules: numbers (n,) of the modules.
            contrastive: as for `heatmaps`.

        Returns:
            A float32 array (n, features, dimensions).
        """
        raise NotImplementedError

    def get_config(self):
        return {
            "classifier": keras.saving.serialize_keras_object(self._classifier_view),
            "layer": self.layer_name,
            "heatmap_layer": self.heatmap_layer,
            "positive_share": self.positive_share,
            "targets": list(self.target_numbers),
            "class_names": list(self.class_names),
            # As pairs: the keys of JSON are text, and some of these may be numbers.
            "concept_names": [[target, list(names)] for target, names in self.concept_names.items()],
            "name": self.name,
            **self._facts(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        classifier = keras.saving.deserialize_keras_object(config["classifier"], custom_objects=custom_objects)
        names = dict(config.get("concept_names") or {})
        return cls._with_facts({**config, "classifier": classifier, "concept_names": names})


@keras.saving.register_keras_serializable("keras_interp")
class ExplanationModule(ObjectiveTrainer, ConceptExplainer):
    """A trained classifier, with modules of x-features for some of its classes (Eq. 4).

    `predict` gives the logits of the classifier, as they were. `fit` trains the modules, all together, on the activations of
    the layer, which are computed once. A step minimises, summed over the modules,

        mean w (vᵀE + c − y)² + β · mean_k penalty(Q_k) + λ ‖kernels‖²

    with y the logit of the module's class, Q_k the mean squared error, weighted by w, of the reconstruction of the k-th
    dimension of the layer, and w weights under which the examples of the class count as much as `positive_share` says.

    The paper compares it with an NN (`reconstruction_weight=0`), an SAE (`sparsity="mean"`) and a CAE (that, and
    `faithfulness_weight=0`), see `COMPARISONS`; with a `LassoModule`; and with `target_heatmaps`, without any x-features.

    The log holds `faithfulness` (the first term), `reconstruction` (the penalty) and `error` (the mean absolute error of the
    logit), each a mean over the modules.

    Args:
        classifier: a functional `keras.Model` with one input that ends in logits, of ours or any other; a copy is kept.
        layer: name of the layer to explain, with an output (batch, dimensions), or feature maps, which are flattened. It
            must not lie inside a nested model; `heatmap_layer` may.
        targets: names or numbers of the classes to explain, one module for each; by default all.
        class_names: names of the classes; by default those of the classifier, or their numbers.
        num_features: number of x-features of a module.
        hidden_units: units of the encoder's hidden layers, see `SparseReconstructionAE`.
        sparsity: penalty of the reconstruction; "mean" is the plain mean error of a conventional autoencoder.
        sparsity_strength: q of the penalty.
        faithfulness_weight: weight of the first term; with 0 the predictor is fitted after the training, by least squares.
        reconstruction_weight: β.
        pull_away_weight: weight of the pull-away term of the paper's later version, on v_i E_i.
        kernel_weight: λ; biases do not decay.
        positive_share: share of all weight that the examples of the class have, in (0, 1).
        error_momentum: of the running estimate of Q_k over the batches, in [0, 1); 0 takes each batch by itself, which is
            biased where batches are small, see `SparseReconstructionAE.reconstruction_penalty`.
        dropout: share of the first hidden layer that is dropped in training.
        start: where the first fit begins. "random" is the paper's way. "classifier" is for a layer that is followed by one
            hidden Dense layer with ReLU and the logits: each encoder starts as that layer, pruned to the units that the logit
            of its class needs most. Units that speak for the class and are excited by the same activations in its images form
            an x-feature with a weight of 1; all that speak against it, the last one, of weight -1. In the zoo's models, with a
            few dozen images of a class, that rebuilds new logits better, and x-features share the work. It needs two
            x-features and scikit-learn.
        seed: seed of initial values and noise.
        heatmap_layer: name of an earlier layer with feature maps where heatmaps end, see `heatmaps`; by default the input.
        concept_names: {target: names of its x-features}, see the property of that name.
        name: name of the model.

    Raises:
        TypeError: for a classifier without a graph.
        ValueError: for a classifier that ends in softmax, an unknown layer or target, or options outside their ranges.

    Example:

    >>> from keras_interp import backbones
    >>> classifier = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu", name="units"), layers.Dense(3)])
    >>> module = ExplanationModule(classifier, "units", targets=[0, 2], num_features=2, hidden_units=(4,))
    >>> module = module.compile_by_default()
    >>> rows, classes = np.random.default_rng(0).normal(size=(30, 6)), np.arange(30) % 3
    >>> sorted(module.fit(rows, classes, verbose=0).history)
    ['error', 'faithfulness', 'loss', 'reconstruction']
    >>> module.x_features(rows).shape
    (30, 2, 2)
    """

    objective_metrics = ("faithfulness", "reconstruction", "error")

    def __init__(
        self,
        classifier,
        layer,
        targets=None,
        class_names=None,
        num_features=5,
        hidden_units=(800, 100),
        sparsity="log",
        sparsity_strength=100.0,
        faithfulness_weight=1.0,
        reconstruction_weight=10.0,
        pull_away_weight=0.0,
        kernel_weight=1e-4,
        positive_share=0.5,
        error_momentum=0.9,
        dropout=0.02,
        start="random",
        seed=0,
        heatmap_layer=None,
        concept_names=None,
        name=None,
    ):
        for option in ("faithfulness_weight", "reconstruction_weight", "pull_away_weight", "kernel_weight"):
            if not locals()[option] >= 0:
                raise ValueError(f"`{option}` must not be negative. Received: {option}={locals()[option]}")
        if not 0 <= error_momentum < 1:
            raise ValueError(f"`error_momentum` must lie in [0, 1). Received: error_momentum={error_momentum}")
        if start not in STARTS:
            raise ValueError(f"`start` must be one of {STARTS}. Received: start={start!r}")
        super().__init__(classifier, layer, targets, class_names, positive_share, heatmap_layer, concept_names, name)
        self.autoencoder = SparseReconstructionAE(
            num_features, hidden_units, sparsity, sparsity_strength, len(self.target_numbers), dropout, seed, dtype="float32"
        )
        self.autoencoder.build((None, self.num_dimensions))
        self.concept_names = concept_names or {}
        self.faithfulness_weight = faithfulness_weight
        self.reconstruction_weight = reconstruction_weight
        self.pull_away_weight = pull_away_weight
        self.kernel_weight = kernel_weight
        self.error_momentum = error_momentum
        self.start = start
        if start == "classifier":
            # Rather now than after the activations were computed.
            _check_start(self._classifier_view, layer, num_features, tuple(hidden_units))
        shape = (len(self.target_numbers), self.num_dimensions)
        fixed = {"trainable": False, "autocast": False, "dtype": "float32", "aggregation": "mean"}
        # Running mean of Q_k, and the share of it that batches have given so far.
        self.running_errors = self.add_weight(name="running_errors", shape=shape, initializer="zeros", **fixed)
        self.running_share = self.add_weight(name="running_share", shape=(), initializer="zeros", **fixed)
        self.means = NamedMeans(self.objective_metrics, "parts")

    @property
    def num_features(self):
        return self.autoencoder.num_features

    # --- The objective: Eq. 4.

    def compile_by_default(self, optimizer=None):
        """Compiles the model for the training of its modules; returns it."""
        self.compile(optimizer or keras.optimizers.Adam(1e-3))
        return self

    def objective(self, extra, x, y, sample_weight=None):
        """Eq. 4 for one batch of activations, see `ObjectiveTrainer`."""
        logits, weights = y["logits"], y["weights"]
        features, predictions, reconstructions = self.autoencoder(x, training=True)
        residuals = predictions - logits
        faithfulness = ops.mean(weights * ops.square(residuals), axis=0)
        errors = self.autoencoder.reconstruction_errors(x, reconstructions, weights)
        penalty = self.autoencoder.reconstruction_penalty(errors, self._estimate(errors))
        loss = self.faithfulness_weight * faithfulness + self.reconstruction_weight * penalty
        loss = loss + self.kernel_weight * self.autoencoder.kernel_penalty()
        if self.pull_away_weight:
            contributions = features * self.autoencoder.predictor_kernel[..., 0]
            loss = loss + self.pull_away_weight * pull_away(contributions, weights)
        parts = [faithfulness, penalty, ops.mean(ops.abs(residuals), axis=0)]
        return ops.sum(loss), {"y_pred": predictions, "parts": ops.stack([ops.mean(part) for part in parts])}

    def _estimate(self, errors):
        """The running mean of Q_k with this batch."""
        kept = self.error_momentum
        # Of the whole batch, not of the replica's share.
        (total,) = sum_over_replicas([errors])
        running = kept * self.running_errors + (1 - kept) * total / num_replicas()
        share = kept * self.running_share + (1 - kept)
        self.running_errors.assign(running)
        self.running_share.assign(share)
        return running / share

    def log_objective(self, y, sample_weight, outputs):
        """Updates the metrics of the objective's parts."""
        # Means over examples, as the loss is.
        examples = ops.cast(ops.shape(outputs["y_pred"])[0], "float32")
        self.means.update_state(outputs["parts"] * examples, ops.ones(len(self.objective_metrics)) * examples)

    def fit(self, x, y=None, batch_size=256, epochs=1, **kwargs):
        """Trains the modules on the activations of the layer, which are computed once.

        Args:
            x: images or rows as the classifier takes them; or `data.Batches` of them, of which the examples, the batch size
                and the seed count: random crops and mirror images would be others in each epoch.
            y: class numbers (n,), which say who the positive examples of each target are; by default the decisions of the
                classifier.
            batch_size: examples in a batch.
            epochs: passes through the examples.
            **kwargs: as for `keras.Model.fit`, without what concerns its data.

        Returns:
            The history of `keras.Model.fit`.

        Raises:
            ValueError: for inputs of another shape, NaN, labels out of range or of another number, a target without
                examples, or an argument that has no meaning here.
            FloatingPointError: at the first loss that is NaN or infinite.
        """
        foreign = ("validation_data", "validation_split", "sample_weight", "class_weight")
        if others := [name for name in foreign if kwargs.pop(name, None) is not None]:
            raise ValueError(
                "The examples have weights by `positive_share`; compare `predict_targets` on held-out images. "
                f"Received: {', '.join(others)}"
            )
        if isinstance(x, Batches):
            batch_size, kwargs["seed"], kwargs["process"] = x.batch_size, x.seed, x.process
            x, y = x.dataset.read(slice(None))
        return self.fit_activations(*self.fitting_data(x, y), batch_size, epochs, **kwargs)

    def check_data(self, x, y=None, sample_weight=None):
        # The batches of `fit_activations` hold activations, of inputs that were checked.
        return (x, y, sample_weight) if isinstance(x, Batches) else super().check_data(x, y, sample_weight)

    def _check_batch(self, x, y, sample_weight):
        return x, y, sample_weight

    def _adopt_names(self, x):
        # The classifier's own, if it has any.
        pass

    def fit_activations(self, z, targets, batch_size=256, epochs=1, seed=0, process=(0, 1), **kwargs):
        """As `fit`, on what `fitting_data` gives, which modules with other options, and later epochs, can share.

        Args:
            z, targets: activations, and logits and weights, of `fitting_data`.
            batch_size, epochs: as for `fit`.
            seed, process: as for `data.Batches`.
            **kwargs: as for `fit`.
        """
        # No step was made yet, nor before the model was saved.
        if self.start == "classifier" and not ops.convert_to_numpy(self.running_share):
            self._start_from_classifier(z, targets)
        batches = Batches((z, targets), min(batch_size, len(z)), seed=seed, process=process)
        batches.epoch = kwargs.get("initial_epoch", 0)
        history = super().fit(batches, epochs=epochs, **{**kwargs, "shuffle": False})
        if not self.faithfulness_weight:
            self._fit_predictors(z, targets)
        return history

    def _start_from_classifier(self, z, targets):
        """Starts the modules as the classifier's hidden layer, pruned, see `start`."""
        hidden = _hidden_layer(self._classifier_view, self.layer_name)
        kernel = ops.convert_to_numpy(hidden.kernel)
        bias = np.zeros(kernel.shape[1]) if hidden.bias is None else ops.convert_to_numpy(hidden.bias)
        units = np.maximum(z @ kernel + bias, 0.0)
        starts = [[ops.convert_to_numpy(weight).copy() for weight in pair] for pair in self.autoencoder.encoder]
        count, *later = self.autoencoder.hidden_units
        places = min((size // self.num_features for size in later), default=1)
        predictor, intercepts = np.zeros((len(self.target_numbers), self.num_features, 1)), []
        for module, (logits, shares) in enumerate(zip(targets["logits"].T, targets["weights"].T)):
            kept, slopes, intercept = prune_units(units, logits, shares, count)
            intercepts.append([intercept])
            # The examples of the class have one weight, all others another one, and smaller logits.
            own = max((shares == one for one in np.unique(shares)), key=lambda rows: logits[rows].mean())
            excitations = np.maximum(kernel[:, kept], 0.0).T * z[own].mean(axis=0)
            seed = (self.autoencoder.seed + module) % 2**32
            feature = np.full(len(kept), self.num_features - 1)
            feature[slopes > 0] = _clusters(excitations[slopes > 0], self.num_features - 1, seed)
            predictor[module, feature, 0] = np.where(slopes > 0, 1.0, -1.0)
            # Each x-feature has some units of its own in the later hidden layers, and its units of the first share these.
            place = np.zeros(len(kept), int)
            for one in range(self.num_features):
                place[feature == one] = _clusters(excitations[feature == one], places, seed)
            starts[0][0][module][:, : len(kept)] = kernel[:, kept]
            starts[0][1][module][: len(kept)] = bias[kept]
            rows, values = np.arange(len(kept)), np.abs(slopes)
            for number, size in enumerate((*later, self.num_features), start=1):
                columns = feature * (size // self.num_features) + (place if size > self.num_features else 0)
                # What stays as it was gets to no prediction yet; with nothing at all it could not learn.
                starts[number][0][module][:, np.unique(columns)] = 0.0
                starts[number][0][module][rows, columns] = values
                rows, values = columns, 1.0
        for pair, start in zip(self.autoencoder.encoder, starts):
            for variable, value in zip(pair, start):
                variable.assign(value)
        self.autoencoder.predictor_kernel.assign(predictor)
        self.autoencoder.predictor_bias.assign(intercepts)

    def evaluate(self, *args, **kwargs):
        """Not that of Keras, whose loss would need activations: see `predict_targets` and `metrics.logit_faithfulness`."""
        raise NotImplementedError("Compare the two outputs of `predict_targets`, see `metrics.logit_faithfulness`.")

    def _fit_predictors(self, z, targets):
        features = self.encode(z)
        kernels, biases = [], []
        for module, weights in enumerate(targets["weights"].T):
            root = np.sqrt(weights)[:, None]
            design = np.append(features[:, module], np.ones((len(z), 1)), axis=1)
            solution, *_ = np.linalg.lstsq(root * design, root[:, 0] * targets["logits"][:, module], rcond=None)
            kernels.append(solution[:-1, None])
            biases.append(solution[-1:])
        self.autoencoder.predictor_kernel.assign(np.stack(kernels))
        self.autoencoder.predictor_bias.assign(np.stack(biases))

    # --- What the modules say.

    def encode(self, z, batch_size=1024):
        pieces = [self.autoencoder.encode(z[start : start + batch_size]) for start in range(0, len(z), batch_size)]
        return np.concatenate([ops.convert_to_numpy(piece) for piece in pieces])

    def predictor(self):
        """Kernels v (modules, features) and biases (modules,) of the linear predictors, float32 arrays."""
        kernel, bias = self.autoencoder.predictor_kernel, self.autoencoder.predictor_bias
        return ops.convert_to_numpy(kernel)[..., 0], ops.convert_to_numpy(bias)[:, 0]

    def _priors(self, z, modules, contrastive):
        """Winning probabilities of the activations, signed where they are contrastive: (n, features, dimensions)."""
        priors = np.zeros((len(z), self.num_features, self.num_dimensions), "float32")
        for module in np.unique(modules):
            rows = modules == module
            priors[rows] = ops.convert_to_numpy(self._priors_of(module, ops.convert_to_tensor(z[rows]), contrastive))
        return priors

    def _priors_of(self, module, z, contrastive):
        """As `_priors`, of one module, as a tensor."""
        # One row for each image, so that all x-features of it share what lies below them.
        hidden, inputs = z[:, None], []
        kernels = [ops.convert_to_tensor(kernel)[module] for kernel, _ in self.autoencoder.encoder]
        biases = [ops.convert_to_tensor(bias)[module] for _, bias in self.autoencoder.encoder]
        for kernel, bias in zip(kernels, biases):
            inputs.append(hidden)
            hidden = ops.relu(ops.matmul(hidden, kernel) + bias)
        own = ops.eye(self.num_features)
        priors = winning_probabilities(inputs[-1], kernels[-1], own)
        if contrastive:
            priors = priors - winning_probabilities(inputs[-1], -kernels[-1], own)
        for below, kernel in zip(inputs[-2::-1], kernels[-2::-1]):
            priors = winning_probabilities(below, kernel, priors)
        # What is not active adds nothing to the logit, from wherever.
        return priors * ops.cast(ops.swapaxes(hidden, 1, 2) > 0, "float32")

    def get_config(self):
        names = (
            "faithfulness_weight",
            "reconstruction_weight",
            "pull_away_weight",
            "kernel_weight",
            "error_momentum",
            "start",
        )
        of_layer = ("num_features", "hidden_units", "sparsity", "sparsity_strength", "dropout", "seed")
        options = {name: getattr(self.autoencoder, name) for name in of_layer} | {name: getattr(self, name) for name in names}
        return {**super().get_config(), **options}


@keras.saving.register_keras_serializable("keras_interp")
class LassoModule(ConceptExplainer):
    """The paper's feature selection baseline: x-features are the few dimensions of the layer that a Lasso picks.

    A target's logit is rebuilt as a linear function of the layer's activations with an L1 term, by scikit-learn, under the
    same weights of the examples as in an `ExplanationModule`.

    Args:
        classifier, layer, targets, labels, positive_share, heatmap_layer, concept_names, name: as for `ExplanationModule`.
        alpha: weight α of the L1 term, as in `sklearn.linear_model.Lasso`.

    Raises:
        TypeError, ValueError: as for `ExplanationModule`, and for an α that is not positive.

    Example:

    >>> classifier = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu", name="units"), layers.Dense(3)])
    >>> module = LassoModule(classifier, "units", targets=[0, 2], alpha=0.01)
    >>> rows, classes = np.random.default_rng(0).normal(size=(30, 6)), np.arange(30) % 3
    >>> module.fit(rows, classes)
    >>> rebuilt, logits = module.predict_targets(rows)
    >>> rebuilt.shape
    (30, 2)
    """

    def __init__(
        self,
        classifier,
        layer,
        targets=None,
        class_names=None,
        alpha=0.5,
        positive_share=0.5,
        heatmap_layer=None,
        concept_names=None,
        name=None,
    ):
        if not alpha > 0:
            raise ValueError(f"`alpha` must be positive. Received: alpha={alpha}")
        super().__init__(classifier, layer, targets, class_names, positive_share, heatmap_layer, concept_names, name)
        self.alpha = alpha
        modules, fixed = len(self.target_numbers), {"trainable": False, "dtype": "float32", "initializer": "zeros"}
        self.coefficients = self.add_weight(name="coefficients", shape=(modules, self.num_dimensions), **fixed)
        self.intercepts = self.add_weight(name="intercepts", shape=(modules,), **fixed)

    def fit(self, x, y=None):
        """Selects the dimensions for each target, see `ExplanationModule.fit`."""
        self.fit_activations(*self.fitting_data(x, y))

    def fit_activations(self, z, targets):
        """As `fit`, on what `fitting_data` gives, which modules of several α can share."""
        from sklearn.linear_model import Lasso

        fits = [
            Lasso(self.alpha, precompute=True, max_iter=10_000).fit(z, logits, sample_weight=weights)
            for logits, weights in zip(targets["logits"].T, targets["weights"].T)
        ]
        self.coefficients.assign(np.stack([one.coef_ for one in fits]))
        self.intercepts.assign(np.stack([one.intercept_ for one in fits]))

    @property
    def num_selected(self):
        """Number of dimensions that each target's Lasso picked, integers (modules,)."""
        return (ops.convert_to_numpy(self.coefficients) != 0).sum(axis=1)

    @property
    def num_features(self):
        return max(int(self.num_selected.max()), 1)

    def _selected(self):
        """Numbers (modules, features) of the dimensions that were picked, and coefficients; those of weight 0 fill up."""
        coefficients = ops.convert_to_numpy(self.coefficients)
        order = np.argsort(coefficients == 0, axis=1, kind="stable")[:, : self.num_features]
        return order, np.take_along_axis(coefficients, order, axis=1)

    def encode(self, z):
        dimensions, kernel = self._selected()
        return np.asarray(z)[:, dimensions] * (kernel != 0)

    def predictor(self):
        return self._selected()[1], ops.convert_to_numpy(self.intercepts)

    def _priors(self, z, modules, contrastive):
        # All of the probability is on the one dimension, if the image has it at all; its dual has none.
        dimensions, kernel = (part[modules] for part in self._selected())
        live = (np.take_along_axis(z, dimensions, axis=1) > 0) & (kernel != 0)
        priors = np.zeros((*dimensions.shape, self.num_dimensions), "float32")
        np.put_along_axis(priors, dimensions[..., None], live[..., None].astype("float32"), axis=2)
        return priors

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


def prune_units(units, logits, weights, count):
    """The units that a least-squares fit of logits needs most, by backward elimination: always those go that add least.

    Args:
        units: activations (n, units).
        logits: what they rebuild (n,).
        weights: weights (n,) of the examples.
        count: how many stay, where there are more.

    Returns:
        Numbers (kept,) of the units that stay, their slopes (kept,) and the intercept of the fit.
    """
    shares = weights / weights.sum()
    center, mean = shares @ units, shares @ logits
    scaled = units - center
    scaled *= np.sqrt(shares)[:, None]
    gram = (scaled.T @ scaled).astype("float64")
    moments = scaled.T @ (np.sqrt(shares) * (logits - mean))
    # A little ridge, for units that are never active.
    gram += 1e-4 * max(np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))
    kept = np.arange(len(gram))
    while True:
        inverse = np.linalg.inv(gram[np.ix_(kept, kept)])
        slopes = inverse @ moments[kept]
        if len(kept) <= count:
            return kept, slopes, mean - center[kept] @ slopes
        # What the squared error grows by without a unit, with the others fitted anew. An eighth of the units go at once.
        costs = slopes**2 / np.diag(inverse)
        gone = min(len(kept) - count, max(len(kept) // 8, 1))
        kept = kept[np.sort(np.argsort(costs)[gone:])]


def _clusters(patterns, count, seed):
    """Numbers (n,) of the clusters of patterns (n, dimensions) by their directions."""
    if min(count, len(patterns)) < 2:
        return np.zeros(len(patterns), int)
    from sklearn.cluster import KMeans

    directions = patterns / np.maximum(np.linalg.norm(patterns, axis=1, keepdims=True), 1e-12)
    return KMeans(min(count, len(patterns)), n_init=3, random_state=seed).fit_predict(directions)


def _check_start(classifier, layer, num_features, hidden_units):
    """Raises where modules cannot start from the classifier."""
    _hidden_layer(classifier, layer)
    if num_features < 2 or min(hidden_units, default=0) < num_features:
        raise ValueError(
            "`start='classifier'` needs two x-features or more, and hidden layers of as many units at least. "
            f"Received: num_features={num_features}, hidden_units={hidden_units}"
        )


def _hidden_layer(classifier, layer):
    """The Dense layer with ReLU between a layer and the logits, where these three follow each other."""
    explained, tensor, passed = classifier.get_layer(layer).output, classifier.outputs[0], []
    while tensor is not explained:
        operation, node, _ = tensor._keras_history
        passed.append(operation)
        # Of this call: a layer may have others.
        sources = operation._inbound_nodes[node].input_tensors
        if len(sources) != 1:
            break
        tensor = sources[0]
    # What changes nothing but the shape, or changes only in training.
    between = [one for one in passed if not isinstance(one, (layers.Dropout, layers.Flatten, layers.Identity))]
    between = [one for one in between if not (isinstance(one, layers.Activation) and _function_name(one) == "linear")]
    functions = [_function_name(one) for one in between]
    dense = [one for one in between if isinstance(one, layers.Dense)]
    own_activation = len(between) == 2 and functions == ["linear", "relu"]
    as_layer = functions == ["linear", "relu", "linear"] and isinstance(between[1], (layers.ReLU, layers.Activation))
    # A Dense layer may also be at each place of a feature map.
    sizes = [one.kernel.shape for one in dense]
    if (
        tensor is explained
        and len(dense) == 2
        and (own_activation or as_layer)
        and (sizes[0][0], sizes[1][0]) == (sizes[1][1], np.prod(explained.shape[1:]))
    ):
        return dense[1]
    raise ValueError(
        "`start='classifier'` needs a layer that is followed by one hidden Dense layer with ReLU, and the logits. "
        f"Received: layer={layer!r}, with logits that come from {', '.join(one.name for one in reversed(passed))}"
    )


def _function_name(operation):
    """Name of the activation function of a layer, "" for none or one of another form."""
    if isinstance(operation, layers.ReLU):
        return "relu" if operation.max_value is None and not operation.negative_slope and not operation.threshold else ""
    return getattr(getattr(operation, "activation", None), "__name__", "")


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
        hint = f" That is a layer of the nested model {inner[0]!r}: build the classifier in one graph." if inner else ""
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
    """Name of the layer or operation that makes a model's output probabilities, and the function's; None for logits."""
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
