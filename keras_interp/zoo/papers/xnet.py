"""The models of the XNet paper, its ablations, and their metrics."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np

from keras_interp import backbones, data, metrics, models
from keras_interp.data.sources import FACE_ATTRIBUTES
from keras_interp.numerics import group_means
from keras_interp.zoo.entry import Entry, Paper, Recipe, resnet_name

PAPER = Paper(
    "xnet",
    "XNet: Towards Training Explainable Neural Networks",
    authors="Kurtis Evan David",
    training="The paper trains a ResNet-18 for 8 epochs of the whole of CelebA, about 10,200 steps.",
    headline={
        "accuracy": "accuracy",
        "smallest_drop_loss": "smallest drop loss, nats",
        "smallest_accuracy_cost": "smallest accuracy cost",
        "own_activation": "activation on the own category",
    },
)
LABELS = ("old", "young")
ATTRIBUTES = FACE_ATTRIBUTES


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeEntry(Entry):
    """An `XNet` on the faces of CelebA.

    Attributes:
        backbone: function (input_shape) to a `keras.Model`.
        attributes: names of the neurons' attributes.
        matching: None, or the mode of a `models.NeuronMatching` over the training data.
        oriented: whether neurons are turned towards the classes of their attributes before training, see `XNet.orient`.
    """

    backbone: Callable
    attributes: tuple = ATTRIBUTES
    matching: str | None = None
    oriented: bool = False
    paper: Paper = PAPER
    class_names: tuple = LABELS
    input_shape: tuple = (64, 64, 3)
    storage_dtype: str = "float16"
    shows_examples: bool = False

    @property
    def architecture(self):
        return resnet_name(self.backbone)

    @property
    def definitions(self):
        each = {
            "drop_loss": "mean cross-entropy, in nats, on the images with {} when its neuron is dropped",
            "accuracy_cost": "accuracy on the images with {} minus that without its neuron",
            "accuracy_cost_of_others": "the same without one of the other neurons, their mean",
        }
        return {
            "accuracy": "share of images whose larger logit is the label's",
            "cross_entropy": "mean cross-entropy in nats",
            **{f"{name}_{attribute}": text.format(attribute) for name, text in each.items() for attribute in self.attributes},
            "smallest_drop_loss": "the smallest of the drop losses",
            "smallest_accuracy_cost": "the smallest of the accuracy costs",
            "active_neurons": "neurons that are active on any test image; the others cost nothing when they are dropped",
            "own_activation": "mean activation of a neuron on its own category, as a share of the sum over the categories; "
            "mean over the neurons",
        }

    def load_data(self, split, data_dir=None):
        faces = data.load(self.dataset, split, data_dir, self.input_shape[:2], attributes=self.attributes)
        return faces.select_classes((0, 1), self.class_names)

    def make(self, dataset, input_shape, class_names):
        attributes = getattr(dataset, "attribute_names", None) or self.attributes
        options = {"attributes": attributes, "class_names": class_names, "name": self.name, **self.options}
        return models.XNet(self.backbone(input_shape=input_shape), **options)

    def of_model(self, model):
        return dataclasses.replace(self, attributes=model.attributes)

    def callbacks(self, model, dataset, data_dir=None):
        def orient(epoch, logs):
            if epoch == 0:
                model.check_dataset(dataset)
                model.orient(dataset.targets, dataset.attributes)

        matching = [models.NeuronMatching(dataset, self.matching)] if self.matching else []
        return [*matching, *([keras.callbacks.LambdaCallback(on_epoch_begin=orient)] if self.oriented else [])]

    def measure(self, model, dataset, data_dir=None):
        """The figures of an XNet, from one pass over the data, see `definitions`."""
        model.check_dataset(dataset)
        labels, attributes = dataset.targets, dataset.attributes
        _, neurons, logits = model.features(dataset.inputs)
        own = np.arange(len(model.attributes)), model.neuron_of_attribute
        drop_losses = group_means(model.drop_losses_of(neurons, labels), attributes)[own]
        all_costs = metrics.accuracy_costs(logits, model.dropped_logits(neurons), labels, attributes)
        costs = all_costs[own]
        others = (all_costs.sum(axis=1) - costs) / max(len(costs) - 1, 1)
        values = {"accuracy": metrics.accuracy(logits, labels), "cross_entropy": metrics.cross_entropy(logits, labels)}
        values |= {f"drop_loss_{attribute}": value for attribute, value in zip(model.attributes, drop_losses)}
        values |= {f"accuracy_cost_{attribute}": value for attribute, value in zip(model.attributes, costs)}
        values |= {f"accuracy_cost_of_others_{attribute}": value for attribute, value in zip(model.attributes, others)}
        values |= {"smallest_drop_loss": drop_losses.min(), "smallest_accuracy_cost": costs.min()}
        values["active_neurons"] = (neurons > 0).any(axis=0).sum()
        values["own_activation"] = metrics.dropping.activation_shares(neurons, attributes)[own].mean()
        return {metric: float(value) for metric, value in values.items()}

    def remark(self, values, baseline):
        if not baseline:
            return ""
        text = f"Compared with `{self.baseline}`: {comparison(values, baseline, self.attributes)}"
        if self.oriented or _rising(values, baseline, self.attributes) == len(self.attributes):
            return text
        return (
            f"{text} The paper finds that all rise. Here a neuron may come to oppose the class of its images, and then "
            "dropping it helps them; a variant with oriented neurons avoids this."
        )


def comparison(values, other, attributes):
    """Sentences that compare the figures of an XNet with another network's, {metric: value} both."""
    count = len(attributes)
    costs = [(values[f"accuracy_cost_{one}"], other[f"accuracy_cost_{one}"]) for one in attributes]
    # A neuron that costs nothing has not become important, whatever the other network's does.
    threefold = sum(ours > 0 and ours >= 3 * theirs for ours, theirs in costs)
    others = [values[f"accuracy_cost_of_others_{one}"] for one in attributes]
    specific = sum(ours > 0 and ours >= 3 * rest for (ours, _), rest in zip(costs, others))
    sentences = [
        f"{100 * (values['accuracy'] - other['accuracy']):+.2f} points of accuracy; {_rising(values, other, attributes)} of "
        f"{count} drop losses are higher, and {threefold} accuracy costs at least three times as high. On {specific} of "
        f"{count} categories its own neuron costs at least three times what the others do."
    ]
    beyond = [one for one, (_, theirs) in zip(attributes, costs) if 3 * theirs > 1]
    if threefold and beyond:
        sentences.append(f"Three times the other's cost would be more than all, on {', '.join(beyond)}.")
    return " ".join(sentences)


def _rising(values, other, attributes):
    return sum(values[f"drop_loss_{one}"] > other[f"drop_loss_{one}"] for one in attributes)


# Steps of the paper: 8 epochs of 162,770 images; of the 14,000 of the reduced set, 20 epochs are 2,180 steps.
_CELEB_A = Recipe(epochs=8, batch_size=128, learning_rate=0.1, schedule="steps", pad=0, nesterov=False)
_CELEB_A_MINI = dataclasses.replace(_CELEB_A, epochs=20)
_BASELINE = {"description": "The baseline: the same network without the drop loss.", "method": "standard training"}
_METHOD = {"method": "drop loss"}
# Chosen on the validation split, with the backbone held fixed.
_CAPPED = {"alpha": 0.2, "drop_loss_cap": 1.5}
_VARIANTS = {
    "capped": {
        "description": "Beyond the paper: neurons are turned towards the class of their attribute, and drop losses are raised "
        "no further than 1.5 nats.",
        "options": _CAPPED,
        "oriented": True,
    },
    "oriented": {
        "description": "The start of the capped variant without its drop loss, to tell the effects of the two apart.",
        "options": {"alpha": 0.0},
        "oriented": True,
    },
    "balanced": {
        "description": "As the capped variant, on batches that hold at least 16 images of each attribute.",
        "options": _CAPPED,
        "oriented": True,
        "recipe": dataclasses.replace(_CELEB_A_MINI, min_positives=16),
    },
    "sum": {
        "description": "The ablation of Eq. 1: the sum of the drop losses.",
        "options": {"reduction": "sum"},
    },
    "initial": {
        "description": "The ablation of Figure 8, left: Eq. 1, with neurons matched once.",
        "options": {"reduction": "sum"},
        "matching": "initial",
    },
    "em": {
        "description": "The ablation of Figure 8, right: Eq. 1, with neurons matched before each epoch.",
        "options": {"reduction": "sum"},
        "matching": "em",
    },
}


def _networks(architecture, backbone, dataset, recipe, published=(None, None), variants=False):
    """The baseline, the XNet and its variants, on the same budget.

    Args:
        published: accuracies of the paper.
    """
    suffix = f"{architecture}_{dataset}"
    fields = {"backbone": backbone, "dataset": dataset, "recipe": recipe}
    figures = [{} if accuracy is None else {"accuracy": accuracy} for accuracy in published]
    baseline = f"std_{suffix}"
    yield AttributeEntry(name=baseline, options={"alpha": 0.0}, paper_metrics=figures[0], **_BASELINE, **fields)
    description = "One neuron for each of three attributes, whose smallest drop loss is raised."
    yield AttributeEntry(
        name=f"xnet_{suffix}", description=description, baseline=baseline, paper_metrics=figures[1], **_METHOD, **fields
    )
    for name, variant in _VARIANTS.items() if variants else ():
        yield AttributeEntry(
            name=f"xnet_{name}_{suffix}", baseline=baseline, comparison=name != "capped", **_METHOD, **{**fields, **variant}
        )


# The paper's rate of 0.1 permanently deactivates ReLU neurons, in the baseline all of them, unless inputs are centered.
_resnet18 = functools.partial(backbones.resnet, depth=18, stem="small", normalize_output=True)

ENTRIES = [
    *_networks(
        "resnet18",
        _resnet18,
        "celeb_a",
        _CELEB_A,
        published=(0.8817, 0.8558),
    ),
    *_networks(
        "resnet18w32",
        functools.partial(_resnet18, width=32),
        "celeb_a_mini",
        _CELEB_A_MINI,
        variants=True,
    ),
]
