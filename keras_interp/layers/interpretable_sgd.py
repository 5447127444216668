"""Interpretable SGD (Dynamic-K paper, Algorithm 3): a dense layer that updates sampled coordinates of its kernel."""

from typing import Any

import keras
from keras import ops

from keras_interp.checks import check_options
from keras_interp.typing import Tensor


def update_probabilities(features: Tensor, block_size: float, sparsity: float) -> Tensor:
    """Probability that interpretable SGD updates the weights of each input (step 5 of Algorithm 3, Dynamic-K paper).

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

    Examples:

    >>> probabilities = update_probabilities(np.array([[3.0, 2.0, 1.0, 1.0, 1.0]]), block_size=2, sparsity=0.5)
    >>> np.round(np.asarray(probabilities), 6).tolist()
    [[1.0, 0.25, 0.015625, 0.015625, 0.015625]]
    """
    check_options(locals(), block_size="(0, inf)", sparsity="[0, 1)")
    features = ops.abs(ops.cast(features, "float32"))
    # Relative to the largest, whose square may overflow the dtype.
    curvature = ops.square(ops.divide_no_nan(features, ops.max(features, axis=-1, keepdims=True)))
    share = ops.divide_no_nan(curvature, ops.sum(curvature, axis=-1, keepdims=True))
    return ops.power(ops.minimum(1.0, block_size * share), 1 / (1 - sparsity))


@keras.saving.register_keras_serializable("keras_interp")
class InterpretableSGDDense(keras.layers.Dense):
    """A dense layer of logits whose kernel learns by interpretable SGD: block-coordinate SGD with Lipschitz sampling.

    Algorithm 3 of the Dynamic-K paper updates, for each sample, only some weights, which it draws by the curvature of the loss
    along them: the weights of the strongest activations. An optimizer sees the batch's gradient and cannot tell samples apart,
    so this is a layer. Outputs, and gradients of the inputs and of the bias, are those of `keras.layers.Dense`; the gradient
    of the kernel is the mean of the samples' interpretable gradients (steps 5 and 6). With `keras.optimizers.SGD` this is
    Algorithm 3; momentum and weight decay work as usual.

    One draw decides over an input's weights to all outputs, whose probabilities are equal. Expectation and mean square of the
    update, on which the rate of Theorem 1 rests, are those of a draw for each weight, and nothing of the size
    batch · inputs · units is needed.

    As in the paper a drawn gradient is not divided by its probability, so the expected update is a weighted sum of the
    samples' gradients, with weights that differ from sample to sample. It is zero where each sample's own gradient is, as it
    tends to be for classes that can be separated; otherwise training settles near the minimum. The loss may also rise: Theorem
    1's O(1/t) holds in our tests for moderate sparsity, but three samples make the loss grow at a sparsity of 0.99.

    Args:
        units: number of outputs.
        block_size: at most so many weights of each output are expected to be updated by one sample; see
            `update_probabilities`. Training is plain SGD once it reaches a sample's sum of squares over its smallest square.
        sparsity: the paper's s, in [0, 1): the larger, the fewer of the weaker inputs' weights are updated.
        seed: seed of `keras.random.SeedGenerator` for the draws.
        **kwargs: further arguments of `keras.layers.Dense`.

    Call arguments:
        inputs: float tensor (batch, ..., inputs).
        training: whether to draw. In inference the layer is `keras.layers.Dense`.

    Returns:
        A tensor (batch, ..., units) in the layer's compute dtype.

    Raises:
        ValueError: for a block size or a sparsity out of range.

    Examples:

    >>> model = keras.Sequential([keras.Input((64,)), InterpretableSGDDense(10, block_size=5, sparsity=0.9, seed=0)])
    >>> model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> history = model.fit(np.eye(64), np.arange(64) % 10, verbose=0)
    """

    def __init__(self, units: int, block_size: float, sparsity: float = 0.5, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        check_options(locals(), block_size="(0, inf)", sparsity="[0, 1)")
        self.block_size = block_size
        self.sparsity = sparsity
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not training:
            return super().call(inputs)
        probabilities = update_probabilities(inputs, self.block_size, self.sparsity)
        drawn = keras.random.uniform(ops.shape(probabilities), seed=self.seed_generator) < probabilities
        # The second product is zero: it gives the gradient of the kernel, the first that of the inputs.
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
