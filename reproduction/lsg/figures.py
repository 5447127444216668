"""Figures of the paper on label-sensitive gates. Every function returns a matplotlib figure without showing it."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from keras_interp.checks import check_array, check_classes
from keras_interp.drawing import (
    CURVES,
    INK,
    LABEL_SIZE,
    MISSING,
    OWN,
    TICK_SIZE,
    TITLE_SIZE,
    add_scale,
    check_matrix,
    draw_matrix,
    finish_curves,
    make_panels,
    new_figure,
    show,
    show_heat,
)
from keras_interp.metrics.filters import correlated_share


def plot_gates(gates, class_names):
    """Gate matrices side by side: Figure 3 (with and without the sparsity term) and Figure 8 (the fixed gate).

    Args:
        gates: {title: float array (classes, filters) with entries in [0, 1]}.
        class_names: names of the classes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no gates, or shapes that do not fit.
    """
    figure, axes = make_panels(gates, rows=1, width=5.4, height=2.7)
    for axis, (title, gate) in zip(axes, gates.items()):
        picture = draw_matrix(axis, gate, title, (len(class_names), "filters"), 0.0, 1.0, rows=class_names)
        axis.set_xlabel("filter", fontsize=LABEL_SIZE)
    add_scale(figure, picture, axes, "gate")
    return figure


def plot_masked_confusions(confusions, masked, class_names):
    """Confusion matrices of networks with masked filters, two in a row (Figure 4).

    Args:
        confusions: {title: float array (classes, classes)}, rows true and columns predicted, in shares of each row; NaN rows
            are classes without examples.
        masked: {title: numbers of the classes whose filters are masked}; their names are drawn in red.
        class_names: names of the classes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no matrices, shapes that do not fit, or other titles than those of `confusions`.
    """
    if list(masked) != list(confusions):
        raise ValueError(f"`masked` must have the titles {list(confusions)}. Received: {list(masked)}")
    count = len(class_names)
    figure, axes = make_panels(confusions, rows=-(-len(confusions) // 2), width=4.9, height=4.5)
    for axis, (title, confusion) in zip(axes, confusions.items()):
        picture = draw_matrix(axis, confusion, title, (count, count), 0.0, 1.0, rows=class_names, columns=class_names)
        for row, column in np.argwhere(np.rint(100 * np.nan_to_num(confusion)) > 0):
            share = confusion[row, column]
            # White on the dark half of the color map.
            axis.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color="w" if share < 0.6 else INK
            )
        labels = axis.get_xticklabels(), axis.get_yticklabels()
        for number in check_classes(masked[title], count, len(masked[title])):
            for names in labels:
                names[number].set(color=OWN, fontweight="bold")
        axis.set_xlabel("predicted", fontsize=LABEL_SIZE)
        axis.set_ylabel("true", fontsize=LABEL_SIZE)
    add_scale(figure, picture, axes, "share of the true class (cells: in percent)")
    return figure


def plot_similarities(true_positive, false_negative, class_names):
    """Mean inner products of the features of a class with the gate rows, over right and over wrong predictions (Figure 5).

    As in the paper, classes are reordered; here so that classes whose features are alike stand side by side.

    Args:
        true_positive: float array (classes, classes), S over the true positives: row, the class of the images; column, the
            gate row. Rows of NaN are classes without such images.
        false_negative: the same over the false negatives.
        class_names: names of the classes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for shapes that do not fit.
    """
    count = len(class_names)
    matrices = {"true positives": true_positive, "false negatives": false_negative}
    matrices = {title: check_matrix(title, matrix, (count, count)) for title, matrix in matrices.items()}
    order = _order_by_similarity(sum(np.nan_to_num(matrix) for matrix in matrices.values()))
    names = [class_names[number] for number in order]
    low, high = (extreme([extreme(np.nan_to_num(matrix)) for matrix in matrices.values()]) for extreme in (np.min, np.max))
    figure, axes = make_panels(matrices, rows=1, width=4.6, height=4.2)
    for axis, (title, matrix) in zip(axes, matrices.items()):
        matrix = matrix[np.ix_(order, order)]
        picture = draw_matrix(axis, matrix, title, (count, count), min(low, 0.0), high, rows=names, columns=names)
        axis.set_xlabel("gate row", fontsize=LABEL_SIZE)
        axis.set_ylabel("features of", fontsize=LABEL_SIZE)
    add_scale(figure, picture, axes, "mean inner product")
    return figure


def _order_by_similarity(matrix):
    """An order of the rows in which similar ones are neighbors: the Fiedler vector of the graph of similarities."""
    similarity = np.maximum(matrix + matrix.T, 0.0)
    laplacian = np.diag(similarity.sum(axis=1)) - similarity
    return np.argsort(np.linalg.eigh(laplacian)[1][:, min(1, len(matrix) - 1)], kind="stable")


def plot_activation_maps(images, maps, titles):
    """Images in a row, with the class activation maps of several networks below (Figure 6).

    Each map has a scale of its own. Red speaks for the class, blue against it.

    Args:
        images: array (n, height, width, channels) of pixels in 0..255.
        maps: {name of the network: float array (n, h, w)}, stretched over the images.
        titles: n titles, as the names of the classes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no images or maps, or numbers that do not fit.
    """
    images = check_array("images", images, ("n", "height", "width", "channels"))
    if len(titles) != len(images) or not maps:
        raise ValueError(f"Give {len(images)} titles and some maps. Received: {len(titles)} titles, {len(maps)} networks")
    figure = new_figure(0.6 + 1.25 * len(images), 0.6 + 1.3 * (1 + len(maps)))
    axes = figure.subplots(1 + len(maps), len(images), squeeze=False)
    for axis, image, title in zip(axes[0], images, titles):
        show(axis, image, title)
    for line, (name, heats) in zip(axes[1:], maps.items()):
        heats = check_array(name, heats, (len(images), "h", "w"))
        for axis, image, heat in zip(line, images, heats):
            picture = show_heat(axis, image, heat / (np.abs(heat).max() or 1.0), "")
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=TITLE_SIZE)
    scale = figure.colorbar(picture, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02, ticks=[-1, 0, 1])
    scale.ax.set_xticklabels(["against the class", "0", "for the class"], fontsize=TICK_SIZE)
    return figure


def plot_filter_correlations(correlations, share_title="elements above a threshold"):
    """Correlation matrices of the filters of several networks, and the share of their elements above a threshold (Figure 7).

    All matrices share one scale, cut where few pairs lie beyond it; the diagonal always does.

    Args:
        correlations: {title: float array (filters, filters) in [-1, 1]}; the numbers of filters may differ.
        share_title: title of the curves.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no matrices, or one that is not square.
    """
    if not correlations:
        raise ValueError("There must be at least one matrix. Received: none")
    square = {title: check_array(title, matrix, (len(matrix), len(matrix))) for title, matrix in correlations.items()}
    limit = max(np.quantile(np.abs(matrix - np.diag(np.diag(matrix))), 0.995) for matrix in square.values()) or 1.0
    figure = new_figure(11.4, 0.3 + 3.3 * -(-len(square) // 2))
    left, right = figure.subfigures(1, 2, width_ratios=[2, 1.1])
    axes = left.subplots(-(-len(square) // 2), 2, squeeze=False).ravel()
    for axis, (title, matrix) in zip(axes, square.items()):
        picture = draw_matrix(axis, matrix, title, matrix.shape, -limit, limit, color_map="RdBu_r")
        axis.set_xlabel("filter", fontsize=LABEL_SIZE)
        axis.set_ylabel("filter", fontsize=LABEL_SIZE)
    for axis in axes[len(square) :]:
        axis.set_axis_off()
    add_scale(left, picture, axes, "cosine of the filters' weights", extend="both")

    # Short of 1, where rounding decides about the diagonal.
    thresholds = np.linspace(0.0, 0.99, 199)
    axis = right.subplots()
    for number, (title, matrix) in enumerate(square.items()):
        style = CURVES[number % len(CURVES)], ("-", "--", "-.", ":")[number % 4]
        axis.plot(thresholds, correlated_share(matrix, thresholds), color=style[0], linestyle=style[1], label=title)
    axis.set(xlim=(0, 1), ylim=(0, None))
    axis.set_title(share_title, fontsize=TITLE_SIZE, color=INK)
    finish_curves(axis, "threshold", "share of elements above the threshold")
    return figure


def plot_cluster_centers(centers, gate, class_names):
    """Cluster centers of the features of several networks, beside the gate that one of them was trained with (Figure 9).

    Each network has a scale of its own, from 0 to its largest entry.

    Args:
        centers: {title: float array (classes, filters)}, rows in the order of the classes, see `metrics.gates.match_centers`.
        gate: float array (classes, filters) with entries in [0, 1].
        class_names: names of the classes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no centers, or shapes that do not fit.
    """
    if not centers:
        raise ValueError("There must be at least one matrix of centers. Received: none")
    panels = {**centers, "fixed gate": gate}
    figure, axes = make_panels(panels, rows=1, width=4.6, height=2.7)
    for axis, (title, matrix) in zip(axes, panels.items()):
        high = np.max(matrix) or 1.0
        shape = len(class_names), np.shape(gate)[-1]
        picture = draw_matrix(axis, matrix, title, shape, min(np.min(matrix), 0.0), high, rows=class_names)
        axis.set_xlabel("filter", fontsize=LABEL_SIZE)
        add_scale(figure, picture, axis, "gate" if title == "fixed gate" else "mean activation")
    return figure


def plot_training(log, gated_epochs=()):
    """Training curves of a label-sensitive classifier: accuracy of both paths, and the density of the gate.

    Args:
        log: {column: n floats} with `epoch`, `accuracy`, `gated_accuracy` and `gate_density`, as in `training_log.csv`.
        gated_epochs: numbers of the epochs that trained through the gate; they are shaded.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for a log without these columns, or columns of different lengths.
    """
    needed = ("epoch", "accuracy", "gated_accuracy", "gate_density")
    if missing := [column for column in needed if column not in log]:
        raise ValueError(f"The log must have the columns {', '.join(needed)}. Received: a log without {', '.join(missing)}")
    epochs = check_array("epoch", log["epoch"], ("epochs",))
    curves = {column: check_array(column, log[column], epochs.shape) for column in needed[1:]}
    figure = new_figure(7.0, 5.0)
    top, bottom = figure.subplots(2, 1, sharex=True)
    # Points as well: a gated epoch stands between standard ones, and a short run has few of either.
    style = {"marker": ".", "markersize": 4, "linewidth": 1.2}
    top.plot(epochs, curves["accuracy"], color=CURVES[0], label="standard path", **style)
    top.plot(epochs, curves["gated_accuracy"], color=CURVES[1], label="gated path", **style)
    bottom.plot(epochs, curves["gate_density"], color=CURVES[2], **style)
    for axis in (top, bottom):
        for number, epoch in enumerate(gated_epochs):
            label = "gated epoch" if number == 0 and axis is top else None
            axis.axvspan(epoch - 0.5, epoch + 0.5, color=MISSING, alpha=0.8, linewidth=0, label=label)
    top.set(ylim=(0, 1.02), xlim=(epochs.min() - 0.5, epochs.max() + 0.5))
    bottom.set(ylim=(0, 1.02))
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish_curves(top, "", "training accuracy")
    finish_curves(bottom, "epoch", "gate density")
    return figure
