import keras
import numpy as np
import pytest
from keras import ops

from keras_interp.explain import input_gradient


def test_gradient_of_a_network_by_hand(rng):
    keras.config.set_dtype_policy("float32")
    hidden, output = keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)
    x = rng.normal(size=(5, 3)).astype("float32")
    gradient = input_gradient(lambda x: output(hidden(x)), x)
    slopes = 1 - np.tanh(x @ np.asarray(hidden.kernel)) ** 2
    expected = (slopes * np.asarray(output.kernel).sum(axis=1)) @ np.asarray(hidden.kernel).T
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_second_gradient(rng):
    x = rng.normal(size=(5,)).astype("float32")
    second = input_gradient(lambda x: input_gradient(lambda z: z**3, x), x)
    np.testing.assert_allclose(second, 6 * x, rtol=1e-5)


def test_tensors_from_outside_are_constants_of_the_inner_gradient_alone():
    def squared_slope(x):
        square = x**2
        return input_gradient(lambda z: square * z, x) ** 2

    x = np.array([1.0, -2.0], "float32")
    np.testing.assert_allclose(squared_slope(ops.convert_to_tensor(x)), x**4)
    np.testing.assert_allclose(input_gradient(squared_slope, x), 4 * x**3)


def test_integers_and_what_does_not_depend_on_them():
    gradient = input_gradient(lambda x: x * x, np.array([3, 4], "uint8"))
    assert ops.dtype(gradient) == "float32" and np.asarray(gradient).tolist() == [6.0, 8.0]
    assert not np.asarray(input_gradient(lambda x: ops.ones(2), np.ones((2, 3), "float32"))).any()


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(NotImplementedError, match="Received: torch"):
        input_gradient(lambda x: x, np.ones(2, "float32"))
