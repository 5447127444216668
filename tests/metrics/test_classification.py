import math

import numpy as np
import pytest

from keras_interp.metrics import accuracy, confusion_matrix, cross_entropy, recall


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 4)).astype("float32"), rng.integers(0, 4, 50)


def test_accuracy_and_cross_entropy_equal_loops(examples):
    logits, labels = examples
    hits, loss = 0, 0.0
    for row, label in zip(logits.tolist(), labels):
        hits += row.index(max(row)) == label
        loss -= math.log(math.exp(row[label]) / sum(map(math.exp, row)))
    assert accuracy(logits, labels) == hits / 50
    assert cross_entropy(logits, labels) == pytest.approx(loss / 50, rel=1e-6)


def test_cross_entropy_of_huge_logits_is_finite():
    logits = np.array([[5e4, 0.0], [5e4, 0.0]])
    assert cross_entropy(logits, np.array([0, 0])) == 0
    assert cross_entropy(logits, np.array([0, 1])) == 2.5e4
    # float16 logits would overflow in their own precision.
    assert cross_entropy(logits.astype("float16"), np.array([1, 1])) == pytest.approx(5e4, rel=1e-3)


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
def test_confusion_matrix_equals_a_loop(examples, dtype):
    logits, labels = examples
    predictions, labels = logits.argmax(axis=1).astype(dtype), labels.astype(dtype)
    expected = np.zeros((4, 4), int)
    for prediction, label in zip(predictions, labels):
        expected[label, prediction] += 1
    np.testing.assert_array_equal(confusion_matrix(predictions, labels, 4, normalize=False), expected)
    shares = confusion_matrix(predictions, labels, 4)
    np.testing.assert_allclose(shares, [[count / sum(row) for count in row] for row in expected.tolist()])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_array_equal(recall(predictions, labels, 4), [shares[c, c] for c in range(4)])


def test_small_integer_labels_do_not_overflow():
    labels = np.arange(200, dtype="uint8")
    np.testing.assert_array_equal(confusion_matrix(labels, labels, 200), np.eye(200))


def test_a_class_without_examples_is_nan():
    shares = confusion_matrix(np.array([0, 1]), np.array([0, 0]), 2)
    np.testing.assert_array_equal(shares, [[0.5, 0.5], [np.nan, np.nan]])
    np.testing.assert_array_equal(recall(np.array([0, 1]), np.array([0, 0]), 2), [0.5, np.nan])
    np.testing.assert_array_equal(confusion_matrix(np.array([0, 1]), np.array([0, 0]), 2, normalize=False), [[1, 1], [0, 0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy(np.zeros(3), np.zeros(3, int)),
        lambda: accuracy(np.zeros((3, 2)), np.zeros(2, int)),
        lambda: accuracy(np.zeros((3, 2)), np.array([0, 1, 2])),
        lambda: accuracy(np.zeros((0, 2)), np.zeros(0, int)),
        lambda: cross_entropy(np.full((3, 2), np.nan), np.zeros(3, int)),
        lambda: cross_entropy(np.zeros((3, 2)), np.array([0, 1, -1])),
        lambda: confusion_matrix(np.array([0, 2]), np.array([0, 1]), 2),
        lambda: confusion_matrix(np.array([0, 1]), np.array([0, 1, 1]), 2),
        lambda: recall(np.zeros(0, int), np.zeros(0, int), 2),
    ],
)
def test_bad_inputs_raise(call):
    with pytest.raises(ValueError, match="Received: "):
        call()


def test_labels_that_are_not_integers_raise():
    with pytest.raises(TypeError, match="Received: "):
        accuracy(np.zeros((3, 2)), np.zeros(3))
