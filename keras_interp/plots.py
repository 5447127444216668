"""Pictures: explanations, and the figures of the papers. Every function returns a matplotlib figure that it does not show.

Functions take arrays, not models. Where a figure compares several, they come as {title: array}, in the order of the panels.
"""

import textwrap

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from keras_interp.evaluate import correlated_share
from keras_interp.evaluate.classification import check_array, check_classes

INK = "#222222"
OWN = "#c44e52"
OTHER = "#8da0b5"
MISSING = "#d9d9d9"
CURVES = ("#0072b2", "#d55e00", "#009e73", "#aa4499")
LEVELS = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")

TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 9, 8, 7


# --- Explanations.


def plot_explanation(explanation, count=5):
    """What speaks for and against the target of each input, with the target's probability or the predicted value.

    - Images with maps: the class activation map, the units that contribute most as bars, and the maps of these units.
    - Images of a network with levels: the input gradient of each level, on one scale for an image and summed over the
      channels, and the contributions of the levels as bars.
    - Other images, and rows of a table: the units that contribute most as bars; where there are levels, in their colours.

    Args:
        explanation: an `Explanation` of n inputs (a dozen at most make sense in one picture).
        count: units to draw for each input.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    if explanation.inputs.ndim == 2:
        return _plot_explained_rows(explanation, count)
    if explanation.levels is not None:
        return _plot_explained_levels(explanation)
    return _plot_explained_images(explanation, count)


def _plot_explained_images(explanation, count):
    rows, top = len(explanation), explanation.top_units(count)
    shown = 0 if explanation.maps is None else top.shape[1]
    ratios = [1, 2.2] if explanation.maps is None else [1, 1, 2.2, *[1] * shown]
    figure = _new_figure(5.6 + 1.25 * shown, 0.6 + 1.75 * rows)
    axes = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
    for row, (line, units) in enumerate(zip(axes, top)):
        image = explanation.inputs[row]
        _show(line[0], image, "\n".join(textwrap.wrap(_prediction(explanation, row).replace("_", " "), 22)))
        _draw_contributions(line[len(ratios) - shown - 1], explanation, row, units)
        if explanation.maps is None:
            continue
        _show_heat(line[1], image, explanation.class_activation_map[row], "class activation" if row == 0 else "")
        # A few bright points, as heatmaps of fine layers have, must not make all else invisible.
        scale = np.quantile(np.abs(explanation.maps[row][..., units]), 0.995)
        for axis, unit in zip(line[3:], units):
            title = textwrap.wrap(explanation.names_of(row)[unit], 20, max_lines=2, placeholder="…")
            _show_heat(axis, image, explanation.maps[row, ..., unit], "\n".join(title), scale)
    if explanation.units_of_target is not None:
        _add_legend(figure, {"belongs to the class": OWN, "other, or several together": OTHER})
    return figure


def _plot_explained_levels(explanation):
    count, levels = explanation.level_gradients.shape[:2]
    figure = _new_figure(3.2 + 1.45 * (1 + levels), 0.9 + 1.5 * count)
    axes = figure.subplots(count, 2 + levels, squeeze=False, width_ratios=[*[1] * (1 + levels), 1.4])
    names = [f"level {level + 1}" for level in range(levels)]
    for row, line in enumerate(axes):
        _show(line[0], explanation.inputs[row], _prediction(explanation, row))
        gradients = explanation.level_gradients[row].sum(axis=-1)
        for axis, name, gradient in zip(line[1:], names, gradients):
            picture = _show_gradient(
                axis, gradient, _gradient_limit(gradients), f"input gradient of {name}" if row == 0 else ""
            )
        values = [*explanation.level_contributions[row], explanation.bias[row]]
        _draw_bars(line[-1], [*names, "bias"], values, [*map(_level_color, range(1, levels + 1)), OTHER])
        line[-1].set_title(_explained_value(explanation, row), fontsize=7, color=INK)
    _add_gradient_scale(figure, picture, axes[:, 1:-1])
    return figure


def _plot_explained_rows(explanation, count):
    top = np.argsort(-np.abs(explanation.contributions), axis=1, kind="stable")[:, :count]
    columns = min(len(top), 2)
    lines = -(-len(top) // columns)
    figure = _new_figure(4.6 * columns, 0.4 + lines * (0.7 + 0.19 * (top.shape[1] + 2)))
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(top) :]:
        axis.set_axis_off()
    for row, (axis, units) in enumerate(zip(axes, top)):
        _draw_contributions(axis, explanation, row, units)
        if len(explanation.labels) > 1:
            axis.set_title(f"{_prediction(explanation, row)}\n{axis.get_title()}", fontsize=8, color=INK)
    if explanation.levels is not None:
        levels = {f"level {level}": _level_color(level) for level in range(1, explanation.levels.max() + 1)}
        _add_legend(figure, {**levels, "bias, and others together": OTHER})
    return figure


def _prediction(explanation, row):
    """The target's name, with its probability or the predicted value."""
    target = explanation.target[row]
    label = explanation.labels[target]
    if len(explanation.labels) == 1:
        return f"{label} {explanation.logits[row, 0]:.2f}"
    return f"{label} {explanation.probabilities[row, target]:.0%}"


def _explained_value(explanation, row):
    if len(explanation.labels) == 1:
        return f"contributions to {_prediction(explanation, row)}"
    return f"contributions to the logit {explanation.logits[row, explanation.target[row]]:.1f}"


def _draw_contributions(axis, explanation, row, units):
    values = explanation.contributions[row]
    if explanation.levels is not None:
        colors = [_level_color(explanation.levels[unit]) for unit in units]
    else:
        own = np.zeros(len(values), bool) if explanation.units_of_target is None else explanation.units_of_target[row]
        colors = [OWN if own[unit] else OTHER for unit in units]
    names = [_short_name(explanation.names_of(row)[unit], 24 if explanation.inputs.ndim == 4 else 40) for unit in units]
    rest = [explanation.bias[row]]
    if len(units) < len(values):
        names.append("all other units")
        rest.insert(0, values.sum() - values[units].sum())
    _draw_bars(axis, [*names, "bias"], [*values[units], *rest], [*colors, *[OTHER] * len(rest)])
    axis.set_title(_explained_value(explanation, row), fontsize=7, color=INK)


def _draw_bars(axis, names, values, colors):
    """Bars from top to bottom."""
    axis.barh(range(len(values))[::-1], values, color=colors)
    axis.set_yticks(range(len(values))[::-1], names, fontsize=6, color=INK)
    axis.axvline(0.0, color=INK, linewidth=0.6)
    axis.tick_params(axis="x", labelsize=6)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _level_color(level):
    """Colour of a level, from 1."""
    return LEVELS[(level - 1) % len(LEVELS)]


def _short_name(name, length):
    return name if len(name) <= length else name[: length - 1] + "…"


# --- Figures of the label-sensitive gate paper.


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
    figure, axes = _panels(gates, rows=1, width=5.4, height=2.7)
    for axis, (title, gate) in zip(axes, gates.items()):
        picture = _draw_matrix(axis, gate, title, (len(class_names), "filters"), 0.0, 1.0, rows=class_names)
        axis.set_xlabel("filter", fontsize=LABEL_SIZE)
    _add_scale(figure, picture, axes, "gate")
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
    figure, axes = _panels(confusions, rows=-(-len(confusions) // 2), width=4.9, height=4.5)
    for axis, (title, confusion) in zip(axes, confusions.items()):
        picture = _draw_matrix(axis, confusion, title, (count, count), 0.0, 1.0, rows=class_names, columns=class_names)
        for row, column in np.argwhere(np.rint(100 * np.nan_to_num(confusion)) > 0):
            share = confusion[row, column]
            # White on the dark half of the colour map.
            axis.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color="w" if share < 0.6 else INK
            )
        labels = axis.get_xticklabels(), axis.get_yticklabels()
        for number in check_classes(masked[title], count, len(masked[title])):
            for names in labels:
                names[number].set(color=OWN, fontweight="bold")
        axis.set_xlabel("predicted", fontsize=LABEL_SIZE)
        axis.set_ylabel("true", fontsize=LABEL_SIZE)
    _add_scale(figure, picture, axes, "share of the true class (cells: in percent)")
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
    matrices = {title: _check_matrix(title, matrix, (count, count)) for title, matrix in matrices.items()}
    order = _order_by_similarity(sum(np.nan_to_num(matrix) for matrix in matrices.values()))
    names = [class_names[number] for number in order]
    low, high = (extreme([extreme(np.nan_to_num(matrix)) for matrix in matrices.values()]) for extreme in (np.min, np.max))
    figure, axes = _panels(matrices, rows=1, width=4.6, height=4.2)
    for axis, (title, matrix) in zip(axes, matrices.items()):
        matrix = matrix[np.ix_(order, order)]
        picture = _draw_matrix(axis, matrix, title, (count, count), min(low, 0.0), high, rows=names, columns=names)
        axis.set_xlabel("gate row", fontsize=LABEL_SIZE)
        axis.set_ylabel("features of", fontsize=LABEL_SIZE)
    _add_scale(figure, picture, axes, "mean inner product")
    return figure


def _order_by_similarity(matrix):
    """An order of the rows in which similar ones are neighbours: the Fiedler vector of the graph of similarities."""
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
    figure = _new_figure(0.6 + 1.25 * len(images), 0.6 + 1.3 * (1 + len(maps)))
    axes = figure.subplots(1 + len(maps), len(images), squeeze=False)
    for axis, image, title in zip(axes[0], images, titles):
        _show(axis, image, title)
    for line, (name, heats) in zip(axes[1:], maps.items()):
        heats = check_array(name, heats, (len(images), "h", "w"))
        for axis, image, heat in zip(line, images, heats):
            picture = _show_heat(axis, image, heat / (np.abs(heat).max() or 1.0), "")
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
        raise ValueError("There must be one matrix at least. Received: none")
    square = {title: check_array(title, matrix, (len(matrix), len(matrix))) for title, matrix in correlations.items()}
    limit = max(np.quantile(np.abs(matrix - np.diag(np.diag(matrix))), 0.995) for matrix in square.values()) or 1.0
    figure = _new_figure(11.4, 0.3 + 3.3 * -(-len(square) // 2))
    left, right = figure.subfigures(1, 2, width_ratios=[2, 1.1])
    axes = left.subplots(-(-len(square) // 2), 2, squeeze=False).ravel()
    for axis, (title, matrix) in zip(axes, square.items()):
        picture = _draw_matrix(axis, matrix, title, matrix.shape, -limit, limit, color_map="RdBu_r")
        axis.set_xlabel("filter", fontsize=LABEL_SIZE)
        axis.set_ylabel("filter", fontsize=LABEL_SIZE)
    for axis in axes[len(square) :]:
        axis.set_axis_off()
    _add_scale(left, picture, axes, "cosine of the filters' weights", extend="both")

    # Short of 1, where rounding decides about the diagonal.
    thresholds = np.linspace(0.0, 0.99, 199)
    axis = right.subplots()
    for number, (title, matrix) in enumerate(square.items()):
        style = CURVES[number % len(CURVES)], ("-", "--", "-.", ":")[number % 4]
        axis.plot(thresholds, correlated_share(matrix, thresholds), color=style[0], linestyle=style[1], label=title)
    axis.set(xlim=(0, 1), ylim=(0, None))
    axis.set_title(share_title, fontsize=TITLE_SIZE, color=INK)
    _finish_curves(axis, "threshold", "share of elements above the threshold")
    return figure


def plot_cluster_centers(centers, gate, class_names):
    """Cluster centres of the features of several networks, beside the gate that one of them was trained with (Figure 9).

    Each network has a scale of its own, from 0 to its largest entry.

    Args:
        centers: {title: float array (classes, filters)}, rows in the order of the classes, see `evaluate.match_centers`.
        gate: float array (classes, filters) with entries in [0, 1].
        class_names: names of the classes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no centres, or shapes that do not fit.
    """
    if not centers:
        raise ValueError("There must be one matrix of centres at least. Received: none")
    panels = {**centers, "fixed gate": gate}
    figure, axes = _panels(panels, rows=1, width=4.6, height=2.7)
    for axis, (title, matrix) in zip(axes, panels.items()):
        high = np.max(matrix) or 1.0
        shape = len(class_names), np.shape(gate)[-1]
        picture = _draw_matrix(axis, matrix, title, shape, min(np.min(matrix), 0.0), high, rows=class_names)
        axis.set_xlabel("filter", fontsize=LABEL_SIZE)
        _add_scale(figure, picture, axis, "gate" if title == "fixed gate" else "mean activation")
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
    figure = _new_figure(7.0, 5.0)
    top, bottom = figure.subplots(2, 1, sharex=True)
    # Points as well: a gated epoch stands between standard ones, and a short training has few of either.
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
    _finish_curves(top, "", "training accuracy")
    _finish_curves(bottom, "epoch", "gate density")
    return figure


# --- Figures of the feature leveling paper.


def plot_independent_xor(rows, labels):
    """Independent XOR: x1 and x2 as the position of a point, x3 as its size, the class as its colour (Figure 1).

    Args:
        rows: float array (n, 3), some hundreds of rows, with x3 in [0, 1].
        labels: class numbers (n,), 0 or 1.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for rows of another shape, or labels that do not fit.
    """
    rows = check_array("rows", rows, ("n", 3))
    labels = check_classes(labels, 2, len(rows))
    figure = _new_figure(5.6, 4.4)
    axis = figure.subplots()
    style = {"alpha": 0.7, "edgecolors": "w", "linewidths": 0.4}
    for number, marker in enumerate("os"):
        x1, x2, x3 = rows[labels == number].T
        axis.scatter(x1, x2, _point_area(x3), CURVES[number], marker, label=f"class {number}", **style)
    for x3 in (0.1, 0.5, 0.9):
        axis.scatter([], [], _point_area(x3), INK, label=f"x3 = {x3}", **style)
    axis.axhline(0.0, color=INK, linewidth=0.6)
    axis.axvline(0.0, color=INK, linewidth=0.6)
    _finish_curves(axis, "x1", "x2")
    axis.legend(fontsize=LABEL_SIZE, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), labelspacing=1.0)
    return figure


def _point_area(size):
    return 4 + 56 * np.asarray(size)


def plot_weights(networks, input_names, class_names):
    """Weights of networks of dense layers: one network in a row, one layer in a column (Figure 2).

    Each matrix has a row for each feature that may enter the layer. Rows of those that do not enter are hatched; where a gate
    sends a feature to the output instead, arrows in the colour of its level leave there and arrive at the output layer.

    Args:
        networks: {title: (kernels, gates)}. Kernels are float arrays (features, units), the output layer's last. Gates are
            float arrays (features,) in [0, 1] before each hidden layer, 0 for what goes to the output; a plain network has
            none. With gates, the output layer's kernel has the rows of all levels, one level below the other.
        input_names: names of the inputs.
        class_names: names of the outputs.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no networks, networks of different depth, or shapes that do not fit.
    """
    depths = {len(kernels) - 1 for kernels, _ in networks.values()}
    if len(depths) != 1:
        raise ValueError(f"There must be networks, all of the same depth. Received: depths {sorted(depths)}")
    depth = depths.pop()
    limit = max(np.abs(kernel).max() for kernels, _ in networks.values() for kernel in kernels) or 1.0
    figure = _new_figure(1.4 + 2.9 * (depth + 1), 0.3 + 3.1 * len(networks))
    # Room for the arrows.
    figure.get_layout_engine().set(wspace=0.15)
    axes = figure.subplots(len(networks), depth + 1, squeeze=False)
    for line, (title, (kernels, gates)) in zip(axes, networks.items()):
        entering, levels = _flow(gates, [len(input_names), *(np.shape(kernel)[1] for kernel in kernels[:-1])])
        for number, (axis, kernel) in enumerate(zip(line, kernels[:-1])):
            heading = f"{title}\n" if number == 0 else ""
            picture = _draw_weights(axis, kernel, f"{heading}hidden layer {number + 1}", entering[number], limit)
            axis.set_xlabel("unit", fontsize=LABEL_SIZE)
            axis.set_ylabel(f"unit of hidden layer {number}" if number else "", fontsize=LABEL_SIZE)
            _draw_arrows(axis, np.flatnonzero(levels[number]), kernel.shape[1] - 0.5, 1, number + 1)
        line[0].set_yticks(range(len(input_names)), input_names)

        axis = line[-1]
        shown = list(enumerate(levels, start=1)) if len(gates) else [(depth + 1, levels[-1])]
        _draw_weights(axis, kernels[-1], "output layer", np.concatenate([taken for _, taken in shown]), limit)
        axis.set_xlabel("output", fontsize=LABEL_SIZE)
        axis.set_xticks(range(len(class_names)), class_names)
        axis.set_yticks([])
        start = 0
        for level, taken in shown:
            label = f"level {level}" if len(gates) else f"units of hidden layer {depth}"
            middle = start + (len(taken) - 1) / 2
            axis.text(1.03, middle, label, transform=axis.get_yaxis_transform(), rotation=90, va="center", fontsize=TICK_SIZE)
            if len(gates):
                axis.axhline(start - 0.5, color=INK, linewidth=0.8)
                _draw_arrows(axis, start + np.flatnonzero(taken), -0.5, -1, level)
            start += len(taken)
    _add_scale(figure, picture, axes, "weight, times the gate of its feature")
    return figure


def _flow(gates, sizes):
    """Which features enter each hidden layer, and which features of each level the output takes: lists of boolean arrays."""
    entering, levels, reached = [], [], True
    for number, size in enumerate(sizes[:-1]):
        gate = check_array(f"gate {number + 1}", gates[number], (size,)) if len(gates) else np.ones(size)
        entering.append((gate > 0) & reached)
        levels.append((gate == 0) & reached)
        reached = bool(entering[-1].any())
    return entering, [*levels, np.full(sizes[-1], reached)]


def _draw_weights(axis, kernel, title, taken, limit):
    """A kernel whose rows are hatched where they are not taken."""
    kernel = np.where(taken[:, None], check_array(title, kernel, (len(taken), "units")), np.nan)
    axis.patch.set(hatch="////", edgecolor="w")
    picture = _draw_matrix(axis, kernel, title, kernel.shape, -limit, limit, color_map="RdBu_r")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    return picture


def _draw_arrows(axis, rows, edge, side, level):
    """Arrows beside a matrix, that leave it at its right edge (side 1) or reach it at its left one (side -1)."""
    style = {"arrowstyle": "<-" if side > 0 else "->", "color": _level_color(level), "shrinkA": 0, "shrinkB": 0}
    for row in rows:
        # In points from the edge, so that all arrows have one length.
        offset = {"xytext": (14 * side, 0), "textcoords": "offset points"}
        axis.annotate("", (edge, row), **offset, arrowprops=style, annotation_clip=False)


def plot_leveling(log):
    """Training curves of a feature-leveling classifier: its accuracy, and the features passed to hidden layers (Figure 4).

    Args:
        log: {column: n floats} with `epoch`, `accuracy` and `gate1_open`, `gate2_open` and so on, as in `training_log.csv`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for a log without these columns, or columns of different lengths.
    """
    gates = sorted(column for column in log if column.startswith("gate") and column.endswith("_open"))
    if missing := {"epoch", "accuracy"} - set(log) or {"gate1_open"} - set(gates):
        raise ValueError(
            "The log must have the columns epoch, accuracy, gate1_open, ... "
            f"Received: a log without {', '.join(sorted(missing))}"
        )
    epochs = check_array("epoch", log["epoch"], ("epochs",))
    figure = _new_figure(8.4, 3.2)
    left, right = figure.subplots(1, 2)
    style = {"marker": ".", "markersize": 4, "linewidth": 1.2}
    left.plot(epochs, check_array("accuracy", log["accuracy"], epochs.shape), color=CURVES[2], **style)
    for number, column in enumerate(gates):
        curve = check_array(column, log[column], epochs.shape)
        right.plot(epochs, curve, color=CURVES[number % len(CURVES)], label=f"to hidden layer {number + 1}", **style)
    right.set_ylim(0, None)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish_curves(left, "epoch", "training accuracy")
    _finish_curves(right, "epoch", "features passed on")
    return figure


def plot_class_gradients(gradients, class_names):
    """Input gradients of each level, one class in a row and one level in a column (Figure 5).

    A level has one scale for all classes. The number below a panel is the level's share of the class's absolute gradients.

    Args:
        gradients: float array (classes, levels, height, width).
        class_names: names of the classes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for an array of another shape.
    """
    gradients = check_array("gradients", gradients, (len(class_names), "levels", "height", "width"))
    classes, levels = gradients.shape[:2]
    sizes = np.abs(gradients).mean(axis=(2, 3))
    shares = sizes / (sizes.sum(axis=1, keepdims=True) + (sizes.sum(axis=1, keepdims=True) == 0))
    figure = _new_figure(0.6 + 1.15 * levels, 0.8 + 1.2 * classes)
    axes = figure.subplots(classes, levels, squeeze=False)
    for level in range(levels):
        limit = _gradient_limit(gradients[:, level])
        for row, axis in enumerate(axes[:, level]):
            picture = _show_gradient(axis, gradients[row, level], limit, f"level {level + 1}" if row == 0 else "")
            axis.set_xlabel(f"{shares[row, level]:.0%}", fontsize=TICK_SIZE, labelpad=2)
    for axis, name in zip(axes[:, 0], class_names):
        axis.set_ylabel(name, fontsize=TITLE_SIZE, rotation=0, ha="right", va="center")
    _add_gradient_scale(figure, picture, axes)
    return figure


def plot_level_gradients(image, gradients):
    """An image, and input gradients of several networks beside it; those of one network share one scale.

    Args:
        image: array (height, width, channels) of pixels in 0..255.
        gradients: {network: {title: float array (height, width)}}.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no gradients, or shapes that do not fit.
    """
    image = check_array("image", image, ("height", "width", "channels"))
    panels = [(network, title) for network, heats in gradients.items() for title in heats]
    if not panels:
        raise ValueError("There must be one gradient at least. Received: none")
    figure = _new_figure(0.4 + 1.5 * (1 + len(panels)), 2.4)
    axes = figure.subplots(1, 1 + len(panels))
    _show(axes[0], image, "image")
    for axis, (network, title) in zip(axes[1:], panels):
        heats = {name: check_array(name, heat, image.shape[:2]) for name, heat in gradients[network].items()}
        picture = _show_gradient(axis, heats[title], _gradient_limit(list(heats.values())), f"{network}\n{title}")
    _add_gradient_scale(figure, picture, axes)
    return figure


def plot_column_gradients(gradients, column_names, unit):
    """Gradients of the levels with respect to the columns of a table: means over rows as bars, their spread as lines.

    Args:
        gradients: float array (n, levels, columns).
        column_names: names of the columns.
        unit: what the gradients are measured in.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for an array of another shape.
    """
    gradients = check_array("gradients", gradients, ("n", "levels", len(column_names)))
    mean, spread = gradients.mean(axis=0), gradients.std(axis=0)
    levels, columns = mean.shape
    figure = _new_figure(6.4, 0.9 + columns * (0.12 + 0.11 * levels))
    axis = figure.subplots()
    for level in range(levels):
        positions = np.arange(columns) + (level - (levels - 1) / 2) * 0.8 / levels
        lines = {"ecolor": INK, "elinewidth": 0.6, "capsize": 0}
        color = _level_color(level + 1)
        axis.barh(
            positions, mean[level], 0.8 / levels, xerr=spread[level], color=color, label=f"level {level + 1}", error_kw=lines
        )
    axis.axvline(0.0, color=INK, linewidth=0.6)
    axis.set_ylim(columns - 0.5, -0.5)
    _finish_curves(axis, unit, "")
    axis.grid(axis="y", visible=False)
    axis.set_axisbelow(True)
    axis.set_yticks(range(columns), column_names)
    return figure


def plot_depth_probe(depths, hidden_layers, errors, error_name):
    """What remains of networks of different depths, and their errors: means over seeds as lines, each seed as a point.

    Args:
        depths: initial numbers of hidden layers, (depths,).
        hidden_layers: {network: float array (depths, seeds)}, the hidden layers that remain; NaN where there is no figure.
        errors: {network: float array (depths, seeds)}.
        error_name: name of the error and its unit.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no networks, or shapes that do not fit.
    """
    if not hidden_layers or list(hidden_layers) != list(errors):
        raise ValueError(
            f"There must be hidden layers and errors of the same networks. Received: {list(hidden_layers)}, {list(errors)}"
        )
    figure = _new_figure(8.4, 3.2)
    axes = figure.subplots(1, 2)
    for axis, measured in zip(axes, (hidden_layers, errors)):
        for number, (network, values) in enumerate(measured.items()):
            values = _check_matrix(network, values, (len(depths), "seeds"))
            color, style = CURVES[number % len(CURVES)], ("-", "--", "-.", ":")[number % 4]
            axis.plot(depths, _mean_of_known(values), color=color, linestyle=style, linewidth=1.2, label=network)
            axis.plot(depths, values, color=color, linestyle="", marker="o^sD"[number % 4], markersize=4, alpha=0.6)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylim(0, None)
    axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    _finish_curves(axes[0], "initial hidden layers", "hidden layers that remain")
    _finish_curves(axes[1], "initial hidden layers", error_name)
    return figure


def _mean_of_known(values):
    known = ~np.isnan(values)
    return np.where(known.any(axis=1), np.nansum(values, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)


# --- Figures of the Dynamic-K paper.


def plot_toy_connections(kernels, feature_names, class_names):
    """Small last layers as graphs, features above and classes below, with the weights written out (Figure 2).

    The wider a line, the larger the weight; dotted lines are negative weights. All graphs share one scale.

    Args:
        kernels: {title: float array (features, classes)}.
        feature_names: names of the features.
        class_names: names of the classes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no kernels, or shapes that do not fit.
    """
    shape = len(feature_names), len(class_names)
    kernels = {title: check_array(title, kernel, shape) for title, kernel in kernels.items()}
    figure, axes = _panels(kernels, rows=1, width=3.9, height=3.3)
    limit = max(np.abs(kernel).max() for kernel in kernels.values()) or 1.0
    places = [(np.arange(count) + 0.5) / count for count in shape]
    for axis, (title, kernel) in zip(axes, kernels.items()):
        for (feature, number), weight in np.ndenumerate(kernel):
            style = {"color": CURVES[number % len(CURVES)], "linestyle": "-" if weight > 0 else ":", "solid_capstyle": "butt"}
            axis.plot((places[0][feature], places[1][number]), (1, 0), linewidth=9 * abs(weight) / limit, **style, zorder=1)
        for row, names in ((1, feature_names), (0, class_names)):
            for place, name in zip(places[1 - row], names):
                box = {"boxstyle": "round,pad=0.4", "facecolor": "w", "edgecolor": INK, "linewidth": 0.8}
                axis.text(place, row, name, ha="center", va="center", fontsize=LABEL_SIZE, color=INK, bbox=box, zorder=2)
        sums = [f"{name} = {_weighted_sum(weights, feature_names)}" for name, weights in zip(class_names, kernel.T)]
        axis.text(0.5, -0.2, "\n".join(sums), ha="center", va="top", fontsize=TICK_SIZE, color=INK)
        axis.set(xlim=(0, 1), ylim=(-0.2 - 0.09 * len(sums), 1.15))
        axis.set_title(title, fontsize=TITLE_SIZE, color=INK)
        axis.spines[:].set_visible(False)
        axis.set(xticks=[], yticks=[])
    return figure


def _weighted_sum(weights, names):
    terms = [(weight, f"{abs(weight):.1f} {name}") for weight, name in zip(weights, names) if abs(weight) >= 0.05]
    signed = " ".join(f"{'−' if weight < 0 else '+'} {term}" for weight, term in terms)
    return signed.removeprefix("+ ").replace("− ", "−", signed.startswith("−")) or "0"


def plot_epoch_curves(panels, value_name, finals=None, order=()):
    """A figure of several networks over their training, one data set in a panel (Figures 4a and 5a to 5c).

    A network has one colour in all panels; the first one, the baseline, is red, the others go from dark to light.

    Args:
        panels: {title: {network: (epochs, values)}}, float arrays (n,) of the number of finished epochs and of the figure. NaN
            values, of epochs without a figure, are left out.
        value_name: name of the figure.
        finals: {title: {network: value}}, what was measured on the test split after the last epoch: points beside the curves.
        order: names of networks by which colours are given, drawn or not; by default the order of the curves.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no curves, arrays of different lengths, or a curve without a figure.
    """
    networks = list(dict.fromkeys(network for curves in panels.values() for network in curves))
    if not networks:
        raise ValueError("There must be one curve at least. Received: none")
    colors = _network_colors([*order, *networks])
    figure = _new_figure(1.2 + 4.2 * len(panels), 3.4)
    for axis, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        axis.set_title(title, fontsize=TITLE_SIZE, color=INK)
        end = 0.0
        for network, (epochs, values) in curves.items():
            epochs = check_array("epochs", epochs, (len(values),))
            known = ~np.isnan(np.asarray(values, "float64"))
            epochs, values = epochs[known], check_array(network, np.asarray(values)[known], ("epochs",))
            marker = "." if len(epochs) < 20 else ""
            axis.plot(epochs, values, color=colors[network], marker=marker, markersize=5, linewidth=1.2, label=network)
            end = max(end, epochs.max())
        points = {network: value for network, value in (finals or {}).get(title, {}).items() if value is not None}
        for number, (network, value) in enumerate(points.items(), start=1):
            # Side by side, since they differ little.
            axis.plot(end * (1.0 + 0.025 * number), value, "D", color=colors[network], markersize=4)
        if points:
            axis.plot([], [], "D", color="w", markeredgecolor=INK, markersize=4, label="test split, at the end")
        # No number where the points are, which belong to the last epoch.
        ticks = MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]).tick_values(0, end)
        axis.set_xticks([tick for tick in ticks if 0 <= tick <= end])
        _finish_curves(axis, "epochs", value_name)
        axis.legend(fontsize=TICK_SIZE, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _network_colors(networks):
    """{network: colour}: red for the first, the others from dark to light."""
    first, *others = dict.fromkeys(networks)
    shades = np.linspace(0.0, 0.9, max(len(others), 2))
    return {first: OWN, **{network: colormaps["viridis"](shade) for network, shade in zip(others, shades)}}


def plot_last_layers(layers):
    """Weights of the last layers of several networks as pictures, one below the other (Figure 4b).

    Units are in the order of the class that they have their largest weight to. Each network has a scale of its own, cut where
    0.5% of its weights other than zero lie beyond.

    Args:
        layers: {title: (kernel, class names)}, kernels being float arrays (units, classes).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no layers, or shapes that do not fit.
    """
    heights = [0.9 + 0.11 * len(names) for _, names in layers.values()]
    if not heights:
        raise ValueError("There must be one layer at least. Received: none")
    figure = _new_figure(9.6, sum(heights))
    axes = figure.subplots(len(layers), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, (kernel, names)) in zip(axes, layers.items()):
        kernel = check_array(title, kernel, ("units", len(names)))
        order = np.argsort(kernel.argmax(axis=1), kind="stable")
        sizes = np.abs(kernel[kernel != 0])
        limit = np.quantile(sizes, 0.995) if sizes.size else 1.0
        shape = kernel.shape[::-1]
        picture = _draw_matrix(axis, kernel[order].T, title, shape, -limit, limit, rows=names, color_map="RdBu_r")
        axis.tick_params(axis="y", labelsize=TICK_SIZE if len(names) < 15 else TICK_SIZE - 1.5)
        scale = figure.colorbar(picture, ax=axis, extend="both", extendfrac=0.04, aspect=12, pad=0.01)
        scale.ax.tick_params(labelsize=TICK_SIZE)
    axes[-1].set_xlabel("unit", fontsize=LABEL_SIZE)
    return figure


def plot_unit_scores(scores, count=100, threshold=0.04, order=()):
    """Scores of the best units of several networks, from the best down (Figure 5d).

    Args:
        scores: {network: float array (units,)}, IoU of each unit with its best concept.
        count: units to draw; all where a network has fewer.
        threshold: from which score on a unit is called a detector of its concept; a dashed line.
        order: names by which colours are given, see `plot_epoch_curves`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no networks, or scores of another rank.
    """
    if not scores:
        raise ValueError("There must be the scores of one network at least. Received: none")
    figure = _new_figure(5.6, 3.4)
    axis = figure.subplots()
    colors = _network_colors([*order, *scores])
    for network, values in scores.items():
        values = -np.sort(-check_array(network, values, ("units",)))[:count]
        axis.plot(np.arange(1, len(values) + 1), values, color=colors[network], label=network)
    axis.axhline(threshold, color=INK, linewidth=0.8, linestyle="--", label=f"detector: IoU above {threshold}")
    axis.set_ylim(0, None)
    _finish_curves(axis, "unit, best first", "IoU with its best concept")
    return figure


def plot_class_units(shares, class_names, unit_names, images, regions):
    """Which units make up some classes, and what these units respond to (Figure 6).

    Classes stand left, units right; the wider a line, the larger the share, which stands on it. Beside each unit are the
    images that activate it most, dark outside the region where they do.

    Args:
        shares: float array (classes, units), share of each unit in each class's logit, at least 0; 0 draws no line.
        class_names: names of the classes.
        unit_names: names of the units.
        images: array (units, count, height, width, 3) of pixels in 0..255.
        regions: booleans (units, count, height, width).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for shapes that do not fit, or negative shares.
    """
    shares = check_array("shares", shares, (len(class_names), len(unit_names)))
    images = check_array("images", images, (len(unit_names), "count", "height", "width", 3))
    regions = check_array("regions", regions, images.shape[:-1], "bool")
    if (shares < 0).any():
        raise ValueError(f"`shares` must not be negative. Received: {shares.min()}")
    classes, units = shares.shape
    # Units of one class side by side, those of several classes between them.
    places = (np.arange(classes) + 0.5) * units / classes
    order = np.argsort(places @ shares / np.maximum(shares.sum(axis=0), 1e-12), kind="stable")
    text, left, right, start = 2.2, 2.3, 6.2, 8.3
    width = start + images.shape[1]
    figure = _new_figure(0.72 * width, 0.72 * (units + 0.2))
    axis = figure.subplots()
    for number, (name, place) in enumerate(zip(class_names, places)):
        color = CURVES[number % len(CURVES)]
        axis.text(text, place, "\n".join(textwrap.wrap(name, 16)), ha="right", va="center", fontsize=LABEL_SIZE, color=color)
        for row, unit in enumerate(order):
            if share := shares[number, unit]:
                line = {"color": color, "linewidth": 1 + 14 * share, "alpha": 0.75, "solid_capstyle": "butt"}
                axis.plot((left, right), (place, row + 0.5), **line)
                # Near the unit, where the lines of a class are farther apart; those of the next class beside them.
                part = 0.82 if number % 2 else 0.68
                x, y = left + part * (right - left), place + part * (row + 0.5 - place)
                box = {"boxstyle": "round,pad=0.1", "facecolor": "w", "edgecolor": "none", "alpha": 0.8}
                axis.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize=TICK_SIZE - 1, color=color, bbox=box)
    for row, unit in enumerate(order):
        name = "\n".join(textwrap.fill(line, 22, max_lines=2, placeholder="…") for line in unit_names[unit].split("\n"))
        axis.text(right + 0.1, row + 0.5, name, va="center", fontsize=TICK_SIZE, color=INK)
        for column, (image, region) in enumerate(zip(images[unit], regions[unit])):
            extent = (start + column, start + column + 0.95, row + 0.975, row + 0.025)
            _show_region(axis, image, region, extent)
    axis.set(xlim=(0, width), ylim=(units, 0), aspect="equal")
    axis.set_axis_off()
    return figure


def _show_region(axis, image, region, extent):
    """An image, dark outside a region, which is outlined."""
    pixels = np.where(region[..., None], image, 0.35 * image)
    axis.imshow(pixels.clip(0, 255).astype("uint8"), extent=extent, interpolation="nearest")
    if region.any() and not region.all():
        axis.contour(region, [0.5], colors="#ffe600", linewidths=0.7, extent=extent, origin="upper")


def plot_unit_explanations(images, titles, explanations):
    """The units that speak most for the class of each image, and what is left beside them, for several networks (Figure 7).

    Args:
        images: array (n, height, width, channels) of pixels in 0..255.
        titles: n titles, as the names of the classes.
        explanations: {network: (maps, names, shares)}: float array (n, count, h, w), where in the image each of the `count`
            units contributes; names of these units, n sequences of `count`; and float array (n, count), the share of each in
            the logit. What the shares lack to 1 is written as the residual.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no images or networks, or shapes that do not fit.
    """
    images = check_array("images", images, ("n", "height", "width", "channels"))
    if len(titles) != len(images) or not explanations:
        raise ValueError(
            f"Give {len(images)} titles and some explanations. Received: {len(titles)} titles, {len(explanations)} networks"
        )
    count = max(np.shape(shares)[-1] for _, _, shares in explanations.values())
    rows = len(images) * len(explanations)
    figure = _new_figure(0.6 + 1.25 * (1 + count) + 0.8, 0.3 + 1.62 * rows)
    axes = figure.subplots(rows, 2 + count, squeeze=False, width_ratios=[*[1] * (1 + count), 0.55])
    for axis in axes.ravel():
        axis.set_axis_off()
    for position, (network, (maps, names, shares)) in enumerate(explanations.items()):
        maps = check_array(f"maps of {network}", maps, (len(images), "count", "h", "w"))
        shares = check_array(f"shares of {network}", shares, maps.shape[:2])
        for number, line in enumerate(axes[position :: len(explanations)]):
            _show(line[0], images[number], titles[number] if position == 0 else "")
            line[0].text(-0.06, 0.5, network, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=8)
            scale = np.abs(maps[number]).max()
            for axis, heat, name, share in zip(line[1:], maps[number], names[number], shares[number]):
                name = textwrap.wrap(name, 18, max_lines=2, placeholder="…")
                _show_heat(axis, images[number], heat, "\n".join([f"{share:.0%}".replace("-", "−"), *name]), scale)
            residual = f"{1 - shares[number].sum():.0%}".replace("-", "−").replace("−0%", "0%")
            line[-1].text(0.5, 0.5, f"residual\n{residual}", ha="center", va="center", fontsize=LABEL_SIZE, color=INK)
    return figure


# --- Figures of the XNet paper.


def plot_activation_shares(shares, attribute_names, neuron_names):
    """How the activation of each neuron is spread over the categories, for several networks (Figure 2).

    The largest share of each neuron, a column, is framed.

    Args:
        shares: {title: float array (attributes, neurons)} of shares in [0, 1], see `evaluate.activation_shares`; NaN for a
            category without examples.
        attribute_names: names of the attributes.
        neuron_names: names of the neurons.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no matrices, or one of another shape.
    """
    figure, axes = _panels(shares, 1, 1.4 + 0.9 * len(neuron_names), 1.5 + 0.5 * len(attribute_names))
    for axis, (title, matrix) in zip(axes, shares.items()):
        shape = len(attribute_names), len(neuron_names)
        picture = _draw_matrix(axis, matrix, title, shape, 0.0, 1.0, attribute_names, neuron_names)
        for (row, column), share in np.ndenumerate(np.asarray(matrix)):
            color = "w" if share < 0.6 else INK
            axis.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=LABEL_SIZE, color=color)
        largest = np.nan_to_num(matrix)
        # A silent neuron has no largest share.
        for column in np.flatnonzero(largest.max(axis=0) > 0):
            row = largest[:, column].argmax()
            axis.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=OWN, linewidth=2))
    _add_scale(figure, picture, axes, "share of the neuron's mean activations")
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
        raise ValueError("There must be one group at least. Received: none")
    rows, columns = len(attribute_names), sum(1 + len(maps) for _, maps in groups.values())
    figure = _new_figure(0.9 + 1.3 * columns, 0.7 + 1.35 * rows)
    parts = figure.subfigures(1, len(groups), squeeze=False, width_ratios=[1 + len(maps) for _, maps in groups.values()])
    for part, (title, (images, networks)) in zip(parts[0], groups.items()):
        images = check_array(title, images, (rows, "height", "width", "channels"))
        part.suptitle(title, fontsize=TITLE_SIZE, color=INK)
        axes = part.subplots(rows, 1 + len(networks), squeeze=False)
        for row, line in enumerate(axes):
            _show(line[0], images[row], "image" if row == 0 else "")
            line[0].text(-0.08, 0.5, attribute_names[row], transform=line[0].transAxes, rotation=90, ha="right", va="center")
            line[0].texts[-1].set_fontsize(LABEL_SIZE)
            for axis, (network, maps) in zip(line[1:], networks.items()):
                heat = check_array(network, maps, (rows, "h", "w"))[row]
                name = network if row == 0 else ""
                if signed:
                    _show_heat(axis, images[row], heat, name)
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
    figure = _new_figure(3.1 * len(titles), 0.4 + 3.1 * -(-images.shape[1] // side) / side)
    for number, (part, title) in enumerate(zip(figure.subfigures(1, len(titles), squeeze=False)[0], titles)):
        part.suptitle(title, fontsize=TITLE_SIZE, color=INK)
        axes = part.subplots(-(-images.shape[1] // side), side, squeeze=False).ravel()
        for axis in axes[images.shape[1] :]:
            axis.set_axis_off()
        for place, axis in enumerate(axes[: images.shape[1]]):
            _show(axis, images[number, place], "" if captions is None else captions[number][place])
            axis.title.set_fontsize(6)
    return figure


def plot_trade_off(curves, points=None):
    """Accuracy beside what dropping a neuron costs at least, for networks of different weights of the drop loss.

    Args:
        curves: {title: (costs, accuracies, names)}: float arrays (n,) and n names, as of the weights α.
        points: {name: (cost, accuracy)} of further networks.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no curves, or arrays of different lengths.
    """
    if not curves:
        raise ValueError("There must be one curve at least. Received: none")
    figure = _new_figure(6.4, 4.2)
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
    _finish_curves(axis, "smallest accuracy cost of dropping a neuron, on its own category", "accuracy")
    return figure


# --- What all figures share.


def plot_concepts(rows, names):
    """Rows of images with heatmaps over them, as of the x-features of an explanation (Figures 3, 4 and 6 to 10).

    Each heatmap has a scale of its own: the colour says where, the number in the title how much.

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
    figure = _new_figure(0.5 + 1.4 * columns, 0.2 + 1.6 * len(rows))
    for line, cells, name in zip(figure.subplots(len(rows), columns, squeeze=False), rows, names):
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=LABEL_SIZE)
        for axis in line[len(cells) :]:
            axis.set_axis_off()
        for axis, (title, image, heat) in zip(line, cells):
            if heat is None:
                _show(axis, image, title)
            else:
                _show_heat(axis, image, heat, title)
    return figure


def plot_part_shares(shares, part_names, feature_names):
    """How much of the heat of each x-feature falls on each part, in panels that share their scale (Figure 5).

    Args:
        shares: {title: float array (features, parts)}, at least 0.
        part_names: names of the columns.
        feature_names: names of the rows.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no arrays, or shapes that do not fit.
    """
    figure, axes = _panels(shares, 1, 0.6 + 0.28 * len(part_names), 1.6 + 0.3 * len(feature_names))
    shape, high = (len(feature_names), len(part_names)), max(np.max(array) for array in shares.values())
    for axis, (title, array) in zip(axes, shares.items()):
        picture = _draw_matrix(axis, array, title, shape, 0.0, high, feature_names, part_names)
        axis.tick_params(axis="x", labelrotation=90)
        for label in axis.get_xticklabels():
            label.set_ha("center")
            label.set_rotation_mode("default")
    _add_scale(figure, picture, list(axes), "share of the heat")
    return figure


def _new_figure(width, height):
    return Figure(figsize=(width, height), layout="constrained")


def _panels(matrices, rows, width, height):
    """A figure with one axis for each matrix; `width` and `height` are those of a panel, in inches."""
    if not matrices:
        raise ValueError("There must be one matrix at least. Received: none")
    columns = -(-len(matrices) // rows)
    figure = _new_figure(0.8 + width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(matrices) :]:
        axis.set_axis_off()
    return figure, axes[: len(matrices)]


def _check_matrix(name, matrix, shape):
    """As `check_array`, but NaN may stand for what there were no examples of."""
    check_array(name, np.nan_to_num(matrix), shape)
    return np.asarray(matrix, "float64")


def _draw_matrix(axis, matrix, title, shape, low, high, rows=None, columns=None, color_map="viridis"):
    """A matrix as a picture, with names for its rows and columns where they are given; NaN in grey."""
    matrix = _check_matrix(title, matrix, shape)
    # Nearest neighbours: smoothed, one filter would bleed into the next.
    picture = axis.imshow(matrix, cmap=color_map, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    axis.set_facecolor(MISSING)
    axis.set_title(title, fontsize=TITLE_SIZE, color=INK)
    axis.tick_params(labelsize=TICK_SIZE, length=2)
    if rows is not None:
        axis.set_yticks(range(len(rows)), rows)
    if columns is not None:
        axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    return picture


def _add_scale(figure, picture, axes, label, extend="neither"):
    scale = figure.colorbar(picture, ax=axes, extend=extend, extendfrac=0.02, aspect=30, pad=0.02)
    scale.ax.tick_params(labelsize=TICK_SIZE)
    scale.set_label(label, fontsize=LABEL_SIZE)


def _finish_curves(axis, x_label, y_label):
    axis.set_xlabel(x_label, fontsize=LABEL_SIZE)
    axis.set_ylabel(y_label, fontsize=LABEL_SIZE)
    axis.tick_params(labelsize=TICK_SIZE)
    axis.grid(color=MISSING, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=LABEL_SIZE, frameon=False)


def _add_legend(figure, colors):
    """A legend below the whole figure, from {label: colour}."""
    handles = [Patch(color=color, label=label) for label, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=TICK_SIZE, frameon=False)


def _show(axis, image, title):
    gray = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.shape[-1] == 1 else {}
    axis.imshow(np.clip(image, 0, 255).astype("uint8"), interpolation="nearest", **gray)
    axis.set_title(title, fontsize=8, color=INK)
    axis.set_axis_off()


def _show_heat(axis, image, heat, title, scale=None):
    """A grey image under a diverging heat map that is stretched over it: red speaks for the target, blue against it."""
    height, width = image.shape[:2]
    scale = scale or np.quantile(np.abs(heat), 0.995) or np.abs(heat).max() or 1.0
    extent = (0, width, height, 0)
    axis.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255, extent=extent)
    picture = axis.imshow(heat, cmap="RdBu_r", vmin=-scale, vmax=scale, alpha=0.6, interpolation="bilinear", extent=extent)
    axis.set_title(title, fontsize=7, color=INK)
    axis.set_axis_off()
    return picture


def _show_gradient(axis, gradient, limit, title):
    """An input gradient as a picture: red where a brighter pixel raises the output, blue where it lowers it; hatched where all
    of it is zero, as it is for a level without features."""
    axis.set_facecolor(MISSING)
    axis.patch.set(hatch="////", edgecolor="w")
    gradient = gradient if np.any(gradient) else np.full(gradient.shape, np.nan)
    picture = axis.imshow(gradient, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_color(MISSING)
    axis.set_title(title, fontsize=7, color=INK)
    return picture


def _gradient_limit(gradients):
    """The end of a scale of gradients. It cuts a few pixels: one that is hardly ever lit in training may have any weight."""
    return np.quantile(np.abs(gradients), 0.995) or np.abs(gradients).max() or 1.0


def _add_gradient_scale(figure, picture, axes):
    limit = picture.get_clim()[1]
    scale = figure.colorbar(
        picture, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02, ticks=[-limit, 0, limit], extend="both"
    )
    scale.ax.set_xticklabels(["lowers it", "0", "raises it"], fontsize=TICK_SIZE)
    scale.set_label("effect of a brighter pixel on the logit", fontsize=TICK_SIZE)
