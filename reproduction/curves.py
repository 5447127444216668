"""Curves over epochs for several papers. Every function returns a matplotlib figure without showing it."""

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator

from keras_interp.checks import check_array
from keras_interp.drawing import INK, OWN, TICK_SIZE, TITLE_SIZE, finish_curves, new_figure


def plot_epoch_curves(panels, value_name, finals=None, order=()):
    """A figure of several networks over their training, one dataset in a panel (Figures 4a and 5a to 5c).

    A network has one color in all panels; the first one, the baseline, is red, the others go from dark to light.

    Args:
        panels: {title: {network: (epochs, values)}}, float arrays (n,) of the number of finished epochs and of the figure. NaN
            values, of epochs without a figure, are left out.
        value_name: name of the figure.
        finals: {title: {network: value}}, test figures after the last epoch: points next to the curves.
        order: names of networks by which colors are given, drawn or not; by default the order of the curves.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no curves, arrays of different lengths, or a curve without a figure.
    """
    networks = list(dict.fromkeys(network for curves in panels.values() for network in curves))
    if not networks:
        raise ValueError("There must be at least one curve. Received: none")
    colors = network_colors([*order, *networks])
    figure = new_figure(1.2 + 4.2 * len(panels), 3.4)
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
        finish_curves(axis, "epochs", value_name)
        axis.legend(fontsize=TICK_SIZE, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def network_colors(networks):
    """{network: color}: red for the first, the others from dark to light."""
    first, *others = dict.fromkeys(networks)
    shades = np.linspace(0.0, 0.9, max(len(others), 2))
    return {first: OWN, **{network: colormaps["viridis"](shade) for network, shade in zip(others, shades)}}
