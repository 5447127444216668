"""Trains an XNet by Eq. 2 of "XNet: Towards Training Explainable Neural Networks", one of its variants, or the plain baseline.

    python examples/retrain_xnet.py xnet_capped_resnet18w32_celeb_a_mini --data-dir DIR [--output FOLDER] [--epochs N]

Between the pooled features and the logits stands a layer of one neuron for each attribute, as "Bald" or "Bangs". The drop loss
of a neuron is the classification loss, on the images with its attribute, when the neuron is set to zero. A step minimizes

    classification loss − α · smallest drop loss

so that the decision on these images comes to rest on that neuron. The targets of a batch are therefore
{"label": (batch,), "attributes": 0 or 1 (batch, attributes)}. The backbone runs once; only the last layer runs once more for
each neuron. The baseline is the same network with α = 0.

An interrupted run continues after its last whole epoch when the same command is given again, with the same result.
"""

import dataclasses

import keras
from _command import parse_arguments, print_figures

from keras_interp import backbones, data, models, zoo
from keras_interp.optimizers import CoupledSGD
from keras_interp.zoo.registry import get_entry


def load_data(name, data_dir=None):
    """CelebA: faces (n, 64, 64, 3), whether they are labeled old or young, and three more attributes."""
    entry = get_entry(name)
    faces = data.load(entry.dataset, "train", data_dir, image_size=entry.input_shape[:2], attributes=entry.attributes)
    return faces.select_classes((0, 1), entry.class_names)


def build_model(name, dataset):
    """The untrained network, a functional graph from raw pixels to logits."""
    entry = get_entry(name)
    # {"depth": 18, "stem": "small", "normalize_output": True}: it ends in a batch normalization. Behind a ReLU, whose features
    # have large means, the learning rate of 0.1 would permanently deactivate neurons.
    backbone = backbones.resnet(input_shape=dataset.input_shape, **entry.backbone.keywords)
    # alpha          α
    # reduction      "min" for Eq. 2, "sum" for Eq. 1
    # drop_loss_cap  nats from which on a drop loss is not raised any further, beyond the paper
    return models.XNet(backbone, dataset.attribute_names, class_names=dataset.class_names, name=name, **entry.options)


def train(name, dataset, backup=None, **changes):
    """Trains a model.

    Args:
        name: name of a zoo model of this paper.
        dataset: a `data.ArrayDataset` with attributes.
        backup: folder of the checkpoints; without it there are none.
        **changes: fields of the model's `Recipe` to change, as `epochs=10`.

    Returns:
        The trained model, in float32.
    """
    entry = get_entry(name)
    recipe = dataclasses.replace(entry.recipe, **changes)
    # Mirror images. In the balanced variant rare attributes come more often. Order and augmentation are functions of seed and
    # epoch.
    augmentation = {"pad": recipe.pad, "flip": recipe.flip, "min_positives": recipe.min_positives}
    batches = data.Batches(dataset, recipe.batch_size, seed=recipe.seed, **augmentation)

    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.dtype_policy)
    model = build_model(name, dataset)
    keras.config.set_dtype_policy("float32")
    if entry.oriented:
        # Beyond the paper: each neuron starts active, and speaks for the class that most images with its attribute have.
        model.orient(dataset.targets, dataset.attributes)

    # The learning rate is divided by 10 after each quarter of the steps.
    steps = recipe.epochs * len(batches)
    learning_rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps * quarter // 4 for quarter in (1, 2, 3)], [recipe.learning_rate / 10**quarter for quarter in range(4)]
    )
    # A weight decay that goes through the momentum, as in the papers' frameworks; that of Keras is decoupled.
    optimizer = CoupledSGD(learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay)
    # The loss of the whole network and of that with a neuron dropped; the model combines them to Eq. 2 in `XNet.objective`.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])

    # Keras reads one batch before the first epoch, and a resumed run starts later: the batches are told which epoch it is.
    set_epoch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))
    callbacks = [set_epoch]
    if entry.matching is not None:
        # Algorithms 1 and 2: each attribute gets the neuron with the largest drop losses, once or before each epoch.
        callbacks.append(models.NeuronMatching(dataset, entry.matching))
    if backup is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(backup))
    # `shuffle=False` since Keras would shuffle the shuffled batches once more. The progress bar shows the drop losses too.
    model.fit(batches, epochs=recipe.epochs, shuffle=False, callbacks=callbacks)

    # The same weights in layers that compute in float32, for saving and measuring.
    trained = build_model(name, dataset)
    trained.set_weights(model.get_weights())
    return trained


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, "xnet")
    train_set = load_data(arguments.name, arguments.data_dir)
    zoo.save(train(arguments.name, train_set, arguments.backup, **arguments.changes), arguments.output)
    print_figures(arguments)
