"""Sparse reconstruction autoencoder (SRAE): a few features that predict an output and rebuild part of a layer.

Paper: "Embedding Deep Networks into Visual Explanations", sections 2.2 and 2.3. The activations Z of a deep layer are embedded
into a few x-features E; a linear predictor rebuilds one output of the network from them, and a decoder rebuilds Z. The penalty
of the reconstruction is sparse in the dimensions of Z, so that only those that the prediction needs are rebuilt.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_interp.checks import check_options
from keras_interp.typing import Shape, Tensor

PENALTIES = ("log", "l1", "epsilon_l1", "kl", "mean")


def sparse_penalty(errors: Tensor, kind: str = "log", strength: float = 100.0) -> Tensor:
    """Penalty of the reconstruction errors of a layer's dimensions, smaller if few dimensions carry the error (Eq. 3).

    Args:
        errors: float tensor (..., dimensions): the mean squared error Q_k of each dimension, at least 0.
        kind: with r_k = √Q_k, "log" is log(1 + q · Q_k); "l1" is |r_k|; "epsilon_l1" is √(Q_k + 1/q) − √(1/q), smooth at 0
            (Lee et al., 2007); "kl" the Kullback-Leibler divergence of a coin of chance 1/q from one of chance
            Q_k / (1 + Q_k) (Ng, 2011); "mean" is Q_k itself, the plain error of an autoencoder, which is not sparse.
        strength: q. It has no effect on "l1" and "mean".

    Returns:
        A tensor (...): the mean over the dimensions.

    Raises:
        ValueError: for an unknown kind, or a strength that is not positive, for "kl" not above 1.

    Examples:

    >>> round(float(sparse_penalty(np.array([0.0, 1.0], "float32"), "log", 10.0)), 4)
    1.1989
    """
    check_options(locals(), kind=PENALTIES, strength="(1, inf)" if kind == "kl" else "(0, inf)")
    if kind == "mean":
        values = errors
    elif kind == "log":
        values = ops.log1p(strength * errors)
    elif kind == "l1":
        # The root has no slope at 0, which a layer of dead units reaches.
        values = ops.sqrt(ops.maximum(errors, 1e-12))
    elif kind == "epsilon_l1":
        values = ops.sqrt(errors + 1 / strength) - (1 / strength) ** 0.5
    else:
        chance, rare = ops.clip(errors / (1 + errors), 1e-6, 1 - 1e-6), 1 / strength
        values = rare * ops.log(rare / chance) + (1 - rare) * ops.log((1 - rare) / (1 - chance))
    return ops.mean(values, axis=-1)


@keras.saving.register_keras_serializable("keras_interp")
class ModuleInitializer(keras.initializers.Initializer):
    """Glorot uniform values for several modules, (modules, inputs, outputs), independent of the number of modules.

    Args:
        seed: seed of the first module; the others count on from there.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, shape, dtype=None):
        modules, *rest = shape
        return ops.stack([keras.initializers.GlorotUniform(self.seed + number)(rest, dtype) for number in range(modules)])

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


@keras.saving.register_keras_serializable("keras_interp")
class SparseReconstructionAE(keras.layers.Layer):
    """Encoder, x-features, mirrored decoder and linear predictor (Figure 2a), for one target or many at once.

    All layers have ReLU, x-features and reconstruction included; the predictor v is linear and has a bias. Several modules,
    one for each target, are computed together: they share only the input and the dropout noise, so each is what it would be
    alone.

    Args:
        num_features: number n of x-features.
        hidden_units: units of the encoder's hidden layers; the decoder has them in reverse.
        sparsity: penalty of the reconstruction errors, see `sparse_penalty`.
        sparsity_strength: q of the penalty.
        num_modules: number T of modules.
        dropout: share of the first hidden layer to drop in training.
        seed: seed for initial values and noise; module t starts like a single module with seed `seed` + t.
        **kwargs: as for every Keras layer.

    Call arguments: inputs: float tensor (batch, dimensions): activations Z, preferably not negative, since ReLU rebuilds them.
        training: whether to drop units.

    Returns:
        x-features (batch, T, n), predictions (batch, T) and reconstructions (batch, T, dimensions).

    Raises:
        ValueError: for sizes below 1, an unknown penalty, a dropout outside [0, 1), or inputs of the wrong rank.

    Examples:

    >>> layer = SparseReconstructionAE(num_features=3, hidden_units=(8,), num_modules=2)
    >>> [tuple(output.shape) for output in layer(np.ones((4, 10), "float32"))]
    [(4, 2, 3), (4, 2), (4, 2, 10)]
    """

    def __init__(
        self,
        num_features: int = 5,
        hidden_units: Sequence[int] = (800, 100),
        sparsity: str = "log",
        sparsity_strength: float = 100.0,
        num_modules: int = 1,
        dropout: float = 0.02,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        hidden_units = tuple(hidden_units)
        whole = dict.fromkeys(("num_features", "num_modules", "hidden_units"), "integer [1, inf)")
        check_options(locals(), **whole, dropout="[0, 1)")
        sparse_penalty(ops.zeros(1), sparsity, sparsity_strength)
        self.num_features = num_features
        self.hidden_units = hidden_units
        self.sparsity = sparsity
        self.sparsity_strength = sparsity_strength
        self.num_modules = num_modules
        self.dropout = dropout
        self.seed = seed
        self.noise = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(f"The activations must have the shape (batch, dimensions). Received: shape={tuple(input_shape)}")
        sizes = [input_shape[-1], *self.hidden_units, self.num_features]
        self.encoder = self._dense_layers("encoder", sizes, 0)
        self.decoder = self._dense_layers("decoder", sizes[::-1], 1)
        ((self.predictor_kernel, self.predictor_bias),) = self._dense_layers("predictor", [self.num_features, 1], 2)
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: input_shape[-1]})

    def _dense_layers(self, name, sizes, part):
        """Pairs of kernels (modules, inputs, outputs) and biases (modules, outputs)."""
        pairs = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
            # Far apart, so that no two kernels start alike.
            initializer = ModuleInitializer(self.seed + 1_000_003 * (10 * part + number))
            shape = (self.num_modules, inputs, outputs)
            kernel = self.add_weight(name=f"{name}{number}_kernel", shape=shape, initializer=initializer)
            pairs.append((kernel, self.add_weight(name=f"{name}{number}_bias", shape=shape[::2], initializer="zeros")))
        return pairs

    def encode(self, inputs: Tensor, training: bool = False) -> Tensor:
        """The x-features (batch, modules, features) of activations (batch, dimensions)."""
        (kernel, bias), *others = self.encoder
        # One product for all modules, which share their inputs.
        features = ops.relu(ops.einsum("bi,mio->bmo", inputs, ops.convert_to_tensor(kernel)) + bias)
        if training and self.dropout:
            shape = (ops.shape(features)[0], 1, features.shape[-1])
            kept = keras.random.uniform(shape, dtype="float32", seed=self.noise) >= self.dropout
            features = features * ops.cast(kept, features.dtype) / (1 - self.dropout)
        return _chain(features, others)

    def decode(self, features: Tensor) -> Tensor:
        """The reconstructions (batch, modules, dimensions) of x-features (batch, modules, features)."""
        return _chain(features, self.decoder)

    def predict_target(self, features: Tensor) -> Tensor:
        """The predictions (batch, modules) of x-features (batch, modules, features)."""
        return ops.sum(features * self.predictor_kernel[..., 0], axis=-1) + self.predictor_bias[:, 0]

    def call(self, inputs: Tensor, training: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        features = self.encode(inputs, training)
        return features, self.predict_target(features), self.decode(features)

    def compute_output_spec(self, inputs: Tensor, training: bool = False) -> tuple[keras.KerasTensor, ...]:
        """Shapes and dtypes of `call`, set explicitly: outside a call the kernels are float32 under every policy."""
        shapes = (self.num_features,), (), (inputs.shape[-1],)
        return tuple(keras.KerasTensor((inputs.shape[0], self.num_modules, *shape), self.compute_dtype) for shape in shapes)

    def reconstruction_errors(self, inputs: Tensor, reconstructions: Tensor, weights: Tensor = None) -> Tensor:
        """The mean squared error Q_k of each dimension over a batch (Eq. 3).

        Args:
            inputs: activations (batch, dimensions).
            reconstructions: (batch, modules, dimensions).
            weights: (batch, modules), weight of each example for each module, with a mean of 1 over the data, or None.

        Returns:
            A float32 tensor (modules, dimensions).
        """
        errors = ops.square(ops.cast(reconstructions, "float32") - ops.cast(inputs, "float32")[:, None])
        if weights is not None:
            # Not divided by the sum of the batch's weights: batches without the rare, heavy examples would count too much.
            errors = errors * ops.cast(weights, "float32")[..., None]
        return ops.mean(errors, axis=0)

    def reconstruction_penalty(self, errors: Tensor, running: Tensor = None) -> Tensor:
        """The sparse penalty of reconstruction errors (modules, dimensions), a tensor (modules,).

        The penalty is concave, so its mean over small batches is below the penalty of the error over the data, and its
        gradient is noisy. With `running`, an estimate of the errors over the data, value and gradient are those at the
        estimate: the slope there times the error of the batch.

        Args:
            errors: Q_k of a batch, see `reconstruction_errors`.
            running: a running mean (modules, dimensions) of Q_k over earlier batches, or None.
        """
        if running is None:
            return sparse_penalty(errors, self.sparsity, self.sparsity_strength)
        running = ops.stop_gradient(running)
        # Has the gradient of the errors and the value of the estimate.
        shifted = running + errors - ops.stop_gradient(errors)
        return sparse_penalty(shifted, self.sparsity, self.sparsity_strength)

    def kernel_penalty(self) -> Tensor:
        """Sum of the squared kernels, predictor included and biases not, of each module: a tensor (modules,) (Eq. 4)."""
        kernels = [kernel for kernel, _ in (*self.encoder, *self.decoder)]
        return sum(ops.sum(ops.square(kernel), axis=(1, 2)) for kernel in (*kernels, self.predictor_kernel))

    def get_config(self) -> dict[str, Any]:
        names = ("num_features", "hidden_units", "sparsity", "sparsity_strength", "num_modules", "dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _chain(features, layers):
    """Layers with ReLU, each module with its own: features (batch, modules, inputs)."""
    for kernel, bias in layers:
        features = ops.relu(ops.einsum("bmi,mio->bmo", features, ops.convert_to_tensor(kernel)) + bias)
    return features


def pull_away(features: Tensor, weights: Tensor = None) -> Tensor:
    """Similarity of the x-features: mean squared cosine between the columns of different features over a batch.

    The pull-away term of the paper's later version, 0 for features that are orthogonal over the batch.

    Args:
        features: float tensor (batch, modules, features): v_i · E_i.
        weights: float tensor (batch, modules), weight of each example for each module, or None.

    Returns:
        A tensor (modules,).
    """
    if weights is not None:
        features = features * ops.sqrt(weights)[..., None]
    norms = ops.sqrt(ops.sum(ops.square(features), axis=0, keepdims=True) + 1e-12)
    cosines = ops.einsum("bmi,bmj->mij", features / norms, features / norms)
    count = features.shape[-1]
    off_diagonal = ops.square(cosines) * (1 - ops.eye(count))
    return ops.sum(off_diagonal, axis=(1, 2)) / max(count * (count - 1), 1)
