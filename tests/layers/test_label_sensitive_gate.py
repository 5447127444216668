import numpy as np
import pytest

from keras_interp.layers import LabelSensitiveGate
from keras_interp.layers.label_sensitive_gate import fixed_gate_matrix, gate_sparsity_penalty, project_gate


def built(classes=3, filters=4, **options):
    layer = LabelSensitiveGate(classes, **options)
    layer.build((None, filters))
    return layer


def test_multiplies_each_example_by_the_row_of_its_label(rng):
    layer = built()
    gate = rng.random((3, 4)).astype("float32")
    layer.gate.assign(gate)
    features = rng.normal(size=(5, 2, 2, 4)).astype("float32")
    labels = np.array([2, 0, 0, 1, 2])
    expected = np.stack([feature * gate[label] for feature, label in zip(features, labels)])
    np.testing.assert_allclose(layer(features, labels), expected, rtol=1e-6)
    np.testing.assert_allclose(layer(features, labels[:, None]), expected, rtol=1e-6)
    np.testing.assert_allclose(layer(features[:, 0, 0], labels), expected[:, 0, 0], rtol=1e-6)


def test_projection_on_known_columns():
    gate = np.array([[0.5, 0.2, 0.0, -4.0, 3.0], [0.25, -0.1, 0.0, -1.0, 1.5]], "float32")
    expected = np.array([[1.0, 1.0, 0.0, 0.0, 1.0], [0.5, 0.0, 0.0, 0.0, 0.5]])
    np.testing.assert_allclose(project_gate(gate), expected, atol=1e-6)


def test_projection_of_nonnegative_gates_is_idempotent(rng):
    once = project_gate(rng.random((10, 64)).astype("float32"))
    np.testing.assert_allclose(project_gate(once), once, atol=1e-6)


def test_first_projection_of_a_constant_gate_gives_ones():
    layer = built(10, 64)
    assert float(layer.density()) == pytest.approx(0.5)
    layer.project()
    np.testing.assert_array_equal(layer.gate, np.ones((10, 64)))


def test_sparsity_penalty_is_the_distance_of_the_sum_norm():
    layer = built(3, 4, initial_value=0.5)
    assert float(layer.sparsity_penalty(4.0)) == pytest.approx(2.0)
    assert float(layer.sparsity_penalty(9.0)) == pytest.approx(3.0)
    assert float(gate_sparsity_penalty(np.ones((2, 2), "float32"), 4.0)) == 0.0


def test_tighten_gives_one_hot_and_all_one_columns():
    layer = built(3, 4)
    layer.gate.assign([[1.0, 1.0, 0.2, 0.4], [0.1, 0.7, 1.0, 0.4], [0.0, 0.0, 0.5, 1.0]])
    layer.tighten(0.5)
    np.testing.assert_array_equal(layer.gate, [[1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 1]])


@pytest.mark.parametrize(("filters", "own", "shared"), [(64, 6, 4), (256, 25, 6)])
def test_fixed_matrix_of_the_paper(filters, own, shared):
    matrix = fixed_gate_matrix(10, filters, own)
    one_hot = matrix.sum(axis=0) == 1
    assert one_hot.sum() == 10 * own and (matrix.sum(axis=0) == 10).sum() == shared
    np.testing.assert_array_equal(matrix[:, one_hot].sum(axis=1), np.full(10, own))
    layer = built(10, filters)
    layer.fix(own)
    np.testing.assert_array_equal(layer.gate, matrix)


def test_gate_is_not_trained():
    layer = built()
    assert [weight.name for weight in layer.weights] == ["gate"] and not layer.trainable_variables


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LabelSensitiveGate(0), ValueError, "num_classes"),
        (lambda: LabelSensitiveGate(3, initial_value=0.0), ValueError, "initial_value"),
        (lambda: built()(np.ones((2, 4), "float32"), np.array([0.0, 1.0])), TypeError, "must be integers"),
        (lambda: built()(np.ones((2, 4), "float32"), np.eye(2, 3, dtype="int32")), ValueError, r"\(batch,\)"),
        (lambda: built(filters=None), ValueError, "number of filters"),
        (lambda: fixed_gate_matrix(10, 64, 7), ValueError, "at most 6"),
        (lambda: built().tighten(1.5), ValueError, "threshold"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
