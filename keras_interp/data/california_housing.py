"""California Housing with `ocean_proximity`, for TensorFlow Datasets.

Importing this module imports TFDS and registers the dataset `california_housing_ocean` there. `data.prepare` does that, and
downloads the table or takes the `housing.csv` of its `manual_dir`. So does TFDS's own command, where apache-beam and
mlcroissant are installed:

    tfds build california_housing_ocean --imports keras_interp.data.california_housing --data_dir DIR [--manual_dir DIR]
"""

import contextlib
import csv
import hashlib
import math
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_interp.data.arrays import ArrayDataset
from keras_interp.typing import PathLike

# The table of "Hands-On Machine Learning", third edition. The second edition's has the same rows in another order.
URL = "https://raw.githubusercontent.com/ageron/data/9e29abbbea6a3ff7250dea64c43c1d6c723095d7/housing.tgz"
MEMBER = "housing/housing.csv"
SHA256 = "2364609dc48bec7df3ba9dbb7041478e704ecddcee70ef1827ec3fc49d22c0cc"  # of the member

NUMBERS = (
    "longitude",
    "latitude",
    "housing_median_age",
    "total_rooms",
    "total_bedrooms",
    "population",
    "households",
    "median_income",
)
CATEGORY = "ocean_proximity"
CATEGORIES = ("<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN")
TARGET = "median_house_value"


class CaliforniaHousingOcean(tfds.core.GeneratorBasedBuilder):
    """The block groups of the 1990 census of California: eight numbers and a category of each, and the median house value.

    Numbers are float32 in the units of the table (`median_house_value` in dollars, `median_income` in $10,000), and
    `ocean_proximity` is one of `CATEGORIES`. Rows with an empty field are left out: 20,433 of the published 20,640 remain.
    They are split 4:1 into "train" and "test" by a seeded permutation of the sorted rows, so the row order of a copy does not
    matter.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Optional: a `housing.csv` that is put here is used instead of the download."
    SEED = 0
    # TFDS would find it itself, but with importlib_resources, which it does not install (tensorflow/datasets#11212).
    code_path = tfds.core.Path(__file__)

    def _info(self):
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    **dict.fromkeys((*NUMBERS, TARGET), np.float32),
                    CATEGORY: tfds.features.ClassLabel(names=CATEGORIES),
                }
            ),
            homepage="https://github.com/ageron/data",
            citation="Pace and Barry. Sparse spatial autoregressions. Statistics & Probability Letters, 1997.",
        )

    def _split_generators(self, dl_manager):
        rows = sorted(read_table(_find_table(dl_manager)), key=lambda row: tuple(row.values()))
        # The legacy generator: NumPy promises that its permutations stay the same.
        shuffled = [rows[number] for number in np.random.RandomState(self.SEED).permutation(len(rows))]
        count = len(rows) // 5
        return {"train": self._generate_examples(shuffled[count:]), "test": self._generate_examples(shuffled[:count])}

    def _generate_examples(self, rows):
        return enumerate(rows)


def _find_table(dl_manager):
    """The path of `housing.csv`: the user's own, or the downloaded one, whose checksum must match."""
    with contextlib.suppress(AssertionError):  # TFDS raises this if the folder is missing or empty.
        path = dl_manager.manual_dir / "housing.csv"
        if path.exists():
            return path
    path = dl_manager.download_and_extract(URL) / MEMBER
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{MEMBER} of {URL} must have the sha256 {SHA256}. Received: {digest}")
    return path


def read_table(path: PathLike) -> list[dict[str, Any]]:
    """Reads the complete rows of a `housing.csv`.

    Args:
        path: path of a CSV file with a header that names at least our columns, in any order.

    Returns:
        A list of dicts: floats under the names of `NUMBERS` and `TARGET`, and a string under `CATEGORY`. Rows with an empty
        field in one of these columns are left out.

    Raises:
        ValueError: for a missing column, a field that is not a finite number, a category that is not in `CATEGORIES`, with
            line and column, or fewer than five complete rows.
    """
    columns = (*NUMBERS, TARGET, CATEGORY)
    rows = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        missing = [column for column in columns if column not in (table.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} must have the columns {list(columns)}. Received: a header without {missing}")
        for row in table:
            if "" not in (row[column] for column in columns):
                rows.append({column: _parse(row[column], column, f"{path}, line {table.line_num}") for column in columns})
    if len(rows) < 5:
        raise ValueError(f"{path} must have at least five complete rows, to be split 4:1. Received: {len(rows)}")
    return rows


def _parse(field, column, where):
    if column == CATEGORY:
        if field not in CATEGORIES:
            raise ValueError(f"{where}: {column!r} must be one of {list(CATEGORIES)}. Received: {field!r}")
        return field
    try:
        number = float(field)
    except (TypeError, ValueError):  # None stands for the fields that a short line does not have.
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {column!r} must be a finite number. Received: {field!r}")
    return number


def to_arrays(builder: Any, split: str) -> ArrayDataset:
    """A split of the prepared dataset as arrays.

    Args:
        builder: the TFDS builder.
        split: split, in the notation of TFDS.

    Returns:
        An `ArrayDataset`: inputs are float32 rows (n, 13), the eight numbers as they are in the table and then a column of 0
        and 1 for each of `CATEGORIES`; targets are the median house values in $100,000, float32 (n,).
    """
    examples = {key: np.asarray(values) for key, values in builder.as_dataset(split=split, batch_size=-1).items()}
    one_hot = np.eye(len(CATEGORIES), dtype="float32")[examples[CATEGORY]]
    return ArrayDataset(
        np.column_stack([*(examples[column] for column in NUMBERS), one_hot]),
        (examples[TARGET] / 1e5).astype("float32"),
        name=f"{builder.name} {split}",
        column_names=(*NUMBERS, *(f"{CATEGORY}={category}" for category in CATEGORIES)),
    )
