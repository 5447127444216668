"""Optimizers of the papers that Keras lacks."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_interp.checks import check_options
from keras_interp.typing import ArrayLike, Tensor


@keras.saving.register_keras_serializable("keras_interp")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is coupled: `weight_decay · w` is added to the gradient and so goes through the momentum.

    This is the weight decay of the papers' frameworks. Keras's own `weight_decay` is decoupled and, at momentum 0.9, ten times
    weaker: over 2,000 steps at a learning rate of 0.1 and a decay of 5e-4 it leaves a weight without gradient at 0.905 of its
    value, where the coupled form leaves 0.368.

    Args:
        learning_rate: a float or a `LearningRateSchedule`.
        momentum: as for `keras.optimizers.SGD`.
        nesterov: as for `keras.optimizers.SGD`.
        weight_decay: coefficient of the decay. `exclude_from_weight_decay` exempts variables.
        own_weight_decay: {end of a variable's path: its own coefficient}, as {"logits/kernel": 2e-3}, for variables that decay
            at a different rate.
        **kwargs: further arguments of `keras.optimizers.SGD`.

    Raises:
        ValueError: for a decay below 0; and when the optimizer is built, if no variable's path ends in a key of
            `own_weight_decay`.

    Examples:

    >>> optimizer = CoupledSGD(0.1, momentum=0.9, weight_decay=5e-4)
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        own_weight_decay: Mapping[str, float] | None = None,
        name: str = "coupled_sgd",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, name=name, **kwargs)
        self.coupled_weight_decay = weight_decay
        self.own_weight_decay = dict(own_weight_decay or {})
        decays = {"weight_decay": weight_decay, "own_weight_decay": list(self.own_weight_decay.values())}
        check_options(decays, weight_decay="[0, inf)", own_weight_decay="[0, inf)")

    def build(self, variables: Any) -> None:
        paths = [variable.path for variable in variables]
        self._weight_decays = [self.coupled_weight_decay] * len(paths)
        for end, decay in self.own_weight_decay.items():
            found = [index for index, path in enumerate(paths) if f"/{path}".endswith(f"/{end}")]
            if not found:
                raise ValueError(
                    f"`own_weight_decay` names {end!r}, but no variable's path ends with it. Paths: {', '.join(paths)}"
                )
            for index in found:
                self._weight_decays[index] = decay
        super().build(variables)

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Any) -> None:
        decay = self._weight_decays[self._get_variable_index(variable)]
        if decay and self._use_weight_decay(variable):
            gradient = gradient + decay * variable
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        own = {"own_weight_decay": self.own_weight_decay} if self.own_weight_decay else {}
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay, **own}


def vanishing_weight_decay(learning_rates: ArrayLike, momentum: float = 0.0) -> float:
    """Coupled weight decay under which weights without gradient vanish by the end of a run.

    Each step of rate η removes a share of about η · decay / (1 − momentum) of such a weight. With this decay the shares add up
    to 5, which takes a weight of 0.1 below 0.001, where it no longer counts as a connection (Dynamic-K paper, section 4).

    Args:
        learning_rates: the learning rate of each step, an array (steps,).
        momentum: that of the optimizer, in [0, 1).

    Returns:
        A float, for `CoupledSGD`.

    Raises:
        ValueError: for a momentum out of range, or rates that are not finite or whose sum is not positive.

    Examples:

    >>> round(vanishing_weight_decay([0.1] * 2000, momentum=0.9), 6)
    0.0025
    """
    total = float(np.sum(learning_rates))
    check_options({"momentum": momentum, "learning_rates": total}, momentum="[0, 1)", learning_rates="(0, inf)")
    return 5 * (1 - momentum) / total
