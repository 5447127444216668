"""Tables from CSV files of common formats."""

import codecs
import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_interp.checks import MISSING_WORDS, encode_columns
from keras_interp.typing import PathLike

SEPARATORS = ",;\t|"
# Common names of the column of row numbers in written tables.
INDEX_NAMES = ("", "Unnamed: 0", "index", "row.names")


@dataclasses.dataclass(frozen=True)
class CsvRows:
    """Rows of a CSV file in the form that a model takes.

    Attributes:
        rows: float64 array (n, columns), NaN where a row has no number.
        faults: {row: sentence} for unusable rows, counted from 0.
        unused: names of columns that the model does not know.
        unknown: {column: {category: rows}} of categories that were rare or absent in training.
    """

    rows: np.ndarray
    faults: dict
    unused: tuple
    unknown: dict = dataclasses.field(default_factory=dict)


def read_csv(path: PathLike, column_names: Sequence[str] = ()) -> tuple[dict, dict[int, str]]:
    """Reads a CSV file as columns of text.

    Separators are commas, semicolons, tabs or bars; fields may be quoted; the text is UTF-8, or UTF-16 with its mark. A first
    line of only numbers is a row, unless these are the names in `column_names`.

    Args:
        path: path of the file.
        column_names: names of the model's columns, if it has any.

    Returns:
        {name: object array (n,) of text}, with the columns' numbers from 0 as names where there is no header, and {row:
        sentence} of rows with another number of fields.

    Raises:
        ValueError: for a file without rows, that is not text, with two columns of one name, or whose first line, of 0, 1, 2
            and so on, may be a header or a row; with its name.
    """
    text = _decode(path)
    hint = re.match(r"sep=([,;\t|])\n", text, re.IGNORECASE)
    text = text[hint.end() :] if hint else text
    lines = [line for line in text.split("\n") if line.strip()][:20]
    if not lines:
        raise ValueError(f"{path} must hold the rows of a table. Received: an empty file")
    separator = hint[1] if hint else max(SEPARATORS, key=lambda one: _fits(lines, one))
    try:
        records = [row for row in csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True) if row]
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as a table. Received: {error}") from error
    records = [[field.strip() for field in row] for row in records]
    width = len(records[0])
    if len(records) > 1 and all(len(row) == width + 1 and not row[-1] for row in records[1:]):
        # A separator after the last field.
        records = [records[0], *(row[:-1] for row in records[1:])]
    header = records[0] if _is_header(records[0], column_names, path) else None
    rows = records[1:] if header else records
    if not rows:
        raise ValueError(f"{path} must hold rows below its header. Received: the header {header}")
    if separator != "," and not any(re.fullmatch(r"[+-]?\d*\.\d+", field) for row in rows for field in row):
        # If neither fields nor decimals use other signs, commas are decimal.
        rows = [[re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", field) for field in row] for row in rows]
    names: list[Any] = [*(header or range(len(rows[0])))]
    if header and len(names) > 1 and all(len(row) == len(names) + 1 for row in rows):
        names = ["", *names]  # R writes no header for the row numbers.
    if header and len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{path} must have a name of its own for each column. Received: several columns {twice[:8]}")
    faults = {
        number: f"has {len(row)} fields instead of {len(names)}" for number, row in enumerate(rows) if len(row) != len(names)
    }
    table = np.array([row if len(row) == len(names) else [""] * len(names) for row in rows], object)
    columns = {name: table[:, column] for column, name in enumerate(names)}
    if header and names[0] in INDEX_NAMES and names[1:] == list(map(str, range(len(names) - 1))):
        # A header that only counts: the columns have no names.
        columns = dict(enumerate(list(columns.values())[1:]))
    return columns, faults


def read_rows(path: PathLike, column_names: Sequence[str] = (), num_columns: int | None = None) -> CsvRows:
    """Reads the rows of a CSV file in the form that a model takes.

    Named columns are reordered to match the model, and a column "name=category" is made from the column "name". If one side
    has no names, columns are taken in order, except one of row numbers.

    Args:
        path: path of the file, see `read_csv`.
        column_names: names of the model's columns, if it has any.
        num_columns: number of the model's columns.

    Returns:
        A `CsvRows`. Rows with text or a gap instead of a number, or a category that the model does not know, are among its
        faults.

    Raises:
        ValueError: for a file that cannot be read, or without one of the model's columns; with its name.
    """
    columns, faults = read_csv(path, column_names)
    if not column_names and num_columns == len(columns) - 1 and next(iter(columns)) in INDEX_NAMES:
        columns.pop(next(iter(columns)))
    try:
        rows, wrong, unused = encode_columns(columns, column_names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if num_columns not in (None, rows.shape[1]):
        raise ValueError(f"{path} must have {num_columns} columns. Received: {rows.shape[1]}, {list(columns)[:20]}")
    with np.errstate(over="ignore"):
        infinite = np.isinf(rows.astype("float32"))
    names = list(column_names or columns)
    bad = np.flatnonzero(infinite.any(axis=1))
    infinite = {int(row): f"{names[int(infinite[row].argmax())]!r} is infinite in float32" for row in bad}
    return CsvRows(rows, {**infinite, **wrong, **faults}, tuple(name for name in unused if name not in INDEX_NAMES))


def _decode(path):
    content = pathlib.Path(path).read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8, or in UTF-16 with its mark. Received: {error}") from error
    if "\0" in text:
        raise ValueError(f"{path} must be text in UTF-8, or in UTF-16 with its mark. Received: zero bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _fits(lines, separator):
    """Fit of a separator: the share of lines with as many fields as the first (or one more), and that number."""
    try:
        counts = [len(row) for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    except csv.Error:
        return 0.0, 0
    if counts[0] < 2:
        return 0.0, 0
    return sum(count in (counts[0], counts[0] + 1) for count in counts) / len(counts), counts[0]


def _is_header(fields, column_names, path):
    """True if a first line names columns; one with any number is a row, unless the model knows these names."""
    count = list(map(str, range(len(fields))))
    if column_names and set(fields) >= set(column_names):
        return True
    if fields[0] in INDEX_NAMES and fields[1:] == count[:-1] and len(fields) > 1:
        return True
    if fields == count and len(fields) > 1:
        raise ValueError(
            f"{path} begins with the line {','.join(fields)}, which may be a header that counts or a row: name the columns, "
            "or delete that line."
        )
    numbers = [field for field in fields if _is_number(field)]
    originals = {name.partition("=")[0] for name in column_names}
    known = any(field in originals for field in fields if field not in numbers)
    return known or (not numbers and not all(field.lower() in (*MISSING_WORDS, "true", "false") for field in fields))


def _is_number(field):
    try:
        float(field.replace(",", "."))
    except ValueError:
        return False
    return field.lower() not in MISSING_WORDS
