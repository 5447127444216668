"""Figures of the paper on feature leveling. Every function returns a matplotlib figure without showing it."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from keras_interp.checks import check_array, check_classes
from keras_interp.drawing import (
    CURVES,
    INK,
    LABEL_SIZE,
    TICK_SIZE,
    TITLE_SIZE,
    add_gradient_scale,
    add_scale,
    check_matrix,
    draw_matrix,
    finish_curves,
    gradient_limit,
    level_color,
    new_figure,
    show,
    show_gradient,
)


def plot_independent_xor(rows, labels):
    """Independent XOR: x1 and x2 as the position of a point, x3 as its size, the class as its color (Figure 1).

    Args:
        rows: float array (n, 3), some hundreds of rows, with x3 in [0, 1].
        labels: integers (n,), 0 or 1.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for rows of another shape, or labels that do not fit.
    """
    rows = check_array("rows", rows, ("n", 3))
    labels = check_classes(labels, 2, len(rows))
    figure = new_figure(5.6, 4.4)
    axis = figure.subplots()
    style = {"alpha": 0.7, "edgecolors": "w", "linewidths": 0.4}
    for number, marker in enumerate("os"):
        x1, x2, x3 = rows[labels == number].T
        axis.scatter(x1, x2, _point_area(x3), CURVES[number], marker=marker, label=f"class {number}", **style)
    for x3 in (0.1, 0.5, 0.9):
        axis.scatter([], [], _point_area(x3), INK, label=f"x3 = {x3}", **style)
    axis.axhline(0.0, color=INK, linewidth=0.6)
    axis.axvline(0.0, color=INK, linewidth=0.6)
    finish_curves(axis, "x1", "x2")
    axis.legend(fontsize=LABEL_SIZE, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), labelspacing=1.0)
    return figure


def _point_area(size):
    return 4 + 56 * np.asarray(size)


def plot_weights(networks, input_names, class_names):
    """Weights of networks of dense layers: one network in a row, one layer in a column (Figure 2).

    Each matrix has a row for each feature that may enter the layer. Rows of those that do not enter are hatched; where a gate
    sends a feature to the output instead, arrows in the color of its level leave there and arrive at the output layer.

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
    figure = new_figure(1.4 + 2.9 * (depth + 1), 0.3 + 3.1 * len(networks))
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
    add_scale(figure, picture, axes, "weight, times the gate of its feature")
    return figure


def _flow(gates, sizes):
    """Features that enter each hidden layer, and features of each level that the output takes: lists of boolean arrays."""
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
    picture = draw_matrix(axis, kernel, title, kernel.shape, -limit, limit, color_map="RdBu_r")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    return picture


def _draw_arrows(axis, rows, edge, side, level):
    """Arrows beside a matrix, that leave it at its right edge (side 1) or reach it at its left one (side -1)."""
    style = {"arrowstyle": "<-" if side > 0 else "->", "color": level_color(level), "shrinkA": 0, "shrinkB": 0}
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
    figure = new_figure(8.4, 3.2)
    left, right = figure.subplots(1, 2)
    style = {"marker": ".", "markersize": 4, "linewidth": 1.2}
    left.plot(epochs, check_array("accuracy", log["accuracy"], epochs.shape), color=CURVES[2], **style)
    for number, column in enumerate(gates):
        curve = check_array(column, log[column], epochs.shape)
        right.plot(epochs, curve, color=CURVES[number % len(CURVES)], label=f"to hidden layer {number + 1}", **style)
    right.set_ylim(0, None)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish_curves(left, "epoch", "training accuracy")
    finish_curves(right, "epoch", "features passed on")
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
    figure = new_figure(0.6 + 1.15 * levels, 0.8 + 1.2 * classes)
    axes = figure.subplots(classes, levels, squeeze=False)
    for level in range(levels):
        limit = gradient_limit(gradients[:, level])
        for row, axis in enumerate(axes[:, level]):
            picture = show_gradient(axis, gradients[row, level], limit, f"level {level + 1}" if row == 0 else "")
            axis.set_xlabel(f"{shares[row, level]:.0%}", fontsize=TICK_SIZE, labelpad=2)
    for axis, name in zip(axes[:, 0], class_names):
        axis.set_ylabel(name, fontsize=TITLE_SIZE, rotation=0, ha="right", va="center")
    add_gradient_scale(figure, picture, axes)
    return figure


def plot_level_gradients(image, gradients):
    """An image next to input gradients of several networks; those of one network share one scale.

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
        raise ValueError("There must be at least one gradient. Received: none")
    figure = new_figure(0.4 + 1.5 * (1 + len(panels)), 2.4)
    axes = figure.subplots(1, 1 + len(panels))
    show(axes[0], image, "image")
    for axis, (network, title) in zip(axes[1:], panels):
        heats = {name: check_array(name, heat, image.shape[:2]) for name, heat in gradients[network].items()}
        picture = show_gradient(axis, heats[title], gradient_limit(list(heats.values())), f"{network}\n{title}")
    add_gradient_scale(figure, picture, axes)
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
    figure = new_figure(6.4, 0.9 + columns * (0.12 + 0.11 * levels))
    axis = figure.subplots()
    for level in range(levels):
        positions = np.arange(columns) + (level - (levels - 1) / 2) * 0.8 / levels
        lines = {"ecolor": INK, "elinewidth": 0.6, "capsize": 0}
        color = level_color(level + 1)
        axis.barh(
            positions, mean[level], 0.8 / levels, xerr=spread[level], color=color, label=f"level {level + 1}", error_kw=lines
        )
    axis.axvline(0.0, color=INK, linewidth=0.6)
    axis.set_ylim(columns - 0.5, -0.5)
    finish_curves(axis, unit, "")
    axis.grid(axis="y", visible=False)
    axis.set_axisbelow(True)
    axis.set_yticks(range(columns), column_names)
    return figure


def plot_depth_probe(depths, hidden_layers, errors, error_name):
    """Remaining layers of networks of different depths, and their errors: means over seeds as lines, each seed as a point.

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
    figure = new_figure(8.4, 3.2)
    axes = figure.subplots(1, 2)
    for axis, measured in zip(axes, (hidden_layers, errors)):
        for number, (network, values) in enumerate(measured.items()):
            values = check_matrix(network, values, (len(depths), "seeds"))
            color, style = CURVES[number % len(CURVES)], ("-", "--", "-.", ":")[number % 4]
            axis.plot(depths, _mean_of_known(values), color=color, linestyle=style, linewidth=1.2, label=network)
            axis.plot(depths, values, color=color, linestyle="", marker="o^sD"[number % 4], markersize=4, alpha=0.6)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylim(0, None)
    axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    finish_curves(axes[0], "initial hidden layers", "hidden layers that remain")
    finish_curves(axes[1], "initial hidden layers", error_name)
    return figure


def _mean_of_known(values):
    known = ~np.isnan(values)
    return np.where(known.any(axis=1), np.nansum(values, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)
