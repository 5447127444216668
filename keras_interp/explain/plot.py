"""An `Explanation` as a picture."""

import textwrap

import numpy as np
from matplotlib.figure import Figure

from keras_interp.drawing import (
    INK,
    OTHER,
    OWN,
    add_gradient_scale,
    add_legend,
    draw_bars,
    gradient_limit,
    level_color,
    new_figure,
    short_name,
    show,
    show_gradient,
    show_heat,
)
from keras_interp.explain.explanation import Explanation


def plot_explanation(explanation: Explanation, count: int = 5) -> Figure:
    """Draws the evidence for and against the target of each input, with the target's probability or the predicted value.

    - Images with maps: the class activation map, the units that contribute most as bars, and the maps of these units.
    - Images of a network with levels: the input gradient of each level, on one scale for an image and summed over the
      channels, and the contributions of the levels as bars.
    - Other images, and rows of a table: the units that contribute most as bars; where there are levels, in their colors.

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
    figure = new_figure(5.6 + 1.25 * shown, 0.6 + 1.75 * rows)
    axes = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
    for row, (line, units) in enumerate(zip(axes, top)):
        image = explanation.inputs[row]
        show(line[0], image, "\n".join(textwrap.wrap(_prediction(explanation, row).replace("_", " "), 22)))
        _draw_contributions(line[len(ratios) - shown - 1], explanation, row, units)
        if explanation.maps is None:
            continue
        show_heat(line[1], image, explanation.class_activation_map[row], "class activation" if row == 0 else "")
        # A few bright points, as in heatmaps of fine layers, must not hide everything else.
        scale = np.quantile(np.abs(explanation.maps[row][..., units]), 0.995)
        for axis, unit in zip(line[3:], units):
            title = textwrap.wrap(explanation.names_of(row)[unit], 20, max_lines=2, placeholder="…")
            show_heat(axis, image, explanation.maps[row, ..., unit], "\n".join(title), scale)
    if explanation.units_of_target is not None:
        add_legend(figure, {"belongs to the class": OWN, "other, or several together": OTHER})
    return figure


def _plot_explained_levels(explanation):
    count, levels = explanation.level_gradients.shape[:2]
    figure = new_figure(3.2 + 1.45 * (1 + levels), 0.9 + 1.5 * count)
    axes = figure.subplots(count, 2 + levels, squeeze=False, width_ratios=[*[1] * (1 + levels), 1.4])
    names = [f"level {level + 1}" for level in range(levels)]
    for row, line in enumerate(axes):
        show(line[0], explanation.inputs[row], _prediction(explanation, row))
        gradients = explanation.level_gradients[row].sum(axis=-1)
        for axis, name, gradient in zip(line[1:], names, gradients):
            picture = show_gradient(axis, gradient, gradient_limit(gradients), f"input gradient of {name}" if row == 0 else "")
        values = [*explanation.level_contributions[row], explanation.bias[row]]
        draw_bars(line[-1], [*names, "bias"], values, [*map(level_color, range(1, levels + 1)), OTHER])
        line[-1].set_title(_explained_value(explanation, row), fontsize=7, color=INK)
    add_gradient_scale(figure, picture, axes[:, 1:-1])
    return figure


def _plot_explained_rows(explanation, count):
    top = np.argsort(-np.abs(explanation.contributions), axis=1, kind="stable")[:, :count]
    columns = min(len(top), 2)
    lines = -(-len(top) // columns)
    figure = new_figure(4.6 * columns, 0.4 + lines * (0.7 + 0.19 * (top.shape[1] + 2)))
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(top) :]:
        axis.set_axis_off()
    for row, (axis, units) in enumerate(zip(axes, top)):
        _draw_contributions(axis, explanation, row, units)
        if len(explanation.class_names) > 1:
            axis.set_title(f"{_prediction(explanation, row)}\n{axis.get_title()}", fontsize=8, color=INK)
    if explanation.levels is not None:
        levels = {f"level {level}": level_color(level) for level in range(1, explanation.levels.max() + 1)}
        add_legend(figure, {**levels, "bias, and others together": OTHER})
    return figure


def _prediction(explanation, row):
    """The target's name, with its probability or the predicted value."""
    target = explanation.target[row]
    label = explanation.class_names[target]
    if len(explanation.class_names) == 1:
        return f"{label} {explanation.logits[row, 0]:.2f}"
    return f"{label} {explanation.probabilities[row, target]:.0%}"


def _explained_value(explanation, row):
    if len(explanation.class_names) == 1:
        return f"contributions to {_prediction(explanation, row)}"
    return f"contributions to the logit {explanation.logits[row, explanation.target[row]]:.1f}"


def _draw_contributions(axis, explanation, row, units):
    values = explanation.contributions[row]
    if explanation.levels is not None:
        colors = [level_color(explanation.levels[unit]) for unit in units]
    else:
        own = np.zeros(len(values), bool) if explanation.units_of_target is None else explanation.units_of_target[row]
        colors = [OWN if own[unit] else OTHER for unit in units]
    names = [short_name(explanation.names_of(row)[unit], 24 if explanation.inputs.ndim == 4 else 40) for unit in units]
    rest = [explanation.bias[row]]
    if len(units) < len(values):
        names.append("all other units")
        rest.insert(0, values.sum() - values[units].sum())
    draw_bars(axis, [*names, "bias"], [*values[units], *rest], [*colors, *[OTHER] * len(rest)])
    axis.set_title(_explained_value(explanation, row), fontsize=7, color=INK)
