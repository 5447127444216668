"""Matching of an XNet's neurons and attributes by drop losses (Algorithms 1 and 2 of the paper)."""

from typing import Any

import keras
import numpy as np

from keras_interp.checks import check_options
from keras_interp.data.arrays import ArrayDataset
from keras_interp.guards import require_one_process
from keras_interp.typing import ArrayLike


class NeuronMatching(keras.callbacks.Callback):
    """Assigns neurons to attributes so that the sum of drop losses is largest (Algorithms 1 and 2).

    Args:
        dataset: an `ArrayDataset` with attributes, over which drop losses are measured.
        mode: "initial" to match once, before epoch 0, however often `fit` is called with this object; "em" before every epoch.
        batch_size: images in a batch.

    The log of an epoch holds `neuron_<attribute>`, the index of the neuron.

    Raises:
        ValueError: for an unknown mode or a dataset without attributes; in training, for attributes other than the model's.
        NotImplementedError: when training on several JAX processes.

    Examples:

    >>> from keras_interp.backbones import mlp
    >>> from keras_interp.data import ArrayDataset, Batches
    >>> from keras_interp.models import XNet
    >>> rows, classes, attributes = np.random.rand(8, 4), np.arange(8) % 2, np.eye(2, dtype="uint8")[np.arange(8) // 2 % 2]
    >>> options = {"attributes": attributes, "attribute_names": ("bald", "bangs")}
    >>> faces = ArrayDataset(rows, classes, ("old", "young"), "rows", **options)
    >>> model = XNet(mlp((6,), input_shape=(4,)), faces.attribute_names, class_names=faces.class_names, reduction="sum")
    >>> log = model.compile_by_default().fit(Batches(faces, 4), callbacks=[NeuronMatching(faces, "em")], verbose=0).history
    >>> sorted(log["neuron_bald"] + log["neuron_bangs"])
    [0, 1]
    """

    model: Any

    def __init__(self, dataset: ArrayDataset, mode: str = "initial", batch_size: int = 256) -> None:
        super().__init__()
        check_options(locals(), mode=("initial", "em"))
        if getattr(dataset, "attributes", None) is None:
            raise ValueError(f"`dataset` must have attributes. Received: {type(dataset).__name__} without")
        self.dataset = dataset
        self.mode = mode
        self.batch_size = batch_size
        self._matched = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        require_one_process("Neurons are matched")
        self.model.check_dataset(self.dataset)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # A later epoch belongs to a resumed run, whose model has its matching.
        if self.mode == "initial" and (self._matched or epoch > 0):
            return
        self._matched = True
        dataset = self.dataset
        matrix = self.model.drop_loss_matrix(dataset.inputs, dataset.targets, dataset.attributes, self.batch_size)
        self.model.match(match_neurons(matrix))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            neurons = zip(self.model.attributes, self.model.neuron_of_attribute)
            logs |= {f"neuron_{attribute}": int(neuron) for attribute, neuron in neurons}


def match_neurons(drop_losses: ArrayLike) -> np.ndarray:
    """The matching of attributes and neurons with the largest sum of drop losses (Algorithm 2).

    Args:
        drop_losses: array (attributes, neurons), see `XNet.drop_loss_matrix`.

    Returns:
        Indices of the neurons, distinct integers (attributes,).

    Raises:
        ValueError: for NaN or infinite values, or a rank other than 2.

    Examples:

    >>> match_neurons(np.array([[3.0, 2.0], [2.5, 0.1]])).tolist()
    [1, 0]
    """
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(np.asarray(drop_losses), maximize=True)[1]
