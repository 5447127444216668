"""Tables from CSV files, as people write them."""

import codecs
import csv
import dataclasses
import io
import pathlib
import re

import numpy as np

from keras_interp.checks import MISSING_WORDS, encode_columns

SEPARATORS = ",;\t|"
# Names that programs give to the column of row numbers when they write a table.
INDEX_NAMES = ("", "Unnamed: 0", "index", "row.names")


@dataclasses.dataclass(frozen=True)
class CsvRows:
    """The rows of a CSV file as a model takes them.

    Attributes:
        rows: float64 array (n, columns), NaN where a row has no number.
        faults: {row: sentence} of rows that cannot be used, counted from 0.
        unused: names of columns that the model does not know.
    """

    rows: np.ndarray
    faults: dict
    unused: tuple


def read_csv(path):
    """Reads a CSV file as columns of text.

    Separators are commas, semicolons, tabs or bars; fields may be quoted; the text is UTF-8, or UTF-16 with its mark. The
    first line is taken for a header unless all of its fields are numbers.

    Args:
        path: path of the file.

    Returns:
        {name: object array (n,) of text}, with the columns' numbers from 0 as names where there is no header, and {row:
        sentence} of rows with another number of fields.

    Raises:
        ValueError: for a file without rows, that is not text, or with two columns of one name; with its name.
    """
    text = _decode(path)
    lines = [line for line in text.splitlines() if line.strip()][:20]
    if not lines:
        raise ValueError(f"{path} must hold the rows of a table. Received: an empty file")
    separator = max(SEPARATORS, key=lambda one: _columns(lines, one))
    try:
        records = [row for row in csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True) if row]
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as a table. Received: {error}") from error
    records = [[field.strip() for field in row] for row in records]
    header = records[0] if _is_header(records[0]) else None
    rows = records[1:] if header else records
    if not rows:
        raise ValueError(f"{path} must hold rows below its header. Received: the header {header}")
    if separator != ",":
        # Where commas do not separate fields, they may separate decimals.
        rows = [[re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", field) for field in row] for row in rows]
    names = header or list(range(len(rows[0])))
    if len(rows[0]) == len(names) + 1 and all(len(row) == len(rows[0]) for row in rows):
        names = ["", *names]  # The header has no name for the row numbers, as R writes it.
    if header and len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{path} must have a name of its own for each column. Received: several columns {twice[:8]}")
    faults = {
        number: f"has {len(row)} fields instead of {len(names)}" for number, row in enumerate(rows) if len(row) != len(names)
    }
    table = np.array([row if len(row) == len(names) else [""] * len(names) for row in rows], object)
    columns = {name: table[:, column] for column, name in enumerate(names)}
    if header and all(name in INDEX_NAMES or name.isdecimal() for name in map(str, names)):
        # A header that only counts: what is left are columns without names.
        kept = [column for name, column in columns.items() if name not in INDEX_NAMES]
        columns = dict(enumerate(kept))
    return columns, faults


def read_rows(path, column_names=(), num_columns=None):
    """Reads the rows of a CSV file as a model takes them.

    Columns with names are brought into the model's order, and a column "name=category" is made of the column "name". Without
    names on one side, columns are taken in their order, but for one of row numbers.

    Args:
        path: path of the file, see `read_csv`.
        column_names: names of the model's columns, if it has any.
        num_columns: number of the model's columns.

    Returns:
        A `CsvRows`. Rows that have a text or nothing where a number should be, or a category that the model does not know,
        are among its faults.

    Raises:
        ValueError: for a file that cannot be read, or without one of the model's columns; with its name.
    """
    columns, faults = read_csv(path)
    if not column_names and num_columns == len(columns) - 1 and next(iter(columns)) in INDEX_NAMES:
        columns.pop(next(iter(columns)))
    try:
        rows, wrong, unused = encode_columns(columns, column_names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if num_columns not in (None, rows.shape[1]):
        raise ValueError(f"{path} must have {num_columns} columns. Received: {rows.shape[1]}, {list(columns)[:20]}")
    infinite = {
        int(row): f"column {int(np.flatnonzero(~np.isfinite(rows[row].astype('float32')))[0])} is infinite in float32"
        for row in np.flatnonzero(~np.isfinite(rows.astype("float32")).all(axis=1) & ~np.isnan(rows).any(axis=1))
    }
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
    return text


def _columns(lines, separator):
    """Number of fields that a separator makes of each line, 0 where it does not make the same number of most."""
    try:
        counts = [len(row) for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    except csv.Error:
        return 0
    most = max(set(counts), key=counts.count)
    return most if most > 1 and counts.count(most) * 2 > len(counts) else 0


def _is_header(fields):
    if fields == list(map(str, range(len(fields)))) and len(fields) > 1:
        return True
    if fields[0] in INDEX_NAMES and fields[1:] == list(map(str, range(len(fields) - 1))) and len(fields) > 1:
        return True
    return not all(_is_value(field) for field in fields)


def _is_value(field):
    if field.lower() in MISSING_WORDS or field.lower() in ("true", "false"):
        return True
    try:
        float(field.replace(",", "."))
    except ValueError:
        return False
    return True
