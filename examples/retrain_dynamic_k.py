"""Trains Dynamic-K by Algorithm 2 of "Adaptive Activation Thresholding: Dynamic Routing Type Behavior for Interpretability in
Convolutional Neural Networks", or one of its baselines: a plain network (`std_`), or one with an L1 term (`l1_`).

    python examples/retrain_dynamic_k.py dynk5_resnet18w32_cifar10 --data-dir DIR [--output FOLDER] [--epochs N] [--seed N]

The logit of a class is the sum of its K largest contributions, weight times activation, plus its bias. They are chosen for
each image, so K units explain a logit wholly. The loss is the plain cross-entropy. What makes the last layer sparse is weight
decay: a weight that is never among the K largest gets no gradient, and each step of learning rate η takes about
η · decay / (1 − momentum) of it. It goes from 0.1 to below 0.001, where the paper no longer counts it as a connection, if
these shares add up to 5 over the run. `optimizers.vanishing_weight_decay` computes such a decay for any schedule.

All models here start from random weights. To turn a trained classifier into a Dynamic-K network, and fine-tune it, see
`models.convert`.

An interrupted run continues after its last whole epoch when the same command is given again, with the same result.
"""

import dataclasses
import os

import keras
from _command import parse_arguments, print_figures

from keras_interp import backbones, data, metrics, models, zoo
from keras_interp.data.segmentation import load_segmentation
from keras_interp.optimizers import CoupledSGD
from keras_interp.zoo.papers.dynk import DETECTOR
from keras_interp.zoo.registry import get_entry


def load_data(name, data_dir=None):
    """CIFAR-10 or a small Places in memory; Places365 is read, and cropped at random, as batches need it."""
    entry = get_entry(name)
    if entry.lazy:
        return data.load_lazily(entry.dataset, "train", data_dir, crop_size=entry.input_shape[:2])
    dataset = data.load(entry.dataset, "train", data_dir)
    return dataset.select_classes(range(len(dataset.class_names)), entry.class_names)


def build_model(name, dataset):
    """The untrained network, a functional graph from raw pixels to logits."""
    entry = get_entry(name)
    # depth, width and stem, as {"depth": 18, "width": 32, "stem": "cifar"}
    backbone = backbones.resnet(input_shape=dataset.input_shape, **entry.backbone.keywords)
    outputs = {"class_names": dataset.class_names, "name": name}
    if "k" in entry.options:
        return models.DynamicKClassifier(backbone, k=entry.options["k"], **outputs)
    # l1_weight times the sum of magnitudes of the last layer's weights is added to the loss.
    return models.Classifier(backbone, l1_weight=entry.options.get("l1_weight", 0.0), **outputs)


def train(name, dataset, backup=None, **changes):
    """Trains a model.

    Args:
        name: name of a zoo model of this paper.
        dataset: a `data.ArrayDataset` or `data.LazyDataset`.
        backup: folder of the checkpoints; without it there are none.
        **changes: fields of the model's `Recipe` to change, as `epochs=10`.

    Returns:
        The trained model, in float32.
    """
    recipe = dataclasses.replace(get_entry(name).recipe, **changes)
    # Zero-padded random crops and mirror images. Order and augmentation are functions of seed and epoch.
    workers = os.cpu_count() if isinstance(dataset, data.LazyDataset) else 1
    augmentation = {"pad": recipe.pad, "flip": recipe.flip}
    batches = data.Batches(dataset, recipe.batch_size, seed=recipe.seed, workers=workers, **augmentation)

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
    # A weight decay that goes through the momentum; that of Keras is decoupled, and ten times weaker. In a short run it is
    # larger for the last layer's kernel, so that the unused weights have time to vanish.
    optimizer = CoupledSGD(
        learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        own_weight_decay=None if recipe.readout_decay is None else {"logits/kernel": recipe.readout_decay},
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])

    def show_sparsity(epoch, logs):
        sparsity = metrics.connection_sparsity(model.readout_weights()[0])
        print(f" {sparsity:.1%} of the last layer's weights are below 0.001")

    # Keras reads one batch before the first epoch, and a resumed run starts later: the batches are told which epoch it is.
    set_epoch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))
    callbacks = [set_epoch, keras.callbacks.LambdaCallback(on_epoch_end=show_sparsity)]
    if backup is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(backup))
    # `shuffle=False` since Keras would shuffle the shuffled batches once more.
    model.fit(batches, epochs=recipe.epochs, shuffle=False, callbacks=callbacks)

    # The same weights in layers that compute in float32, for saving and measuring.
    trained = build_model(name, dataset)
    trained.set_weights(model.get_weights())
    return trained


def name_units(model, data_dir=None):
    """Names each unit after the concept that it responds to, by Network Dissection, where there are labeled pictures."""
    entry = get_entry(model.name)
    if entry.segmented is not None:
        pictures = load_segmentation(entry.segmented, data_dir=data_dir, image_size=entry.input_shape[:2])
        found = metrics.dissect(model, pictures)
        model.concepts = [name if score >= DETECTOR else "" for name, score in zip(found.labels, found.scores)]


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, "dynk")
    train_set = load_data(arguments.name, arguments.data_dir)
    trained_model = train(arguments.name, train_set, arguments.backup, **arguments.changes)
    name_units(trained_model, arguments.data_dir)
    zoo.save(trained_model, arguments.output)
    print_figures(arguments)
