"""Independent XOR, the synthetic dataset of the feature-leveling paper (section 2.1)."""

import pathlib

import numpy as np

from keras_interp.data.arrays import ArrayDataset
from keras_interp.typing import PathLike

SIZES = {"train": 10_000, "test": 2_500}
NAMES = {"class_names": ("0", "1"), "column_names": ("x1", "x2", "x3")}
SEED = 0


def generate_independent_xor(split: str) -> ArrayDataset:
    """Draws a split as the paper defines the dataset: the class is 1 where x1 * x2 > 0 and x3 > 0.5.

    x1 and x2 are uniform in [-2, 2], x3 in [0, 1]. The seed is fixed: a split is the same each time.

    Args:
        split: "train" for 10,000 rows, "test" for 2,500.

    Returns:
        An `ArrayDataset` of float32 rows (n, 3).

    Raises:
        ValueError: for an unknown split.

    Examples:
        >>> from keras_interp import data
        >>> dataset = data.load("independent_xor", "test")
        >>> dataset.inputs.shape, dataset.column_names, dataset.class_names
        ((2500, 3), ('x1', 'x2', 'x3'), ('0', '1'))
    """
    _check_split(split)
    rng = np.random.default_rng((SEED, list(SIZES).index(split)))
    inputs = rng.uniform((-2, -2, 0), (2, 2, 1), (SIZES[split], 3)).astype("float32")
    x1, x2, x3 = inputs.T
    return ArrayDataset(inputs, ((x1 * x2 > 0) & (x3 > 0.5)).astype("int32"), name=f"independent_xor {split}", **NAMES)


def load_independent_xor(folder: PathLike, split: str) -> ArrayDataset:
    """Reads a split of the arrays that the paper's authors published.

    They do not follow the paper: x1 and x2 are uniform in [-1, 1] plus normal noise, and rows were added where both are
    positive and x3 > 0.5, so that 37% of the rows are of class 1 and not 25%. Never unpickles.

    Args:
        folder: folder with `new_xor_<split>_x.npy`, numbers (n, 3), and `new_xor_<split>_y.npy`, one-hot rows (n, 2).
        split: "train" or "test".

    Returns:
        An `ArrayDataset` of float32 rows (n, 3).

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: for an unknown split, or arrays of the wrong shape or type.
    """
    _check_split(split)
    inputs, one_hot = (_read(pathlib.Path(folder) / f"new_xor_{split}_{part}.npy") for part in "xy")
    if inputs.ndim != 2 or inputs.shape[1] != 3:
        raise ValueError(f"The inputs must have the shape (n, 3). Received: shape={inputs.shape}")
    if one_hot.ndim != 2 or one_hot.shape[1] != 2 or not (np.sort(one_hot, axis=1) == (0, 1)).all():
        raise ValueError(
            f"The targets must be one-hot rows of the shape (n, 2). Received: shape={one_hot.shape}, {one_hot[:3]}"
        )
    return ArrayDataset(
        inputs.astype("float32"), one_hot.argmax(axis=1).astype("int32"), name=f"independent_xor (published) {split}", **NAMES
    )


def _check_split(split):
    if split not in SIZES:
        raise ValueError(
            "The splits of independent_xor are 'train' and 'test', and a part of one is a slice of its `ArrayDataset`. "
            f"Received: split={split!r}"
        )


def _read(path):
    if not path.is_file():
        raise FileNotFoundError(f"The published arrays of independent_xor must be in `folder`. Received: no {path}")
    return np.load(path, allow_pickle=False)
