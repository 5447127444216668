"""Input checks: user data becomes an array here, or an error with the reason."""

import numbers
import operator
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_interp.typing import ArrayLike, Inputs, Shape

# Lowercase spellings of a missing value in a table.
MISSING_WORDS = frozenset(("", "?", "na", "n/a", "nan", "<na>", "null", "none"))
INTERVAL = re.compile(r"(integer )?([\[(])(.+), (.+)([\])])")
INTERVALS = {
    "[0, inf)": "finite and not negative",
    "(0, inf)": "a positive number",
    "(1, inf)": "a number above 1",
    "integer [1, inf)": "an integer of at least 1",
}
# Rounding error of an image that was normalized and rescaled.
RANGE_TOLERANCE = 0.01


def check_options(options: Mapping[str, Any], **allowed: Any) -> None:
    """Raises for an option of a constructor or function that is not allowed.

    Args:
        options: {name: value}, as `locals()` gives them.
        **allowed: for a name, the choices as a tuple, or an interval as text: "[0, inf)", "(0, 1]", "integer [1, inf)". With
            "or None" after it, None is allowed. Each item of a tuple or list is checked.

    Raises:
        ValueError: naming the option, what is allowed, and what was received.

    Examples:

    >>> check_options({"scheme": "joint", "momentum": 0.9}, scheme=("alternating", "joint"), momentum="[0, 1)")
    """
    for name, rule in allowed.items():
        value = options[name]
        if isinstance(rule, tuple):
            fits = isinstance(value, (str, int)) and value in rule
            text = " or ".join(map(repr, rule)) if len(rule) == 2 else f"one of {rule}"
        elif value is None and rule.endswith(" or None"):
            continue
        else:
            kind, opening, low, high, closing = INTERVAL.findall(rule)[0]
            interval = rule.removesuffix(" or None").removeprefix("integer ")
            text = INTERVALS.get(rule.removesuffix(" or None"), f"{'an integer ' if kind else ''}in {interval}")
            above = operator.ge if opening == "[" else operator.gt
            below = operator.le if closing == "]" else operator.lt
            number = numbers.Integral if kind else numbers.Real
            fits = all(
                isinstance(one, number) and not isinstance(one, bool) and above(one, float(low)) and below(one, float(high))
                for one in (value if isinstance(value, (tuple, list)) else (value,))
            )
        if not fits:
            raise ValueError(f"`{name}` must be {text}. Received: {name}={value!r}")


def as_array(values: Any) -> np.ndarray:
    """Converts arrays, lists, tensors, or a column or table of a data frame, in its order, to a NumPy array.

    Columns of nullable integers, floats and booleans become numbers; with missing values, floats with NaN. An index, such as
    that of a pandas Series, is ignored.

    Args:
        values: array, nested list, tensor of the backend, or anything with `to_numpy`.

    Raises:
        ValueError: for lists of different lengths.
    """
    if keras.ops.is_tensor(values) or isinstance(values, keras.Variable):
        return keras.ops.convert_to_numpy(values)
    array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if array.dtype.kind != "O" or not array.size:
        return array
    flat = [_plain(value) for value in array.ravel()]
    kinds = {type(value) for value in flat if value is not None}
    if kinds and kinds <= {bool, np.bool_, int, float} | set(np.sctypeDict.values()) - {np.str_, np.bytes_, np.object_}:
        gaps = None in flat
        flat = [np.nan if value is None else value for value in flat]
        return np.array(flat, "float64" if gaps else None).reshape(array.shape)
    return array


def _plain(value):
    """A value of an object array, None if missing."""
    # pandas.NA is not even equal to itself: the comparison returns another NA.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value


def is_named_table(values: Any) -> bool:
    """True for values with named columns: a data frame, an Arrow table or a dict of columns."""
    return isinstance(values, Mapping) or (hasattr(values, "columns") and hasattr(values, "to_numpy")) or _is_arrow(values)


def _is_arrow(values):
    return hasattr(values, "to_pydict") and hasattr(values, "column_names")


def _names(table):
    if _is_arrow(table):
        return list(table.column_names)
    return list(table if isinstance(table, Mapping) else table.columns)


def column_names_of(table: Any) -> tuple[str, ...]:
    """Names of a table's columns as a tuple; () if the columns are only numbered in order.

    Raises:
        ValueError: for duplicate names, or columns of which only some have names or whose numbers do not rise, so their order
            is unclear.
    """
    if not is_named_table(table):
        return ()
    names = _names(table)
    if not any(isinstance(name, str) for name in names):
        numbers = [name for name in names if isinstance(name, (int, np.integer))]
        # Tuples, as in a multi-level index, do not count as names.
        if len(numbers) < len(names) or numbers == sorted(set(numbers)):
            return ()
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"The columns must all have names, or be numbered in order. Received: columns {names[:20]}")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"Column names must be unique. Received: several columns {twice[:8]}")
    return tuple(names)


def encode_columns(table: Any, column_names: Sequence[str]) -> tuple[np.ndarray, dict[int, str], list[str]]:
    """Rows of a named table in the form that a model with named columns takes, and the faults of unusable rows.

    A column "name=category" missing from the table is 1 where its column "name" holds "category".

    Args:
        table: data frame, or dict of columns (n,): numbers, booleans, or text that spells them.
        column_names: names of the model's columns, in its order; () takes the table's own columns unchanged.

    Returns:
        A float64 array (n, columns), {row: sentence} for rows without a number in a column, and the names of unused columns.

    Raises:
        ValueError: for missing columns, naming them and the unknown ones.
    """
    names = _names(table)
    if not column_names or not column_names_of(table):
        if column_names and len(names) != len(column_names):
            raise ValueError(f"There must be {len(column_names)} columns: {list(column_names)}. Received: {len(names)}")
        sources = {column: (name, None) for column, name in enumerate(names)}
        column_names = column_names or names
    else:
        sources = {}
        for column, name in enumerate(column_names):
            original, separator, category = name.partition("=")
            if name in names:
                sources[column] = name, None
            elif separator and original in names:
                sources[column] = original, category
        used = {name for name, _ in sources.values()}
        unused = [name for name in names if name not in used]
        if missing := [name for column, name in enumerate(column_names) if column not in sources]:
            raise ValueError(f"Columns are missing: {missing}. Received: {f'unknown columns {unused}' if unused else names}")
    used = {name for name, _ in sources.values()}
    columns = {name: _raveled(as_array(table[name]), name) for name in names if name in used}
    count = len(next(iter(columns.values()), ()))
    if any(len(column) != count for column in columns.values()):
        raise ValueError(f"Columns must be of one length. Received: { {name: len(c) for name, c in columns.items()} }")
    rows, faults = np.zeros((count, len(sources))), {}
    texts, known = {}, {}
    for column, (name, category) in sources.items():
        if category is None:
            rows[:, column], bad = _numbers(columns[name], name)
            for row, sentence in bad.items():
                faults.setdefault(row, sentence)
            continue
        if name not in texts:
            texts[name] = np.array([text_of(value) for value in columns[name]], object)
            known[name] = np.zeros(count, bool)
        rows[:, column] = texts[name] == category
        known[name] |= texts[name] == category
    for name, found in known.items():
        categories = [category for source, category in sources.values() if source == name]
        for row in np.flatnonzero(~found):
            value = texts[name][row]
            gap = value.lower() in MISSING_WORDS
            sentence = f"{name!r} is empty" if gap else f"{name!r} must be one of {categories}. Received: {value!r}"
            faults.setdefault(int(row), sentence)
    return rows, faults, [name for name in names if name not in used]


def text_of(value: Any) -> str:
    """A category as text: "" if missing, whole numbers without a fraction."""
    if _plain(value) is None or value != value:
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def _raveled(column, name):
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise ValueError(f"A column must have the shape (n,). Received: {name!r} of shape {column.shape}")
    return column


def _numbers(column, name):
    """A column (n,) as float64, NaN for values that are not numbers, and {row: sentence} for these."""
    if column.dtype.kind in "buif":
        numbers = column.astype("float64")
        return numbers, {int(row): f"{name!r} is empty" for row in np.flatnonzero(np.isnan(numbers))}
    numbers, faults = np.full(len(column), np.nan), {}
    for row, value in enumerate(column):
        text = str(_plain(value)).strip().lower()
        try:
            numbers[row] = {"true": 1.0, "false": 0.0}[text] if text in ("true", "false") else float(text)
        except ValueError:
            gap = text in MISSING_WORDS
            faults[row] = f"{name!r} is empty" if gap else f"{name!r} must be a number. Received: {value!r}"
            continue
        if np.isnan(numbers[row]):
            faults[row] = f"{name!r} is empty"
    return numbers, faults


def check_inputs(
    inputs: Inputs,
    input_shape: Shape,
    column_names: Sequence[str] = (),
    input_range: tuple[float, float] | None = None,
    dtype: str = "float32",
) -> np.ndarray:
    """Returns `inputs` as an array, or raises.

    Args:
        inputs: finite numbers: images (n, height, width, channels), or the rows of a table (n, columns), as an array, list,
            tensor, data frame or dict of columns. Booleans in a table are 0 and 1.
        input_shape: the model's input shape, with None for free lengths.
        column_names: names of the model's columns. A table with named columns is reordered to match; one without names is
            taken unchanged.
        input_range: smallest and largest allowed pixel value, or None for any.
        dtype: name of the float dtype that the model computes in; values must be finite in it.

    Raises:
        ValueError: for the wrong rank or shape, no inputs, a dtype other than integers or floats, NaN or infinite values, a
            missing column, text, or values out of range.

    Warns: UserWarning: for columns that the model does not know, and for float images that never exceed 1 if the range goes to
        255.
    """
    expected = tuple(input_shape[1:])
    things, thing = ("Rows", "row") if len(expected) == 1 else ("Images", "image")
    if is_named_table(inputs) and len(expected) == 1:
        inputs, faults, unused = encode_columns(inputs, column_names)
        if faults:
            shown = "; ".join(f"row {row}: {sentence}" for row, sentence in list(faults.items())[:4])
            raise ValueError(f"{len(faults)} of {len(inputs)} rows cannot be used. {shown}")
        if unused:
            warnings.warn(f"Columns that the model does not know are ignored: {unused}", stacklevel=3)
    inputs = as_array(inputs)
    if inputs.dtype.name == "bfloat16":
        inputs = inputs.astype("float32")
    if inputs.dtype.kind == "b" and thing == "row":
        inputs = inputs.astype("float32")
    if inputs.ndim != len(expected) + 1 or any(e not in (None, s) for e, s in zip(expected, inputs.shape[1:])):
        hint = ""
        if inputs.ndim == 3 == len(expected) and inputs.shape[-1] not in (1, 3, expected[-1]):
            hint = " Gray images need a channel axis: images[..., None]."
            hint += " This model takes colors: np.repeat(images[..., None], 3, axis=-1)." if expected[-1] == 3 else ""
        elif inputs.ndim == len(expected):
            hint = f" A single {thing} needs a batch axis: {things.lower()}[None]."
        raise ValueError(
            f"{things} must have the shape (n, {', '.join(map(str, expected))}).{hint} Received: shape={inputs.shape}"
        )
    if inputs.dtype.kind not in "uif":
        kind = "numbers" if thing == "row" else "pixels, 0..255,"
        raise ValueError(f"{things} must be {kind} of an integer or float dtype. Received: dtype={inputs.dtype}")
    if not len(inputs):
        raise ValueError(f"There must be at least one {thing}. Received: shape={inputs.shape}")
    _check_finite(inputs, things, thing, dtype)
    if input_range is not None and inputs.size and inputs.dtype != np.uint8:
        _check_range(inputs, things, thing, *input_range)
    return inputs


def _check_finite(inputs, things, thing, dtype):
    # bfloat16 has the range of float32.
    largest = float(np.finfo(dtype if dtype in ("float16", "float64") else "float32").max)
    # Comparisons with NaN are false.
    extremes = np.array([inputs.min(), inputs.max()], "float64") if inputs.size else np.zeros(2)
    if (np.abs(extremes) <= largest).all():
        return
    rows = inputs.reshape(len(inputs), -1)
    if inputs.dtype.kind == "f" and not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise ValueError(f"{things} must be finite. Received: NaN or infinite values in {thing}s {bad[:8].tolist()}")
    bad = np.flatnonzero((np.abs(rows.astype("float64")) > largest).any(axis=1))
    columns = np.flatnonzero((np.abs(rows.astype("float64")) > largest).any(axis=0))
    where = f", columns {columns[:8].tolist()}" if thing == "row" else ""
    raise ValueError(
        f"{things} must be finite in {dtype}, which the model computes in: at most {largest:.3g} in magnitude. "
        f"Received: larger values in {thing}s {bad[:8].tolist()}{where}"
    )


def _check_range(inputs, things, thing, low, high):
    lowest, highest = float(inputs.min()), float(inputs.max())
    if lowest < low - RANGE_TOLERANCE or highest > high + RANGE_TOLERANCE:
        rows = inputs.reshape(len(inputs), -1)
        bad = np.flatnonzero((rows.min(axis=1) < low - RANGE_TOLERANCE) | (rows.max(axis=1) > high + RANGE_TOLERANCE))
        raise ValueError(
            f"{things} must hold raw pixels in {low:g}..{high:g}: the model scales them itself. If your own backbone "
            "takes other values, set `model.input_range = None`. "
            f"Received: values in {lowest:g}..{highest:g}, out of range in {thing}s {bad[:8].tolist()}"
        )
    if inputs.dtype.kind == "f" and highest <= 1 < high:
        warnings.warn(
            f"All pixels are at most {highest:g}. The model takes raw pixels in {low:g}..{high:g} and scales them itself: "
            "images divided by 255 look black to it, so pass them undivided.",
            stacklevel=4,
        )


def check_features(*features: np.ndarray) -> None:
    """Raises for activations of a model whose training diverged.

    Args:
        *features: float arrays.

    Raises:
        ValueError: for NaN or infinite values.
    """
    if not all(np.isfinite(array).all() for array in features):
        raise ValueError(
            "The model's features must be finite; training probably diverged. Received: NaN or infinite features for "
            "finite inputs"
        )


def check_labels(labels: ArrayLike, num_classes: int, class_names: Sequence[str] = ()) -> np.ndarray:
    """Returns `labels` as an integer array (n,), or raises.

    Args:
        labels: integers (n,) or (n, 1) in [0, num_classes), as an array, list, tensor or column of a data frame; booleans for
            two classes; or names of classes.
        num_classes: number of classes.
        class_names: names of the classes, in the order of the integers.

    Raises:
        TypeError: for labels that are not integers.
        ValueError: for the wrong shape, a label out of range or missing, or a name that no class or several classes have.
    """
    labels = as_array(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind in "OUS" and labels.ndim == 1 and labels.size:
        labels = _labels_of_names(labels, tuple(class_names))
    elif labels.dtype.kind == "b" and num_classes == 2:
        labels = labels.astype("int32")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        bad = np.flatnonzero(np.isnan(labels.reshape(len(labels), -1)).any(axis=1))
        raise TypeError(f"Labels must be integers. Received: missing or NaN labels in rows {bad[:8].tolist()}")
    if labels.dtype.kind not in "ui":
        raise TypeError(f"Labels must be integers, not one-hot rows. Received: dtype={labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"Labels must have the shape (n,) or (n, 1). Received: shape={labels.shape}")
    if labels.size and not (0 <= labels.min() and labels.max() < num_classes):
        bad = labels[(labels < 0) | (labels >= num_classes)]
        raise ValueError(f"Labels must lie in [0, {num_classes}). Received: {np.unique(bad)[:8].tolist()}")
    return labels


def _labels_of_names(names, class_names):
    if gaps := [row for row, name in enumerate(names) if _plain(name) is None or name != name]:
        raise ValueError(f"Each example needs a label. Received: none in rows {gaps[:8]}")
    index = {name: number for number, name in enumerate(class_names) if class_names.count(name) == 1}
    texts = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    if unknown := [name for name in dict.fromkeys(texts) if name not in index]:
        shown = list(class_names[:20]) if class_names else "not known here: give labels as integers"
        raise ValueError(f"Text labels must be class names, which are {shown}. Received: {unknown[:8]}")
    return np.array([index[text] for text in texts], "int32")


def check_values(values: ArrayLike) -> np.ndarray:
    """Returns regression targets as a float32 array (n,), or raises.

    Args:
        values: finite numbers (n,) or (n, 1).

    Raises:
        TypeError: for values that are not numbers.
        ValueError: for the wrong shape, or values that are NaN or infinite.
    """
    values = as_array(values)
    if values.dtype.kind not in "uif":
        raise TypeError(f"The targets of a regression must be numbers. Received: dtype={values.dtype}")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"The targets of a regression must have the shape (n,) or (n, 1). Received: shape={values.shape}")
    with np.errstate(over="ignore"):  # Values beyond float32 become infinite, which is an error.
        values = values.astype("float32", copy=False)
    if not (finite := np.isfinite(values)).all():
        raise ValueError(
            f"Targets must be finite in float32. Received: {np.count_nonzero(~finite)} NaN or infinite values, in rows "
            f"{np.flatnonzero(~finite)[:8].tolist()}"
        )
    return values


def check_attributes(attributes: Inputs, names: Sequence[str] | int) -> np.ndarray:
    """Returns attributes as a uint8 array (n, attributes) of 0 and 1, or raises.

    Args:
        attributes: booleans or numbers (n, attributes), 0 or 1. Columns of a data frame or dict are reordered to match
            `names`.
        names: names of the attributes, or the number of attributes.

    Raises:
        TypeError: for attributes that are not numbers.
        ValueError: for the wrong shape, an attribute that is missing, or values that are neither 0 nor 1.
    """
    count = names if isinstance(names, (int, np.integer)) else len(names)
    if is_named_table(attributes):
        attributes, faults, _ = encode_columns(attributes, () if isinstance(names, (int, np.integer)) else tuple(names))
        if faults:
            row, sentence = next(iter(faults.items()))
            raise ValueError(f"Attributes must be 0 or 1. Received: row {row}: {sentence}")
    attributes = as_array(attributes)
    if attributes.dtype.kind not in "buif":
        raise TypeError(f"Attributes must be 0 or 1. Received: dtype={attributes.dtype}")
    if attributes.ndim != 2 or attributes.shape[1] != count:
        raise ValueError(f"Attributes must have the shape (n, {count}). Received: shape={attributes.shape}")
    if attributes.size and not np.isin(attributes, (0, 1)).all():
        bad = np.unique(attributes[~np.isin(attributes, (0, 1))])
        raise ValueError(f"Attributes must be 0 or 1. Received: {bad[:8].tolist()}")
    return attributes.astype("uint8")


def check_weights(weights: ArrayLike, count: int) -> np.ndarray:
    """Returns weights of examples as a float32 array (n,), or raises.

    Args:
        weights: finite numbers (n,) or (n, 1), at least 0.
        count: number of examples.

    Raises:
        ValueError: for the wrong shape, or weights that are negative, NaN or infinite.
    """
    weights = as_array(weights)
    if weights.ndim == 2 and weights.shape[1] == 1:
        weights = weights[:, 0]
    if weights.shape != (count,) or weights.dtype.kind not in "buif":
        raise ValueError(
            f"`sample_weight` must be one number for each of {count} examples. "
            f"Received: shape={weights.shape}, dtype={weights.dtype}"
        )
    weights = weights.astype("float32")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        raise ValueError(f"`sample_weight` must be finite and not negative. Received: bad values in rows {bad[:8].tolist()}")
    return weights


def check_array(name: str, array: ArrayLike, shape: Sequence[int | str], dtype: str = "float64") -> np.ndarray:
    """Returns `array` with `dtype`, or raises.

    Args:
        name: the argument's name, for the message.
        array: the given values.
        shape: expected shape: integers, or names for free lengths.
        dtype: a float dtype to convert to, or "bool" to insist on booleans.

    Raises:
        ValueError: for the wrong shape, an empty array, values other than booleans, or NaN and infinite values.
    """
    array = np.asarray(array)
    fits = array.ndim == len(shape) and all(isinstance(e, str) or e == s for e, s in zip(shape, array.shape))
    if not fits or not array.size:
        raise ValueError(
            f"`{name}` must have the shape ({', '.join(map(str, shape))}) and not be empty. Received: shape={array.shape}"
        )
    if dtype == "bool" and array.dtype != bool:
        raise ValueError(f"`{name}` must be booleans. Received: dtype={array.dtype}")
    array = array.astype(dtype, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received: {np.count_nonzero(~np.isfinite(array))} NaN or infinite values")
    return array


def check_classes(labels: ArrayLike, num_classes: int, num_examples: int) -> np.ndarray:
    """Returns `labels` as an integer array (num_examples,), or raises, as `check_labels` and for a wrong or zero length."""
    labels = check_labels(labels, num_classes)
    if len(labels) != num_examples or not num_examples:
        raise ValueError(
            f"There must be one label for each of {num_examples} examples, and at least one. Received: {len(labels)} labels"
        )
    return labels
