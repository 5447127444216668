"""Drawing: colors, axes, pictures, heat and bars for explanations and the figures of the papers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from keras_interp.checks import check_array
from keras_interp.typing import ArrayLike

INK = "#222222"
OWN = "#c44e52"
OTHER = "#8da0b5"
MISSING = "#d9d9d9"
CURVES = ("#0072b2", "#d55e00", "#009e73", "#aa4499")
LEVELS = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 9, 8, 7


def draw_bars(axis: Axes, names: Sequence[str], values: Any, colors: Any) -> None:
    """Bars from top to bottom."""
    axis.barh(range(len(values))[::-1], values, color=colors)
    axis.set_yticks(range(len(values))[::-1], names, fontsize=6, color=INK)
    axis.axvline(0.0, color=INK, linewidth=0.6)
    axis.tick_params(axis="x", labelsize=6)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def level_color(level: int) -> str:
    """Color of a level, from 1."""
    return LEVELS[(level - 1) % len(LEVELS)]


def short_name(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def make_panels(matrices: Sequence, rows: int, width: float, height: float) -> tuple[Figure, Any]:
    """A figure with one axis for each matrix; `width` and `height` are those of a panel, in inches."""
    if not matrices:
        raise ValueError("There must be at least one matrix. Received: none")
    columns = -(-len(matrices) // rows)
    figure = new_figure(0.8 + width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(matrices) :]:
        axis.set_axis_off()
    return figure, axes[: len(matrices)]


def check_matrix(name: str, matrix: ArrayLike, shape: Sequence[int | str]) -> np.ndarray:
    """Like `check_array`, but NaN is allowed for values without examples."""
    check_array(name, np.nan_to_num(matrix), shape)
    return np.asarray(matrix, "float64")


def draw_matrix(
    axis: Axes,
    matrix: ArrayLike,
    title: str,
    shape: Sequence[int | str],
    low: float,
    high: float,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    color_map: str = "viridis",
) -> Any:
    """Draws a matrix, with optional names for its rows and columns; NaN in gray."""
    matrix = check_matrix(title, matrix, shape)
    # Nearest neighbors: smoothing would blur one filter into the next.
    picture = axis.imshow(matrix, cmap=color_map, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    axis.set_facecolor(MISSING)
    axis.set_title(title, fontsize=TITLE_SIZE, color=INK)
    axis.tick_params(labelsize=TICK_SIZE, length=2)
    if rows is not None:
        axis.set_yticks(range(len(rows)), rows)
    if columns is not None:
        axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    return picture


def add_scale(figure: Figure, picture: Any, axes: Sequence[Axes], label: str, extend: str = "neither") -> None:
    scale = figure.colorbar(picture, ax=axes, extend=extend, extendfrac=0.02, aspect=30, pad=0.02)
    scale.ax.tick_params(labelsize=TICK_SIZE)
    scale.set_label(label, fontsize=LABEL_SIZE)


def finish_curves(axis: Axes, x_label: str, y_label: str) -> None:
    axis.set_xlabel(x_label, fontsize=LABEL_SIZE)
    axis.set_ylabel(y_label, fontsize=LABEL_SIZE)
    axis.tick_params(labelsize=TICK_SIZE)
    axis.grid(color=MISSING, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=LABEL_SIZE, frameon=False)


def add_legend(figure: Figure, colors: Mapping[str, str]) -> None:
    """A legend below the whole figure, from {label: color}."""
    handles = [Patch(color=color, label=label) for label, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=TICK_SIZE, frameon=False)


def show(axis: Axes, image: np.ndarray, title: str) -> None:
    gray = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.shape[-1] == 1 else {}
    axis.imshow(np.clip(image, 0, 255).astype("uint8"), interpolation="nearest", **gray)
    axis.set_title(title, fontsize=8, color=INK)
    axis.set_axis_off()


def show_heat(axis: Axes, image: np.ndarray, heat: np.ndarray, title: str, scale: float | None = None) -> Any:
    """A gray image under a diverging heat map that is stretched over it: red speaks for the target, blue against it."""
    height, width = image.shape[:2]
    limit = scale or np.quantile(np.abs(heat), 0.995) or np.abs(heat).max() or 1.0
    extent = (0, width, height, 0)
    axis.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255, extent=extent)
    picture = axis.imshow(heat, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.6, interpolation="bilinear", extent=extent)
    axis.set_title(title, fontsize=7, color=INK)
    axis.set_axis_off()
    return picture


def show_gradient(axis: Axes, gradient: np.ndarray, limit: float, title: str) -> Any:
    """An input gradient as a picture: red where a brighter pixel raises the output, blue where it lowers it; hatched where all
    of it is zero, as for a level without features."""
    axis.set_facecolor(MISSING)
    axis.patch.set(hatch="////", edgecolor="w")
    gradient = gradient if np.any(gradient) else np.full(gradient.shape, np.nan)
    picture = axis.imshow(gradient, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_color(MISSING)
    axis.set_title(title, fontsize=7, color=INK)
    return picture


def gradient_limit(gradients: np.ndarray) -> float:
    """Limit of a gradient scale. It clips a few pixels: one that is rarely lit in training may have any weight."""
    return np.quantile(np.abs(gradients), 0.995) or np.abs(gradients).max() or 1.0


def add_gradient_scale(figure: Figure, picture: Any, axes: Any) -> None:
    limit = picture.get_clim()[1]
    scale = figure.colorbar(
        picture, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02, ticks=[-limit, 0, limit], extend="both"
    )
    scale.ax.set_xticklabels(["lowers it", "0", "raises it"], fontsize=TICK_SIZE)
    scale.set_label("effect of a brighter pixel on the logit", fontsize=TICK_SIZE)
