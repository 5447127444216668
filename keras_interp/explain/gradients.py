"""Gradients with respect to a network's inputs, for each backend."""

from collections.abc import Callable

import keras
from keras import ops

from keras_interp.typing import Tensor


def input_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of the sum of `function(x)` with respect to `x`; it can be differentiated again, as a loss needs.

    If each row of `function(x)` depends only on the same row of `x`, these are the gradients of the rows' own sums.

    Args:
        function: takes a tensor and returns a tensor of any shape. Tensors that it takes from outside count as constants of
            this gradient, even where they were computed from `x`; a gradient of the result still reaches them.
        x: array or tensor of any shape; integers are taken as float32.

    Returns:
        A tensor of the shape of `x` and its float dtype; zeros if the function does not depend on `x`.

    Raises:
        NotImplementedError: on backends other than TensorFlow and JAX.

    Examples:

    >>> np.asarray(input_gradient(lambda x: x**3, np.array([1.0, 2.0], "float32"))).tolist()
    [3.0, 12.0]
    """
    x = ops.convert_to_tensor(x)
    if not keras.backend.is_float_dtype(x.dtype):
        x = ops.cast(x, "float32")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values = function(x)
        return tape.gradient(values, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(lambda x: ops.sum(function(x)))(x)
    raise NotImplementedError(f"Input gradients need the TensorFlow or JAX backend. Received: {keras.backend.backend()}")
