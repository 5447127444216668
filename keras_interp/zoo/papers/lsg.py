"""The models of the paper on label-sensitive gates, and their metrics."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from keras import ops

from keras_interp import backbones, metrics, models
from keras_interp.checks import check_labels
from keras_interp.zoo.entry import Entry, Paper, Recipe

PAPER = Paper(
    "lsg",
    "Training Interpretable Convolutional Neural Networks towards Class-Specific Filters",
    authors="anonymous authors, submitted to ICLR 2020",
    training="The paper trains for 150 epochs.",
    headline={
        "accuracy": "accuracy",
        "gate_density": "gate density",
        "masked_own_recall": "masked: recall left to the class",
        "masked_other_drop": "masked: lost by others",
        "inter_class_filter_correlation_magnitude": "C_IC",
    },
)
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DEFINITIONS = {
    "accuracy": "share of images whose largest logit is the label's",
    "cross_entropy": "mean cross-entropy in nats",
    "gate_density": "‖G‖₁ / (classes · filters); for a standard model of the gate fitted to the frozen network",
    "filter_ambiguity": "Φ of Eq. 2 with a = 2 on the gate density and s = 1/classes, the gate fitted to the frozen network; "
    "a gate can leak the label, so it proves little alone",
    "own_filters": "filters that one class has to itself at a gate of 0.5, mean over the classes",
    "shared_filters": "all other filters",
    "masked_own_recall": "largest recall, over the classes, that is left to a class when its own filters are masked",
    "masked_other_drop": "largest loss of recall of any other class when a class's filters are masked",
    "inter_class_filter_correlation": "C_IC of Table 2, cosine of the last convolution's filters",
    "inter_class_filter_correlation_magnitude": "C_IC with the cosine's magnitude, which has the size of the paper's figures",
    "inter_class_filter_correlation_unshared": "C_IC without pairs of a filter with itself",
    "inter_class_activation_correlation": "C_IC with the correlation of pooled activations over the test images",
    "correlated_share": "share of pairs of filters whose cosine exceeds 0.3",
    "mutual_information_score": "mean over filters of the largest mutual information with a class, in nats, 2,000 images",
    "cluster_agreement": "adjusted Rand index of ten k-means clusters of pooled features with the labels",
    "cluster_gate_similarity": "mean cosine of the cluster centers with the gate rows that they are matched to (Figure 9)",
    "cam_kept": "mean probability of the predicted class when only the top 30% pixels of its activation map are kept, "
    "first 1,000 images",
    "cam_lost": "mean loss of that probability when these pixels are removed, first 1,000 images",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterEntry(Entry):
    """A classifier, measured by its last filters.

    Attributes:
        model_class: class of the model.
        backbone: function (input_shape) to a `keras.Model`.
        last_convolution: name of the layer with the method's filters.
        filters_per_class: number m of filters per class for metrics that need a fixed number (Table 2).
    """

    model_class: type
    backbone: Callable
    last_convolution: str
    filters_per_class: int
    paper: Paper = PAPER
    dataset: str = "cifar10"
    class_names: tuple = CIFAR10_LABELS
    input_shape: tuple = (32, 32, 3)

    definitions = DEFINITIONS

    @property
    def architecture(self):
        return self.backbone.__name__

    def make(self, dataset, input_shape, class_names):
        return self.model_class(
            self.backbone(input_shape=input_shape), class_names=class_names, name=self.name, **self.options
        )

    def measure(self, model, dataset, data_dir=None):
        """The figures of a classifier with or without a gate, from one pass over the data, see `DEFINITIONS`."""
        classes = model.num_classes
        labels = check_labels(dataset.targets, classes)
        maps, pooled, logits = model.features(dataset.inputs)
        kernel, bias = (ops.convert_to_numpy(weight) for weight in model.get_layer("logits").weights)
        gate = getattr(model, "gate", None)
        ambiguity = metrics.gates.filter_ambiguity(pooled, kernel, bias, labels, gate)
        gate = ambiguity.gate if gate is None else gate
        ownership = metrics.gates.owned_filters(gate)
        masking = metrics.masking_effect(
            pooled, kernel, bias, labels, class_masks(model, pooled, labels, self.filters_per_class)
        )
        correlation = metrics.filters.filter_correlation(ops.convert_to_numpy(model.get_layer(self.last_convolution).kernel))
        with np.errstate(invalid="ignore"):  # A dead filter correlates with nothing.
            activation_correlation = np.nan_to_num(np.corrcoef(pooled, rowvar=False))
        means = metrics.masking.class_means(pooled, labels, classes)
        similarity = functools.partial(
            metrics.filters.inter_class_filter_correlation, class_means=means, count=self.filters_per_class
        )
        centers, clusters = metrics.filters.cluster_centers(pooled, classes)
        sample = slice(0, 1000)
        predicted = logits.argmax(axis=-1)
        activation_map = np.einsum("nhwk,kn->nhw", maps[sample], kernel[:, predicted[sample]])
        cam = metrics.localization.cam_faithfulness(
            lambda images: model.predict(images, batch_size=500, verbose=0),
            dataset.inputs[sample],
            activation_map,
            predicted[sample],
        )
        values = {
            "accuracy": metrics.accuracy(logits, labels),
            "cross_entropy": metrics.cross_entropy(logits, labels),
            "gate_density": metrics.gate_density(gate),
            "filter_ambiguity": ambiguity.phi,
            "own_filters": ownership.owned.mean(),
            "shared_filters": ownership.shared,
            "masked_own_recall": np.nanmax(masking.own_recall),
            "masked_other_drop": masking.other_drop.max(),
            "inter_class_filter_correlation": similarity(correlation),
            "inter_class_filter_correlation_magnitude": similarity(np.abs(correlation)),
            "inter_class_filter_correlation_unshared": similarity(correlation, include_shared=False),
            "inter_class_activation_correlation": similarity(activation_correlation),
            "correlated_share": metrics.filters.correlated_share(correlation, [0.3])[0],
            "mutual_information_score": metrics.filters.mutual_information_score(pooled, labels, classes).score,
            "cluster_agreement": metrics.filters.cluster_agreement(clusters, labels),
            "cluster_gate_similarity": metrics.gates.match_centers(centers, gate)[1],
            "cam_kept": cam.kept,
            "cam_lost": cam.lost,
        }
        return {metric: float(value) for metric, value in values.items()}


def class_masks(model, pooled, labels, filters_per_class):
    """The filters that stand for each class, booleans (classes, filters): those of its gate above 0.5, or of a model without a
    gate the `filters_per_class` most active ones."""
    if hasattr(model, "gate"):
        return metrics.gates.class_filters(model.gate)
    return metrics.masking.most_active_filters(pooled, labels, model.num_classes, filters_per_class)


def _cifar10_resnet20(name, **fields):
    return FilterEntry(
        name=name,
        backbone=backbones.cifar_resnet,
        last_convolution="stage3_block3_second_convolution",
        filters_per_class=6,
        **fields,
    )


def _cifar10_alexnet(name, **fields):
    return FilterEntry(
        name=name,
        backbone=backbones.cifar_alexnet,
        last_convolution="stage5_convolution",
        filters_per_class=25,
        storage_dtype="float16",
        **fields,
    )


STANDARD = {"method": "standard training", "model_class": models.Classifier}
GATED = {"method": "label-sensitive gates", "model_class": models.LabelSensitiveClassifier}
# The joint scheme (footnote 1 of the paper): in short runs with one seed, measured on held-out training images, it kept the
# accuracy of standard training, where the alternating scheme, with every third epoch on the gated path alone, fell behind.
JOINT = {"scheme": "joint", "gate_weight": 0.3, "gate_learning_rate": 1.0}
# With a readout that starts in agreement with the fixed gate all of a class's filters stay in use. From random values (the
# `_cold_` models) some die out, and the filters that a class activates most are then partly those of similar classes.
_ALIGNED = {**JOINT, "align_readout": True}

ENTRIES = [
    _cifar10_resnet20(
        "std_resnet20_cifar10",
        description="ResNet-20 with standard training, the baseline of the label-sensitive gates.",
        paper_metrics={
            "accuracy": 0.9046,
            "gate_density": 0.4757,
            "filter_ambiguity": 0.8234,
            "inter_class_filter_correlation_magnitude": 0.1648,
        },
        **STANDARD,
    ),
    _cifar10_resnet20(
        "lsg_resnet20_cifar10",
        description="ResNet-20 whose last 64 filters learned which classes they answer for.",
        options=JOINT,
        baseline="std_resnet20_cifar10",
        paper_metrics={"accuracy": 0.9062, "gate_density": 0.1742, "filter_ambiguity": 0.2203},
        **GATED,
    ),
    _cifar10_resnet20(
        "lsg_alternating_resnet20_cifar10",
        description="ResNet-20 with a learned gate, by alternating epochs as in the paper's Algorithm 1.",
        # A third of the epochs go through the gate, so that the standard path has as many as the other models.
        recipe=Recipe(epochs=60),
        baseline="std_resnet20_cifar10",
        paper_metrics={"accuracy": 0.9062, "gate_density": 0.1742, "filter_ambiguity": 0.2203},
        **GATED,
    ),
    _cifar10_resnet20(
        "lsg_fixed_resnet20_cifar10",
        description="ResNet-20 with a fixed gate: 6 filters for each class alone, 4 shared.",
        options={**_ALIGNED, "fixed_gate": 6},
        baseline="std_resnet20_cifar10",
        paper_metrics={"inter_class_filter_correlation_magnitude": 0.1022},
        **GATED,
    ),
    _cifar10_resnet20(
        "lsg_fixed_cold_resnet20_cifar10",
        description="ResNet-20 with a fixed gate, its readout from random values.",
        comparison=True,
        options={**JOINT, "fixed_gate": 6},
        baseline="std_resnet20_cifar10",
        **GATED,
    ),
    _cifar10_resnet20(
        "lsg_dense_resnet20_cifar10",
        description="ResNet-20 with a learned gate without the sparsity term (Figure 3b).",
        options={**JOINT, "sparsity_weight": 0.0},
        recipe=Recipe(epochs=8),
        baseline="std_resnet20_cifar10",
        **GATED,
    ),
    _cifar10_alexnet(
        "std_alexnet_cifar10",
        description="AlexNet for 32x32 images with standard training.",
        paper_metrics={"inter_class_filter_correlation_magnitude": 0.1224},
        **STANDARD,
    ),
    _cifar10_alexnet(
        "lsg_fixed_alexnet_cifar10",
        description="AlexNet for 32x32 images with a fixed gate: 25 filters for each class alone, 6 shared.",
        options={**_ALIGNED, "fixed_gate": 25},
        baseline="std_alexnet_cifar10",
        paper_metrics={"inter_class_filter_correlation_magnitude": 0.0684},
        **GATED,
    ),
    _cifar10_alexnet(
        "lsg_fixed_cold_alexnet_cifar10",
        description="AlexNet for 32x32 images with a fixed gate, its readout from random values.",
        comparison=True,
        options={**JOINT, "fixed_gate": 25},
        baseline="std_alexnet_cifar10",
        **GATED,
    ),
]
