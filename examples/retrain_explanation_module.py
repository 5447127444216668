"""Trains explanation modules by Eq. 4 of "Embedding Deep Networks into Visual Explanations", the paper's comparisons (`nn_`,
`sae_`, `cae_`), or the classifiers of birds that they explain (`std_`).

    python examples/retrain_explanation_module.py std_mobilenet_cub100 --data-dir DIR
    python examples/retrain_explanation_module.py srae_mobilenet_cub100 --data-dir DIR [--output FOLDER] [--epochs N]

The trained classifier stays unchanged. A module embeds the activations Z of one of its layers into a few x-features E for each
explained class. A step minimizes, summed over the modules,

    mean w (vᵀE + c − y)² + β · mean_k penalty(Q_k) + λ ‖kernels‖²

The first term rebuilds the logit y of the class from the x-features; weights w make up for how few of the images show it. Q_k
is the error with which a decoder rebuilds dimension k of Z from the x-features, and the penalty is sparse: some dimensions are
to be rebuilt well, not all of them a little, which keeps the x-features apart. Without the second term (β = 0) this is
the comparison `nn_`, with a plain mean as the penalty `sae_`, and without the first term too `cae_`.

Modules start from a trained classifier: the shipped one, or else the one in `runs/<classifier>`, where this script writes it.
Keras does not save the state of random noise, so this script cannot resume an interrupted run. `keras-interp train NAME` can,
and gives the same result.
"""

import dataclasses
import pathlib

import keras
import numpy as np
from _command import parse_arguments, print_figures

from keras_interp import data, models, zoo
from keras_interp.data.arrays import augment
from keras_interp.optimizers import CoupledSGD
from keras_interp.zoo.papers.srae import HELD_OUT
from keras_interp.zoo.registry import get_entry


def load_data(name, data_dir=None):
    """Images (n, height, width, 3) of CUB-200-2011 to train on, with labels."""
    entry = get_entry(name)

    def load(split):
        birds = data.load(entry.dataset, split, data_dir, image_size=entry.input_shape[:2])
        return birds.select_classes(range(len(birds.class_names)), entry.class_names)

    train_set = load("train")
    if name.startswith("std_"):
        return train_set
    # There are some 30 training images of a class. The modules also learn from test images of the explained classes, all but
    # the last nine of each, on which they are measured.
    test_set = load("test")
    added = np.isin(test_set.targets, [entry.class_names.index(label) for label in entry.explained])
    for target in np.unique(test_set.targets[added]):
        added[np.flatnonzero(test_set.targets == target)[-HELD_OUT:]] = False
    images = np.concatenate([train_set.inputs, test_set.inputs[added]])
    labels = np.concatenate([train_set.targets, test_set.targets[added]])
    # The activations are computed once, so augmentation comes before: copies in random crops, some of them mirrored.
    rng = np.random.default_rng(entry.recipe.seed)
    copies = [augment(images, rng, entry.recipe.pad, entry.recipe.flip) for _ in range(entry.copies)]
    return dataclasses.replace(train_set, inputs=np.concatenate([images, *copies]), targets=np.tile(labels, 1 + entry.copies))


def warm_up_and_decay(recipe, steps_per_epoch):
    """A linear warm-up, then a cosine decay to zero."""
    steps = recipe.epochs * steps_per_epoch
    warmup = int(recipe.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 20, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )


def train_classifier(entry, recipe, dataset, data_dir=None):
    """Fine-tunes a network with ImageNet weights on the birds."""
    batches = data.Batches(dataset, recipe.batch_size, pad=recipe.pad, flip=recipe.flip, seed=recipe.seed)

    def build(weights=None):
        # backbones.mobilenet with a hidden layer behind its pooled features, or backbones.vgg19 up to its second one.
        return entry.backbone(input_shape=dataset.input_shape, weights=weights)

    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.dtype_policy)
    model = models.Classifier(build(), class_names=dataset.class_names, name=entry.name)
    # The start: ImageNet weights from a file with those of `keras.applications`, or else by download.
    file = pathlib.Path(data_dir or "") / "weights" / entry.pretrained
    for layer in build(file if file.is_file() else "imagenet").layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    keras.config.set_dtype_policy("float32")

    # A weight decay that goes through the momentum; that of Keras is decoupled.
    optimizer = CoupledSGD(
        warm_up_and_decay(recipe, len(batches)),
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    # Keras reads one batch before the first epoch, so the batches are told which epoch it is. `shuffle=False` since it
    # would shuffle the shuffled batches once more.
    set_epoch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))
    model.fit(batches, epochs=recipe.epochs, shuffle=False, callbacks=[set_epoch])

    # The same weights in layers that compute in float32, for saving and measuring.
    trained = models.Classifier(build(), class_names=dataset.class_names, name=entry.name)
    trained.set_weights(model.get_weights())
    return trained


def train_modules(entry, recipe, dataset):
    """Trains modules for the explained classes of a trained classifier, which stays unchanged."""
    shipped = zoo.info(entry.classifier.name).trained
    classifier = zoo.load(entry.classifier.name if shipped else pathlib.Path("runs") / entry.classifier.name)

    # num_features, hidden_units  x-features, and the encoder's layers on the way there
    # reconstruction_weight       β, and kernel_weight is λ
    # sparsity                    the penalty: "log", or "mean" for a plain autoencoder
    # positive_share              the share of all weight w that images of the class have
    # start                       "classifier": the encoder starts as the hidden layer behind Z, pruned for each class
    module = models.ExplanationModule(
        keras.Model(classifier.inputs, classifier.outputs),
        entry.layer,
        targets=entry.explained,
        class_names=classifier.class_names,
        heatmap_layer=entry.heatmap_layer,
        name=entry.name,
        **entry.options,
    )
    # There is no loss to choose: the objective is Eq. 4, see `ExplanationModule.objective`.
    module.compile(keras.optimizers.Adam(warm_up_and_decay(recipe, len(dataset) // recipe.batch_size)))

    # The classifier runs once: activations Z, and its logits and the weights w of the examples for each module.
    activations, targets = module.fitting_data(dataset.inputs, dataset.targets)
    module.fit_activations(activations, targets, recipe.batch_size, recipe.epochs, seed=recipe.seed)
    return module


def train(name, dataset, data_dir=None, **changes):
    """Trains a classifier or the modules for one.

    Args:
        name: name of a zoo model of this paper.
        dataset: a `data.ArrayDataset`.
        data_dir: folder of the datasets, and of ImageNet weights in its folder `weights`.
        **changes: fields of the model's `Recipe` to change, as `epochs=10`.

    Returns:
        The trained model.
    """
    entry = get_entry(name)
    recipe = dataclasses.replace(entry.recipe, **changes)
    if name.startswith("std_"):
        return train_classifier(entry, recipe, dataset, data_dir)
    return train_modules(entry, recipe, dataset)


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, "srae")
    train_set = load_data(arguments.name, arguments.data_dir)
    zoo.save(train(arguments.name, train_set, arguments.data_dir, **arguments.changes), arguments.output)
    print_figures(arguments)
