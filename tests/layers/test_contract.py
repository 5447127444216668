"""What every layer owes Keras: by our own checks, and by those that Keras makes of its layers."""

import keras
import numpy as np
import pytest

from keras_interp import layers
from tests.harness import run_keras_layer_test, run_layer_test

RNG = np.random.default_rng(0)
ROWS = RNG.random((6, 5)).astype("float32")
MAPS = RNG.random((2, 6, 6, 4)).astype("float32")
LABELS = np.arange(6, dtype="int32") % 3

# Class, options, inputs, shapes of outputs, options of the call.
CASES = {
    "DynamicKDense": (layers.DynamicKDense, {"units": 3, "k": 2}, [ROWS], [(6, 3)], {}),
    "DynamicKDense, nonnegative": (layers.DynamicKDense, {"units": 3, "k": 2, "nonnegative": True}, [ROWS], [(6, 3)], {}),
    "DynamicKConv2D": (
        layers.DynamicKConv2D,
        {"filters": 3, "kernel_size": 3, "k": 2, "strides": 2, "padding": "same"},
        [MAPS],
        [(2, 3, 3, 3)],
        {},
    ),
    "HardConcreteGate": (layers.HardConcreteGate, {"seed": 1}, [ROWS], [(6, 5), (6, 5)], {}),
    "HardConcreteGate of maps": (
        layers.HardConcreteGate,
        {"per_position": True, "per_sample_noise": True, "mode": "hard", "initial_drop_rate": 0.2, "seed": 1},
        [MAPS],
        [MAPS.shape, MAPS.shape],
        {},
    ),
    "InterpretableSGDDense": (
        layers.InterpretableSGDDense,
        {"units": 3, "block_size": 2, "sparsity": 0.5, "seed": 1},
        [ROWS],
        [(6, 3)],
        {},
    ),
    "LabelSensitiveGate": (layers.LabelSensitiveGate, {"num_classes": 3, "initial_value": 0.25}, [ROWS, LABELS], [(6, 5)], {}),
    "SparseReconstructionAE": (
        layers.SparseReconstructionAE,
        {"num_features": 3, "hidden_units": (8,), "num_modules": 2, "sparsity": "l1", "seed": 3},
        [ROWS],
        [(6, 2, 3), (6, 2), (6, 2, 5)],
        {},
    ),
    "XLayer": (layers.XLayer, {"units": 5}, [ROWS], [(6, 5)], {}),
    "XLayer, all dropped in turn": (layers.XLayer, {"units": 5}, [ROWS], [(5, 6, 5)], {"drop": "all"}),
}


def test_every_layer_is_here():
    assert {name.split()[0].rstrip(",") for name in CASES} == set(layers.__all__)


@pytest.mark.parametrize("case", CASES)
def test_contract(case, tmp_path):
    layer_class, options, inputs, shapes, call_options = CASES[case]
    run_layer_test(layer_class, options, inputs, shapes, tmp_path, call_options)


@keras.saving.register_keras_serializable("tests")
class Gate(layers.LabelSensitiveGate):
    """Keras's checks give a layer one argument."""

    def build(self, shapes):
        super().build(*shapes)

    def call(self, inputs):
        return super().call(*inputs)

    def compute_output_shape(self, shapes):
        return super().compute_output_shape(*shapes)


@pytest.mark.parametrize("case", CASES)
def test_contract_of_keras(case):
    layer_class, options, inputs, shapes, call_options = CASES[case]
    one = len(inputs) == 1
    data = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs[0] if one else tuple(inputs))
    run_keras_layer_test(
        layer_class if one else Gate,
        options,
        input_data=data,
        call_kwargs=call_options,
        expected_output_shape=shapes[0] if len(shapes) == 1 else tuple(shapes),
    )
