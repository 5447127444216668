"""Dynamic-K activation: each output sums only the K inputs that contribute most to it, chosen per example.

Paper: "Adaptive Activation Thresholding: Dynamic Routing Type Behavior for Interpretability in Convolutional Neural
Networks", Algorithm 2. Weights that are never chosen get no gradient, so coupled weight decay takes them to zero.
"""

import functools
import numbers
from typing import Any

import keras
from keras import layers, ops

from keras_interp.checks import check_features, check_labels, check_options
from keras_interp.typing import Shape, Tensor

# Number of products held at once while choosing (4 MiB), which fit into a processor's cache.
CHUNK_SIZE = 2**20


def largest_contributions(features: Tensor, kernel: Tensor, k: int) -> Tensor:
    """Indices of the k inputs that contribute most to each output: the argmax of Algorithm 2.

    Holds at most about `CHUNK_SIZE` of the batch · units · inputs products. Compares in float32; ties go to the lower index.

    Args:
        features: tensor (batch, inputs).
        kernel: tensor (inputs, units).
        k: number of inputs to choose.

    Returns:
        An int32 tensor (batch, units, k), largest first. No gradient flows through it.
    """
    features, kernel = (ops.stop_gradient(ops.cast(part, "float32")) for part in (features, kernel))
    # JAX compiles the chunks; outside a compiled step it would do so in each call.
    choose = _compiled_choice() if keras.backend.backend() == "jax" else _choose
    return choose(features, kernel, k)


@functools.cache
def _compiled_choice():
    import jax

    return jax.jit(_choose, static_argnums=2)


def _choose(features, kernel, k):
    weights = ops.transpose(kernel)

    def choose(rows):
        products = ops.expand_dims(rows, 1) * weights
        # -0 and 0 are equal, but not to every top_k.
        return ops.top_k(ops.where(products == 0, 0.0, products), k)[1]

    units, inputs = weights.shape
    batch = ops.shape(features)[0]
    limit = max(CHUNK_SIZE // (units * inputs), 1)
    if isinstance(batch, int) and batch <= limit:
        return choose(features)
    chunks = -(-batch // limit)
    if not isinstance(batch, int):
        # An empty batch is also one chunk: a replica's share of a small last batch may be empty.
        chunks = ops.maximum(chunks, 1)
    rows = -(-batch // chunks)
    padded = ops.concatenate([features, ops.zeros((chunks * rows - batch, inputs))])
    chosen = ops.map(choose, ops.reshape(padded, (chunks, rows, inputs)))
    return ops.reshape(chosen, (chunks * rows, units, k))[:batch]


def sum_of_largest(features: Tensor, kernel: Tensor, k: int, nonnegative: bool = False) -> Tensor:
    """Sum of the k largest contributions w_ic x_i to each output (Algorithm 2).

    Args:
        features: float tensor (batch, inputs).
        kernel: float tensor (inputs, units).
        k: number of inputs to sum.
        nonnegative: whether to drop negative contributions, as in Algorithm 2; the authors' code keeps them.

    Returns:
        A tensor (batch, units), whose gradient reaches only the chosen inputs.
    """
    inputs, units = kernel.shape
    if k == inputs and not nonnegative:
        return ops.matmul(features, kernel)
    chosen = largest_contributions(features, kernel, k)
    # Gathered from flat tensors, so that the gradients are scattered sums of batch · units · k terms.
    of_units = chosen + ops.reshape(ops.arange(units, dtype="int32") * inputs, (1, units, 1))
    of_examples = chosen + ops.reshape(ops.arange(ops.shape(features)[0], dtype="int32") * inputs, (-1, 1, 1))
    weights = ops.take(ops.reshape(ops.transpose(kernel), (-1,)), of_units)
    contributions = weights * ops.take(ops.reshape(features, (-1,)), of_examples)
    outputs = ops.sum(ops.relu(contributions) if nonnegative else contributions, axis=-1)
    # NaN propagates as in every sum: its rank among numbers depends on the backend.
    spoiled = ops.any(ops.isnan(features), axis=1, keepdims=True) | ops.any(ops.isnan(kernel), axis=0, keepdims=True)
    return ops.where(spoiled, float("nan"), outputs)


class _DynamicK(layers.Layer):
    """Arguments, weights and checks of both layers."""

    def __init__(
        self,
        k: int,
        nonnegative: bool = False,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        # Inputs are chosen at full precision, not in half precision.
        super().__init__(**{**kwargs, "autocast": False})
        check_options(locals(), k="integer [1, inf)")
        self.k = int(k)
        self.nonnegative = nonnegative
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)

    def _add_weights(self, kernel_shape):
        *_, inputs, outputs = kernel_shape
        if self.k > inputs:
            raise ValueError(f"`k` must be at most the number of inputs, {inputs}. Received: k={self.k}")
        self.kernel = self.add_weight(
            name="kernel",
            shape=kernel_shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            autocast=False,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(outputs,), initializer=self.bias_initializer, regularizer=self.bias_regularizer
            )

    def _with_bias(self, outputs):
        outputs = ops.cast(outputs, self.compute_dtype)
        return outputs if self.bias is None else outputs + ops.cast(self.bias, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        parts = ("kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer")
        serialize = (keras.initializers.serialize, keras.initializers.serialize) + 2 * (keras.regularizers.serialize,)
        return {
            **super().get_config(),
            "k": self.k,
            "nonnegative": self.nonnegative,
            "use_bias": self.use_bias,
            **{part: function(getattr(self, part)) for part, function in zip(parts, serialize)},
        }


@keras.saving.register_keras_serializable("keras_interp")
class DynamicKDense(_DynamicK):
    """A dense layer that sums only the k largest contributions w_ic x_i for each example and output (Algorithm 2).

    The same in training and at test time. Exactly k inputs are chosen, ties going to the lowest indices, and the gradient
    reaches only these. With k equal to the number of inputs it is `keras.layers.Dense`. Chooses in float32 under every dtype
    policy, without holding all batch · units · inputs contributions.

    Args:
        units: number of outputs.
        k: number K of inputs used for an output.
        nonnegative: whether to drop negative contributions, as in Algorithm 2; by default they count if they are among the k
            largest, as in the authors' code.
        use_bias: whether to add a bias.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer: as for `keras.layers.Dense`.

    Call arguments:
        inputs: float tensor (batch, inputs).

    Returns:
        A tensor (batch, units) in the layer's compute dtype.

    Raises:
        ValueError: for a k below 1 or above the number of inputs, or inputs of the wrong rank.

    Examples:

    >>> layer = DynamicKDense(1, k=2, kernel_initializer="ones")
    >>> float(layer(np.array([[1.0, 5.0, 3.0, 2.0]]))[0, 0])
    8.0
    """

    def __init__(self, units: int, k: int, nonnegative: bool = False, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(k, nonnegative, use_bias, **kwargs)
        check_options(locals(), units="integer [1, inf)")
        self.units = int(units)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(f"A `DynamicKDense` takes inputs (batch, inputs). Received: shape={tuple(input_shape)}")
        self._add_weights((input_shape[-1], self.units))
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs: Tensor) -> Tensor:
        # With all inputs there is nothing to choose: this is `keras.layers.Dense`.
        chooses = self.k < self.kernel.shape[0] or self.nonnegative
        dtype = "float32" if chooses and self.compute_dtype != "float64" else self.compute_dtype
        inputs, kernel = (ops.cast(part, dtype) for part in (inputs, self.kernel))
        return self._with_bias(sum_of_largest(inputs, kernel, self.k, self.nonnegative))

    def selected(self, inputs: Tensor) -> Tensor:
        """Indices of the inputs chosen for each output.

        Args:
            inputs: float array (batch, inputs).

        Returns:
            An int32 tensor (batch, units, k), the largest contribution first. In a `nonnegative` layer, those that are not
            positive add nothing.

        Raises:
            ValueError: for inputs of the wrong shape, NaN or infinite ones, or a layer that is not built.

        Examples:

        >>> layer = DynamicKDense(1, k=2, kernel_initializer="ones")
        >>> layer.build((None, 4))
        >>> np.asarray(layer.selected([[1.0, 5.0, 3.0, 2.0]])).tolist()
        [[[1, 2]]]
        """
        return largest_contributions(self._checked(inputs), ops.convert_to_tensor(self.kernel), self.k)

    def _checked(self, inputs):
        """Inputs to explain, as a tensor."""
        if not self.built:
            raise ValueError(f"The layer must be built, or called once. Received: {self.name!r} without weights")
        inputs = ops.convert_to_tensor(inputs, "float32")
        if len(inputs.shape) != 2 or inputs.shape[1] != self.kernel.shape[0]:
            raise ValueError(
                f"The inputs must have the shape (batch, {self.kernel.shape[0]}). Received: shape={tuple(inputs.shape)}"
            )
        check_features(ops.convert_to_numpy(inputs))
        return inputs

    def contributions(self, inputs: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Contributions of every input to one output for each example, chosen or not.

        Args:
            inputs: float array (batch, inputs).
            units: integers (batch,), the output to look at for each example.

        Returns:
            A pair of tensors (batch, inputs): the contributions w_ic x_i in float32, and booleans, True if chosen.

        Raises:
            ValueError: for units of another shape, or out of range; and as for `selected`.

        Examples:

        >>> layer = DynamicKDense(1, k=2, kernel_initializer="ones")
        >>> layer.build((None, 4))
        >>> [np.asarray(part).tolist() for part in layer.contributions([[1.0, 5.0, 3.0, 2.0]], [0])]
        [[[1.0, 5.0, 3.0, 2.0]], [[False, True, True, False]]]
        """
        inputs, units = self._checked(inputs), check_labels(ops.convert_to_numpy(units), self.units)
        if len(units) != inputs.shape[0]:
            raise ValueError(f"There must be one unit for each of {inputs.shape[0]} examples. Received: {len(units)}")
        contributions = inputs * ops.take(ops.transpose(ops.cast(self.kernel, "float32")), units, axis=0)
        chosen = ops.top_k(ops.where(contributions == 0, 0.0, contributions), self.k)[1]
        batch, width = ops.shape(contributions)
        positions = chosen + ops.reshape(ops.arange(batch, dtype="int32") * width, (-1, 1))
        counts = ops.scatter(ops.reshape(positions, (-1, 1)), ops.ones(batch * self.k), (batch * width,))
        counts = ops.reshape(counts, (batch, width)) > 0
        return contributions, counts & (contributions > 0) if self.nonnegative else counts

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("keras_interp")
class DynamicKConv2D(_DynamicK):
    """A convolution whose output channels, at each position, sum only the k input channels that contribute most (Figure 1).

    An input channel's contribution is its part of the convolution, the sum over the kernel's window. With k equal to the
    number of input channels it is `keras.layers.Conv2D`. Memory grows with batch · positions · input channels · filters: for
    layers of moderate size.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel.
        k: number K of input channels to sum.
        strides: step in both directions.
        padding: "valid" or "same".
        nonnegative, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer: as for
            `DynamicKDense`.

    Call arguments:
        inputs: float tensor (batch, height, width, channels).

    Returns:
        A tensor (batch, new height, new width, filters).

    Raises:
        ValueError: for sizes, strides or a k below 1, an unknown padding, a k above the number of channels, or inputs of the
            wrong rank.

    Examples:

    >>> tuple(DynamicKConv2D(8, 3, k=4, padding="same")(np.ones((2, 6, 6, 16), "float32")).shape[1:])
    (6, 6, 8)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        k: int,
        strides: int = 1,
        padding: str = "valid",
        nonnegative: bool = False,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(k, nonnegative, use_bias, **kwargs)
        whole = dict.fromkeys(("filters", "kernel_size", "strides"), "integer [1, inf)")
        check_options(locals(), **whole, padding=("valid", "same"))
        self.filters = int(filters)
        sizes: Any = (kernel_size, kernel_size) if isinstance(kernel_size, numbers.Integral) else kernel_size
        self.kernel_size = tuple(map(int, sizes))
        if len(self.kernel_size) != 2:
            raise ValueError(f"`kernel_size` must be one number or two. Received: kernel_size={kernel_size}")
        self.strides = int(strides)
        self.padding = padding

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise ValueError(
                f"A `DynamicKConv2D` takes maps (batch, height, width, channels). Received: shape={tuple(input_shape)}"
            )
        self._add_weights((*self.kernel_size, input_shape[-1], self.filters))
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: input_shape[-1]})

    def call(self, inputs: Tensor) -> Tensor:
        channels = inputs.shape[-1]
        if self.k == channels and not self.nonnegative:
            maps, kernel = (ops.cast(part, self.compute_dtype) for part in (inputs, self.kernel))
            return self._with_bias(ops.conv(maps, kernel, self.strides, self.padding, data_format="channels_last"))
        # Each channel by itself with the kernels of all filters: the last axis is channels · filters.
        parts = ops.depthwise_conv(
            ops.cast(inputs, "float32"), ops.cast(self.kernel, "float32"), self.strides, self.padding, "channels_last"
        )
        _, height, width, _ = ops.shape(parts)
        parts = ops.reshape(parts, (-1, height, width, channels, self.filters))
        largest = ops.top_k(ops.swapaxes(parts, -1, -2), self.k)[0]
        outputs = ops.sum(ops.relu(largest) if self.nonnegative else largest, axis=-1)
        # See `sum_of_largest`.
        return self._with_bias(ops.where(ops.any(ops.isnan(parts), axis=-2), float("nan"), outputs))

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "kernel_size", "strides", "padding")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
