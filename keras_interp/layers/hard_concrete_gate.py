"""Hard-concrete gate: sends each feature either to the output layer at its own level, or on to the next hidden layer.

Paper: "Not All Features Are Equal: Feature Leveling Deep Neural Networks for Better Interpretation". The gates are those of
Louizos et al. (2017), "Learning Sparse Neural Networks through L0 Regularization": a stretched and clipped concrete variable,
whose probability of being open is differentiable although the gate can be exactly 0 and exactly 1.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_interp.checks import check_options
from keras_interp.typing import Shape, Tensor

# Noise stays inside the open interval, where its logit is finite; the reference code's bounds.
NOISE_MARGIN = 1e-6
# Up to here the gradient can reopen a gate. The probability of being open never falls below σ(−log 100 − β log(−γ / ζ)).
LARGEST_LOG_ALPHA = math.log(100.0)


def sample_gate(
    log_alpha: Tensor, uniform: Tensor, temperature: float = 2 / 3, gamma: float = -0.1, zeta: float = 1.1
) -> Tensor:
    """Hard-concrete sample z = clip(σ((logit u + log α) / β) (ζ − γ) + γ, 0, 1), Eq. 6 with g of Eq. 8.

    Args:
        log_alpha: float tensor of locations.
        uniform: float tensor of noise in (0, 1), broadcast against `log_alpha`.
        temperature: β.
        gamma, zeta: ends γ < 0 and ζ > 1 of the stretched interval.

    Returns:
        A tensor of gates in [0, 1].
    """
    concrete = ops.sigmoid((ops.log(uniform / (1.0 - uniform)) + log_alpha) * (1.0 / temperature))
    return ops.clip(concrete * (zeta - gamma) + gamma, 0.0, 1.0)


def deterministic_gate(log_alpha: Tensor, gamma: float = -0.1, zeta: float = 1.1) -> Tensor:
    """The gate without noise, ẑ = clip(σ(log α) (ζ − γ) + γ, 0, 1): exactly 0 where log α ≤ log(−γ / ζ).

    Args:
        log_alpha: float tensor of locations.
        gamma, zeta: ends of the stretched interval.

    Returns:
        A tensor of gates in [0, 1].
    """
    return ops.clip(ops.sigmoid(log_alpha) * (zeta - gamma) + gamma, 0.0, 1.0)


def open_probability(log_alpha: Tensor, temperature: float = 2 / 3, gamma: float = -0.1, zeta: float = 1.1) -> Tensor:
    """Probability that a sampled gate is not 0, σ(log α − β log(−γ / ζ)), Eq. 7.

    Args:
        log_alpha: float tensor of locations.
        temperature: β.
        gamma, zeta: ends of the stretched interval.

    Returns:
        A tensor of probabilities in (0, 1).
    """
    return ops.sigmoid(log_alpha - temperature * math.log(-gamma / zeta))


@keras.saving.register_keras_serializable("keras_interp")
class LogAlphaRange(keras.constraints.Constraint):
    """Clamps log α, which the optimizer holds divided by `learning_rate_multiplier`, to ±log 100 after each step.

    Args:
        learning_rate_multiplier: that of the gate.
    """

    def __init__(self, learning_rate_multiplier: float = 1.0) -> None:
        self.learning_rate_multiplier = learning_rate_multiplier

    def __call__(self, w):
        bound = LARGEST_LOG_ALPHA / self.learning_rate_multiplier
        return ops.clip(w, -bound, bound)

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate_multiplier": self.learning_rate_multiplier}


@keras.saving.register_keras_serializable("keras_interp")
class HardConcreteGate(keras.layers.Layer):
    """Splits features f into those of their own level, l = B(z) ⊙ f, and those for the next hidden layer, h = z ⊙ f (Eq. 4).

    At test time z is deterministic and B(z) = 1 exactly where z is 0, so each feature goes to only one of them. In training z
    is a hard-concrete sample, and l = (1 − z) ⊙ f, through which the gradient reaches the gate from both sides.

    The location log α of each gate is held as `scaled_log_alpha` = log α / m, with m the `learning_rate_multiplier`: an
    optimizer that steps by its learning rate, as Adam does, moves log α m times as fast as the other weights. Gates are
    computed in float32 under every dtype policy.

    Args:
        temperature: β of the concrete distribution.
        gamma: lower end γ < 0 of the stretched interval.
        zeta: upper end ζ > 1 of the stretched interval.
        initial_drop_rate: probability d in (0, 1) that sets the initial location, log α ~ N(log((1 − d) / d), 0.01).
        mode: level features in training: "complement" for (1 − z) ⊙ f, or "hard" for 1[z = 0] ⊙ f, the rule of test time,
            whose gradient does not reach the gate.
        per_position: for feature maps, one gate for each position and channel instead of one for each channel.
        per_sample_noise: whether each example of a batch gets its own noise, instead of one draw for the batch. Replicas of a
            `tf.distribute` strategy draw the same numbers, each for its share of the batch.
        learning_rate_multiplier: learning rate of the locations relative to the other weights.
        seed: seed for noise and initial values.

    Call arguments:
        features: float tensor (batch, features), or feature maps (batch, height, width, channels).
        training: whether to sample.

    Returns:
        A pair of tensors like `features`: the level features, and the features for the next hidden layer.

    Raises:
        ValueError: for options outside their ranges, or features of the wrong rank.

    Examples:

    >>> gate = HardConcreteGate(seed=0)
    >>> level, hidden = gate(np.ones((2, 5)))
    >>> _ = gate.scaled_log_alpha.assign([-4.0, 4.0, -4.0, 4.0, 4.0])
    >>> [np.asarray(output)[0].tolist() for output in gate(np.ones((2, 5)))]
    [[1.0, 0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0, 1.0]]
    """

    input_spec: Any

    def __init__(
        self,
        temperature: float = 2 / 3,
        gamma: float = -0.1,
        zeta: float = 1.1,
        initial_drop_rate: float = 0.5,
        mode: str = "complement",
        per_position: bool = False,
        per_sample_noise: bool = False,
        learning_rate_multiplier: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_options(
            locals(),
            temperature="(0, inf)",
            gamma="(-inf, 0)",
            zeta="(1, inf)",
            initial_drop_rate="(0, 1)",
            mode=("complement", "hard"),
            learning_rate_multiplier="(0, inf)",
        )
        self.temperature = temperature
        self.gamma = gamma
        self.zeta = zeta
        self.initial_drop_rate = initial_drop_rate
        self.mode = mode
        self.per_position = per_position
        self.per_sample_noise = per_sample_noise
        self.learning_rate_multiplier = learning_rate_multiplier
        self.seed = seed
        self.noise = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) not in (2, 4):
            raise ValueError(
                "A gate takes features (batch, features) or maps (batch, height, width, channels). "
                f"Received: shape={tuple(input_shape)}"
            )
        shape = tuple(input_shape[1:]) if self.per_position else (input_shape[-1],)
        if None in shape:
            raise ValueError(f"The gated axes must have known lengths. Received: shape={tuple(input_shape)}")
        location = math.log((1 - self.initial_drop_rate) / self.initial_drop_rate)
        multiplier = self.learning_rate_multiplier
        self.scaled_log_alpha = self.add_weight(
            name="scaled_log_alpha",
            shape=shape,
            dtype="float32",
            autocast=False,
            initializer=keras.initializers.RandomNormal(location / multiplier, 0.01 / multiplier, seed=self.seed),
            constraint=LogAlphaRange(multiplier),
        )
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes={-1: input_shape[-1]})

    @property
    def log_alpha(self) -> Tensor:
        """Locations of the gates, float32 tensor (features,), (channels,) or (height, width, channels)."""
        return ops.convert_to_tensor(self.scaled_log_alpha) * self.learning_rate_multiplier

    def sample(self, batch_size: int | None = None) -> Tensor:
        """One hard-concrete sample of every gate, float32; with a leading axis of `batch_size` if given."""
        shape = self.scaled_log_alpha.shape
        if batch_size is not None:
            # With gates per channel, all positions of a map share the noise.
            shape = (batch_size, *((1, 1) if self.input_spec.ndim == 4 and not self.per_position else ()), *shape)
        uniform = keras.random.uniform(shape, NOISE_MARGIN, 1 - NOISE_MARGIN, dtype="float32", seed=self.noise)
        return sample_gate(self.log_alpha, uniform, self.temperature, self.gamma, self.zeta)

    def test_gate(self) -> Tensor:
        """Deterministic gate at test time, float32."""
        return deterministic_gate(self.log_alpha, self.gamma, self.zeta)

    def open_probability(self) -> Tensor:
        """Probability that each gate is open in training, float32; its sum is the expected L0."""
        return open_probability(self.log_alpha, self.temperature, self.gamma, self.zeta)

    def expected_open(self) -> Tensor:
        """Expected number of open gates in training, the expected L0, a scalar."""
        return ops.sum(self.open_probability())

    def num_open(self) -> Tensor:
        """Number of gates that are open at test time, a scalar."""
        return ops.sum(ops.cast(self.test_gate() > 0, "float32"))

    def call(self, features: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        if training:
            gate = self.sample(ops.shape(features)[0] if self.per_sample_noise else None)
        else:
            gate = self.test_gate()
        passed = features * ops.cast(gate, features.dtype)
        if training and self.mode == "complement":
            # (1 − z) ⊙ f, as a difference: one backward pass through the gate instead of two.
            return features - passed, passed
        return features * ops.cast(gate == 0, features.dtype), passed

    def compute_output_shape(self, input_shape: Shape) -> tuple[Shape, Shape]:
        return input_shape, input_shape

    def get_config(self) -> dict[str, Any]:
        names = (
            *("temperature", "gamma", "zeta", "initial_drop_rate", "mode", "per_position", "per_sample_noise"),
            *("learning_rate_multiplier", "seed"),
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
