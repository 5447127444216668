"""Figures of the XNet paper. Every function returns a matplotlib figure without showing it."""

import numpy as np
from matplotlib.patches import Rectangle

from keras_interp.checks import check_array
from keras_interp.drawing import (
    CURVES,
    INK,
    LABEL_SIZE,
    OWN,
    TITLE_SIZE,
    add_scale,
    draw_matrix,
    finish_curves,
    make_panels,
    new_figure,
    show,
    show_heat,
)


def plot_activation_shares(shares, attribute_names, neuron_names):
    """Distribution of each neuron's activation over the categories, for several networks (Figure 2).

    The largest share of each neuron, a column, is framed.

    Args:
        shares: {title: float array (attributes, neurons)} of shares in [0, 1], see `metrics.dropping.activation_shares`;
            NaN for a category without examples.
        attribute_names: names of the attributes.
        neuron_names: names of the neurons.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no matrices, or one of another shape.
    """
    figure, axes = make_panels(shares, 1, 1.4 + 0.9 * len(neuron_names), 1.5 + 0.5 * len(attribute_names))
    for axis, (title, matrix) in zip(axes, shares.items()):
        shape = len(attribute_names), len(neuron_names)
        picture = draw_matrix(axis, matrix, title, shape, 0.0, 1.0, attribute_names, neuron_names)
        for (row, column), share in np.ndenumerate(np.asarray(matrix)):
            color = "w" if share < 0.6 else INK
            axis.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=LABEL_SIZE, color=color)
        largest = np.nan_to_num(matrix)
        # A silent neuron has no largest share.
        for column in np.flatnonzero(largest.max(axis=0) > 0):
            row = largest[:, column].argmax()
            axis.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=OWN, linewidth=2))
    add_scale(figure, picture, axes, "share of the neuron's mean activations")
    return figure


def plot_category_maps(groups, attribute_names, signed):
    """Images of each category with the maps that several networks have of them, in groups side by side (Figures 3 and 4).

    Args:
        groups: {title: (images, {network: maps})}: array (attributes, height, width, channels), one image of each category,
            and float arrays (attributes, h, w).
        attribute_names: names of the attributes, one row each.
        signed: whether maps speak for and against, as class activation maps do, or have magnitudes alone, as saliency maps.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no groups, or shapes that do not fit.
    """
    if not groups:
        raise ValueError("There must be at least one group. Received: none")
    rows, columns = len(attribute_names), sum(1 + len(maps) for _, maps in groups.values())
    figure = new_figure(0.9 + 1.3 * columns, 0.7 + 1.35 * rows)
    parts = figure.subfigures(1, len(groups), squeeze=False, width_ratios=[1 + len(maps) for _, maps in groups.values()])
    for part, (title, (images, networks)) in zip(parts[0], groups.items()):
        images = check_array(title, images, (rows, "height", "width", "channels"))
        part.suptitle(title, fontsize=TITLE_SIZE, color=INK)
        axes = part.subplots(rows, 1 + len(networks), squeeze=False)
        for row, line in enumerate(axes):
            show(line[0], images[row], "image" if row == 0 else "")
            line[0].text(-0.08, 0.5, attribute_names[row], transform=line[0].transAxes, rotation=90, ha="right", va="center")
            line[0].texts[-1].set_fontsize(LABEL_SIZE)
            for axis, (network, maps) in zip(line[1:], networks.items()):
                heat = check_array(network, maps, (rows, "h", "w"))[row]
                name = network if row == 0 else ""
                if signed:
                    show_heat(axis, images[row], heat, name)
                else:
                    axis.imshow(heat, cmap="magma", vmin=0.0, vmax=np.quantile(heat, 0.995) or 1.0, interpolation="nearest")
                    axis.set_title(name, fontsize=7, color=INK)
                    axis.set_axis_off()
    return figure


def plot_top_images(images, titles, captions=None):
    """The images that a neuron is about, nine or so for each neuron, in squares side by side (Figures 5 and 6).

    Args:
        images: array (neurons, n, height, width, channels) of pixels in 0..255.
        titles: names of the neurons.
        captions: texts (neurons, n) above the images, or None.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no images, or another number of titles.
    """
    images = check_array("images", images, (len(titles), "n", "height", "width", "channels"))
    side = int(np.ceil(np.sqrt(images.shape[1])))
    figure = new_figure(3.1 * len(titles), 0.4 + 3.1 * -(-images.shape[1] // side) / side)
    for number, (part, title) in enumerate(zip(figure.subfigures(1, len(titles), squeeze=False)[0], titles)):
        part.suptitle(title, fontsize=TITLE_SIZE, color=INK)
        axes = part.subplots(-(-images.shape[1] // side), side, squeeze=False).ravel()
        for axis in axes[images.shape[1] :]:
            axis.set_axis_off()
        for place, axis in enumerate(axes[: images.shape[1]]):
            show(axis, images[number, place], "" if captions is None else captions[number][place])
            axis.title.set_fontsize(6)
    return figure


def plot_trade_off(curves, points=None):
    """Accuracy against the smallest cost of dropping a neuron, for networks with different weights of the drop loss.

    Args:
        curves: {title: (costs, accuracies, names)}: float arrays (n,) and n names, as of the weights α.
        points: {name: (cost, accuracy)} of further networks.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no curves, or arrays of different lengths.
    """
    if not curves:
        raise ValueError("There must be at least one curve. Received: none")
    figure = new_figure(6.4, 4.2)
    axis = figure.subplots()
    for number, (title, (costs, accuracies, names)) in enumerate(curves.items()):
        costs = check_array("costs", costs, (len(names),))
        accuracies = check_array("accuracies", accuracies, (len(names),))
        color = CURVES[number % len(CURVES)]
        axis.plot(costs, accuracies, "o-", color=color, markersize=3, linewidth=1, label=title)
        for cost, accuracy, name in zip(costs, accuracies, names):
            axis.annotate(name, (cost, accuracy), (3, 3), textcoords="offset points", fontsize=6, color=color)
    for number, (name, (cost, accuracy)) in enumerate((points or {}).items()):
        axis.plot(cost, accuracy, "Ds^v*"[number % 5], color=INK, markersize=6, label=name)
    finish_curves(axis, "smallest accuracy cost of dropping a neuron, on its own category", "accuracy")
    return figure
