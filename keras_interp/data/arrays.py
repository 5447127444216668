"""Datasets as arrays, and batches whose order and augmentation are functions of (seed, epoch)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_interp.checks import (
    as_array,
    check_attributes,
    check_inputs,
    check_labels,
    check_values,
    column_names_of,
    is_named_table,
)


@dataclasses.dataclass(frozen=True)
class ArrayDataset:
    """A split of a dataset in memory: images or the rows of a table, with labels or values to predict.

    Attributes:
        inputs: images, uint8 array (n, height, width, channels) of pixels in 0..255; or rows, float32 array (n, columns). A
            data frame also sets `column_names`, or is reordered to match them.
        targets: labels, int32 array (n,), or names out of `class_names`; or for a regression values, float32
            array (n,).
        class_names: names of the classes, in the order of the labels; empty for a regression.
        name: name of the dataset and split, as in "cifar10 test".
        column_names: names of a table's columns.
        attributes: None, or further attributes of each image: an array (n, attributes) of 0 and 1. The targets of a batch are
            then {"label": labels, "attributes": float32 array (batch, attributes)}.
        attribute_names: names of the attributes; a data frame of attributes also sets them, or is reordered to match.

    Raises:
        ValueError: for inputs, targets or attributes of another shape, labels out of range, values that are not finite,
            attributes that are not 0 or 1, or inputs and targets that differ in number.
        TypeError: for labels that are not integers, or values that are not numbers.
    """

    inputs: np.ndarray
    targets: np.ndarray
    class_names: tuple = ()
    name: str = ""
    column_names: tuple = ()
    attributes: np.ndarray | None = None
    attribute_names: tuple = ()

    def __post_init__(self):
        if is_named_table(self.inputs):
            object.__setattr__(self, "column_names", tuple(self.column_names) or column_names_of(self.inputs))
        rank = 2 if is_named_table(self.inputs) else np.ndim(self.inputs)
        inputs = check_inputs(self.inputs, (None,) * (2 if rank == 2 else 4), self.column_names)
        object.__setattr__(self, "inputs", inputs.astype("float32") if is_named_table(self.inputs) else inputs)
        names = self.class_names
        targets = check_labels(self.targets, len(names), names) if names else check_values(self.targets)
        object.__setattr__(self, "targets", targets)
        if len(self.inputs) != len(self.targets) or not len(self.inputs):
            raise ValueError(
                f"A dataset needs at least one input, and one target for each. Received: {len(self.inputs)} inputs, "
                f"{len(self.targets)} targets"
            )
        if self.column_names and len(self.column_names) != self.inputs.shape[1]:
            raise ValueError(
                f"There must be one name for each of {self.inputs.shape[1]} columns. Received: {len(self.column_names)} names"
            )
        if self.attributes is not None:
            names = tuple(self.attribute_names) or column_names_of(self.attributes)
            object.__setattr__(self, "attribute_names", names)
            attributes = check_attributes(self.attributes, names)
            object.__setattr__(self, "attributes", attributes)
            if len(attributes) != len(self.inputs):
                raise ValueError(
                    f"Each of {len(self.inputs)} inputs needs a row of attributes. Received: {len(attributes)} rows"
                )

    def __len__(self):
        return len(self.inputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.inputs.shape[1:]

    def __getitem__(self, part):
        """A slice or an index array of the examples, as a dataset."""
        attributes = None if self.attributes is None else self.attributes[part]
        return dataclasses.replace(self, inputs=self.inputs[part], targets=self.targets[part], attributes=attributes)

    def select_columns(self, names: Sequence[str]) -> ArrayDataset:
        """The same examples with the columns of these names, in this order, as a dataset.

        Raises:
            ValueError: for a dataset without column names, or without one of these.
        """
        missing = [name for name in names if name not in self.column_names]
        if missing:
            raise ValueError(f"The dataset has the columns {list(self.column_names)}. Received: others, {missing}")
        order = [self.column_names.index(name) for name in names]
        return dataclasses.replace(self, inputs=self.inputs[:, order], column_names=tuple(names))

    def fingerprint(self) -> str:
        """Sha256 of inputs, targets, attributes and class names, as a string: equal for equal data."""
        names = json.dumps([self.class_names, self.column_names, self.attribute_names])
        return sha256_of(names, self.inputs, self.targets, *([] if self.attributes is None else [self.attributes]))

    def read(self, part: slice | np.ndarray, rng: np.random.Generator | None = None) -> tuple[np.ndarray, Any]:
        """Inputs and targets of a slice or an index array of the examples, as `model.fit` takes them."""
        inputs, targets = self.inputs[part], self.targets[part]
        if self.attributes is None:
            return inputs, targets
        return inputs, {"label": targets, "attributes": self.attributes[part].astype("float32")}

    def select_classes(self, classes: Sequence[int], names: Sequence[str]) -> ArrayDataset:
        """The examples of some classes, with new labels and names, as a dataset.

        Args:
            classes: indices of the classes to keep.
            names: their names.

        Raises:
            ValueError: for a class that the dataset does not have, or the wrong number of names.
        """
        count = len(self.class_names)
        if not all(0 <= number < count for number in classes) or len(names) != len(classes):
            raise ValueError(
                f"The classes must be indices below {count}, with one name each. Received: {list(classes)}, {list(names)}"
            )
        numbers = np.full(count, -1, "int32")
        numbers[list(classes)] = range(len(classes))
        part = self[np.flatnonzero(numbers[self.targets] >= 0)]
        return dataclasses.replace(part, targets=numbers[part.targets], class_names=tuple(names))


class Batches(keras.utils.PyDataset):
    """Batches of an `ArrayDataset` for `model.fit`, shuffled and augmented in each epoch.

    Order and augmentation depend only on (seed, epoch), so a resumed run sees the same batches as an uninterrupted one.
    `epoch` advances at the end of each epoch; set it to resume. NumPy only: the same on every backend. Pass `shuffle=False` to
    `fit` if the order matters: by default Keras shuffles the batches of a `PyDataset`.

    Args:
        dataset: an `ArrayDataset`, a `data.LazyDataset`, or a pair (inputs, targets) of arrays, lists, tensors or data frames,
            which are taken in order, ignoring any index; targets may be a dict of these.
        batch_size: examples in a batch, over all processes. The last, smaller batch is dropped when shuffling.
        pad: pixels of zero padding for random crops of the original size; 0 for none.
        flip: whether to mirror half of the images, chosen at random.
        shuffle: whether to shuffle; if not, the batches are the data in order.
        seed: seed for order and augmentation.
        process: (index, number of processes) on several machines: the share of each batch that this process feeds.
        min_positives: for a dataset with attributes, the number of positive examples of each in a shuffled batch. If there are
            fewer, randomly drawn positive examples replace ones without any attribute, as far as there are such. A rare
            example may occur several times in an epoch, but twice in a batch only if there are fewer of its kind than
            requested.

    Raises:
        ValueError: if there are fewer examples than one batch, or a batch is not divisible by the number of processes; and
            with `min_positives`, for an attribute that no example has, more positives than fit a batch, or unshuffled batches.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 256,
        pad: int = 0,
        flip: bool = False,
        shuffle: bool = True,
        seed: int = 0,
        process: tuple[int, int] = (0, 1),
        min_positives: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset: Any = _Pair.of(*dataset) if isinstance(dataset, (tuple, list)) else dataset
        if batch_size < 1 or pad < 0:
            raise ValueError(
                f"`batch_size` must be at least 1, and `pad` at least 0. Received: batch_size={batch_size}, pad={pad}"
            )
        if (pad or flip) and len(self.dataset.input_shape) != 3:
            raise ValueError(f"`pad` and `flip` are for images. Received: inputs of shape {self.dataset.input_shape}")
        if shuffle and len(self.dataset) < batch_size:
            raise ValueError(
                f"`batch_size` must be at most the {len(self.dataset)} examples. Received: batch_size={batch_size}"
            )
        if min_positives:
            self._check_positives(min_positives, batch_size, shuffle)
        if not 0 <= process[0] < process[1] or batch_size % process[1]:
            raise ValueError(
                f"`process` must be below the number of processes, and `batch_size` divide by the {process[1]} processes. "
                f"Received: process={process}, batch_size={batch_size}"
            )
        self.batch_size = batch_size
        self.pad = pad
        self.flip = flip
        self.shuffle = shuffle
        self.seed = seed
        self.process = process
        self.min_positives = min_positives
        self.epoch = 0

    def __len__(self):
        count = len(self.dataset)
        return count // self.batch_size if self.shuffle else -(-count // self.batch_size)

    def __getitem__(self, number):
        start, (index, processes) = number * self.batch_size, self.process
        if not self.shuffle:
            return self.dataset.read(np.arange(start, min(start + self.batch_size, len(self.dataset)))[index::processes])
        chosen = self._order()[start : start + self.batch_size]
        # Each process draws for the whole batch, so that the shares of any number of processes are the same batch.
        rng = np.random.default_rng((self.seed, self.epoch, 1, number))
        share = slice(index * len(chosen) // processes, (index + 1) * len(chosen) // processes)
        inputs, targets = self.dataset.read(chosen, rng)
        if self.pad or self.flip:
            inputs = augment(inputs, rng, self.pad, self.flip)
        return inputs[share], keras.tree.map_structure(lambda values: values[share], targets)

    def _order(self) -> np.ndarray:
        cached_epoch, order = getattr(self, "_cached_order", (None, np.empty(0, int)))
        if cached_epoch != self.epoch:
            order = np.random.default_rng((self.seed, self.epoch, 0)).permutation(len(self.dataset))
            if self.min_positives:
                order = self._with_positives(order)
            self._cached_order = self.epoch, order
        return order

    def _check_positives(self, min_positives, batch_size, shuffle):
        if not shuffle:
            raise ValueError(f"`min_positives` needs shuffled batches. Received: min_positives={min_positives}, shuffle=False")
        attributes = getattr(self.dataset, "attributes", None)
        if attributes is None or min_positives < 0 or min_positives * attributes.shape[1] > batch_size:
            raise ValueError(
                "`min_positives` must not be negative, and needs a dataset with attributes, of which so many fit a batch of "
                f"{batch_size}. Received: min_positives={min_positives}, "
                f"attributes={getattr(self.dataset, 'attribute_names', None)}"
            )
        for name, count in zip(self.dataset.attribute_names, attributes.sum(axis=0)):
            if not count:
                raise ValueError(f"No example of the dataset has the attribute. Received: {name!r}")

    def _with_positives(self, order):
        """Order in which examples without attributes are replaced, so that each batch holds enough of every attribute."""
        rng = np.random.default_rng((self.seed, self.epoch, 2))
        attributes = self.dataset.attributes.astype(bool)
        positives = [np.flatnonzero(column) for column in attributes.T]
        batches = order[: len(self) * self.batch_size].reshape(len(self), self.batch_size).copy()
        for batch in batches:
            free = rng.permutation(np.flatnonzero(~attributes[batch].any(axis=1)))
            for column, examples in zip(attributes.T, positives):
                # Recounted, since an example drawn for one attribute may have another.
                missing = max(self.min_positives - np.count_nonzero(column[batch]), 0)
                places, free = free[:missing], free[missing:]
                unused = rng.permutation(np.setdiff1d(examples, batch))[: len(places)]
                again = rng.choice(examples, len(places) - len(unused))
                batch[places] = np.append(unused, again)
        return batches.ravel()

    def on_epoch_end(self) -> None:
        self.epoch += 1


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Plain inputs and targets with the interface that `Batches` needs."""

    inputs: np.ndarray
    targets: object
    column_names: tuple = ()
    attribute_names: tuple = ()

    @classmethod
    def of(cls, inputs: Any, targets: Any) -> _Pair:
        """The pair as arrays; raises if lengths differ or targets are text."""
        names = column_names_of(inputs)
        attributes = column_names_of(targets.get("attributes")) if isinstance(targets, dict) else ()
        if attributes:
            targets = {**targets, "attributes": check_attributes(targets["attributes"], attributes)}
        # A dict of targets has several parts; that of a table, columns.
        inputs = check_inputs(inputs, (None, None), names) if is_named_table(inputs) else as_array(inputs)
        targets = (
            {part: as_array(values) for part, values in targets.items()} if isinstance(targets, dict) else as_array(targets)
        )
        parts = list(targets.values()) if isinstance(targets, dict) else [targets]
        lengths = [np.shape(values)[:1] for values in (inputs, *parts)]
        if () in lengths or len(set(lengths)) > 1:
            raise ValueError(f"There must be one target for each input. Received: lengths {[*sum(lengths, ())]}")
        if any(part.dtype.kind not in "buif" for part in parts):
            raise TypeError(
                "Targets must be numbers without gaps; names of classes take a `data.ArrayDataset(inputs, targets, names)`. "
                f"Received: dtypes {[str(part.dtype) for part in parts]}"
            )
        return cls(inputs, targets, names, attributes)

    def __len__(self):
        return len(self.inputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.inputs.shape[1:]

    def read(self, part: slice | np.ndarray, rng: np.random.Generator | None = None) -> tuple[np.ndarray, Any]:
        return self.inputs[part], keras.tree.map_structure(lambda values: values[part], self.targets)


def sha256_of(text: str, *arrays: np.ndarray) -> str:
    """Sha256 of a text and of arrays, including dtypes and shapes, as a string."""
    digest = hashlib.sha256(text.encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view("uint8").data if array.size else b"")
    return digest.hexdigest()


def augment(images: np.ndarray, rng: np.random.Generator, pad: int = 4, flip: bool = True) -> np.ndarray:
    """Random crops of zero-padded images, and mirror images, vectorized over the batch.

    Args:
        images: array (n, height, width, channels).
        rng: a `numpy.random.Generator`.
        pad: pixels of padding on each side; the crop has the original size.
        flip: whether to mirror half of the images.

    Returns:
        An array like `images`.
    """
    count, height, width, _ = images.shape
    if pad:
        padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        top, left = rng.integers(0, 2 * pad + 1, (2, count))
        images = windows[np.arange(count), top, left].transpose(0, 2, 3, 1)
    if flip:
        mirrored = rng.random(count) < 0.5
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return np.ascontiguousarray(images)
