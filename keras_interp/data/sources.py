"""Datasets by name, through TensorFlow Datasets, or from `.npz` files without TensorFlow."""

import importlib
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_interp.checks import check_labels
from keras_interp.data.arrays import ArrayDataset
from keras_interp.data.independent_xor import generate_independent_xor
from keras_interp.data.lazy import LazyDataset
from keras_interp.typing import PathLike, Size

# Datasets with our own TFDS builder: the module that registers it.
OWN_BUILDERS = {
    "california_housing_ocean": "keras_interp.data.california_housing",
    "caltech_birds2011_parts": "keras_interp.data.caltech_birds",
}

# CelebA and the reduced set, and the attributes that the XNet paper uses.
FACES = ("celeb_a", "celeb_a_mini")
FACE_LABEL, FACE_ATTRIBUTES = "Young", ("5_o_Clock_Shadow", "Bald", "Bangs")


def load(
    name: str,
    split: str = "train",
    data_dir: PathLike | None = None,
    image_size: Size | None = None,
    label: str | None = None,
    attributes: Sequence[str] | None = None,
    task: str | None = None,
) -> ArrayDataset:
    """Loads a split of a dataset into memory.

    Args:
        name: name of an image classification dataset in TensorFlow Datasets, as "cifar10", or "caltech_birds2011_parts" (see
            `load_birds`); or one of

            - "california_housing_ocean": California Housing. Inputs are float32 rows (n, 13): the table's eight numbers
              unchanged, and a column of 0 and 1 for each of the five values of `ocean_proximity`. Targets are median house
              values in $100,000.
            - "independent_xor": the synthetic table of the feature-leveling paper, float32 rows (n, 3) of two classes. It
              needs neither `data_dir` nor TFDS.
            - the path of an `.npz` file, see `load_npz`, which needs no TensorFlow.
        split: split, in the notation of TFDS: "train", "test", "train[:90%]". An `.npz` file is read whole, and
            "independent_xor" has "train" and "test" only.
        data_dir: folder of the prepared datasets; defaults to `TFDS_DATA_DIR`, then TFDS's own default.
        image_size: (height, width) to resize images to, which a dataset with images of several sizes needs.
        label: for a dataset whose images have attributes instead of a class: the attribute to classify, which gives the
            classes "not <label>" and "<label>". By default "Young" for "celeb_a" and "celeb_a_mini".
        attributes: names of the attributes to load in addition to the class; by default the three of the XNet paper for these
            two datasets, "5_o_Clock_Shadow", "Bald" and "Bangs", and none for others.
        task: for an `.npz` file, see `load_npz`.

    Returns:
        An `ArrayDataset`.

    Raises:
        FileNotFoundError: when the dataset has not been prepared there, with the command that does it.
        ValueError: for an unknown split or attribute, or a file without the arrays.
    """
    if str(name).endswith(".npz"):
        return load_npz(name, task)
    if name == "independent_xor":
        return generate_independent_xor(split)
    builder = _prepared_builder(name, data_dir)
    if name == "california_housing_ocean":
        return importlib.import_module(OWN_BUILDERS[name]).to_arrays(builder, split)
    if isinstance(attributes, str):
        raise ValueError(f"`attributes` must be a sequence of names. Received: attributes={attributes!r}")
    if builder.name in FACES:
        label, attributes = label or FACE_LABEL, FACE_ATTRIBUTES if attributes is None else attributes
    return _load_images(builder, split, image_size, label, tuple(attributes or ()))


def load_lazily(
    name: str, split: str = "train", data_dir: PathLike | None = None, crop_size: Size = (224, 224)
) -> LazyDataset:
    """Opens a split of an image classification dataset that is larger than memory, see `LazyDataset`.

    Args:
        name: name of a dataset in TensorFlow Datasets that has been prepared with `prepare(name, random_access=True)`.
        split: split, in the notation of TFDS.
        data_dir: folder of the prepared datasets, see `load`.
        crop_size: (height, width) of its crops.

    Returns:
        A `LazyDataset`.

    Raises:
        FileNotFoundError: when the dataset has not been prepared there, with the command that does it.
        ValueError: for an unknown split, a dataset without classes, or one whose files can only be read in order.
    """
    builder = _prepared_builder(name, data_dir)
    features = builder.info.features
    _require_features(builder, {"image", "label"})
    try:
        source = builder.as_data_source(split=split)
    except NotImplementedError as error:
        raise ValueError(
            f"The files of {name!r} can only be read in order. Prepare it in another folder with: keras-interp prepare {name} "
            f"--random-access --data-dir DIR. Received: {error}"
        ) from error
    return LazyDataset(source, crop_size, features["label"].names, f"{builder.name} {split}")


def prepare(
    name: str, data_dir: PathLike | None = None, manual_dir: PathLike | None = None, random_access: bool = False
) -> None:
    """Downloads a dataset and prepares it for `load`.

    It does what `tfds build` does, which fails without apache-beam and mlcroissant (tensorflow/datasets#5463).

    Args:
        name: name of a dataset in TensorFlow Datasets, or "california_housing_ocean", or "caltech_birds2011_parts".
        data_dir: folder of the prepared datasets, see `load`.
        manual_dir: folder with files that are not downloaded. The `housing.csv` of "california_housing_ocean" is taken from
            here if present, with the same columns and any rows; the archive `CUB_200_2011.tgz` of "caltech_birds2011_parts"
            too, or its folder `CUB_200_2011`, with the same tables and any images.
        random_access: whether to write files that `load_lazily` reads, instead of those that `load` reads.

    Raises:
        ValueError: for a table with a missing column or an invalid field, or a download that has changed.
        FileNotFoundError: for a folder `CUB_200_2011` without one of its tables, or an image that they name.
    """
    tfds = _import_tfds()
    if name in OWN_BUILDERS:
        importlib.import_module(OWN_BUILDERS[name])
    file_format = {"file_format": "array_record"} if random_access else {}
    builder = tfds.builder(name, data_dir=data_dir or os.environ.get("TFDS_DATA_DIR"), **file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))


def _import_tfds() -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError("Datasets by name need TensorFlow Datasets: pip install tensorflow-datasets") from error
    return tfds


def _prepared_builder(name, data_dir) -> Any:
    tfds = _import_tfds()
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    if data_dir is not None and not pathlib.Path(data_dir).is_dir():
        raise FileNotFoundError(f"There is no folder of datasets at `data_dir`. Received: data_dir={data_dir}")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        prepared = bool(builder.info.splits)
    except tfds.core.DatasetNotFoundError:
        prepared = False
    if not prepared:
        where = f" --data-dir {data_dir}" if data_dir else ""
        raise FileNotFoundError(
            f"The dataset {name!r} is not prepared there. Fetch it with: keras-interp prepare {name}{where}"
        )
    return builder


def _require_features(builder, names):
    features = builder.info.features
    if not names <= set(features):
        raise ValueError(
            f"A dataset must have the features {sorted(names)}. Received: {builder.name!r} with {sorted(features)}"
        )


def _image_size(builder, image_size):
    """The (height, width) to resize images to, required if the dataset's sizes vary."""
    size = builder.info.features["image"].shape[:2] if image_size is None else tuple(image_size)
    if None in size:
        raise ValueError(f"The images of {builder.name!r} have several sizes: give `image_size`. Received: image_size=None")
    return size


def _resize(image, size):
    """A uint8 tensor (height, width, channels) in another size."""
    import tensorflow as tf

    return tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), "uint8")


def _load_images(builder, split, image_size, label, attributes):
    features = builder.info.features
    _require_features(builder, {"image", "label"} if label is None else {"image", "attributes"})
    known = list(features["attributes"]) if "attributes" in features else []
    if unknown := [name for name in (*attributes, *([] if label is None else [label])) if name not in known]:
        raise ValueError(f"The attributes of {builder.name!r} are {known}. Received: {unknown}")
    size = _image_size(builder, image_size)

    def parts(example):
        target = example["label"] if label is None else example["attributes"][label]
        return example["image"], target, tuple(example["attributes"][name] for name in attributes)

    examples = builder.as_dataset(split=split).map(parts)
    if image_size is not None:
        import tensorflow as tf

        resize = lambda image, *rest: (_resize(image, size), *rest)  # noqa: E731
        examples = examples.map(resize, num_parallel_calls=tf.data.AUTOTUNE)
    images, targets, columns = next(iter(examples.batch(len(examples))))
    return ArrayDataset(
        np.asarray(images),
        np.asarray(targets, "int32"),
        tuple(features["label"].names) if label is None else (f"not {label}", label),
        f"{builder.name} {split}",
        attributes=np.stack(columns, axis=1) if attributes else None,
        attribute_names=attributes,
    )


def load_npz(path: PathLike, task: str | None = None) -> ArrayDataset:
    """Loads an `.npz` file with the arrays `inputs` and `targets`. Never unpickles.

    It may also hold `class_names`, `column_names`, `attributes` and `attribute_names`, see `ArrayDataset`, and `task`, the
    text "classification" or "regression".

    Args:
        path: path of the file.
        task: the task, if the file does not state it. Integers without `class_names` may be labels, whose class names are then
            "0", "1", ..., or values.

    Returns:
        An `ArrayDataset`.

    Raises:
        ValueError: for a file without the arrays, or integer targets of which nothing says what they are.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path} must be an .npz file with the arrays 'inputs' and 'targets'. Received: no whole archive")
    with np.load(path, allow_pickle=False) as file:
        missing = {"inputs", "targets"} - set(file.files)
        if missing:
            raise ValueError(f"{path} must hold the arrays 'inputs' and 'targets'. Received: {sorted(file.files)}")
        targets = file["targets"]
        kinds = ("class_names", "column_names", "attribute_names")
        names = {key: tuple(map(str, file[key])) if key in file.files else () for key in kinds}
        attributes = file["attributes"] if "attributes" in file.files else None
        said = str(file["task"]) if "task" in file.files else "classification" if names["class_names"] else None
        if said and task and said != task:
            raise ValueError(f"{path} is for a {said}. Received: task={task!r}")
        task = said or task or ("regression" if targets.dtype.kind == "f" else None)
        if task not in ("classification", "regression"):
            raise ValueError(
                f"{path} must say what its {targets.dtype} targets are: add the array `class_names`, or "
                f"task='classification' or 'regression'. Received: task={task!r}"
            )
        if task == "classification" and not names["class_names"]:
            labels = check_labels(targets, np.iinfo("int32").max)
            names["class_names"] = tuple(map(str, range(int(labels.max(initial=0)) + 1)))
        elif task == "regression":
            names["class_names"] = ()
        return ArrayDataset(file["inputs"], targets, name=pathlib.Path(path).stem, attributes=attributes, **names)
