"""Trains label-sensitive gates by Eq. 3 and Algorithm 1 of "Training Interpretable Convolutional Neural Networks towards
Class-Specific Filters", or the plain baseline.

    python examples/retrain_label_sensitive_gates.py lsg_resnet20_cifar10 --data-dir DIR [--output FOLDER] [--epochs N]

The gate G is a matrix (classes, filters) with entries in [0, 1] that says which of the last filters each class may use. A step
minimizes

    CE + λ (CE_G + a |‖G‖₁ − s|)

CE is the cross-entropy of the network as it is at test time, without the gate. CE_G is that of the gated path, where the
pooled features of an image of class y are multiplied by the row G_y: a filter is useful there to the classes that it is open
to, and to no other. The last term makes G sparse. The optimizer updates the network; G takes a plain gradient step of its own
size, and is projected so that each filter stays fully open to one class. Both paths share one pass through the backbone.

An interrupted run continues after its last whole epoch when the same command is given again, with the same result.
"""

import dataclasses

import keras
from _command import parse_arguments, print_figures

from keras_interp import backbones, data, models, zoo
from keras_interp.optimizers import CoupledSGD
from keras_interp.zoo.registry import get_entry


def load_data(name, data_dir=None):
    """CIFAR-10, as uint8 images (n, 32, 32, 3) and labels (n,), under the class names of the model."""
    entry = get_entry(name)
    dataset = data.load("cifar10", "train", data_dir)
    return dataset.select_classes(range(len(dataset.class_names)), entry.class_names)


def build_model(name, dataset):
    """The untrained network, a functional graph from raw pixels to logits."""
    make_backbone = backbones.cifar_alexnet if "alexnet" in name else backbones.cifar_resnet
    # It ends in feature maps. Global average pooling and a dense layer follow.
    backbone = make_backbone(input_shape=dataset.input_shape)
    if name.startswith("std_"):
        return models.Classifier(backbone, class_names=dataset.class_names, name=name)
    # scheme              "joint" minimizes all of Eq. 3 in each step (footnote 1). "alternating" is Algorithm 1: of three
    #                     epochs, one minimizes the second part and moves G, the others minimize CE.
    # gate_weight         λ
    # sparsity_weight     a
    # gate_learning_rate  step size of G
    # fixed_gate          number of filters that each class has to itself; G is then held fixed (section 4.4)
    # align_readout       whether the last layer starts in agreement with the fixed gate
    options = get_entry(name).options
    return models.LabelSensitiveClassifier(backbone, class_names=dataset.class_names, name=name, **options)


def train(name, dataset, backup=None, **changes):
    """Trains a model.

    Args:
        name: name of a zoo model of this paper.
        dataset: a `data.ArrayDataset`.
        backup: folder of the checkpoints; without it there are none.
        **changes: fields of the model's `Recipe` to change, as `epochs=10`.

    Returns:
        The trained model, in float32.
    """
    recipe = dataclasses.replace(get_entry(name).recipe, **changes)
    # Zero-padded random crops and mirror images. Order and augmentation are functions of seed and epoch.
    batches = data.Batches(dataset, recipe.batch_size, pad=recipe.pad, flip=recipe.flip, seed=recipe.seed)

    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.dtype_policy)
    model = build_model(name, dataset)
    keras.config.set_dtype_policy("float32")

    # A linear warm-up, then a cosine decay to zero.
    steps = recipe.epochs * len(batches)
    warmup = int(recipe.warmup * steps)
    learning_rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 20, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )
    # Weight decay that goes through the momentum, as in the papers' frameworks; that of Keras is decoupled.
    optimizer = CoupledSGD(learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay)
    # The loss of both paths; the model combines them to Eq. 3 in `LabelSensitiveClassifier.objective`.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])

    # Keras reads one batch before the first epoch, and a resumed run starts later: the batches are told which epoch it is.
    set_epoch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))
    callbacks = [set_epoch]
    if backup is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(backup))
    # `shuffle=False` since Keras would shuffle the shuffled batches once more. The progress bar shows `gate_density` too.
    model.fit(batches, epochs=recipe.epochs, shuffle=False, callbacks=callbacks)

    # The same weights in layers that compute in float32, for saving and measuring.
    trained = build_model(name, dataset)
    trained.set_weights(model.get_weights())
    return trained


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, "lsg")
    train_set = load_data(arguments.name, arguments.data_dir)
    zoo.save(train(arguments.name, train_set, arguments.backup, **arguments.changes), arguments.output)
    print_figures(arguments)
