"""The named models: what each is built of, how it is trained, and what its paper reports."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Callable, Mapping

import keras

from keras_interp import backbones, models
from keras_interp.optimizers import CoupledSGD

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper of the zoo: its title and its short name on the command line."""

    key: str
    title: str


LSG = Paper("lsg", "Training Interpretable Convolutional Neural Networks towards Class-Specific Filters")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a zoo model is trained: SGD with coupled weight decay, a linear warm-up and a cosine decay of the learning rate.

    Attributes:
        epochs: passes through the training data.
        batch_size: examples in a step, over all replicas.
        learning_rate: peak of the learning rate.
        warmup: share of the steps that the rise to the peak takes.
        momentum: Nesterov momentum.
        weight_decay: coupled weight decay.
        pad: zero padding for random crops, in pixels.
        flip: whether to mirror images at random.
        dtype_policy: Keras dtype policy of the training; what is saved is float32.
        seed: seed of initial weights, order and augmentation.
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 0.2
    warmup: float = 0.25
    momentum: float = 0.9
    weight_decay: float = 5e-4
    pad: int = 4
    flip: bool = True
    dtype_policy: str = "mixed_bfloat16"
    seed: int = 1

    def optimizer(self, steps_per_epoch):
        """The optimizer for a training of `epochs` epochs of so many steps."""
        steps = self.epochs * steps_per_epoch
        warmup = int(self.warmup * steps)
        schedule = keras.optimizers.schedules.CosineDecay(
            self.learning_rate / 20, max(steps - warmup, 1), warmup_target=self.learning_rate, warmup_steps=warmup
        )
        return CoupledSGD(schedule, momentum=self.momentum, nesterov=True, weight_decay=self.weight_decay)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One named model.

    Attributes:
        name: `<method>_<backbone>_<data set>`.
        description: one sentence.
        method: the method's name.
        paper: its `Paper`.
        model_class: class of the model.
        backbone: function (input_shape) to a `keras.Model`.
        dataset: name of the data set in TensorFlow Datasets.
        labels: names of the classes.
        input_shape: (height, width, channels).
        options: further arguments of `model_class`.
        recipe: how it is trained.
        last_convolution: name of the layer whose filters the method speaks of.
        filters_per_class: number m of filters that stand for a class where a metric needs a number (Table 2).
        paper_metrics: the paper's figures under our metric names.
        twin: the model that this one's card compares it with, trained on the same budget.
        storage_dtype: dtype of the weights on disk.
    """

    name: str
    description: str
    method: str
    paper: Paper
    model_class: type
    backbone: Callable
    dataset: str
    labels: tuple
    input_shape: tuple
    options: Mapping = dataclasses.field(default_factory=dict)
    recipe: Recipe = Recipe()
    last_convolution: str = ""
    filters_per_class: int = 0
    paper_metrics: Mapping = dataclasses.field(default_factory=dict)
    twin: str | None = None
    storage_dtype: str = "float32"

    def build(self, num_classes=None, input_shape=None, labels=None):
        """The untrained, uncompiled model, in the size that is asked for."""
        if labels is None and num_classes is None:
            labels = self.labels
        backbone = self.backbone(input_shape=tuple(input_shape or self.input_shape))
        return self.model_class(backbone, num_classes=num_classes, labels=labels, name=self.name, **self.options)


def _cifar10_resnet20(name, **fields):
    return Entry(
        name=name,
        paper=LSG,
        backbone=backbones.cifar_resnet,
        dataset="cifar10",
        labels=CIFAR10_LABELS,
        input_shape=(32, 32, 3),
        last_convolution="stage3_block3_second_convolution",
        filters_per_class=6,
        **fields,
    )


def _cifar10_alexnet(name, **fields):
    return Entry(
        name=name,
        paper=LSG,
        backbone=backbones.cifar_alexnet,
        dataset="cifar10",
        labels=CIFAR10_LABELS,
        input_shape=(32, 32, 3),
        last_convolution="stage5_convolution",
        filters_per_class=25,
        storage_dtype="float16",
        **fields,
    )


_STANDARD = {"method": "standard training", "model_class": models.Classifier}
_GATED = {"method": "label-sensitive gates", "model_class": models.LabelSensitiveClassifier}
# The joint scheme (footnote 1 of the paper): in short trainings of one seed, measured on held-out training images, it kept the
# accuracy of standard training, where the alternating scheme, with every third epoch on the gated path alone, fell behind.
_JOINT = {"scheme": "joint", "gate_weight": 0.3, "gate_learning_rate": 1.0}

ENTRIES = {
    entry.name: entry
    for entry in [
        _cifar10_resnet20(
            "std_resnet20_cifar10",
            description="ResNet-20 with standard training, the baseline of the label-sensitive gates.",
            paper_metrics={
                "accuracy": 0.9046,
                "gate_density": 0.4757,
                "filter_ambiguity": 0.8234,
                "inter_class_filter_correlation_magnitude": 0.1648,
            },
            **_STANDARD,
        ),
        _cifar10_resnet20(
            "lsg_resnet20_cifar10",
            description="ResNet-20 whose last 64 filters learned which classes they answer for.",
            options=_JOINT,
            twin="std_resnet20_cifar10",
            paper_metrics={"accuracy": 0.9062, "gate_density": 0.1742, "filter_ambiguity": 0.2203},
            **_GATED,
        ),
        _cifar10_resnet20(
            "lsg_fixed_resnet20_cifar10",
            description="ResNet-20 with a fixed gate: 6 filters for each class alone, 4 shared.",
            options={**_JOINT, "fixed_gate": 6},
            twin="std_resnet20_cifar10",
            paper_metrics={"inter_class_filter_correlation_magnitude": 0.1022},
            **_GATED,
        ),
        _cifar10_resnet20(
            "lsg_dense_resnet20_cifar10",
            description="ResNet-20 with a learned gate without the sparsity term (Figure 3b).",
            options={**_JOINT, "sparsity_weight": 0.0},
            recipe=Recipe(epochs=8),
            twin="std_resnet20_cifar10",
            **_GATED,
        ),
        _cifar10_alexnet(
            "std_alexnet_cifar10",
            description="AlexNet for 32x32 images with standard training.",
            paper_metrics={"inter_class_filter_correlation_magnitude": 0.1224},
            **_STANDARD,
        ),
        _cifar10_alexnet(
            "lsg_fixed_alexnet_cifar10",
            description="AlexNet for 32x32 images with a fixed gate: 25 filters for each class alone, 6 shared.",
            options={**_JOINT, "fixed_gate": 25},
            twin="std_alexnet_cifar10",
            paper_metrics={"inter_class_filter_correlation_magnitude": 0.0684},
            **_GATED,
        ),
    ]
}


def get_entry(name):
    """The entry of that name.

    Raises:
        KeyError: for an unknown name, with the nearest ones.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    nearest = difflib.get_close_matches(str(name), ENTRIES, n=3, cutoff=0.3)
    hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
    raise KeyError(f"There is no model of that name.{hint} zoo.list_models() lists all. Received: {name!r}")


def matching(pattern):
    """Names of the entries that match an `fnmatch` pattern, sorted."""
    return sorted(fnmatch.filter(ENTRIES, pattern))
