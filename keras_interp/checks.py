"""Checks of arrays before any work is done with them."""

import numpy as np


def check_images(images, input_shape):
    """Returns `images` as an array, or raises.

    Args:
        images: array (n, height, width, channels) of finite pixels.
        input_shape: the model's input shape, with None for what may vary.

    Raises:
        ValueError: for another rank or shape, or pixels that are NaN or infinite.
    """
    images = np.asarray(images)
    expected = tuple(input_shape[1:])
    if images.ndim != len(expected) + 1 or any(e not in (None, s) for e, s in zip(expected, images.shape[1:])):
        hint = " A single image needs a batch axis: images[None]." if images.ndim == len(expected) else ""
        raise ValueError(
            f"Images must have the shape (n, {', '.join(map(str, expected))}).{hint} Received: shape={images.shape}"
        )
    if images.dtype.kind not in "uif":
        raise ValueError(f"Images must be pixels of an integer or float dtype, 0..255. Received: dtype={images.dtype}")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        bad = np.flatnonzero(~np.isfinite(images.reshape(len(images), -1)).all(axis=1))
        raise ValueError(f"Images must be finite. Received: NaN or infinite pixels in images {bad[:8].tolist()}")
    return images


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
