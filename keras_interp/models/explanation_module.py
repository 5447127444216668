"""The explanation module: a few concepts inside any trained classifier, from which its decision can be rebuilt.

Paper: "Embedding Deep Networks into Visual Explanations". A `SparseReconstructionAE` embeds the activations of one layer of a
trained network into a few x-features for each class to explain. A linear predictor on them rebuilds the logit of the class, so
the x-features explain it, and a sparse reconstruction of the layer keeps them apart from each other. The network itself does
not change.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_interp.checks import check_options
from keras_interp.data.arrays import Batches
from keras_interp.explain.excitation_rules import winning_probabilities
from keras_interp.layers.sparse_reconstruction_ae import SparseReconstructionAE, pull_away
from keras_interp.models.classifier_start import check_start, clusters, hidden_layer, prune_units
from keras_interp.models.concept_explainer import ConceptExplainer
from keras_interp.models.objective import NamedMeans, ObjectiveTrainer, num_replicas, sum_over_replicas
from keras_interp.typing import Tensor

# The paper's comparison methods, as options of `ExplanationModule`: a network without reconstruction (NN), an autoencoder
# that also predicts (SAE), and one that only reconstructs (CAE). For feature selection there is `LassoModule`.
COMPARISONS = {
    "srae": {},
    "nn": {"reconstruction_weight": 0.0},
    "sae": {"sparsity": "mean"},
    "cae": {"sparsity": "mean", "faithfulness_weight": 0.0},
}


# Starting points of the first fit, see `ExplanationModule`.
STARTS = ("random", "classifier")


@keras.saving.register_keras_serializable("keras_interp")
class ExplanationModule(ObjectiveTrainer, ConceptExplainer):
    """A trained classifier, with modules of x-features for some of its classes (Eq. 4).

    `predict` gives the classifier's unchanged logits. `fit` trains all modules together on the activations of the layer, which
    are computed once. A step minimizes, summed over the modules,

        mean w (vᵀE + c − y)² + β · mean_k penalty(Q_k) + λ ‖kernels‖²

    with y the logit of the module's class, Q_k the mean squared error, weighted by w, of the reconstruction of the k-th
    dimension of the layer, and w weights that give the examples of the class the share `positive_share` of the total.

    The paper compares it with an NN (`reconstruction_weight=0`), an SAE (`sparsity="mean"`) and a CAE (that, and
    `faithfulness_weight=0`), see `COMPARISONS`; with a `LassoModule`; and with `target_heatmaps`, without any x-features.

    The log holds `faithfulness` (the first term), `reconstruction` (the penalty) and `error` (the mean absolute error of the
    logit), each a mean over the modules.

    Args:
        classifier: any functional `keras.Model` with one input that ends in logits; a copy is kept.
        layer: name of the layer to explain, with an output (batch, dimensions), or feature maps, which are flattened. It
            must not lie inside a nested model; `heatmap_layer` may.
        targets: names or indices of the classes to explain, one module for each; defaults to all.
        class_names: names of the classes; defaults to those of the classifier, or their indices.
        num_features: number of x-features of a module.
        hidden_units: units of the encoder's hidden layers, see `SparseReconstructionAE`.
        sparsity: penalty of the reconstruction; "mean" is the plain mean error of a conventional autoencoder.
        sparsity_strength: q of the penalty.
        faithfulness_weight: weight of the first term; with 0 the predictor is fitted by least squares after training.
        reconstruction_weight: β.
        pull_away_weight: weight of the pull-away term of the paper's later version, on v_i E_i.
        kernel_weight: λ; biases do not decay.
        positive_share: share of the total weight given to the examples of the class, in (0, 1).
        error_momentum: of the running estimate of Q_k over the batches, in [0, 1); 0 takes each batch by itself, which is
            biased for small batches, see `SparseReconstructionAE.reconstruction_penalty`.
        dropout: share of the first hidden layer that is dropped in training.
        start: starting point of the first fit. "random" follows the paper. "classifier" is for a layer that is followed by one
            hidden Dense layer with ReLU and the logits: each encoder starts as that layer, pruned to the units that the logit
            of its class needs most. Units that support the class and respond to the same activations in its images form an
            x-feature with a weight of 1; all units that oppose it form the last one, with a weight of -1. In the zoo's models,
            with a few dozen images per class, this rebuilds new logits better and spreads the work over the x-features. It
            needs at least two x-features and scikit-learn.
        seed: seed for initial values and noise.
        heatmap_layer: name of an earlier layer with feature maps where heatmaps end, see `heatmaps`; defaults to the input.
        concept_names: {target: names of its x-features}, see the property of that name.
        name: name of the model.

    Raises:
        TypeError: for a classifier without a graph.
        ValueError: for a classifier that ends in softmax, an unknown layer or target, or options outside their ranges.

    Examples:

    >>> from keras import layers
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
        classifier: keras.Model,
        layer: str,
        targets: Sequence[str | int] | None = None,
        class_names: Sequence[str] | None = None,
        num_features: int = 5,
        hidden_units: Sequence[int] = (800, 100),
        sparsity: str = "log",
        sparsity_strength: float = 100.0,
        faithfulness_weight: float = 1.0,
        reconstruction_weight: float = 10.0,
        pull_away_weight: float = 0.0,
        kernel_weight: float = 1e-4,
        positive_share: float = 0.5,
        error_momentum: float = 0.9,
        dropout: float = 0.02,
        start: str = "random",
        seed: int = 0,
        heatmap_layer: str | None = None,
        concept_names: Mapping[str | int, Sequence[str]] | None = None,
        name: str | None = None,
    ) -> None:
        names = ("faithfulness_weight", "reconstruction_weight", "pull_away_weight", "kernel_weight")
        check_options(locals(), **dict.fromkeys(names, "[0, inf)"), error_momentum="[0, 1)", start=STARTS)
        super().__init__(classifier, layer, targets, class_names, positive_share, heatmap_layer, concept_names, name)
        self.autoencoder = SparseReconstructionAE(
            num_features, hidden_units, sparsity, sparsity_strength, len(self.target_indices), dropout, seed, dtype="float32"
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
            # Fail before the activations are computed.
            check_start(self._classifier_view, layer, num_features, tuple(hidden_units))
        shape = (len(self.target_indices), self.num_dimensions)
        fixed = {"trainable": False, "autocast": False, "dtype": "float32", "aggregation": "mean"}
        # Running mean of Q_k, and the total weight of the batches in it so far.
        self.running_errors = self.add_weight(name="running_errors", shape=shape, initializer="zeros", **fixed)
        self.running_share = self.add_weight(name="running_share", shape=(), initializer="zeros", **fixed)
        self.means = NamedMeans(self.objective_metrics, "parts")

    @property
    def num_features(self) -> int:
        return self.autoencoder.num_features

    # --- The objective: Eq. 4.

    def compile_by_default(self, optimizer: Any = None) -> Self:
        """Compiles the model to train its modules; returns it."""
        self.compile(optimizer or keras.optimizers.Adam(1e-3))
        return self

    def objective(self, extra: list[Tensor], x: Any, y: Any, sample_weight: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
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
        """Running mean of Q_k, including this batch."""
        kept = self.error_momentum
        # Over the whole batch, not the replica's share.
        (total,) = sum_over_replicas([errors])
        running = kept * self.running_errors + (1 - kept) * total / num_replicas()
        share = kept * self.running_share + (1 - kept)
        self.running_errors.assign(running)
        self.running_share.assign(share)
        return running / share

    def log_objective(self, y: Any, sample_weight: Any, outputs: Any) -> None:
        """Updates the metrics of the objective's parts."""
        # Means over examples, as the loss is.
        examples = ops.cast(ops.shape(outputs["y_pred"])[0], "float32")
        self.means.update_state(outputs["parts"] * examples, ops.ones(len(self.objective_metrics)) * examples)

    def fit(self, x: Any, y: Any = None, batch_size: int = 256, epochs: int = 1, **kwargs: Any) -> keras.callbacks.History:
        """Trains the modules on the activations of the layer, which are computed once.

        Args:
            x: images or rows as the classifier takes them; or `data.Batches` of them, of which only the examples, the batch
                size and the seed are used: random crops and mirror images would differ in each epoch.
            y: labels (n,), which determine the positive examples of each target; defaults to the classifier's decisions.
            batch_size: examples in a batch.
            epochs: passes through the examples.
            **kwargs: as for `keras.Model.fit`, except data arguments.

        Returns:
            The history of `keras.Model.fit`.

        Raises:
            ValueError: for inputs of the wrong shape, NaN, labels out of range or of the wrong length, a target without
                examples, or an argument that does not apply.
            FloatingPointError: at the first NaN or infinite loss.
        """
        foreign = ("validation_data", "validation_split", "sample_weight", "class_weight")
        if others := [name for name in foreign if kwargs.pop(name, None) is not None]:
            raise ValueError(
                "Examples are weighted by `positive_share`; compare `predict_targets` on held-out images. "
                f"Received: {', '.join(others)}"
            )
        if isinstance(x, Batches):
            self.check_columns(x.dataset)
            batch_size, kwargs["seed"], kwargs["process"] = x.batch_size, x.seed, x.process
            x, y = x.dataset.read(slice(None))
        return self.fit_activations(*self.fitting_data(x, y), batch_size, epochs, **kwargs)

    def check_data(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        # The batches of `fit_activations` hold activations of inputs that were checked.
        return (x, y, sample_weight) if isinstance(x, Batches) else super().check_data(x, y, sample_weight)

    def _check_batch(self, x, y, sample_weight):
        return x, y, sample_weight

    def _adopt_names(self, x):
        # The classifier keeps its own, if any.
        pass

    def fit_activations(
        self,
        z: np.ndarray,
        targets: Mapping[str, np.ndarray],
        batch_size: int = 256,
        epochs: int = 1,
        seed: int = 0,
        process: tuple[int, int] = (0, 1),
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Like `fit`, on the result of `fitting_data`, which modules with other options, and later epochs, can share.

        Args:
            z, targets: activations, and logits and weights, of `fitting_data`.
            batch_size, epochs: as for `fit`.
            seed, process: as for `data.Batches`.
            **kwargs: as for `fit`.
        """
        # No step has been taken yet, nor before the model was saved.
        if self.start == "classifier" and not ops.convert_to_numpy(self.running_share):
            self._start_from_classifier(z, targets)
        batches = Batches((z, targets), min(batch_size, len(z)), seed=seed, process=process)
        batches.epoch = kwargs.get("initial_epoch", 0)
        history = super().fit(batches, epochs=epochs, **{**kwargs, "shuffle": False})
        if not self.faithfulness_weight:
            self._fit_predictors(z, targets)
        return history

    def _start_from_classifier(self, z, targets):
        """Starts the modules from the classifier's pruned hidden layer, see `start`."""
        hidden = hidden_layer(self._classifier_view, self.layer_name)
        kernel = ops.convert_to_numpy(hidden.kernel)
        bias = np.zeros(kernel.shape[1]) if hidden.bias is None else ops.convert_to_numpy(hidden.bias)
        units = np.maximum(z @ kernel + bias, 0.0)
        starts = [[ops.convert_to_numpy(weight).copy() for weight in pair] for pair in self.autoencoder.encoder]
        count, *later = self.autoencoder.hidden_units
        places = min((size // self.num_features for size in later), default=1)
        predictor, intercepts = np.zeros((len(self.target_indices), self.num_features, 1)), []
        for module, (logits, shares) in enumerate(zip(targets["logits"].T, targets["weights"].T)):
            kept, slopes, intercept = prune_units(units, logits, shares, count)
            intercepts.append([intercept])
            # Examples of the class share one weight; all others have another, and smaller logits.
            own = max((shares == one for one in np.unique(shares)), key=lambda rows: logits[rows].mean())
            excitations = np.maximum(kernel[:, kept], 0.0).T * z[own].mean(axis=0)
            seed = (self.autoencoder.seed + module) % 2**32
            feature = np.full(len(kept), self.num_features - 1)
            feature[slopes > 0] = clusters(excitations[slopes > 0], self.num_features - 1, seed)
            predictor[module, feature, 0] = np.where(slopes > 0, 1.0, -1.0)
            # Each x-feature has some units of its own in the later hidden layers, shared by its units of the first.
            place = np.zeros(len(kept), int)
            for one in range(self.num_features):
                place[feature == one] = clusters(excitations[feature == one], places, seed)
            starts[0][0][module][:, : len(kept)] = kernel[:, kept]
            starts[0][1][module][: len(kept)] = bias[kept]
            rows, values = np.arange(len(kept)), np.abs(slopes)
            for number, size in enumerate((*later, self.num_features), start=1):
                columns = feature * (size // self.num_features) + (place if size > self.num_features else 0)
                # Unassigned units do not reach a prediction yet; at exactly zero they could not learn.
                starts[number][0][module][:, np.unique(columns)] = 0.0
                starts[number][0][module][rows, columns] = values
                rows, values = columns, 1.0
        for pair, start in zip(self.autoencoder.encoder, starts):
            for variable, value in zip(pair, start):
                variable.assign(value)
        self.autoencoder.predictor_kernel.assign(predictor)
        self.autoencoder.predictor_bias.assign(intercepts)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Unsupported, since the loss needs activations: see `predict_targets` and `metrics.logit_faithfulness`."""
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

    def encode(self, z: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        pieces = [self.autoencoder.encode(z[start : start + batch_size]) for start in range(0, len(z), batch_size)]
        return np.concatenate([ops.convert_to_numpy(piece) for piece in pieces])

    def predictor(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernels v (modules, features) and biases (modules,) of the linear predictors, as float32 arrays."""
        kernel, bias = self.autoencoder.predictor_kernel, self.autoencoder.predictor_bias
        return ops.convert_to_numpy(kernel)[..., 0], ops.convert_to_numpy(bias)[:, 0]

    def _priors(self, z, modules, contrastive):
        """Winning probabilities of the activations, signed if contrastive: (n, features, dimensions)."""
        priors = np.zeros((len(z), self.num_features, self.num_dimensions), "float32")
        for module in np.unique(modules):
            rows = modules == module
            priors[rows] = ops.convert_to_numpy(self._priors_of(module, ops.convert_to_tensor(z[rows]), contrastive))
        return priors

    def _priors_of(self, module, z, contrastive):
        """Like `_priors`, for one module, as a tensor."""
        # One row per image, so that its x-features share the layers below them.
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
        # Inactive x-features add nothing to the logit.
        return priors * ops.cast(ops.swapaxes(hidden, 1, 2) > 0, "float32")

    def get_config(self) -> dict[str, Any]:
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
