"""Folders of pictures."""

import numpy as np
import pytest
from PIL import Image

from keras_interp.data import ArrayDataset, Batches, LazyDataset, load_folder, stratified_split


@pytest.fixture
def folder(tmp_path, rng):
    for name, count in (("cat", 8), ("dog", 6)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), "uint8")).save(tmp_path / name / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    return tmp_path


def test_subfolders_are_classes(folder):
    dataset = load_folder(folder, (16, 16))
    assert (
        dataset.class_names == ("cat", "dog") and dataset.inputs.shape == (14, 16, 16, 3) and dataset.inputs.dtype == np.uint8
    )
    assert np.bincount(dataset.targets).tolist() == [8, 6]


def test_the_held_out_share_is_the_same_of_each_class(folder):
    train, held_out = load_folder(folder, (16, 16), validation=0.5)
    assert np.bincount(train.targets).tolist() == [4, 3] and np.bincount(held_out.targets).tolist() == [4, 3]
    again, _ = load_folder(folder, (16, 16), validation=0.5)
    other, _ = load_folder(folder, (16, 16), validation=0.5, seed=1)
    assert (again.inputs == train.inputs).all() and (other.inputs != train.inputs).any()


def test_larger_than_memory(folder):
    whole, lazy = load_folder(folder, (16, 16)), load_folder(folder, (16, 16), in_memory=False)
    assert isinstance(whole, ArrayDataset) and isinstance(lazy, LazyDataset) and len(lazy) == len(whole)
    inputs, targets = Batches(lazy, 4, seed=1)[0]
    assert inputs.shape == (4, 16, 16, 3) and targets.shape == (4,)
    assert lazy.to_arrays().targets.tolist() == whole.targets.tolist()


@pytest.mark.parametrize("in_memory", [True, False])
def test_bad_files_are_named_once_and_left_out(folder, in_memory):
    (folder / "cat" / "broken.jpg").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"1 of 15 pictures cannot be opened.*broken.jpg") as warnings:
        dataset = load_folder(folder, (16, 16), in_memory=in_memory)
    assert len(dataset) == 14 and len(warnings) == 1


def test_labels_from_a_file(folder):
    (folder / "labels.csv").write_text("file,label\ncat/0.png,red\ndog/1.png,blue\ndog/2.png,red\n")
    dataset = load_folder(folder, (8, 8), labels=folder / "labels.csv")
    assert dataset.class_names == ("blue", "red") and dataset.targets.tolist() == [1, 0, 1]
    (folder / "labels.csv").write_text("file,label\ncat/99.png,red\ndog/1.png,blue\n")
    with pytest.raises(FileNotFoundError, match=r"cat/99.png"):
        load_folder(folder, labels=folder / "labels.csv")


def test_what_is_no_folder_of_classes(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_folder(tmp_path / "absent")
    for path in (folder / "dog").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="at least two classes"):
        load_folder(folder)
    (folder / "dog" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="of class 'dog'"), pytest.warns(UserWarning):
        load_folder(folder)


def test_each_class_needs_examples_on_both_sides():
    with pytest.raises(ValueError, match="1 of class 'b'"):
        stratified_split(np.array([0, 0, 0, 1]), 0.5, class_names=("a", "b"))
    kept, held_out = stratified_split(np.linspace(0, 1, 10), 0.3)
    assert len(kept) == 7 and len(held_out) == 3 and not set(kept) & set(held_out)
