import keras
import numpy as np
import pytest

from keras_interp.explain.gradients import input_gradient
from keras_interp.layers import XLayer


def test_plain_dropped_and_all(rng):
    layer, neurons = XLayer(4), rng.normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(layer(neurons), neurons @ np.eye(4, dtype="float32"))
    versions = np.asarray(layer(neurons, drop="all"))
    assert versions.shape == (4, 3, 4)
    for number in range(4):
        expected = neurons @ layer.matrix(number)
        for drop in (number, np.int64(number), keras.ops.convert_to_tensor(number, "int32")):
            np.testing.assert_array_equal(layer(neurons, drop=drop), expected)
        np.testing.assert_array_equal(versions[number], expected)
    np.testing.assert_array_equal(layer.matrix(), np.eye(4))
    assert layer.matrix(2)[2, 2] == 0 and layer.matrix(2).sum() == 3


def test_no_gradient_reaches_a_dropped_neuron(rng):
    layer, neurons = XLayer(3), rng.normal(size=(5, 3)).astype("float32")
    gradient = np.asarray(input_gradient(lambda x: layer(x, drop=1) ** 2, neurons))
    assert (gradient[:, 1] == 0).all()
    np.testing.assert_allclose(gradient[:, [0, 2]], 2 * neurons[:, [0, 2]], rtol=1e-6)
    neurons[0, 1] = np.inf
    neurons[1, 1] = np.nan
    assert np.isfinite(layer(neurons, drop=1)).all()
    assert (np.asarray(input_gradient(lambda x: layer(x, drop=1) ** 2, neurons))[:, 1] == 0).all()


def test_in_a_graph(tmp_path, rng):
    inputs = keras.Input((3,))
    layer = XLayer(3)
    model = keras.Model(inputs, [layer(inputs), layer(inputs, drop="all"), layer(inputs, drop=2)])
    assert not layer.trainable_weights and [tuple(output.shape) for output in model.outputs] == [
        (None, 3),
        (3, None, 3),
        (None, 3),
    ]
    model.save(tmp_path / "model.keras")
    loaded, neurons = keras.saving.load_model(tmp_path / "model.keras"), rng.normal(size=(2, 3)).astype("float32")
    for one, other in zip(model(neurons), loaded(neurons)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: XLayer(0), "`units`"),
        (lambda: XLayer(2.5), "`units`.*2.5"),
        (lambda: XLayer(True), "`units`"),
        (lambda: XLayer(3)(np.ones((2, 4))), r"\(batch, 3\).*\(2, 4\)"),
        (lambda: XLayer(3)(np.ones((2, 3, 3))), r"\(batch, 3\)"),
        (lambda: XLayer(3)(np.ones((2, 3)), drop=3), "below 3.*3"),
        (lambda: XLayer(3)(np.ones((2, 3)), drop=-1), "below 3"),
        (lambda: XLayer(3)(np.ones((2, 3)), drop="both"), "below 3.*'both'"),
        (lambda: XLayer(3)(np.ones((2, 3)), drop=True), "below 3"),
        (lambda: XLayer(3)(np.ones((2, 3)), drop=1.0), "below 3"),
        (lambda: XLayer(3)(np.ones((2, 3)), drop=keras.ops.convert_to_tensor([0, 1])), "below 3"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
