import numpy as np
import pytest

from keras_interp.metrics import accuracy_costs
from keras_interp.metrics.dropping import activation_shares, group_accuracies


def test_accuracy_costs_like_a_loop(rng):
    logits, dropped = rng.normal(size=(40, 3)), rng.normal(size=(4, 40, 3))
    labels, attributes = rng.integers(0, 3, 40), rng.integers(0, 2, (40, 2))
    costs = accuracy_costs(logits, dropped, labels, attributes)
    assert costs.shape == (2, 4)
    for category in range(2):
        members = np.flatnonzero(attributes[:, category])
        for neuron in range(4):
            right = [int(logits[i].argmax() == labels[i]) - int(dropped[neuron, i].argmax() == labels[i]) for i in members]
            assert costs[category, neuron] == pytest.approx(np.mean(right))
    np.testing.assert_array_equal(accuracy_costs(logits, logits[None], labels, attributes), np.zeros((2, 1)))
    # The scale of the logits counts in a drop loss, and not here.
    np.testing.assert_array_equal(accuracy_costs(9 * logits, 9 * dropped, labels, attributes), costs)


def test_activation_shares_like_a_loop(rng):
    neurons, attributes = rng.random((30, 3)), rng.integers(0, 2, (30, 4))
    means = np.array([[neurons[attributes[:, j] == 1, i].mean() for i in range(3)] for j in range(4)])
    np.testing.assert_allclose(activation_shares(neurons, attributes), means / means.sum(axis=0))
    neurons[:, 1] = 0
    assert (activation_shares(neurons, attributes)[:, 1] == 0).all()


def test_groups_and_empty_categories():
    logits, labels = np.array([[2.0, 0], [0, 2.0], [2.0, 0]]), np.array([0, 0, 1])
    groups = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(group_accuracies(logits, labels, groups), [0.5, 0.0, np.nan])
    assert np.isnan(accuracy_costs(logits, logits[None], labels, groups)[2]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy_costs(np.ones((2, 2)), np.ones((3, 1, 2)), [0, 1], np.eye(2)), "dropped_logits"),
        (lambda: accuracy_costs(np.ones((2, 2)), np.ones((3, 2, 2)), [0, 2], np.eye(2)), r"\[0, 2\)"),
        (lambda: accuracy_costs(np.ones((2, 2)), np.ones((3, 2, 2)), [0, 1], np.ones((3, 2))), "2 examples.*3 rows"),
        (lambda: accuracy_costs(np.ones((2, 2)), np.ones((3, 2, 2)), [0, 1], np.eye(2) * 3), "0 or 1"),
        (lambda: activation_shares(-np.ones((2, 2)), np.eye(2)), "negative"),
        (lambda: activation_shares(np.full((2, 2), np.nan), np.eye(2)), "NaN|finite"),
        (lambda: group_accuracies(np.ones((2, 2)), [0, 1], [1, 0]), r"\(n, 2\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
