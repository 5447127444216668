"""Datasets of pictures in folders, one for each class, or in a CSV file of names and labels."""

import concurrent.futures
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_interp.checks import check_options
from keras_interp.data.arrays import ArrayDataset
from keras_interp.data.lazy import CENTER_SHARE, LazyDataset
from keras_interp.data.pictures import load_picture
from keras_interp.data.tables import read_csv
from keras_interp.typing import PathLike, Size

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
# Up to so many bytes of pixels stay in memory.
MEMORY = 2**30


class PictureFiles(Sequence):
    """Pictures in files with labels, opened when they are needed: a source of `LazyDataset`.

    Args:
        paths: paths of the files.
        labels: integers (n,).
        size: (height, width) to which pictures are scaled and cropped.
        channels: 3 for colors, 1 for gray.
    """

    def __init__(self, paths: Sequence[pathlib.Path], labels: np.ndarray, size: Size, channels: int = 3) -> None:
        self.paths, self.labels, self.size, self.channels = list(paths), np.asarray(labels), size, channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        return {"image": load_picture(self.paths[index], self.size, self.channels), "label": int(self.labels[index])}


def load_folder(
    path: PathLike,
    image_size: Size = (224, 224),
    *,
    validation: float = 0.0,
    labels: PathLike | None = None,
    channels: int = 3,
    in_memory: bool | None = None,
    seed: int = 0,
) -> Any:
    """Loads the pictures of a folder: one subfolder for each class, whose name is the class's.

    Pictures are opened as `load_picture` does it, several at a time, and cropped about their center. Files that cannot be
    opened are left out and named in one warning; hidden files, and files of other endings, are passed over.

    Args:
        path: the folder.
        image_size: (height, width) of the pictures.
        validation: share of each class's pictures that is held out, drawn at random; 0 for none.
        labels: a CSV file with a header and two columns, a file's path from the folder and its label, in place of
            subfolders.
        channels: 3 for colors, 1 for gray.
        in_memory: whether to keep the pixels in memory; by default if they take at most 1 GiB. Otherwise the result is a
            `LazyDataset`, which opens files batch by batch, in random crops in training.
        seed: seed of the held-out share.

    Returns:
        An `ArrayDataset` or a `LazyDataset`; with `validation`, a pair of them: for training, and held out.

    Raises:
        FileNotFoundError: for a folder, or a file of labels, that is not there.
        ValueError: for a folder with pictures of fewer than two classes, or a class of which nothing is left or held out.

    Examples:

    >>> import tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     (folder / name).mkdir()
    ...     for number in range(4):
    ...         Image.new("RGB", (30, 20), (60 * number, 90, 0)).save(folder / name / f"{number}.png")
    >>> train, held_out = load_folder(folder, (16, 16), validation=0.25)
    >>> train.class_names, train.input_shape, len(train), len(held_out)
    (('cat', 'dog'), (16, 16, 3), 6, 2)
    """
    check_options(locals(), validation="[0, 1)", image_size="integer [1, inf)", channels=(1, 3))
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of pictures. Received: {folder}")
    paths, texts = _labeled_files(folder) if labels is None else _listed_files(folder, pathlib.Path(labels))
    class_names = tuple(sorted(set(texts)))
    if len(class_names) < 2:
        raise ValueError(
            f"{folder} must hold pictures of at least two classes, in a subfolder for each. Received: classes {class_names}, "
            f"{len(paths)} pictures"
        )
    numbers = {name: index for index, name in enumerate(class_names)}
    codes = np.array([numbers[text] for text in texts], "int32")
    if in_memory is None:
        in_memory = len(paths) * image_size[0] * image_size[1] * channels <= MEMORY
    if not in_memory and channels == 1:
        raise ValueError(f"Gray pictures must fit into memory. Received: {len(paths)} pictures, channels=1")
    # The center of test time is a part of what is opened.
    height, width = image_size if in_memory else (round(side / CENTER_SHARE) for side in image_size)
    source = PictureFiles(paths, codes, (height, width), channels)
    pixels, good = _read_all(source, class_names, keep=in_memory)
    targets = codes[good]
    if pixels is not None:
        dataset = ArrayDataset(pixels[good], targets, class_names, folder.name)
    else:
        dataset = LazyDataset(source, image_size, class_names, folder.name, good)
    if not validation:
        return dataset
    kept, held_out = stratified_split(targets, validation, seed, class_names)
    return dataset[kept], dataset[held_out]


def stratified_split(
    labels: np.ndarray, share: float, seed: int = 0, class_names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples at random, so that the share that is held out is about the same for each class.

    Args:
        labels: integers (n,); floats, as of a regression, are split as a whole.
        share: share that is held out, in (0, 1).
        seed: seed of the draw.
        class_names: names of the classes, for messages.

    Returns:
        Integers: the indices that are kept and those held out, in rising order.

    Raises:
        ValueError: for a class of which nothing would be kept or held out.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    groups = [np.arange(len(labels))]
    if labels.dtype.kind in "ui":
        groups = [np.flatnonzero(labels == one) for one in np.unique(labels)]
    held_out = []
    for group in groups:
        count = max(round(len(group) * share), 1)
        if count >= len(group):
            label = labels[group[0]]
            name = repr(class_names[int(label)]) if len(class_names) else label
            raise ValueError(
                f"Each class needs examples on both sides. Received: {len(group)} of class {name}, a share of {share}"
            )
        held_out.append(rng.permutation(group)[:count])
    held_out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def _labeled_files(folder):
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in ENDINGS
        and len(path.relative_to(folder).parts) > 1
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return paths, [path.relative_to(folder).parts[0] for path in paths]


def _listed_files(folder, table):
    columns, faults = read_csv(table)
    if len(columns) != 2 or faults:
        raise ValueError(f"{table} must have two columns, files and labels, in each row. Received: columns {list(columns)}")
    files, texts = columns.values()
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{table} names files that are not in {folder}. Received: {missing[:8]}, {len(missing)} in all"
        )
    return [folder / name for name in files], list(texts)


def _read_all(source, class_names, keep):
    """Opens all pictures, or only their headers where they are not to be kept.

    Returns:
        Their pixels, a uint8 array (n, height, width, channels), or None; and the indices of those that can be opened.
    """
    pixels = np.zeros((len(source), *source.size, source.channels), "uint8") if keep else None
    faults: dict[int, str] = {}

    def read(index):
        try:
            if pixels is None:
                with Image.open(source.paths[index]):
                    pass
            else:
                pixels[index] = source[index]["image"]
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            faults[index] = str(error)

    # Pillow decodes outside of Python's lock.
    with concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        list(pool.map(read, range(len(source))))
    if faults:
        shown = "; ".join(faults[index] for index in sorted(faults)[:8])
        warnings.warn(f"{len(faults)} of {len(source)} pictures cannot be opened and are left out: {shown}", stacklevel=3)
    good = np.setdiff1d(np.arange(len(source)), list(faults))
    counts = np.bincount(source.labels[good], minlength=len(class_names))
    if not counts.all():
        raise ValueError(
            f"No picture of class {class_names[int(counts.argmin())]!r} can be opened. Received: {len(faults)} faults"
        )
    return pixels, good
