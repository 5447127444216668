"""Figures of the paper on the explanation module. Every function returns a matplotlib figure without showing it."""

import numpy as np

from keras_interp.drawing import LABEL_SIZE, add_scale, draw_matrix, make_panels, new_figure, show, show_heat


def plot_concepts(rows, names):
    """Rows of images with heatmaps over them, as of the x-features of an explanation (Figures 3, 4 and 6 to 10).

    Each heatmap has a scale of its own: the color says where, the number in the title how much.

    Args:
        rows: lists of cells (title, image, heat): an array (height, width, channels) of pixels in 0..255, and a float array
            (h, w), at least 0, that is stretched over it, or None for the image alone. Rows may differ in length.
        names: a text for each row.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no rows, or another number of names.
    """
    if not rows or len(names) != len(rows):
        raise ValueError(f"Give one name for each of some rows. Received: {len(rows)} rows, {len(names)} names")
    columns = max(map(len, rows))
    figure = new_figure(0.5 + 1.4 * columns, 0.2 + 1.6 * len(rows))
    for line, cells, name in zip(figure.subplots(len(rows), columns, squeeze=False), rows, names):
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=LABEL_SIZE)
        for axis in line[len(cells) :]:
            axis.set_axis_off()
        for axis, (title, image, heat) in zip(line, cells):
            if heat is None:
                show(axis, image, title)
            else:
                show_heat(axis, image, heat, title)
    return figure


def plot_part_shares(shares, part_names, feature_names):
    """Shares of each x-feature's heat on each part, in panels that share their scale (Figure 5).

    Args:
        shares: {title: float array (features, parts)}, at least 0.
        part_names: names of the columns.
        feature_names: names of the rows.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no arrays, or shapes that do not fit.
    """
    figure, axes = make_panels(shares, 1, 0.6 + 0.28 * len(part_names), 1.6 + 0.3 * len(feature_names))
    shape, high = (len(feature_names), len(part_names)), max(np.max(array) for array in shares.values())
    for axis, (title, array) in zip(axes, shares.items()):
        picture = draw_matrix(axis, array, title, shape, 0.0, high, feature_names, part_names)
        axis.tick_params(axis="x", labelrotation=90)
        for label in axis.get_xticklabels():
            label.set_ha("center")
            label.set_rotation_mode("default")
    add_scale(figure, picture, list(axes), "share of the heat")
    return figure
