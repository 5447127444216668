"""What the papers' training needs beyond Keras's own optimizers."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_interp.typing import ArrayLike, Tensor


@keras.saving.register_keras_serializable("keras_interp")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is coupled: `weight_decay · w` is added to the gradient and so goes through the momentum.

    This is what the papers' frameworks mean by weight decay. Keras's own `weight_decay` is decoupled and, at momentum 0.9,
    ten times weaker: over 2,000 steps at a learning rate of 0.1 and a decay of 5e-4 it leaves a weight without gradient at
    0.905 of its value, where the coupled form leaves 0.368.

    Args:
        learning_rate: a float or a `LearningRateSchedule`.
        momentum: as for `keras.optimizers.SGD`.
        nesterov: as for `keras.optimizers.SGD`.
        weight_decay: coefficient of the decay. `exclude_from_weight_decay` exempts variables.
        own_weight_decay: {end of a variable's path: its own coefficient}, as {"logits/kernel": 2e-3}, where variables are to
            decay at another pace than the rest.
        **kwargs: further arguments of `keras.optimizers.SGD`.

    Raises:
        ValueError: for a decay below 0; and where the optimizer is built, if no variable's path has an end of
            `own_weight_decay`.

    Example:

    >>> optimizer = CoupledSGD(0.1, momentum=0.9, weight_decay=5e-4)
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        own_weight_decay: Mapping[str, float] | None = None,
        name: str = "coupled_sgd",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, name=name, **kwargs)
        self.coupled_weight_decay = weight_decay
        self.own_weight_decay = dict(own_weight_decay or {})
        if not all(decay >= 0 for decay in (weight_decay, *self.own_weight_decay.values())):
            raise ValueError(
                "Weight decays must not be negative. "
                f"Received: weight_decay={weight_decay}, own_weight_decay={self.own_weight_decay}"
            )

    def build(self, variables: Any) -> None:
        paths = [variable.path for variable in variables]
        self._weight_decays = [self.coupled_weight_decay] * len(paths)
        for end, decay in self.own_weight_decay.items():
            found = [index for index, path in enumerate(paths) if f"/{path}".endswith(f"/{end}")]
            if not found:
                raise ValueError(
                    f"`own_weight_decay` names {end!r}, where no variable's path ends so. Paths: {', '.join(paths)}"
                )
            for index in found:
                self._weight_decays[index] = decay
        super().build(variables)

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Any) -> None:
        decay = self._weight_decays[self._get_variable_index(variable)]
        if decay and self._use_weight_decay(variable):
            gradient = gradient + decay * variable
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        own = {"own_weight_decay": self.own_weight_decay} if self.own_weight_decay else {}
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay, **own}


def _check_sampling(block_size, sparsity):
    if not 0 < block_size < float("inf"):
        raise ValueError(f"`block_size` must be a positive number. Received: block_size={block_size}")
    if not 0 <= sparsity < 1:
        raise ValueError(f"`sparsity` must be at least 0 and below 1. Received: sparsity={sparsity}")


def vanishing_weight_decay(learning_rates: ArrayLike, momentum: float = 0.0) -> float:
    """The coupled weight decay under which weights that get no gradient vanish by the end of a training.

    Each step of rate η takes about η · decay / (1 − momentum) of such a weight. With this decay the shares add up to 5, which
    takes a weight of 0.1 below 0.001, from where on it no longer counts as a connection (Dynamic-K paper, section 4).

    Args:
        learning_rates: the learning rate of each step, an array (steps,).
        momentum: that of the optimizer, in [0, 1).

    Returns:
        A float, for `CoupledSGD`.

    Raises:
        ValueError: for a momentum out of range, or rates that are not finite or have no positive sum.

    Example:

    >>> round(vanishing_weight_decay([0.1] * 2000, momentum=0.9), 6)
    0.0025
    """
    total = float(np.sum(learning_rates))
    if not 0 <= momentum < 1 or not 0 < total < float("inf"):
        raise ValueError(
            "`momentum` must lie in [0, 1), and the learning rates must have a positive sum. "
            f"Received: momentum={momentum}, a sum of {total}"
        )
    return 5 * (1 - momentum) / total


def update_probabilities(features: Tensor, block_size: float, sparsity: float) -> Tensor:
    """With which probability interpretable SGD updates the weights of each input (step 5 of Algorithm 3, Dynamic-K paper).

    The loss's curvature along the weight from input j to a logit is x_j² times its curvature in that logit, which for the
    cross entropy is at most 1/4 (Lemma 2): the Lipschitz estimates are L_j = x_j² / 4, the same for every output. The
    probability is

        min(1, (block_size · L_j / Σ_k L_k)^(1 / (1 - sparsity)))

    which is the paper's β (L_ij / L_i)^(1 / (1 - s)), clipped to 1, for β = (outputs · block_size)^(1 / (1 - s)). In this unit
    the sum over the inputs is at most `block_size` for every sparsity, where a fixed β would let all probabilities vanish as
    s goes to 1. In that limit the inputs with more than 1/block_size of the sum of squares are chosen, and no others.

    Args:
        features: float tensor (..., inputs), the inputs x of a dense layer.
        block_size: positive number, at most so many weights of each output are expected to be updated by one sample.
        sparsity: the paper's s, in [0, 1).

    Returns:
        A float32 tensor (..., inputs); zeros for a sample of zeros, which has no gradient.

    Raises:
        ValueError: for a block size or a sparsity out of range.

    Example:

    >>> probabilities = update_probabilities(np.array([[3.0, 2.0, 1.0, 1.0, 1.0]]), block_size=2, sparsity=0.5)
    >>> np.round(np.asarray(probabilities), 6).tolist()
    [[1.0, 0.25, 0.015625, 0.015625, 0.015625]]
    """
    _check_sampling(block_size, sparsity)
    features = ops.abs(ops.cast(features, "float32"))
    # As shares of the largest, whose square may be too large for the type.
    curvature = ops.square(ops.divide_no_nan(features, ops.max(features, axis=-1, keepdims=True)))
    share = ops.divide_no_nan(curvature, ops.sum(curvature, axis=-1, keepdims=True))
    return ops.power(ops.minimum(1.0, block_size * share), 1 / (1 - sparsity))


@keras.saving.register_keras_serializable("keras_interp")
class InterpretableSGDDense(keras.layers.Dense):
    """A dense layer of logits whose kernel learns by interpretable SGD: block-coordinate SGD with Lipschitz sampling.

    Algorithm 3 of the Dynamic-K paper updates, for each sample, only some weights, which it draws by the curvature of the loss
    along them: the weights of the strongest activations. An optimizer sees the batch's gradient and cannot tell samples
    apart, so this is a layer. Outputs, and gradients of the inputs and of the bias, are those of `keras.layers.Dense`; the
    gradient of the kernel is the mean of the samples' interpretable gradients (steps 5 and 6). With `keras.optimizers.SGD`
    the training is Algorithm 3, and momentum or weight decay can be had as ever.

    One draw decides over an input's weights to all outputs, whose probabilities are equal. Expectation and mean square of the
    update, on which the rate of Theorem 1 rests, are those of a draw for each weight, and nothing of the size
    batch · inputs · units is needed.

    As in the paper a drawn gradient is not divided by its probability, so the expected update is a weighted sum of the
    samples' gradients, with weights that differ from sample to sample. It is zero where each sample's own gradient is, as it
    tends to be for classes that can be separated; otherwise training settles beside the minimum. And it need not go downhill:
    Theorem 1's O(1/t) holds in our tests for moderate sparsity, but three samples make the loss grow at a sparsity of 0.99.

    Args:
        units: number of outputs.
        block_size: at most so many weights of each output are expected to be updated by one sample; see
            `update_probabilities`. Training is plain SGD once it reaches a sample's sum of squares over its smallest square.
        sparsity: the paper's s, in [0, 1): the larger, the fewer of the weaker inputs' weights are updated.
        seed: seed of the draws, for `keras.random.SeedGenerator`.
        **kwargs: further arguments of `keras.layers.Dense`.

    Call arguments:
        inputs: float tensor (batch, ..., inputs).
        training: whether to draw. In inference the layer is `keras.layers.Dense`.

    Returns:
        A tensor (batch, ..., units) in the layer's compute dtype.

    Raises:
        ValueError: for a block size or a sparsity out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), InterpretableSGDDense(10, block_size=5, sparsity=0.9, seed=0)])
    >>> model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> history = model.fit(np.eye(64), np.arange(64) % 10, verbose=0)
    """

    def __init__(self, units: int, block_size: float, sparsity: float = 0.5, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        _check_sampling(block_size, sparsity)
        self.block_size = block_size
        self.sparsity = sparsity
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not training:
            return super().call(inputs)
        probabilities = update_probabilities(inputs, self.block_size, self.sparsity)
        drawn = keras.random.uniform(ops.shape(probabilities), seed=self.seed_generator) < probabilities
        # The second product is zero: it is there for the gradient of the kernel, the first for that of the inputs.
        kernel = ops.convert_to_tensor(self.kernel)
        fixed = ops.stop_gradient(kernel)
        outputs = ops.matmul(inputs, fixed) + ops.matmul(
            ops.stop_gradient(ops.where(drawn, inputs, ops.zeros_like(inputs))), kernel - fixed
        )
        if self.bias is not None:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        return self.activation(outputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "block_size": self.block_size, "sparsity": self.sparsity, "seed": self.seed}
