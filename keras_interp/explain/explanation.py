"""Explanations of predictions, for all methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_interp.typing import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Explains one output for each of n inputs by the contributions of named units.

    Attributes:
        inputs: the explained inputs: images (n, height, width, channels), or rows (n, columns).
        logits: float32 (n, outputs); for a regression, the predicted values.
        class_names: names of the outputs.
        target: indices (n,) of the explained outputs.
        unit_names: names of the units. Where these differ between targets and the inputs have several, names that fit all.
        contributions: float32 (n, units): the contribution of each unit to the target's logit.
        bias: float32 (n,): the part of the logit that no unit accounts for. For methods that are linear in their units,
            contributions and bias add up to the logit, see `residual`.
        maps: float32 (n, h, w, units), where in the image each unit's contribution arises; None for tables. Their mean over
            h and w is the contribution.
        units_of_target: booleans (n, units), the units that the method assigns to the target; None if it assigns none.
        levels: integers (units,), the level of each unit, from 1; None for methods without levels.
        level_gradients: float32 (n, levels, ...), gradients of each level's part of the logit with respect to the inputs as
            the network sees them (scaled); None for methods without levels.
        unit_values: texts (n, units), what a unit's column says for each input, as "NEAR BAY", "" for units that are no
            columns; None if units have no readable values.
        column_names, column_contributions, column_values: for rows of a table and methods that are linear around each row,
            names of the columns, what each adds to the target's logit, float32 (n, columns), and what it says, texts
            (n, columns); see `by_column`.
        task: "classification", "multilabel" or "regression", which `probabilities` follow.
        unit_names_of_target: {number of an output: names of its units} where each target has units of its own; else None.
    """

    inputs: np.ndarray
    logits: np.ndarray
    class_names: tuple
    target: np.ndarray
    unit_names: tuple
    contributions: np.ndarray
    bias: np.ndarray
    maps: np.ndarray | None = None
    units_of_target: np.ndarray | None = None
    levels: np.ndarray | None = None
    level_gradients: np.ndarray | None = None
    unit_names_of_target: Mapping | None = None
    unit_values: np.ndarray | None = None
    column_names: tuple = ()
    column_contributions: np.ndarray | None = None
    column_values: np.ndarray | None = None
    task: str = "classification"

    @property
    def prediction(self) -> np.ndarray:
        """Predicted labels (n,), or values (n,) for a regression; for a multilabel model booleans (n, classes), True above a
        probability of one half."""
        if self.task == "multilabel":
            return self.logits > 0
        return self.logits.argmax(axis=-1) if len(self.class_names) > 1 else self.logits[:, 0]

    @property
    def level_contributions(self) -> np.ndarray | None:
        """Sum of the contributions of each level's units, float32 (n, levels); None for methods without levels."""
        if self.levels is None:
            return None
        return np.stack([self.contributions[:, self.levels == level + 1].sum(axis=1) for level in range(self.levels.max())], 1)

    def by_column(self) -> Explanation:
        """The same explanation with the table's columns as its units, all categories of a column together.

        The network is linear around each row: a column's contribution is its scaled value times the gradient of the logit,
        summed over the levels. Contributions and bias add up to the logit. The training mean of a number contributes nothing.

        Raises:
            ValueError: for images, and methods without this view.
        """
        if self.column_contributions is None:
            raise ValueError("Only explanations of a table's rows by feature leveling have columns for units.")
        own = self.column_contributions.astype("float32")
        logit = np.take_along_axis(self.logits, self.target[:, None], axis=1)[:, 0]
        return Explanation(
            self.inputs,
            self.logits,
            self.class_names,
            self.target,
            self.column_names,
            own,
            logit - own.sum(axis=1),
            unit_values=self.column_values,
        )

    def check_completeness(self, tolerance: float = 1e-3) -> None:
        """Raises unless contributions and bias add up to the logit of every input.

        Args:
            tolerance: largest difference, as a share of the sum of magnitudes of contributions, bias and logit.

        Raises:
            ArithmeticError: with the largest difference.
        """
        logit = np.take_along_axis(self.logits, self.target[:, None], axis=1)[:, 0]
        scale = np.abs(self.contributions).sum(axis=1) + np.abs(self.bias) + np.abs(logit)
        share = np.abs(self.residual) / np.maximum(scale, 1e-12)
        if not (share <= tolerance).all():
            raise ArithmeticError(
                f"Contributions and bias do not add up to the logit. Received: a difference of {np.nanmax(share):.2e} of the "
                f"terms' size at input {int(np.nanargmax(share))}"
            )

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float32 (n, classes); of a multilabel model the sigmoid of each."""
        if self.task == "multilabel":
            return 1 / (1 + np.exp(-self.logits))
        shifted = np.exp(self.logits - self.logits.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)

    @property
    def residual(self) -> np.ndarray:
        """Logit of the target minus contributions and bias, (n,): zero up to rounding if the explanation is complete."""
        logit = np.take_along_axis(self.logits, self.target[:, None], axis=1)[:, 0]
        return logit - self.contributions.sum(axis=1) - self.bias

    @property
    def contribution_shares(self) -> np.ndarray:
        """Contributions as shares of their sum, (n, units): what each unit adds of the logit without its bias; 0 of none."""
        total = self.contributions.sum(axis=1, keepdims=True)
        return np.divide(self.contributions, total, out=np.zeros_like(self.contributions), where=total != 0)

    @property
    def class_activation_map(self) -> np.ndarray | None:
        """Class activation maps of the targets, float32 (n, h, w): the sum of `maps` over the units."""
        return None if self.maps is None else self.maps.sum(axis=-1)

    def names_of(self, row: int) -> tuple[str, ...]:
        """Names of the units of one input, for its target, with their values if readable: "sea = near"."""
        names = self.unit_names if self.unit_names_of_target is None else self.unit_names_of_target[int(self.target[row])]
        if self.unit_values is None:
            return names
        return tuple(f"{name} = {value}" if value else name for name, value in zip(names, self.unit_values[row]))

    def top_units(self, count: int = 5) -> np.ndarray:
        """Indices (n, count) of the units that contribute most to the target, largest first."""
        return np.argsort(-self.contributions, axis=1, kind="stable")[:, :count]

    def __len__(self):
        return len(self.logits)

    def plot(self, count: int = 5, path: PathLike | None = None) -> Figure:
        """Draws the `count` units that contribute most to each input: for an image next to it and its class activation map, or
        by level; for a row with the values of its columns.

        Args:
            count: units to draw for each input.
            path: where to save the picture, or None.

        Returns:
            The matplotlib figure.

        Raises:
            ValueError: for a `count` below 1.
        """
        from keras_interp.explain.plot import plot_explanation

        if count < 1:
            raise ValueError(f"`count` must be at least 1. Received: count={count}")

        figure = plot_explanation(self, count)
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure
