import csv
import hashlib
import re

import numpy as np
import pytest

from keras_interp import data

pytest.importorskip("tensorflow_datasets")
from keras_interp.data import california_housing
from keras_interp.data.california_housing import CATEGORIES, CATEGORY, MEMBER, NUMBERS, TARGET
from tests.programs import run_program

NAME = "california_housing_ocean"


def made_up_rows():
    """Fifty-two rows, of which two lack a number. Each has its own longitude and its value follows from it."""
    rows = []
    for number in range(52):
        row = {column: float(place + number) for place, column in enumerate(NUMBERS)}
        rows.append({**row, TARGET: 1000.0 * number, CATEGORY: CATEGORIES[number % 5]})
    rows[10]["total_bedrooms"] = rows[20]["total_bedrooms"] = ""
    return rows


def write_table(folder, rows):
    path = folder / "housing.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the made-up table, prepared."""
    folder = tmp_path_factory.mktemp("prepared")
    data.prepare(NAME, folder, write_table(tmp_path_factory.mktemp("manual"), made_up_rows()))
    return folder


def test_rows_with_an_empty_field_are_left_out_and_the_rest_split(prepared):
    train, test = data.load(NAME, "train", prepared), data.load(NAME, "test", prepared)
    assert len(train) == 40 and len(test) == 10
    longitudes = np.concatenate([train.inputs[:, 0], test.inputs[:, 0]])
    assert sorted(longitudes) == [number for number in range(52) if number not in (10, 20)]
    assert len(data.load(NAME, "train[:90%]", prepared)) == 36


def test_rows_are_raw_numbers_then_categories(prepared):
    dataset = data.load(NAME, "train", prepared)
    assert dataset.inputs.shape == (40, 13) and dataset.inputs.dtype == dataset.targets.dtype == np.float32
    assert dataset.class_names == () and dataset.name == f"{NAME} train"
    assert dataset.column_names[:8] == NUMBERS and dataset.column_names[8] == "ocean_proximity=<1H OCEAN"
    for row, value in zip(dataset.inputs, dataset.targets):
        number = int(row[0])
        np.testing.assert_array_equal(row[:8], number + np.arange(8))
        np.testing.assert_array_equal(row[8:], np.arange(5) == number % 5)
        assert value == np.float32(number / 100)  # $1,000 a row, in $100,000


def test_the_split_does_not_depend_on_the_order_of_the_table(prepared, tmp_path):
    data.prepare(NAME, tmp_path, write_table(tmp_path / "manual", made_up_rows()[::-1]))
    for split in ("train", "test"):
        one, other = data.load(NAME, split, prepared), data.load(NAME, split, tmp_path)
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.targets, other.targets)


@pytest.mark.parametrize(
    ("column", "field", "message"),
    [
        (CATEGORY, "LAKE", r"line 5: 'ocean_proximity' must be one of \['<1H OCEAN'.*Received: 'LAKE'"),
        ("population", "many", "line 5: 'population' must be a finite number. Received: 'many'"),
        ("population", "nan", "line 5: 'population' must be a finite number. Received: 'nan'"),
        (TARGET, "1e999", "line 5: 'median_house_value' must be a finite number"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, column, field, message):
    rows = made_up_rows()
    rows[3][column] = field
    with pytest.raises(ValueError, match=message):
        data.prepare(NAME, tmp_path, write_table(tmp_path / "manual", rows))


def test_a_wrong_table_is_named(tmp_path):
    rows = made_up_rows()
    path = write_table(tmp_path, [{column: row[column] for column in row if column != "households"} for row in rows])
    with pytest.raises(ValueError, match=r"a header without \['households'\]"):
        california_housing.read_table(path / "housing.csv")
    write_table(tmp_path, rows[:4])
    with pytest.raises(ValueError, match=r"five complete rows.*Received: 4"):
        california_housing.read_table(path / "housing.csv")
    (path / "housing.csv").write_text("")
    with pytest.raises(ValueError, match="a header without"):
        california_housing.read_table(path / "housing.csv")
    lines = [",".join([*NUMBERS, TARGET, CATEGORY]), "1,2,3"]
    (path / "housing.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"line 2: 'total_rooms' must be a finite number. Received: None"):
        california_housing.read_table(path / "housing.csv")


def test_the_download_must_have_the_declared_checksum(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    asked = []
    path = write_table((tmp_path / MEMBER).parent, made_up_rows()) / "housing.csv"
    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", lambda self, url: asked.append(url) or tfds.core.Path(tmp_path)
    )
    with pytest.raises(ValueError, match=f"must have the sha256 {california_housing.SHA256}"):
        data.prepare(NAME, tmp_path / "data")
    monkeypatch.setattr(california_housing, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    data.prepare(NAME, tmp_path / "data")
    assert len(data.load(NAME, "test", tmp_path / "data")) == 10
    assert asked == [california_housing.URL] * 2


def test_missing_preparation_names_the_command(tmp_path):
    command = f"keras-interp prepare {NAME} --data-dir {tmp_path}"
    with pytest.raises(FileNotFoundError, match=re.escape(command)):
        data.load(NAME, "train", tmp_path)


def test_importing_the_package_leaves_tfds_alone():
    assert run_program("loaded_modules").splitlines()[-1] == "loaded keras"


@pytest.mark.data
def test_published_table():
    try:
        train, test = data.load(NAME, "train"), data.load(NAME, "test")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(train) == 16_347 and len(test) == 4_086
    inputs, targets = np.concatenate([train.inputs, test.inputs]), np.concatenate([train.targets, test.targets])
    np.testing.assert_array_equal(inputs[:, 8:].sum(axis=0), (9_034, 6_496, 5, 2_270, 2_628))
    assert targets.min() == np.float32(0.14999) and targets.max() == np.float32(5.00001)
    # The split that shipped models were trained on.
    np.testing.assert_allclose(test.targets.sum(dtype="float64"), 8373.017, atol=0.01)
