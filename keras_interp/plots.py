"""Pictures: explanations, and the figures of the papers. Every function returns a matplotlib figure that it does not show."""

import numpy as np
from matplotlib.figure import Figure

INK = "#222222"
OWN = "#c44e52"
OTHER = "#8da0b5"


def plot_explanation(explanation, count=5):
    """Each image, its class activation map, the units that contribute most as bars, and the maps of these units.

    Args:
        explanation: an `Explanation` of n images (a dozen at most make sense in one picture).
        count: units to draw for each image.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for an explanation without images.
    """
    if explanation.maps is None:
        raise ValueError("There are no maps to draw over an image. Received: an explanation without `maps`")
    rows = len(explanation)
    figure = Figure(figsize=(5.6 + 1.25 * count, 0.35 + 1.75 * rows), layout="constrained")
    axes = figure.subplots(
        rows, 3 + count, squeeze=False, gridspec_kw={"width_ratios": [1, 1, 2.2, *[1] * count]}
    )
    top = explanation.top_units(count)
    for row, (line, units) in enumerate(zip(axes, top)):
        image = np.clip(explanation.images[row], 0, 255).astype("uint8")
        target = explanation.labels[explanation.target[row]]
        probability = explanation.probabilities[row, explanation.target[row]]
        _show(line[0], image, f"{target} {probability:.0%}")
        _show_heat(line[1], image, explanation.class_activation_map[row], "class activation" if row == 0 else "")
        _draw_contributions(line[2], explanation, row, units)
        scale = np.abs(explanation.maps[row][..., units]).max()
        for axis, unit in zip(line[3:], units):
            _show_heat(axis, image, explanation.maps[row, ..., unit], _short_name(explanation.unit_names[unit]), scale)
    return figure


def _short_name(name):
    return name if len(name) <= 18 else name[:17] + "…"


def _show(axis, image, title):
    axis.imshow(image, interpolation="nearest")
    axis.set_title(title, fontsize=8, color=INK)
    axis.set_axis_off()


def _show_heat(axis, image, heat, title, scale=None):
    """A grey image under a diverging heat map that is stretched over it: red speaks for the target, blue against it."""
    height, width = image.shape[:2]
    scale = scale or np.abs(heat).max() or 1.0
    axis.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    axis.imshow(
        heat, cmap="RdBu_r", vmin=-scale, vmax=scale, alpha=0.6, interpolation="bilinear", extent=(0, width, height, 0)
    )
    axis.set_title(title, fontsize=7, color=INK)
    axis.set_axis_off()


def _draw_contributions(axis, explanation, row, units):
    values = explanation.contributions[row]
    shown = values[units]
    own = np.zeros(len(values), bool) if explanation.units_of_target is None else explanation.units_of_target[row]
    others = values.sum() - shown.sum()
    names = [*(_short_name(explanation.unit_names[unit]) for unit in units), "all other filters", "bias"]
    bars = [*shown, others, explanation.bias[row]]
    colors = [*(OWN if own[unit] else OTHER for unit in units), OTHER, OTHER]
    axis.barh(range(len(bars))[::-1], bars, color=colors)
    axis.set_yticks(range(len(bars))[::-1], names, fontsize=6, color=INK)
    axis.axvline(0.0, color=INK, linewidth=0.6)
    axis.tick_params(axis="x", labelsize=6)
    axis.spines[["top", "right", "left"]].set_visible(False)
    target = explanation.target[row]
    axis.set_title(
        f"contributions to the logit {explanation.logits[row, target]:.1f}", fontsize=7, color=INK
    )
