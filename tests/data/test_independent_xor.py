import numpy as np
import pytest

from keras_interp import data


def test_splits_follow_the_definition():
    train, test = data.load("independent_xor", "train"), data.load("independent_xor", "test")
    for dataset, size in [(train, 10_000), (test, 2_500)]:
        assert dataset.inputs.shape == (size, 3) and dataset.inputs.dtype == np.float32
        np.testing.assert_allclose(dataset.inputs.min(axis=0), (-2, -2, 0), atol=0.01)
        np.testing.assert_allclose(dataset.inputs.max(axis=0), (2, 2, 1), atol=0.01)
        expected = [int(x1 * x2 > 0 and x3 > 0.5) for x1, x2, x3 in dataset.inputs.tolist()]
        assert dataset.targets.tolist() == expected
        assert abs(dataset.targets.mean() - 0.25) < 0.02
        assert dataset.class_names == ("0", "1") and dataset.column_names == ("x1", "x2", "x3")
    np.testing.assert_array_equal(data.load("independent_xor", "train").inputs, train.inputs)
    assert not set(map(bytes, train.inputs)) & set(map(bytes, test.inputs))


@pytest.mark.parametrize("split", ["validation", "train[:90%]"])
def test_other_splits_are_refused(split, tmp_path):
    with pytest.raises(ValueError, match=r"'train' and 'test'.*slice.*Received: split="):
        data.load("independent_xor", split)
    with pytest.raises(ValueError, match="'train' and 'test'"):
        data.load_independent_xor(tmp_path, split)


def save(folder, inputs, one_hot):
    np.save(folder / "new_xor_train_x.npy", inputs)
    np.save(folder / "new_xor_train_y.npy", one_hot)


def test_published_arrays(tmp_path, rng):
    inputs, targets = rng.uniform(-1, 1, (6, 3)), np.array([0, 1, 1, 0, 1, 0])
    save(tmp_path, inputs, np.eye(2)[targets])
    dataset = data.load_independent_xor(tmp_path, "train")
    np.testing.assert_array_equal(dataset.inputs, inputs.astype("float32"))
    np.testing.assert_array_equal(dataset.targets, targets)
    assert dataset.targets.dtype == np.int32 and dataset.class_names == ("0", "1")
    with pytest.raises(FileNotFoundError, match=r"new_xor_test_x\.npy"):
        data.load_independent_xor(tmp_path, "test")


@pytest.mark.parametrize(
    ("inputs", "one_hot", "message"),
    [
        (np.zeros((4, 2)), np.eye(2)[[0, 1, 1, 0]], r"\(n, 3\). Received: shape=\(4, 2\)"),
        (np.zeros((4, 3)), np.array([0, 1, 1, 0]), r"one-hot.*Received: shape=\(4,\)"),
        (np.zeros((4, 3)), np.full((4, 2), 0.5), "one-hot"),
        (np.zeros((4, 3)), np.eye(2)[[0, 1, 1]], "one target for each"),
        (np.full((4, 3), np.nan), np.eye(2)[[0, 1, 1, 0]], "must be finite"),
        (np.array([None] * 4), np.eye(2)[[0, 1, 1, 0]], "allow_pickle=False"),
    ],
)
def test_bad_arrays(tmp_path, inputs, one_hot, message):
    save(tmp_path, inputs, one_hot)
    with pytest.raises(ValueError, match=message):
        data.load_independent_xor(tmp_path, "train")
