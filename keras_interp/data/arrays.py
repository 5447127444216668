"""Data sets as arrays, and batches whose order and augmentation are functions of (seed, epoch)."""

import dataclasses

import keras
import numpy as np

from keras_interp.checks import check_images, check_labels


@dataclasses.dataclass(frozen=True)
class ArrayDataset:
    """A split of a classification data set in memory.

    Attributes:
        images: uint8 array (n, height, width, 3) of pixels in 0..255.
        labels: int32 array (n,).
        class_names: names of the classes, in the order of the numbers.
        name: name of the data set and split, as in "cifar10 test".

    Raises:
        ValueError: for images or labels of another shape, labels out of range, or another number of them than images.
        TypeError: for labels that are not integers.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple
    name: str = ""

    def __post_init__(self):
        check_images(self.images, (None, None, None, None))
        check_labels(self.labels, len(self.class_names))
        if len(self.images) != len(self.labels) or not len(self.images):
            raise ValueError(
                f"A data set needs as many images as labels, and at least one. Received: {len(self.images)} images, "
                f"{len(self.labels)} labels"
            )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, part):
        """A slice or an index array of the examples, as a data set."""
        return dataclasses.replace(self, images=self.images[part], labels=self.labels[part])


class Batches(keras.utils.PyDataset):
    """Batches of an `ArrayDataset` for `model.fit`, shuffled and augmented anew in each epoch.

    Order and augmentation depend on (seed, epoch) alone, so that a resumed training sees what an uninterrupted one would have
    seen. `epoch` advances at the end of each epoch; set it to resume. NumPy only: the same on every backend. Pass
    `shuffle=False` to `fit` where the order matters: by default Keras takes the batches of a `PyDataset` in its own order.

    Args:
        dataset: an `ArrayDataset`, or a pair of arrays (images, labels).
        batch_size: examples in a batch, over all processes. The last, smaller batch is dropped when shuffling.
        pad: pixels of zero padding for random crops of the original size; 0 for none.
        flip: whether to mirror half of the images, chosen at random.
        shuffle: whether to shuffle; without it the batches are the data in order.
        seed: seed of order and augmentation.
        process: (index, number of processes) on several machines: the share of each batch that this process feeds.

    Raises:
        ValueError: where not one batch fits, or a batch does not divide by the number of processes.
    """

    def __init__(self, dataset, batch_size=256, pad=0, flip=False, shuffle=True, seed=0, process=(0, 1), **kwargs):
        super().__init__(**kwargs)
        self.images, self.labels = dataset if isinstance(dataset, tuple) else (dataset.images, dataset.labels)
        if shuffle and len(self.images) < batch_size:
            raise ValueError(
                f"`batch_size` must be at most the {len(self.images)} examples. Received: batch_size={batch_size}"
            )
        if batch_size % process[1]:
            raise ValueError(f"`batch_size` must divide by the {process[1]} processes. Received: batch_size={batch_size}")
        self.batch_size = batch_size
        self.pad = pad
        self.flip = flip
        self.shuffle = shuffle
        self.seed = seed
        self.process = process
        self.epoch = 0

    def __len__(self):
        count = len(self.images)
        return count // self.batch_size if self.shuffle else -(-count // self.batch_size)

    def __getitem__(self, number):
        selected = slice(number * self.batch_size, (number + 1) * self.batch_size)
        index, processes = self.process
        if not self.shuffle:
            share = slice(index, None, processes)
            return self.images[selected][share], self.labels[selected][share]
        chosen = self._order()[selected]
        # Drawn for the whole batch by every process, so that the shares of any number of processes are the same batch.
        rng = np.random.default_rng((self.seed, self.epoch, 1, number))
        images = augment(self.images[chosen], rng, self.pad, self.flip)
        share = slice(index * len(chosen) // processes, (index + 1) * len(chosen) // processes)
        return images[share], self.labels[chosen][share]

    def _order(self):
        cached_epoch, order = getattr(self, "_cached_order", (None, None))
        if cached_epoch != self.epoch:
            order = np.random.default_rng((self.seed, self.epoch, 0)).permutation(len(self.images))
            self._cached_order = self.epoch, order
        return order

    def on_epoch_end(self):
        self.epoch += 1


def augment(images, rng, pad=4, flip=True):
    """Random crops of zero-padded images, and mirror images, vectorised over the batch.

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
