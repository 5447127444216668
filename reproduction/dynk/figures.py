"""Figures of the Dynamic-K paper. Every function returns a matplotlib figure without showing it."""

import textwrap

import numpy as np

from keras_interp.checks import check_array
from keras_interp.drawing import (
    CURVES,
    INK,
    LABEL_SIZE,
    TICK_SIZE,
    TITLE_SIZE,
    draw_matrix,
    finish_curves,
    make_panels,
    new_figure,
    show,
    show_heat,
)
from reproduction.curves import network_colors


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
    figure, axes = make_panels(kernels, rows=1, width=3.9, height=3.3)
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
        raise ValueError("There must be at least one layer. Received: none")
    figure = new_figure(9.6, sum(heights))
    axes = figure.subplots(len(layers), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, (kernel, names)) in zip(axes, layers.items()):
        kernel = check_array(title, kernel, ("units", len(names)))
        order = np.argsort(kernel.argmax(axis=1), kind="stable")
        sizes = np.abs(kernel[kernel != 0])
        limit = np.quantile(sizes, 0.995) if sizes.size else 1.0
        shape = kernel.shape[::-1]
        picture = draw_matrix(axis, kernel[order].T, title, shape, -limit, limit, rows=names, color_map="RdBu_r")
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
        order: names by which colors are given, see `plot_epoch_curves`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for no networks, or scores of another rank.
    """
    if not scores:
        raise ValueError("There must be scores of at least one network. Received: none")
    figure = new_figure(5.6, 3.4)
    axis = figure.subplots()
    colors = network_colors([*order, *scores])
    for network, values in scores.items():
        values = -np.sort(-check_array(network, values, ("units",)))[:count]
        axis.plot(np.arange(1, len(values) + 1), values, color=colors[network], label=network)
    axis.axhline(threshold, color=INK, linewidth=0.8, linestyle="--", label=f"detector: IoU above {threshold}")
    axis.set_ylim(0, None)
    finish_curves(axis, "unit, best first", "IoU with its best concept")
    return figure


def plot_class_units(shares, class_names, unit_names, images, regions):
    """Units that make up some classes, and the images that activate them (Figure 6).

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
    figure = new_figure(0.72 * width, 0.72 * (units + 0.2))
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
    """Units that contribute most to the class of each image, and the remainder, for several networks (Figure 7).

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
    figure = new_figure(0.6 + 1.25 * (1 + count) + 0.8, 0.3 + 1.62 * rows)
    axes = figure.subplots(rows, 2 + count, squeeze=False, width_ratios=[*[1] * (1 + count), 0.55])
    for axis in axes.ravel():
        axis.set_axis_off()
    for position, (network, (maps, names, shares)) in enumerate(explanations.items()):
        maps = check_array(f"maps of {network}", maps, (len(images), "count", "h", "w"))
        shares = check_array(f"shares of {network}", shares, maps.shape[:2])
        for number, line in enumerate(axes[position :: len(explanations)]):
            show(line[0], images[number], titles[number] if position == 0 else "")
            line[0].text(-0.06, 0.5, network, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=8)
            scale = np.abs(maps[number]).max()
            for axis, heat, name, share in zip(line[1:], maps[number], names[number], shares[number]):
                name = textwrap.wrap(name, 18, max_lines=2, placeholder="…")
                show_heat(axis, images[number], heat, "\n".join([f"{share:.0%}".replace("-", "−"), *name]), scale)
            residual = f"{1 - shares[number].sum():.0%}".replace("-", "−").replace("−0%", "0%")
            line[-1].text(0.5, 0.5, f"residual\n{residual}", ha="center", va="center", fontsize=LABEL_SIZE, color=INK)
    return figure
