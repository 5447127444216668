from typing import Any

import keras
from keras import ops

from keras_interp.typing import Tensor


@keras.saving.register_keras_serializable("keras_interp")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of feature maps, with TensorFlow's fused kernel while training.

    Weights, math and moving statistics are the parent's. Keras composes the normalization of elementwise operations in
    float32; the fused kernel is faster on a CPU, especially in bfloat16, see `benchmarks/benchmark.py`. With several replicas
    the moments are synchronized, so that replicas train like one device.

    Call arguments:
        inputs: float tensor (batch, height, width, channels).
        training: whether to normalize by the batch's own moments and to update the moving ones.
    """

    moving_mean: Any
    moving_variance: Any

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any) -> None:
        kwargs["synchronized"] = keras.backend.backend() == "tensorflow"
        super().__init__(axis=-1, momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if keras.backend.backend() != "tensorflow" or not (training and self.trainable):
            return super().call(inputs, training=training)
        import tensorflow as tf

        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            return super().call(inputs, training=training)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, "float32"),
            offset=tf.cast(self.beta, "float32"),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel returns the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
        variance = variance * (count - 1.0) / count
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1.0 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for fixed in ("axis", "synchronized"):
            config.pop(fixed)
        return config
