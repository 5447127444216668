"""X-layer: the almost-identity layer that drops one neuron.

Paper: "XNet: Towards Training Explainable Neural Networks", section 2.2.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_interp.checks import check_options
from keras_interp.typing import Shape, Tensor


@keras.saving.register_keras_serializable("keras_interp")
class XLayer(keras.layers.Layer):
    """Multiplies neurons by the identity matrix I_k, or by one whose j-th diagonal entry is 0, which drops neuron j.

    The matrix is constant. A dropped neuron's value never reaches the output, not even NaN, and it gets no gradient.

    Args:
        units: number k of neurons.
        **kwargs: as for every Keras layer.

    Call arguments:
        inputs: float tensor (batch, units).
        drop: None for the plain output; the index of the neuron to drop, an integer, or a scalar integer tensor, which drops
            nothing outside 0 to k - 1; or "all" for all k dropped versions at once.

    Returns:
        A tensor (batch, units); for "all", (units, batch, units), whose j-th row has neuron j dropped.

    Raises:
        ValueError: for `units` below 1, inputs of another shape, or a neuron that the layer does not have.

    Examples:

    >>> layer = XLayer(3)
    >>> np.asarray(layer(np.array([[1.0, 2.0, 3.0]], "float32"), drop=1)).tolist()
    [[1.0, 0.0, 3.0]]
    >>> tuple(layer(np.ones((4, 3), "float32"), drop="all").shape)
    (3, 4, 3)
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_options(locals(), units="integer [1, inf)")
        self.units = int(units)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 2 or input_shape[-1] != self.units:
            raise ValueError(f"The neurons must have the shape (batch, {self.units}). Received: shape={tuple(input_shape)}")
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: self.units})

    def matrix(self, drop: int | None = None) -> np.ndarray:
        """Matrix that neurons are multiplied by, a float32 array (units, units)."""
        kept = np.ones(self.units, "float32")
        if drop is not None:
            kept[self._checked(drop)] = 0
        return np.diag(kept)

    def call(self, inputs: Tensor, drop: Tensor = None) -> Tensor:
        if drop is None:
            return inputs
        # Selected rather than multiplied by 0, which would turn an infinite neuron into NaN.
        if isinstance(drop, str):
            dropped = np.eye(self.units, dtype=bool)[:, None] if drop == "all" else self._checked(drop)
        else:
            dropped = ops.arange(self.units) == ops.cast(self._checked(drop), "int32")
        return ops.where(dropped, ops.zeros((), inputs.dtype), inputs)

    def _checked(self, drop: Any) -> Any:
        """The number, or scalar integer tensor, of the neuron to drop."""
        if ops.is_tensor(drop):
            if not len(drop.shape) and "int" in keras.backend.standardize_dtype(drop.dtype):
                return drop
        elif isinstance(drop, (int, np.integer)) and not isinstance(drop, bool) and 0 <= drop < self.units:
            return drop
        raise ValueError(f"`drop` must be None, 'all' or a neuron below {self.units}. Received: drop={drop!r}")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
