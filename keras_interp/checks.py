"""Checks of arrays before any work is done with them."""

import numpy as np


def check_inputs(inputs, input_shape):
    """Returns `inputs` as an array, or raises.

    Args:
        inputs: array of finite numbers: images (n, height, width, channels), or the rows of a table (n, columns).
        input_shape: the model's input shape, with None for what may vary.

    Raises:
        ValueError: for another rank or shape, none at all, another dtype than integers or floats, or values that are NaN or
            infinite.
    """
    inputs = np.asarray(inputs)
    if inputs.dtype.name == "bfloat16":
        inputs = inputs.astype("float32")
    expected = tuple(input_shape[1:])
    things, thing = ("Rows", "row") if len(expected) == 1 else ("Images", "image")
    if inputs.ndim != len(expected) + 1 or any(e not in (None, s) for e, s in zip(expected, inputs.shape[1:])):
        hint = f" A single {thing} needs a batch axis: {things.lower()}[None]." if inputs.ndim == len(expected) else ""
        raise ValueError(
            f"{things} must have the shape (n, {', '.join(map(str, expected))}).{hint} Received: shape={inputs.shape}"
        )
    if inputs.dtype.kind not in "uif":
        kind = "numbers" if thing == "row" else "pixels, 0..255,"
        raise ValueError(f"{things} must be {kind} of an integer or float dtype. Received: dtype={inputs.dtype}")
    if not len(inputs):
        raise ValueError(f"There must be one {thing} at least. Received: shape={inputs.shape}")
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        bad = np.flatnonzero(~np.isfinite(inputs.reshape(len(inputs), -1)).all(axis=1))
        raise ValueError(f"{things} must be finite. Received: NaN or infinite values in {thing}s {bad[:8].tolist()}")
    return inputs


def check_features(*features):
    """Raises where activations that a model gave are those of a training that diverged.

    Args:
        *features: float arrays.

    Raises:
        ValueError: for values that are NaN or infinite.
    """
    if not all(np.isfinite(array).all() for array in features):
        raise ValueError(
            "The model's features must be finite. Received: NaN or infinite ones for finite inputs, after a training "
            "that diverged"
        )


def check_labels(labels, num_classes):
    """Returns `labels` as an integer array (n,), or raises.

    Args:
        labels: integers (n,) or (n, 1) in [0, num_classes).
        num_classes: number of classes.

    Raises:
        TypeError: for labels that are not integers.
        ValueError: for another shape, or a label out of range.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "ui":
        raise TypeError(f"Labels must be integers, class numbers and not one-hot rows. Received: dtype={labels.dtype}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"Labels must have the shape (n,) or (n, 1). Received: shape={labels.shape}")
    if labels.size and not (0 <= labels.min() and labels.max() < num_classes):
        bad = labels[(labels < 0) | (labels >= num_classes)]
        raise ValueError(f"Labels must lie in [0, {num_classes}). Received: {np.unique(bad)[:8].tolist()}")
    return labels


def check_values(values):
    """Returns the target values of a regression as a float32 array (n,), or raises.

    Args:
        values: finite numbers (n,) or (n, 1).

    Raises:
        TypeError: for values that are not numbers.
        ValueError: for another shape, or values that are NaN or infinite.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "uif":
        raise TypeError(f"The targets of a regression must be numbers. Received: dtype={values.dtype}")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"The targets of a regression must have the shape (n,) or (n, 1). Received: shape={values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"Targets must be finite. Received: {np.count_nonzero(~np.isfinite(values))} NaN or infinite values")
    return values.astype("float32", copy=False)


def check_attributes(attributes, count):
    """Returns attributes as a uint8 array (n, count) of 0 and 1, or raises.

    Args:
        attributes: booleans or numbers (n, count), 0 or 1.
        count: number of attributes.

    Raises:
        TypeError: for attributes that are not numbers.
        ValueError: for another shape, or values that are neither 0 nor 1.
    """
    attributes = np.asarray(attributes)
    if attributes.dtype.kind not in "buif":
        raise TypeError(f"Attributes must be 0 or 1. Received: dtype={attributes.dtype}")
    if attributes.ndim != 2 or attributes.shape[1] != count:
        raise ValueError(f"Attributes must have the shape (n, {count}). Received: shape={attributes.shape}")
    if attributes.size and not np.isin(attributes, (0, 1)).all():
        bad = np.unique(attributes[~np.isin(attributes, (0, 1))])
        raise ValueError(f"Attributes must be 0 or 1. Received: {bad[:8].tolist()}")
    return attributes.astype("uint8")
