"""The models of the paper on Dynamic-K activation, its baselines, and their metrics."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras

from keras_interp import backbones, metrics, models
from keras_interp.data.segmentation import load_segmentation
from keras_interp.zoo.entry import Entry, Paper, Recipe, resnet_name
from keras_interp.zoo.papers.lsg import CIFAR10_LABELS

PAPER = Paper(
    "dynk",
    "Adaptive Activation Thresholding: Dynamic Routing Type Behavior for Interpretability in Convolutional Neural Networks",
    authors="Yiyou Sun, Sathya N. Ravi and Vikas Singh",
    training="The paper trains a ResNet-18 of full width for 200 epochs of CIFAR-10, or 70 of Places365.",
    headline={
        "accuracy": "accuracy",
        "connection_sparsity": "weights below 0.001",
        "units_95": "units for 95% of a logit",
        "units_98": "for 98%",
    },
)
PLACES_LABELS = (
    *("airport_terminal", "amusement_park", "aquarium", "badlands", "bamboo_forest", "bathroom", "bedroom", "bridge"),
    *("bus_interior", "canyon", "cemetery", "classroom", "coast", "conference_room", "corridor", "desert/sand"),
    *("dining_room", "gas_station", "highway", "kitchen"),
)

PLACES365_LABELS = tuple(pathlib.Path(__file__).with_name("places365_labels.txt").read_text(encoding="utf-8").split())

DEFINITIONS = {
    "accuracy": "share of images whose largest logit is the label's",
    "accuracy_top5": "share of images whose label is among the five largest logits",
    "cross_entropy": "mean cross-entropy in nats",
    "connection_sparsity": "share of the last layer's weights with a magnitude below 0.001",
    "connected_units": "units that a class is connected to by a weight of at least 0.001, mean over the classes",
    "units_95": "units that make up 95% of the predicted class's logit (sum of magnitudes), mean over the images",
    "units_98": "the same for 98%",
    "concepts_95": "concepts that make up 95% of what speaks for a class, mean over the classes; units without a concept, an "
    "IoU of at least 0.04, count for themselves",
    "classes_of_five_concepts": "share of the classes that at most five concepts represent so",
    "dissection_mean": "mean IoU of the units with their best concept, Network Dissection on places_objects_mini",
    "dissection_connected": "the same, mean over the units that a class is connected to by a weight of at least 0.001",
    "dissection_top100": "the same, mean over the 100 best units",
    "dissection_detectors": "share of the units with an IoU above 0.04",
}
# IoU at which a unit counts as a detector of its concept, as in Network Dissection.
DETECTOR = 0.04
# Interval in epochs at which a run's units are dissected, for Figure 5c.
DISSECTED_EPOCHS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConnectionEntry(Entry):
    """A classifier, measured by its connections from units to classes.

    Attributes:
        model_class: class of the model.
        backbone: function (input_shape) to a `keras.Model`.
        segmented: name of the dataset with label maps for dissection, or None.
    """

    model_class: type
    backbone: Callable
    segmented: str | None = None
    paper: Paper = PAPER

    definitions = DEFINITIONS

    @property
    def architecture(self):
        return resnet_name(self.backbone)

    def make(self, dataset, input_shape, class_names):
        return self.model_class(
            self.backbone(input_shape=input_shape), class_names=class_names, name=self.name, **self.options
        )

    def callbacks(self, model, dataset, data_dir=None):
        def look(epoch, logs):
            logs["connection_sparsity"] = metrics.connection_sparsity(model.readout_weights()[0])
            if self.segmented is not None and epoch % DISSECTED_EPOCHS == DISSECTED_EPOCHS - 1:
                logs["dissection_mean"] = self.dissect(model, data_dir).mean

        return [keras.callbacks.LambdaCallback(on_epoch_end=look)]

    def remark(self, values, baseline):
        own, other = values.get("dissection_mean"), baseline.get("dissection_mean")
        if own is None or other is None:
            return ""
        relation = "higher than" if own > other else "not higher than"
        sentence = (
            f"The mean IoU of its units with their best concept, {own:.4f}, is {relation} that of the units of "
            f"`{self.baseline}`, {other:.4f}; the paper finds it higher for Dynamic-K, on Places365 and Broden."
        )
        connected = values.get("dissection_connected"), baseline.get("dissection_connected")
        if None in connected:
            return sentence
        return f"{sentence} For connected units it is {connected[0]:.4f}, compared with {connected[1]:.4f}."

    def finish(self, model, data_dir=None):
        super().finish(model, data_dir)
        if self.segmented is not None:
            found = self.dissect(model, data_dir)
            model.concepts = [name if score >= DETECTOR else "" for name, score in zip(found.labels, found.scores)]

    def dissect(self, model, data_dir=None):
        """The `Dissection` of the model's last feature maps."""
        return metrics.dissect(model, load_segmentation(self.segmented, data_dir=data_dir, image_size=self.input_shape[:2]))  # pyright: ignore[reportArgumentType]

    def measure(self, model, dataset, data_dir=None):
        """The figures of a classifier, from one pass over the data, see `DEFINITIONS`."""
        labels = dataset.targets
        _, pooled, logits = model.features(dataset.inputs)
        kernel, _ = model.readout_weights()
        contributions = pooled * model.acting_weights(pooled, logits.argmax(axis=-1))
        values = {
            "accuracy": metrics.accuracy(logits, labels),
            "accuracy_top5": metrics.top_k_accuracy(logits, labels, 5),
            "cross_entropy": metrics.cross_entropy(logits, labels),
            "connection_sparsity": metrics.connection_sparsity(kernel),
            "connected_units": metrics.connections.connected_units(kernel).mean(),
            "units_95": metrics.units_to_explain(contributions, 0.95).mean(),
            "units_98": metrics.units_to_explain(contributions, 0.98).mean(),
        }
        if self.segmented is not None:
            found = self.dissect(model, data_dir)
            own = pooled * model.acting_weights(pooled, labels)
            concepts = metrics.connections.concepts_of_classes(own, labels, model.concepts, model.num_classes)
            values |= {
                "concepts_95": concepts.mean(),
                "classes_of_five_concepts": (concepts <= 5).mean(),
                "dissection_mean": found.mean,
                "dissection_connected": found.scores[metrics.connections.connected_units(kernel.T) > 0].mean(),
                "dissection_top100": found.top_mean(min(100, model.num_filters)),
                "dissection_detectors": found.detectors(DETECTOR),
            }
        return {metric: float(value) for metric, value in values.items()}


def _networks(suffix, ks, published, **fields):
    """The standard network `std_<suffix>` and its versions with Dynamic-K, on the same budget.

    Args:
        published: {K, or None for the standard network: paper's figures}.
    """
    yield ConnectionEntry(
        name=f"std_{suffix}",
        description="Standard training, the baseline of Dynamic-K.",
        method="standard training",
        model_class=models.Classifier,
        paper_metrics=published.get(None, {}),
        **fields,
    )
    for k in ks:
        yield ConnectionEntry(
            name=f"dynk{k}_{suffix}",
            description=f"Each class is decided by the {k} units that speak most for it." if k > 1 else "One unit per class.",
            method="Dynamic-K activation",
            model_class=models.DynamicKClassifier,
            options={"k": k},
            paper_metrics=published.get(k, {}),
            baseline=f"std_{suffix}",
            **fields,
        )


def _resnet(depth, stem, width=64):
    return functools.partial(backbones.resnet, depth=depth, width=width, stem=stem)


# Learning rates, weight decay and momentum decide what is left of a weight that is never chosen: their product over all steps
# is to be about 5, see `models.DynamicKClassifier`. A short training reaches it by a larger decay, of the last layer alone:
# that of the paper is right for the rest. Cosine schedules with a warm-up throughout, where the paper has steps.
_PAPER_CIFAR10 = Recipe(epochs=200, learning_rate=0.1, warmup=0.05, weight_decay=5e-4)
_CIFAR10 = Recipe(epochs=15, readout_decay=2e-3)
_PLACES = Recipe(epochs=60, batch_size=128, pad=6, weight_decay=1e-3)
# The schedule of the authors' published code; the paper's curves end after some 70 epochs. Images come in random crops.
_PLACES365 = Recipe(epochs=90, learning_rate=0.1, warmup=0.05, weight_decay=1e-4, pad=0)
_KS = (1, 5, 10, 25, 50, 100)


def _published(rows):
    """{K, or None: paper's figures} of rows (accuracy, or accuracy and top-5 accuracy)."""
    return {k: dict(zip(("accuracy", "accuracy_top5"), row if isinstance(row, tuple) else (row,))) for k, row in rows.items()}


_CIFAR10_PUBLISHED = _published({None: 0.9510, 1: 0.9502, 5: 0.9512, 10: 0.9522, 25: 0.9504, 50: 0.9506, 100: 0.9512})
_PLACES365_PUBLISHED = _published(
    {
        None: (0.5369, 0.8378),
        1: (0.2783, 0.5756),
        5: (0.5360, 0.8415),
        10: (0.5364, 0.8406),
        25: (0.5387, 0.8425),
        50: (0.5358, 0.8491),
        100: (0.5381, 0.8392),
    }
)
_IS_CIFAR10 = {"dataset": "cifar10", "class_names": CIFAR10_LABELS, "input_shape": (32, 32, 3), "storage_dtype": "float16"}
_IS_PLACES365 = {
    "dataset": "places365_small",
    "class_names": PLACES365_LABELS,
    "input_shape": (224, 224, 3),
    "test_split": "validation",
    "lazy": True,
    "recipe": _PLACES365,
    "storage_dtype": "float16",
}

ENTRIES = [
    *_networks(
        "resnet18_cifar10", _KS, _CIFAR10_PUBLISHED, backbone=_resnet(18, "cifar"), recipe=_PAPER_CIFAR10, **_IS_CIFAR10
    ),
    *_networks(
        "resnet50_cifar10",
        (25,),
        _published({None: 0.9562, 25: 0.9558}),
        backbone=_resnet(50, "cifar"),
        recipe=_PAPER_CIFAR10,
        **_IS_CIFAR10,
    ),
    *_networks("resnet18w32_cifar10", _KS, {}, backbone=_resnet(18, "cifar", 32), recipe=_CIFAR10, **_IS_CIFAR10),
    ConnectionEntry(
        name="l1_resnet18w32_cifar10",
        description="An L1 term on the last layer, the paper's other baseline.",
        method="L1 regularization",
        model_class=models.Classifier,
        options={"l1_weight": 1e-3},
        backbone=_resnet(18, "cifar", 32),
        recipe=_CIFAR10,
        baseline="std_resnet18w32_cifar10",
        **_IS_CIFAR10,
    ),
    *_networks(
        "resnet18w32_places_mini",
        (5,),
        {},
        dataset="places_mini",
        class_names=PLACES_LABELS,
        input_shape=(64, 64, 3),
        backbone=_resnet(18, "small", 32),
        recipe=_PLACES,
        segmented="places_objects_mini",
        storage_dtype="float16",
    ),
    *_networks("resnet18_places365", _KS, _PLACES365_PUBLISHED, backbone=_resnet(18, "imagenet"), **_IS_PLACES365),
    *_networks(
        "resnet50_places365",
        (25,),
        _published({None: (0.5474, 0.8508), 25: (0.5500, 0.8507)}),
        backbone=_resnet(50, "imagenet"),
        **_IS_PLACES365,
    ),
]
