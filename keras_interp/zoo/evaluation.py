"""Measuring a zoo model on the test split of its data set: every figure of `metrics.json` comes from here."""

import numpy as np
from keras import ops

from keras_interp import data
from keras_interp import evaluate as metrics
from keras_interp.checks import check_labels
from keras_interp.zoo import hub
from keras_interp.zoo.registry import get_entry

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
    "cluster_gate_similarity": "mean cosine of the cluster centres with the gate rows that they are matched to (Figure 9)",
    "cam_kept": "mean probability of the predicted class when only the top 30% pixels of its activation map are kept, "
    "first 1,000 images",
    "cam_lost": "mean loss of that probability when these pixels are removed, first 1,000 images",
}


def evaluate(name, data_dir=None, dataset=None):
    """Measures a model on the test split of its data set.

    Args:
        name: name of a zoo model; or a folder of one, whose provenance names the entry.
        data_dir: folder of the prepared data sets, see `data.load`.
        dataset: an `ArrayDataset` to measure on instead.

    Returns:
        A dict: `split`, `examples`, `seed`, `values` {metric: value} and `definitions` {metric: sentence}.
    """
    metrics.require_evaluation_extra()
    model = hub.load(name)
    entry = get_entry(model.name)
    dataset = dataset or data.load(entry.dataset, "test", data_dir)
    values = measure_classifier(model, dataset, entry.last_convolution, entry.filters_per_class)
    return {
        "split": dataset.name,
        "examples": len(dataset),
        "seed": 0,
        "values": values,
        "definitions": {metric: DEFINITIONS[metric] for metric in values},
    }


def measure_classifier(model, dataset, last_convolution, filters_per_class):
    """The figures of a classifier with or without a gate, from one pass over the data.

    Args:
        model: a `Classifier` or `LabelSensitiveClassifier` on feature maps.
        dataset: an `ArrayDataset`.
        last_convolution: name of the convolution whose filters are measured.
        filters_per_class: filters that stand for a class: m of Table 2.

    Returns:
        {metric: float}, see `DEFINITIONS`.
    """
    classes = model.num_classes
    labels = check_labels(dataset.labels, classes)
    maps, pooled, logits = model.features(dataset.images)
    kernel, bias = (ops.convert_to_numpy(weight) for weight in model.get_layer("logits").weights)
    gate = getattr(model, "gate", None)
    ambiguity = metrics.filter_ambiguity(pooled, kernel, bias, labels, gate)
    gate = ambiguity.gate if gate is None else gate
    ownership = metrics.owned_filters(gate)
    masking = metrics.masking_effect(pooled, kernel, bias, labels, class_masks(model, pooled, labels, filters_per_class))
    correlation = metrics.filter_correlation(ops.convert_to_numpy(model.get_layer(last_convolution).kernel))
    with np.errstate(invalid="ignore"):  # A dead filter correlates with nothing.
        activation_correlation = np.nan_to_num(np.corrcoef(pooled, rowvar=False))
    means = metrics.class_means(pooled, labels, classes)
    centers, clusters = metrics.cluster_centers(pooled, classes)
    sample = slice(0, 1000)
    predicted = logits.argmax(axis=-1)
    activation_map = np.einsum("nhwk,kn->nhw", maps[sample], kernel[:, predicted[sample]])
    cam = metrics.cam_faithfulness(
        lambda images: model.predict(images, batch_size=500, verbose=0),
        dataset.images[sample],
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
        "inter_class_filter_correlation": metrics.inter_class_filter_correlation(correlation, means, filters_per_class),
        "inter_class_filter_correlation_magnitude": metrics.inter_class_filter_correlation(
            np.abs(correlation), means, filters_per_class
        ),
        "inter_class_filter_correlation_unshared": metrics.inter_class_filter_correlation(
            correlation, means, filters_per_class, include_shared=False
        ),
        "inter_class_activation_correlation": metrics.inter_class_filter_correlation(
            activation_correlation, means, filters_per_class
        ),
        "correlated_share": metrics.correlated_share(correlation, [0.3])[0],
        "mutual_information_score": metrics.mutual_information_score(pooled, labels, classes).score,
        "cluster_agreement": metrics.cluster_agreement(clusters, labels),
        "cluster_gate_similarity": metrics.match_centers(centers, gate)[1],
        "cam_kept": cam.kept,
        "cam_lost": cam.lost,
    }
    return {metric: float(value) for metric, value in values.items()}


def class_masks(model, pooled, labels, filters_per_class):
    """The filters that stand for each class, booleans (classes, filters): those of its gate above 0.5, or of a model without a
    gate the `filters_per_class` most active ones."""
    if hasattr(model, "gate"):
        return metrics.class_filters(model.gate)
    return metrics.most_active_filters(pooled, labels, model.num_classes, filters_per_class)
