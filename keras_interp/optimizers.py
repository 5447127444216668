import keras


@keras.saving.register_keras_serializable("keras_interp")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is coupled: `weight_decay · w` is added to the gradient and so goes through the momentum.

    This is what the papers' frameworks mean by weight decay. Keras's own `weight_decay` is decoupled and, at momentum 0.9,
    ten times weaker: over 2,000 steps at a learning rate of 0.1 and a decay of 5e-4 it leaves a weight without gradient at
    0.905 of its value, where the coupled form leaves 0.368.

    Args:
        learning_rate: a float or a `LearningRateSchedule`.
        momentum: as for `keras.optimizers.SGD`.
        nesterov: as for `keras.optimizers.SGD`.
        weight_decay: coefficient of the decay. `exclude_from_weight_decay` exempts variables.
        **kwargs: further arguments of `keras.optimizers.SGD`.

    Example:

    >>> optimizer = CoupledSGD(0.1, momentum=0.9, weight_decay=5e-4)
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0, name="coupled_sgd", **kwargs):
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, name=name, **kwargs)
        self.coupled_weight_decay = weight_decay

    def update_step(self, gradient, variable, learning_rate):
        if self.coupled_weight_decay and self._use_weight_decay(variable):
            gradient = gradient + self.coupled_weight_decay * variable
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay}
