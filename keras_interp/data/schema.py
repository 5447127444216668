"""Tables with names, categories and gaps: their schema, and the rows of numbers that a model takes."""

import dataclasses
import json
import pathlib
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from keras_interp.checks import MISSING_WORDS, as_array, check_options, column_names_of, is_named_table, text_of
from keras_interp.data.arrays import ArrayDataset
from keras_interp.data.tables import INDEX_NAMES, CsvRows, read_csv
from keras_interp.typing import ArrayLike, PathLike

OTHER, MISSING = "(other)", "(missing)"
# More different texts than this share of the rows are names or remarks, not categories.
IDENTIFIER_SHARE = 0.5
# Whole numbers with at most so many different values name classes, where a target does not say its task.
MOST_CLASSES = 20


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table, as a person knows it.

    Attributes:
        name: its name.
        kind: "numeric", "boolean" or "categorical".
        categories: levels of a categorical column, most frequent first: texts, "(missing)" for gaps where the training table
            had some, "(other)" for rare ones.
        shares: share of each level in the training table.
        fill: what stands for a gap in a numeric or boolean column: the training median. None where training had no gaps.
    """

    name: str
    kind: str
    categories: tuple = ()
    shares: tuple = ()
    fill: float | None = None

    @property
    def encoded_names(self) -> tuple[str, ...]:
        """Names of the columns of numbers that stand for it."""
        if self.kind == "categorical":
            return tuple(f"{self.name}={category}" for category in self.categories)
        return (self.name,) if self.fill is None else (self.name, f"{self.name} {MISSING}")


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """What a model must know to take a table as people have it: names, kinds, categories and gaps.

    Attributes:
        columns: a `Column` for each input column, in the table's order.
        target: name of the target column; "" where there is none.
        task: "classification" or "regression".
        class_names: names of the classes; empty for a regression.
    """

    columns: tuple[Column, ...]
    target: str = ""
    task: str = "classification"
    class_names: tuple = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns of numbers that a model takes."""
        return tuple(name for column in self.columns for name in column.encoded_names)

    @property
    def sources(self) -> np.ndarray:
        """For each column of numbers, the index of the column that it stands for: integers (columns,)."""
        return np.repeat(np.arange(len(self.columns)), [len(column.encoded_names) for column in self.columns])

    def encode(self, table: Any) -> np.ndarray:
        """The rows of a table as a model takes them.

        Columns are found by name. A category that training did not have counts as "(other)" where the schema has that level;
        else each level gets its share in training, as for an average example. Unknown categories are counted in a warning.

        Args:
            table: data frame, Arrow table or dict of columns.

        Returns:
            float32 array (n, columns).

        Raises:
            ValueError: for a missing column; a text where a number should be; or a gap in a column that had none in training.
                Names row and column.
        """
        rows, faults, unknown = self.encode_with_faults(table)
        if faults:
            shown = "; ".join(f"row {row}: {sentence}" for row, sentence in list(faults.items())[:4])
            raise ValueError(f"{len(faults)} of {len(rows)} rows cannot be used. {shown}")
        if unknown:
            warnings.warn(f"Categories that were rare in training, or not there, with their counts: {unknown}", stacklevel=2)
        return rows

    def encode_with_faults(self, table: Any) -> tuple[np.ndarray, dict[int, str], dict[str, dict[str, int]]]:
        """As `encode`, for tables of which some rows cannot be used.

        Returns:
            float32 array (n, columns), NaN in rows that cannot be used; {row: sentence} for these; and {column: {category:
            count}} of unknown categories.

        Raises:
            ValueError: for a missing column.
        """
        names = column_names_of(table)
        missing = [column.name for column in self.columns if column.name not in names]
        if missing:
            others = [name for name in names if name not in {column.name for column in self.columns}]
            raise ValueError(f"Columns are missing: {missing}. Received: {f'unknown columns {others}' if others else names}")
        parts, faults, unknown = [], {}, {}
        for column in self.columns:
            values = _column_of(table, column.name)
            if column.kind == "categorical":
                part, wrong, seen = _encode_categories(values, column)
                if seen:
                    unknown[column.name] = seen
            else:
                part, wrong = _encode_numbers(values, column)
            parts.append(part)
            for row, sentence in wrong.items():
                faults.setdefault(row, sentence)
        lengths = {len(part) for part in parts}
        if len(lengths) > 1:
            raise ValueError(f"Columns must be of one length. Received: lengths {sorted(lengths)}")
        rows = np.concatenate(parts, axis=1).astype("float32")
        rows[list(faults)] = np.nan
        return rows, dict(sorted(faults.items())), unknown

    def read_csv(self, path: PathLike) -> CsvRows:
        """The rows of a CSV file as a model takes them, see `encode_with_faults`, and what is wrong with some of them.

        Raises:
            ValueError: for a file that cannot be read, or without one of the columns; with its name.
        """
        columns, faults = read_csv(path, [column.name for column in self.columns])
        frame = {str(name): typed(values) for name, values in columns.items()}
        try:
            rows, wrong, unknown = self.encode_with_faults(frame)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        unused = set(frame) - {column.name for column in self.columns} - {self.target, *INDEX_NAMES}
        return CsvRows(rows, {**wrong, **faults}, tuple(name for name in frame if name in unused), unknown)

    def decode(self, rows: ArrayLike) -> dict[str, np.ndarray]:
        """A table of the values that rows stand for, as a person knows them.

        Args:
            rows: float array (n, columns), as of `encode`.

        Returns:
            {name: object array (n,)}, which `pandas.DataFrame` takes: numbers, booleans, texts, and None for gaps.
        """
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != len(self.column_names):
            raise ValueError(f"Rows must have the shape (n, {len(self.column_names)}). Received: shape={rows.shape}")
        table, start = {}, 0
        for column in self.columns:
            width = len(column.encoded_names)
            part = rows[:, start : start + width]
            start += width
            if column.kind == "categorical":
                levels = np.array([None if level == MISSING else level for level in column.categories], object)
                # Between levels lies what training did not have.
                values = np.where(part.max(axis=1) > 0.999, levels[part.argmax(axis=1)], OTHER)
            else:
                values = part[:, 0].astype(object)
                if column.kind == "boolean":
                    values = np.array([bool(value) for value in values], object)
                if column.fill is not None:
                    values[part[:, 1] > 0.5] = None
            table[column.name] = values
        return table

    def to_config(self) -> dict[str, Any]:
        """The schema as a dict for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The schema of a dict of `to_config`.

        Raises:
            ValueError: for anything that is no schema.
        """
        try:
            columns = tuple(
                Column(**{**one, "categories": tuple(one["categories"]), "shares": tuple(one["shares"])})
                for one in config["columns"]
            )
            schema = cls(columns, str(config["target"]), str(config["task"]), tuple(map(str, config["class_names"])))
            if not columns or any(column.kind not in ("numeric", "boolean", "categorical") for column in columns):
                raise ValueError("columns of a kind that there is not")
            names = schema.column_names
            if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
                raise ValueError("columns of one name")
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"This is no schema of a table. Received: {error!r}") from error
        return schema


@dataclasses.dataclass(frozen=True)
class Table(ArrayDataset):
    """A table with its schema, as rows of numbers: an `ArrayDataset` that knows what the rows stand for.

    Made by `from_frame`, `from_csv` or `from_parquet`. A model that is built for it, or fitted to `Batches` of it, keeps the
    schema: its `predict`, `explain` and `intervene` then take data frames as they are.

    Attributes:
        schema: the `TableSchema`.

    Examples:

    >>> frame = {"age": [20.0, 30.0, None, 50.0], "sea": ["near", "far", "near", "far"], "buys": ["no", "yes", "no", "yes"]}
    >>> table = Table.from_frame(frame, target="buys", min_count=1)
    >>> table.column_names
    ('age', 'age (missing)', 'sea=near', 'sea=far')
    >>> table.inputs[2].tolist(), table.class_names
    ([30.0, 1.0, 1.0, 0.0], ('no', 'yes'))
    """

    schema: TableSchema | None = None

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        target: str,
        *,
        task: str | None = None,
        missing: str = "flag",
        min_count: int = 10,
        name: str = "table",
        schema: TableSchema | None = None,
    ) -> Self:
        """A table of a data frame, with its schema.

        Numbers stay numbers; booleans become 0 and 1; texts, and columns of pandas's dtype "category", become one column for
        each category that at least `min_count` rows have, and one for all others. Columns with one value only are left out,
        with a warning.

        Args:
            frame: data frame, Arrow table or dict of columns.
            target: name of the column to predict.
            task: "classification" or "regression"; by default a regression for floats and for whole numbers with more than 20
                values, else a classification.
            missing: "flag" to give a column with gaps a second one that says where they are, and its median in their place;
                "refuse" to raise at the first gap.
            min_count: rows that a category needs for a level of its own.
            name: name of the dataset.
            schema: a schema to encode by, as that of the training table; by default one is made from the table.

        Raises:
            ValueError: for a table without the target, without other columns or with gaps in the target; a column of mixed or
                free text, dates or anything else; and as `TableSchema.encode` does.
        """
        check_options(locals(), missing=("flag", "refuse"), min_count="integer [1, inf)")
        if not is_named_table(frame) or not column_names_of(frame):
            raise ValueError(f"A table needs columns with names. Received: {type(frame).__name__}")
        names = column_names_of(frame)
        if target not in names:
            raise ValueError(f"`target` must be one of the columns {list(names)}. Received: target={target!r}")
        values, own = _column_of(frame, target), schema is None
        if schema is None:
            task, class_names = _task_of(values, target, task)
            columns = [_column_schema(_column_of(frame, one), one, min_count) for one in names if one != target]
            if constant := [one for one, column in zip([n for n in names if n != target], columns) if column is None]:
                warnings.warn(f"Columns with one value only are left out: {constant}", stacklevel=2)
            columns = tuple(column for column in columns if column is not None)
            if not columns:
                raise ValueError(f"A table needs columns beside its target {target!r}. Received: {list(names)}")
            schema = TableSchema(columns, target, task, class_names)
        if missing == "refuse":
            for column in schema.columns:
                if gaps := np.flatnonzero(_gaps(_column_of(frame, column.name))).tolist():
                    raise ValueError(f"missing='refuse', and column {column.name!r} has gaps. Received: in rows {gaps[:8]}")
        if schema.task == "regression":
            targets, faults = _encode_numbers(values, Column(target, "numeric"))
            targets = targets[:, 0]
        else:
            texts = [_text(value) for value in values]
            faults = {row: "is empty" for row, text in enumerate(texts) if not text}
            known = set(schema.class_names)
            faults |= {
                row: f"is {text!r}, not a class of {list(known)[:20]}"
                for row, text in enumerate(texts)
                if text and text not in known
            }
            targets = [schema.class_names.index(text) if text in known else -1 for text in texts]
        if faults:
            row, sentence = next(iter(faults.items()))
            raise ValueError(
                f"The target {target!r} must have a value in each row. Received: {len(faults)} without; row {row} {sentence}"
            )
        with warnings.catch_warnings():
            if own:  # That rare categories are put together is what was asked for.
                warnings.simplefilter("ignore", UserWarning)
            rows = schema.encode(frame)
        return cls(rows, np.asarray(targets), schema.class_names, name, schema.column_names, schema=schema)

    @classmethod
    def from_csv(cls, path: PathLike, target: str, **options: Any) -> Self:
        """A table of a CSV file, see `read_csv` for what is understood, and `from_frame` for the options.

        Raises:
            ValueError: as `from_frame`, with the name of the file, and for rows with another number of fields.
        """
        columns, faults = read_csv(path)
        if faults:
            row, sentence = next(iter(faults.items()))
            raise ValueError(f"{path}: {len(faults)} rows cannot be used. Row {row} {sentence}")
        frame = {str(name): typed(values) for name, values in columns.items()}
        try:
            return cls.from_frame(frame, target, **{"name": pathlib.Path(path).name, **options})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_parquet(cls, path: PathLike, target: str, **options: Any) -> Self:
        """A table of a Parquet file, read by pandas, see `from_frame`.

        Raises:
            ImportError: without pandas and pyarrow.
            ValueError: as `from_frame`.
        """
        import pandas

        return cls.from_frame(pandas.read_parquet(path), target, **{"name": pathlib.Path(path).name, **options})

    def decode(self, rows: ArrayLike | None = None) -> dict[str, np.ndarray]:
        """The values that rows stand for, by default the table's own, see `TableSchema.decode`."""
        return self.schema.decode(self.inputs if rows is None else rows)  # pyright: ignore[reportOptionalMemberAccess]


def written(value: Any) -> str:
    """A value of a table as a person writes it; "(missing)" for a gap."""
    if value is None:
        return MISSING
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def typed(texts: np.ndarray) -> np.ndarray:
    """A column of text as numbers where all that is not missing says numbers, as booleans where it says true and false."""
    known = [text.lower() for text in texts if text.lower() not in MISSING_WORDS]
    if known and set(known) <= {"true", "false"}:
        return np.array([None if text.lower() in MISSING_WORDS else text.lower() == "true" for text in texts], object)
    try:
        numbers = np.array([np.nan if text.lower() in MISSING_WORDS else float(text) for text in texts])
    except ValueError:
        return texts
    whole = numbers.size and np.isfinite(numbers).all() and not any(set(text) & set(".eE") for text in texts)
    return numbers.astype("int64") if whole and np.abs(numbers).max() < 2**53 else numbers


def _text(value):
    text = text_of(value)
    return "" if text.lower() in MISSING_WORDS else text


def _column_of(table, name):
    values = table[name]
    if str(getattr(values, "dtype", "")) == "category":
        values = values.astype(object)
    values = as_array(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"A column must have the shape (n,). Received: {name!r} of shape {values.shape}")
    return values


def _gaps(values):
    if values.dtype.kind in "buif":
        return np.isnan(values.astype("float64"))
    return np.array([not _text(value) for value in values], bool)


def _is_boolean(values):
    known = [value for value in values if _text(value)] if values.dtype.kind == "O" else values
    return values.dtype.kind == "b" or (len(known) and all(isinstance(value, (bool, np.bool_)) for value in known))


def _task_of(values, target, task):
    """The task and class names of a target column."""
    check_options({"task": task or "regression"}, task=("classification", "regression"))
    if values.dtype.kind not in "OUSbuif":
        raise ValueError(f"The target {target!r} must be numbers or text. Received: dtype={values.dtype}")
    numeric = values.dtype.kind in "uif"
    whole = numeric and (values.dtype.kind in "ui" or bool(np.all(values == np.floor(values))))
    distinct = {_text(value) for value in values} - {""}
    if task is None:
        few = values.dtype.kind in "ui" and len(distinct) <= MOST_CLASSES
        task = "classification" if few or not numeric else "regression"
    if task == "regression":
        if not numeric and not _is_boolean(values):
            raise ValueError(f"The target {target!r} of a regression must be numbers. Received: dtype={values.dtype}")
        return task, ()
    if numeric and not whole:
        raise ValueError(f"The target {target!r} has fractions, so it names no classes. Received: task={task!r}")
    if len(distinct) < 2:
        raise ValueError(f"The target {target!r} must have at least two classes. Received: {sorted(distinct)}")
    return task, tuple(sorted(distinct, key=(lambda text: float(text)) if numeric else str))


def _column_schema(values, name, min_count):
    """The `Column` of values of training; None where all are equal."""
    gaps = _gaps(values)
    if gaps.all():
        return None
    if values.dtype.kind in "uif" or _is_boolean(values):
        kind = "boolean" if _is_boolean(values) else "numeric"
        known = values[~gaps].astype("float64")
        if not np.isfinite(known).all():
            row = int(np.flatnonzero(~gaps)[~np.isfinite(known)][0])
            raise ValueError(f"Column {name!r} must be finite. Received: {values[row]} in row {row}")
        if not gaps.any():
            return Column(name, kind) if known.min() < known.max() else None
        return Column(name, kind, fill=float(np.median(known) if kind == "numeric" else np.round(known.mean())))
    if values.dtype.kind not in "OUS":
        raise ValueError(
            f"Column {name!r} must be numbers, booleans or text; turn dates into numbers first. Received: dtype={values.dtype}"
        )
    kinds = {type(value).__name__ for value, gap in zip(values, gaps) if not gap and not isinstance(value, (str, bytes, bool))}
    strange = kinds - {"int", "float", "int64", "float64", "bool_", "bool"}
    if strange:
        raise ValueError(f"Column {name!r} must be numbers, booleans or text. Received: values of {sorted(strange)}")
    counts = Counter(_text(value) or MISSING for value in values)
    if len(counts) > max(IDENTIFIER_SHARE * len(values), MOST_CLASSES):
        raise ValueError(
            f"Column {name!r} has {len(counts)} different texts in {len(values)} rows, as names or remarks have, not "
            "categories: leave it out, or make numbers or categories of it."
        )
    kept = {text: count for text, count in counts.most_common() if count >= min_count or text == MISSING}
    rare = sum(counts.values()) - sum(kept.values())
    if rare:
        kept[OTHER] = kept.get(OTHER, 0) + rare
    if len(kept) < 2:
        return None
    return Column(name, "categorical", tuple(kept), tuple(count / len(values) for count in kept.values()))


def _encode_numbers(values, column):
    """Columns of numbers (n, 1 or 2) of a numeric or boolean column, and {row: sentence} of what cannot be used."""
    gaps, faults = _gaps(values), {}
    if values.dtype.kind in "buif":
        numbers = values.astype("float64")
    else:
        numbers = np.full(len(values), np.nan)
        for row in np.flatnonzero(~gaps):
            text = str(values[row]).strip().lower()
            try:
                numbers[row] = {"true": 1.0, "false": 0.0}.get(text) if text in ("true", "false") else float(text)
            except ValueError:
                faults[int(row)] = f"{column.name!r} must be a number. Received: {values[row]!r}"
    with np.errstate(over="ignore"):
        infinite = np.isinf(numbers.astype("float32"))
    faults |= {int(row): f"{column.name!r} is infinite in float32" for row in np.flatnonzero(infinite)}
    if column.fill is None:
        faults |= {int(row): f"{column.name!r} is empty, and had no gaps in training" for row in np.flatnonzero(gaps)}
        return numbers[:, None], faults
    return np.stack([np.where(gaps, column.fill, numbers), gaps], axis=1), faults


def _encode_categories(values, column):
    """One column for each level, {row: sentence} of what cannot be used, and {category: count} of unknown ones."""
    levels = {level: index for index, level in enumerate(column.categories)}
    texts = [_text(value) or MISSING for value in values]
    part, faults, unknown = np.zeros((len(values), len(levels))), {}, Counter()
    for row, text in enumerate(texts):
        if text in levels:
            part[row, levels[text]] = 1.0
        elif text == MISSING:
            faults[row] = f"{column.name!r} is empty, and had no gaps in training"
        else:
            unknown[text] += 1
            if OTHER in levels:
                part[row, levels[OTHER]] = 1.0
            else:
                part[row] = column.shares
    return part, faults, dict(unknown)
