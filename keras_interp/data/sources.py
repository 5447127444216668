"""Data sets by name, through TensorFlow Datasets, or from `.npz` files without TensorFlow."""

import os
import pathlib

import numpy as np

from keras_interp.data.arrays import ArrayDataset


def load(name, split="train", data_dir=None, image_size=None):
    """Loads a split of an image classification data set into memory.

    Args:
        name: name of the data set in TensorFlow Datasets, as "cifar10"; or the path of an `.npz` file with the arrays
            `inputs` and `targets` and optionally `class_names` and `column_names` (see `ArrayDataset`), which needs no
            TensorFlow.
        split: split, in the notation of TFDS: "train", "test", "train[:90%]". An `.npz` file is read whole.
        data_dir: folder of the prepared data sets; by default `TFDS_DATA_DIR`, then TFDS's own default.
        image_size: (height, width) to resize images to, which a data set with images of several sizes needs.

    Returns:
        An `ArrayDataset`.

    Raises:
        FileNotFoundError: when the data set has not been prepared there, with the command that does it.
        ValueError: for an unknown split, or a file without the arrays.
    """
    if str(name).endswith(".npz"):
        return load_npz(name)
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError("Data sets by name need TensorFlow Datasets: pip install tensorflow-datasets") from error
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    if data_dir is not None and not pathlib.Path(data_dir).is_dir():
        raise FileNotFoundError(f"There is no folder of data sets at `data_dir`. Received: data_dir={data_dir}")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        prepared = bool(builder.info.splits)
    except tfds.core.DatasetNotFoundError:
        prepared = False
    if not prepared:
        where = f" --data_dir {data_dir}" if data_dir else ""
        raise FileNotFoundError(f"The data set {name!r} is not prepared there. Fetch it with: tfds build {name}{where}")
    shape = builder.info.features["image"].shape
    if image_size is None and None in shape:
        raise ValueError(f"The images of {name!r} have several sizes: give `image_size`. Received: image_size=None")
    examples = builder.as_dataset(split=split, as_supervised=True)
    if image_size is not None:
        import tensorflow as tf

        resize = lambda image: tf.cast(tf.round(tf.image.resize(image, image_size, antialias=True)), "uint8")  # noqa: E731
        examples = examples.map(lambda image, label: (resize(image), label), num_parallel_calls=tf.data.AUTOTUNE)
    images, labels = next(iter(examples.batch(len(examples))))
    return ArrayDataset(
        np.asarray(images), np.asarray(labels, "int32"), tuple(builder.info.features["label"].names), f"{name} {split}"
    )


def load_npz(path):
    """Loads an `.npz` file, see `load`. Never unpickles."""
    with np.load(path, allow_pickle=False) as file:
        missing = {"inputs", "targets"} - set(file.files)
        if missing:
            raise ValueError(f"{path} must hold the arrays 'inputs' and 'targets'. Received: {sorted(file.files)}")
        targets = file["targets"]
        names = {key: tuple(map(str, file[key])) if key in file.files else () for key in ("class_names", "column_names")}
        if targets.dtype.kind in "ui":
            targets = targets.astype("int32")
            names["class_names"] = names["class_names"] or tuple(map(str, range(int(targets.max()) + 1)))
        return ArrayDataset(file["inputs"], targets, name=pathlib.Path(path).stem, **names)
