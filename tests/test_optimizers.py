import keras
import numpy as np

from keras_interp.optimizers import CoupledSGD


def test_decay_goes_through_the_momentum():
    """Against a loop: v <- m v - lr (g + wd w); w <- w + v, for 2,000 steps without gradient."""
    weight = keras.Variable(np.ones(1, "float32"))
    optimizer = CoupledSGD(0.1, momentum=0.9, weight_decay=5e-4)
    optimizer.build([weight])
    value, velocity = 1.0, 0.0
    for _ in range(2000):
        optimizer.apply([keras.ops.zeros(1)], [weight])
        velocity = 0.9 * velocity - 0.1 * 5e-4 * value
        value += velocity
    np.testing.assert_allclose(weight.numpy() if hasattr(weight, "numpy") else weight, value, rtol=1e-3)
    assert abs(value - 0.368) < 0.001


def test_excluded_variables_and_config():
    weight = keras.Variable(np.ones(1, "float32"), name="gamma")
    optimizer = CoupledSGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[weight])
    optimizer.build([weight])
    optimizer.apply([keras.ops.zeros(1)], [weight])
    assert float(weight.value[0]) == 1.0
    copy = CoupledSGD.from_config(optimizer.get_config())
    assert copy.coupled_weight_decay == 0.5 and copy.get_config() == optimizer.get_config()
