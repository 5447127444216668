"""Measures how much a face classifier depends on a protected attribute, and its accuracy without that neuron.

python examples/debias_celeb_a.py --data-dir DIR [--protected Male] [--others Bangs Gray_Hair] [--alpha 0.2]

XNet's authors propose it: give the protected attribute its own neuron, train so that the attribute's information about the
class goes through it, and drop it. Here the neurons are trained on the features of a shipped network, which takes seconds. The
drop loss makes the decision on the attribute's images rest on the neuron; it does not remove the attribute from the other
neurons. So look at the table: is the difference between the groups smaller without the neuron, and at what price? CelebA's
labels are what annotators saw in pictures of celebrities; this is a demonstration of method, not a fair classifier.
"""

import argparse

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_interp import data, metrics, models, zoo

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data-dir", help="folder of the prepared datasets; defaults to TFDS_DATA_DIR")
parser.add_argument("--dataset", default="celeb_a_mini")
parser.add_argument("--features-of", default="std_resnet18w32_celeb_a_mini", help="name or folder of a trained XNet")
parser.add_argument("--protected", default="Male")
parser.add_argument("--others", nargs="+", default=["Bangs", "Gray_Hair"])
parser.add_argument("--alpha", type=float, default=0.2)
parser.add_argument("--epochs", type=int, default=20)
arguments = parser.parse_args()

attributes = (arguments.protected, *arguments.others)
trained = zoo.load(arguments.features_of)


def load(split):
    options = {"image_size": trained.input_shape[1:3], "label": "Young", "attributes": attributes}
    dataset = data.load(arguments.dataset, split, arguments.data_dir, **options)
    return trained.backbone_features(dataset.inputs), dataset


features, train = load("train")
test_features, test = load("test")

protected = test.attributes[:, 0]
groups = np.stack([protected, 1 - protected], axis=1)
young = [test.targets[group == 1].mean() for group in groups.T]


def train_net(alpha):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(features.shape[1:])
    scaling = keras.layers.Normalization()
    scaling.adapt(features)
    backbone = keras.Model(inputs, scaling(inputs))
    model = models.XNet(backbone, attributes, class_names=("old", "young"), alpha=alpha, drop_loss_cap=1.5)
    model.orient(train.targets, train.attributes)
    model.compile_by_default(keras.optimizers.Adam(3e-3))
    targets = {"label": train.targets, "attributes": train.attributes}
    model.fit(features, targets, batch_size=256, epochs=arguments.epochs, verbose=0)
    return model


table = Table("network", "group", "accuracy", "called young", "are young", title="Groups, on the test split")
# Without the drop loss first: what the conditioning adds is the difference.
for alpha in (0.0, arguments.alpha):
    model = train_net(alpha)
    _, neurons, logits = model.features(test_features)
    kernel, _ = model.readout_weights()
    # What each neuron adds to "young" over "old".
    contributions = neurons * (kernel[:, 1] - kernel[:, 0])
    share = np.abs(contributions[:, 0]).sum() / np.abs(contributions).sum()
    print(f"α = {alpha:g}: the neuron for {arguments.protected} makes up {share:.0%} of all that speaks for and against.")
    for name, outputs in (("whole", logits), (f"without {arguments.protected}", model.dropped_logits(neurons)[0])):
        name = f"α = {alpha:g}, {name}"
        accuracies = metrics.dropping.group_accuracies(outputs, test.targets, groups)
        called = [outputs[group == 1].argmax(axis=1).mean() for group in groups.T]
        for number, group in enumerate((arguments.protected, f"not {arguments.protected}")):
            table.add_row(name, group, f"{accuracies[number]:.3f}", f"{called[number]:.3f}", f"{young[number]:.3f}")
        table.add_row(name, "difference", f"{np.ptp(accuracies):.3f}", f"{np.ptp(called):.3f}", f"{np.ptp(young):.3f}")
Console().print(table)
