import dataclasses
import re

import numpy as np
import pytest

from keras_interp import data
from keras_interp.data import ArrayDataset, Batches, augment


def numbered(count=50, size=8):
    """Images that hold their own number in every pixel."""
    images = np.broadcast_to(np.arange(count, dtype="uint8")[:, None, None, None], (count, size, size, 3)).copy()
    return ArrayDataset(images, np.arange(count, dtype="int32"), tuple(map(str, range(count))))


def epoch_labels(batches):
    return np.concatenate([batches[number][1] for number in range(len(batches))])


def test_each_epoch_is_another_permutation_without_the_rest():
    batches = Batches(numbered(), batch_size=16)
    assert len(batches) == 3
    first = epoch_labels(batches)
    assert len(set(first.tolist())) == 48
    batches.on_epoch_end()
    assert (epoch_labels(batches) != first).any()


def test_order_and_augmentation_are_functions_of_seed_and_epoch(toy_dataset):
    one, other = (Batches(toy_dataset, 16, pad=4, flip=True, seed=3) for _ in range(2))
    for _ in range(2):
        one.on_epoch_end()
    other.epoch = 2
    for number in range(len(one)):
        for a, b in zip(one[number], other[number]):
            np.testing.assert_array_equal(a, b)
    assert (Batches(toy_dataset, 16, seed=4)[0][1] != Batches(toy_dataset, 16, seed=3)[0][1]).any()


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_the_batch_of_one(toy_dataset, shuffle):
    options = {"batch_size": 16, "pad": 2 * shuffle, "flip": shuffle, "shuffle": shuffle}
    whole = Batches(toy_dataset, **options)
    shares = [Batches(toy_dataset, **options, process=(index, 4)) for index in range(4)]
    images = np.concatenate([share[1][0] for share in shares])
    assert images.shape == whole[1][0].shape
    assert sorted(map(bytes, images)) == sorted(map(bytes, whole[1][0]))


def test_rows_of_a_table(rng):
    rows = ArrayDataset(rng.normal(size=(40, 3)), rng.normal(size=40), column_names=("a", "b", "c"))
    batches = Batches(rows, 16)
    inputs, targets = batches[0]
    assert inputs.shape == (16, 3) and set(targets) <= set(rows.targets)
    with pytest.raises(ValueError, match="for images"):
        Batches(rows, 16, flip=True)
    with pytest.raises(ValueError, match="3 columns"):
        ArrayDataset(rows.inputs, rows.targets, column_names=("a",))


def test_without_shuffling_all_examples_come_in_order():
    batches = Batches(numbered(), batch_size=16, shuffle=False)
    np.testing.assert_array_equal(epoch_labels(batches), np.arange(50))


def test_augment_crops_and_flips_like_a_loop(rng):
    images = rng.integers(0, 256, (12, 8, 8, 3), dtype="uint8")
    outputs = augment(images, np.random.default_rng(5), pad=2, flip=True)
    same = np.random.default_rng(5)
    tops, lefts = same.integers(0, 5, (2, 12))
    flips = same.random(12) < 0.5
    for image, output, top, left, flip in zip(images, outputs, tops, lefts, flips):
        padded = np.zeros((12, 12, 3), "uint8")
        padded[2:10, 2:10] = image
        crop = padded[top : top + 8, left : left + 8]
        np.testing.assert_array_equal(output, crop[:, ::-1] if flip else crop)
    assert outputs.dtype == images.dtype


def test_npz_round_trip(tmp_path, toy_dataset):
    path = tmp_path / "toy.npz"
    np.savez(path, inputs=toy_dataset.inputs, targets=toy_dataset.targets, class_names=np.array(toy_dataset.class_names))
    loaded = data.load(str(path))
    np.testing.assert_array_equal(loaded.inputs, toy_dataset.inputs)
    assert loaded.class_names == toy_dataset.class_names and loaded.targets.dtype == np.int32 and loaded.attributes is None
    extra = {"attributes": np.eye(2, dtype=bool)[toy_dataset.targets % 2], "attribute_names": np.array(["even", "odd"])}
    np.savez(path, inputs=toy_dataset.inputs, targets=toy_dataset.targets, task="classification", **extra)
    assert data.load(path).attribute_names == ("even", "odd") and data.load(path).attributes[:, 1].sum() > 0
    assert data.load(path).class_names == tuple(map(str, range(10)))
    np.savez(path, pictures=toy_dataset.inputs)
    with pytest.raises(ValueError, match="'inputs' and 'targets'"):
        data.load(path)


def with_attributes(dataset, attributes):
    names = tuple(f"attribute {number}" for number in range(np.shape(attributes)[1]))
    return dataclasses.replace(dataset, attributes=attributes, attribute_names=names)


def test_attributes_travel_with_the_examples():
    dataset = numbered(40)
    dataset = with_attributes(dataset, np.stack([dataset.targets % 2, dataset.targets % 3 == 0], axis=1))
    part = dataset[10:20].select_classes([12, 15], ("twelve", "fifteen"))
    assert part.attributes.tolist() == [[0, 1], [1, 1]] and part.targets.tolist() == [0, 1]
    images, targets = Batches(dataset, 16, seed=1)[0]
    assert targets["attributes"].dtype == np.float32
    np.testing.assert_array_equal(targets["label"], images[:, 0, 0, 0])
    np.testing.assert_array_equal(targets["attributes"][:, 0], targets["label"] % 2)
    shares = [Batches(dataset, 16, seed=1, process=(index, 2))[0][1]["attributes"] for index in range(2)]
    np.testing.assert_array_equal(np.concatenate(shares), targets["attributes"])


def test_every_batch_holds_positives():
    dataset = numbered(200)
    attributes = np.stack([dataset.targets < 4, dataset.targets % 5 == 0, dataset.targets % 2], axis=1)
    dataset = with_attributes(dataset, attributes)
    plain, balanced = Batches(dataset, 32, seed=2), Batches(dataset, 32, seed=2, min_positives=3)
    counts = np.array([balanced[number][1]["attributes"].sum(axis=0) for number in range(len(balanced))])
    assert counts.shape == (6, 3) and counts.min() >= 3
    kept = [np.isin(plain[number][1]["label"], balanced[number][1]["label"]) for number in range(len(plain))]
    # What gives way has no attribute.
    gone = np.concatenate([plain[number][1]["attributes"][~kept[number]] for number in range(len(plain))])
    assert 0 < len(gone) < 20 and not gone.any()
    for number in range(len(balanced)):
        # Of four examples of the rarest none comes twice.
        assert len(set(balanced[number][1]["label"])) == 32
    again = Batches(dataset, 32, seed=2, min_positives=3)
    np.testing.assert_array_equal(again[3][1]["label"], balanced[3][1]["label"])


def test_bad_attributes():
    dataset = numbered(20)
    for attributes, error, message in (
        (np.full((20, 2), 2), ValueError, r"0 or 1. Received: \[2\]"),
        (np.full((20, 2), np.nan), ValueError, "0 or 1"),
        (np.full((20, 2), "yes"), TypeError, "0 or 1"),
        (np.zeros((19, 2)), ValueError, "20 inputs"),
    ):
        with pytest.raises(error, match=message):
            with_attributes(dataset, attributes)
    with pytest.raises(ValueError, match=r"\(n, 1\)"):
        dataclasses.replace(dataset, attributes=np.zeros((20, 2)), attribute_names=("one",))
    with pytest.raises(ValueError, match=r"No example of the dataset has the attribute.*'attribute 1'"):
        Batches(with_attributes(dataset, np.eye(2)[[0] * 20]), 8, min_positives=1)
    with pytest.raises(ValueError, match="`min_positives`"):
        Batches(with_attributes(dataset, np.ones((20, 2))), 8, min_positives=5)
    with pytest.raises(ValueError, match="`min_positives`"):
        Batches(dataset, 8, min_positives=1)
    with pytest.raises(ValueError, match="needs shuffled batches"):
        Batches(with_attributes(dataset, np.ones((20, 2))), 8, shuffle=False, min_positives=1)
    with pytest.raises(ValueError, match="`min_positives`"):
        Batches((dataset.inputs, dataset.targets), 8, min_positives=1)


def test_slices(toy_dataset):
    assert len(toy_dataset[:10]) == 10 and toy_dataset[:10].class_names == toy_dataset.class_names


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: Batches(d, batch_size=65), ValueError, "at most the 64 examples"),
        (lambda d: Batches(d, batch_size=16, process=(0, 3)), ValueError, "divide by the 3 processes"),
        (lambda d: ArrayDataset(d.inputs, d.targets[:3], d.class_names), ValueError, "one target for each"),
        (lambda d: ArrayDataset(d.inputs, d.targets + 1.5, d.class_names), TypeError, "integers"),
        (lambda d: ArrayDataset(d.inputs, d.targets, d.class_names[:3]), ValueError, r"\[0, 3\)"),
        (lambda d: ArrayDataset(d.inputs[0], d.targets, d.class_names), ValueError, "batch axis"),
    ],
)
def test_bad_input(toy_dataset, call, error, message):
    with pytest.raises(error, match=message):
        call(toy_dataset)


def test_missing_data_set_names_the_command(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match=re.escape(f"keras-interp prepare cifar10 --data-dir {tmp_path}")):
        data.load("cifar10", "train", tmp_path)
    with pytest.raises(FileNotFoundError, match="keras-interp prepare no_such_set"):
        data.load("no_such_set", "train", tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder of datasets"):
        data.load("cifar10", "train", tmp_path / "absent")


@pytest.mark.data
def test_cifar10():
    part = data.load("cifar10", "test[:100]")
    assert part.inputs.shape == (100, 32, 32, 3) and part.inputs.dtype == np.uint8
    assert part.targets.min() >= 0 and part.targets.max() <= 9 and len(part.class_names) == 10


@pytest.mark.data
def test_mnist():
    part = data.load("mnist", "test[:100]")
    assert part.inputs.shape == (100, 28, 28, 1) and part.inputs.dtype == np.uint8
    assert set(part.targets) == set(range(10)) and part.class_names == tuple("0123456789")


def test_files_that_are_no_archive(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.load_npz(tmp_path / "missing.npz")
    np.savez(tmp_path / "whole.npz", inputs=np.zeros((4, 2, 2, 3), "uint8"), targets=np.arange(4))
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "part.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="must be an"):
        data.load_npz(tmp_path / "part.npz")
