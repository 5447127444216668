"""Trains feature leveling by Eq. 8 of "Not All Features Are Equal: Feature Leveling Deep Neural Networks for Better
Interpretation", or one of its baselines: a plain network (`std_`), L0 regularization (`l0_`), a self-explaining network
(`senn_`).

    python examples/retrain_feature_leveling.py fl_mlp_mnist --data-dir DIR [--output FOLDER] [--epochs N] [--seed N]

Before each hidden layer stands a gate z in [0, 1] for each feature: z of the feature goes on to the hidden layer, 1 − z goes
straight to the linear output. A gate is a random variable that is often exactly 0 or 1 (hard concrete, Eq. 6), so that the
number of open gates has an expectation with a gradient (Eq. 7). A step minimizes

    task loss + λ · mean over the levels of the expected share of open gates

Features that the output can use as they are leave early. A hidden layer behind closed gates disappears from `model.compact()`.

Keras does not save the state of random noise, so this script cannot resume an interrupted run. `keras-interp train NAME` can,
and gives the same result.
"""

import dataclasses

import keras
from _command import parse_arguments, print_figures

from keras_interp import backbones, data, models, zoo
from keras_interp.zoo.registry import get_entry


def load_data(name, data_dir=None):
    """A table, or images; of CIFAR-10 cats and deer only."""
    entry = get_entry(name)
    dataset = data.load(entry.dataset, "train", data_dir)
    if entry.task == "regression":
        return dataset
    return dataset.select_classes(entry.classes or range(len(dataset.class_names)), entry.class_names)


def build_model(name, dataset):
    """The untrained network, from raw pixels or rows to logits or to the value in the target's unit."""
    entry = get_entry(name)
    class_names, input_shape = dataset.class_names or entry.class_names, dataset.input_shape
    # A layer of the model: pixels to [0, 1], columns to zero mean and unit deviation.
    scaling = backbones.unit_scaling() if len(input_shape) == 3 else backbones.column_scaling(dataset.inputs)
    # l0_weight     λ
    # gate_options  how far the gates are closed at the start, and whether each example draws its own noise
    # num_concepts  of a self-explaining network
    # kernel_size   convolutions instead of dense layers
    options = {"class_names": class_names, "name": name, **entry.options}
    if entry.task == "regression":
        # The loss is that of the standardized target.
        options |= {"target_mean": dataset.targets.mean(), "target_scale": dataset.targets.std()}

    if entry.network == "std":
        backbone = backbones.mlp(entry.hidden_units, input_shape, scaling)
        model_class = models.Regressor if entry.task == "regression" else models.Classifier
        model = model_class(backbone, **options)
    else:
        model_class = {
            "fl": models.FeatureLevelingNetwork,
            "l0": models.L0Network,  # Its gates prune: what is not passed on is not used at all.
            "senn": models.SelfExplainingNetwork,  # Its logit is Σ_k θ_k(x) h_k(x), with networks θ and h.
        }[entry.network]
        options |= {"input_shape": input_shape, "preprocessing": scaling, "task": entry.task}
        model = model_class(entry.hidden_units, **options)
    model.column_names = dataset.column_names
    return model


def train(name, dataset, **changes):
    """Trains a model.

    Args:
        name: name of a zoo model of this paper.
        dataset: a `data.ArrayDataset`.
        **changes: fields of the model's `Recipe` to change, as `epochs=10`.

    Returns:
        The trained model.
    """
    recipe = dataclasses.replace(get_entry(name).recipe, **changes)
    # Images are shifted by a few pixels. Order and augmentation are functions of seed and epoch.
    batches = data.Batches(dataset, recipe.batch_size, pad=recipe.pad, flip=recipe.flip, seed=recipe.seed)

    keras.utils.set_random_seed(recipe.seed)
    model = build_model(name, dataset)

    # A linear warm-up, then a cosine decay to zero. The gates learn ten times as fast as the weights, by an option of theirs.
    steps = recipe.epochs * len(batches)
    warmup = int(recipe.warmup * steps)
    learning_rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 20, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )
    # The task loss. The model adds the L0 term in `compute_loss`; a self-explaining network has an `objective` of its own.
    if model.task == "regression":
        loss, metric = keras.losses.MeanSquaredError(), keras.metrics.RootMeanSquaredError("rmse")
    else:
        loss, metric = keras.losses.SparseCategoricalCrossentropy(from_logits=True), "accuracy"
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=[metric])

    # Keras reads one batch before the first epoch, so the batches are told which epoch it is. `shuffle=False` since it
    # would shuffle the shuffled batches once more. The progress bar shows how the gates close.
    set_epoch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))
    model.fit(batches, epochs=recipe.epochs, shuffle=False, callbacks=[set_epoch])

    # Weights behind closed gates cannot act; as zeros they take no space in a file.
    model.prune()
    return model


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, "fl")
    train_set = load_data(arguments.name, arguments.data_dir)
    zoo.save(train(arguments.name, train_set, **arguments.changes), arguments.output)
    print_figures(arguments)
