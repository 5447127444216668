"""The models of the paper on explanation modules, the classifiers that they explain, and their metrics."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras
import numpy as np

from keras_interp import backbones, data, metrics, models
from keras_interp.data.arrays import augment
from keras_interp.data.birds import PARTS, load_birds
from keras_interp.metrics.heatmaps import THRESHOLDS
from keras_interp.zoo.entry import Entry, Paper, Recipe

PAPER = Paper(
    "srae",
    "Embedding Deep Networks into Visual Explanations",
    authors="anonymous authors, submitted to ICLR 2018",
    training="The paper explains a VGG-19 that was fine-tuned on all 200 categories of CUB-200-2011.",
    headline={
        "accuracy": "accuracy",
        "relative_error": "error of the logit / its deviation",
        "unchanged": "unchanged decisions",
        "orthogonality": "O1",
        "locality": "locality, nats",
    },
)
CUB100_LABELS, CUB200_LABELS = (
    tuple(pathlib.Path(__file__).with_name(f"{name}_labels.txt").read_text(encoding="utf-8").split())
    for name in ("cub100", "cub200")
)

CLASSIFIER_DEFINITIONS = {
    "accuracy": "share of images whose largest logit is the label's",
    "accuracy_top5": "share of images whose label is among the five largest logits",
    "cross_entropy": "mean cross-entropy in nats",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnBirds(Entry):
    """A model on CUB-200-2011, whose images vary in size."""

    paper: Paper = PAPER
    storage_dtype: str = "float16"

    part_names = PARTS

    def load_data(self, split, data_dir=None):
        birds = data.load(self.dataset, split, data_dir, self.input_shape[:2])
        return birds.select_classes(range(len(birds.class_names)), self.class_names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BirdEntry(OnBirds):
    """A classifier of birds, fine-tuned from ImageNet weights.

    Attributes:
        backbone: function (input_shape, weights) to a `keras.Model`, see `backbones.mobilenet`.
        pretrained: file of the ImageNet weights, which is taken from the folder `weights` of the datasets where it lies
            there; else Keras downloads its own.
    """

    backbone: Callable
    pretrained: str

    definitions = CLASSIFIER_DEFINITIONS

    @property
    def architecture(self):
        name = getattr(self.backbone, "func", self.backbone).__name__
        return {"mobilenet": "MobileNet", "vgg19": "VGG-19"}[name]

    def make(self, dataset, input_shape, class_names):
        return models.Classifier(
            self.backbone(input_shape=input_shape), class_names=class_names, name=self.name, **self.options
        )

    def initialize(self, model, data_dir=None):
        path = pathlib.Path(data_dir or "") / "weights" / self.pretrained
        backbone = self.backbone(input_shape=model.input_shape[1:], weights=path if path.is_file() else "imagenet")
        for layer in backbone.layers:
            model.get_layer(layer.name).set_weights(layer.get_weights())

    def measure(self, model, dataset, data_dir=None):
        """The figures of a classifier, see `CLASSIFIER_DEFINITIONS`."""
        logits = model.predict(dataset.inputs, batch_size=100, verbose=0)
        return {
            "accuracy": float(metrics.accuracy(logits, dataset.targets)),
            "accuracy_top5": float(metrics.top_k_accuracy(logits, dataset.targets, 5)),
            "cross_entropy": float(metrics.cross_entropy(logits, dataset.targets)),
        }


# 30 of the categories with 59 images or more, drawn at random, the downy woodpecker of the paper's figures among them.
EXPLAINED = (
    *("Barn_Swallow", "Bay_breasted_Warbler", "Black_footed_Albatross", "Black_throated_Sparrow", "Blue_Jay", "Bobolink"),
    *("Brown_Creeper", "Cape_Glossy_Starling", "Cape_May_Warbler", "Cerulean_Warbler", "Clark_Nutcracker"),
    *("Downy_Woodpecker", "Eared_Grebe", "Golden_winged_Warbler", "Gray_crowned_Rosy_Finch", "Groove_billed_Ani"),
    *("Hooded_Merganser", "Horned_Grebe", "Mallard", "Orchard_Oriole", "Pied_Kingfisher", "Pine_Grosbeak"),
    *("Red_winged_Blackbird", "Scarlet_Tanager", "Scissor_tailed_Flycatcher", "Scott_Oriole", "Vermilion_Flycatcher"),
    *("White_breasted_Kingfisher", "Wilson_Warbler", "Worm_eating_Warbler"),
)
# Test images of each explained category that are held out; the modules learn from all others, 50 or 51 with those of "train".
HELD_OUT = 9

DEFINITIONS = {
    "error": "F_reg: mean absolute error of the rebuilt logit, held-out images of the category",
    "relative_error": "the same over the standard deviation of the logit over all held-out images",
    "constant_error": "mean absolute error of the best constant on the held-out images of the category",
    "error_all": "F_reg on all held-out images",
    "unchanged": "F_cls: share of held-out images of the category whose decision stays when the logit is replaced",
    "unchanged_all": "the same of all held-out images",
    "orthogonality": "O1 of the heatmaps of the held-out images of the category, live x-features only",
    "log_determinant": "O2 of the same",
    "dead": "x-features without any heat there",
    "locality": "entropy of the parts that an x-feature's heat falls on, in nats, the same images",
    "original_accuracy": "accuracy on these images as they are",
    **{
        f"masked_accuracy_{gamma}": f"the same, with only what has {gamma:.0%} of an x-feature's largest heat left"
        for gamma in THRESHOLDS
    },
}


def held_out(labels, explained):
    """The last `HELD_OUT` test images of each explained category, and all images of the others: booleans (n,)."""
    held = ~np.isin(labels, explained)
    for number in explained:
        held[np.flatnonzero(labels == number)[-HELD_OUT:]] = True
    return held


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplanationEntry(OnBirds):
    """An `ExplanationModule` for some classes of a classifier of the zoo. Its figures are means over these classes.

    Attributes:
        classifier: entry of the classifier.
        layer: name of the layer that is explained.
        heatmap_layer: name of the layer where heatmaps end.
        explained: names of the classes that are explained.
        copies: copies of each training image that are cropped and mirrored at random. A classifier is more confident on images
            that it was trained on, and modules that see only those rebuild other logits less well.
    """

    classifier: BirdEntry
    layer: str
    heatmap_layer: str | None = None
    explained: tuple = EXPLAINED
    copies: int = 4

    definitions = DEFINITIONS

    @property
    def architecture(self):
        return f"explanation module of {self.classifier.name}"

    def make(self, dataset, input_shape, class_names):
        classifier = self.classifier.make(dataset, input_shape, class_names)
        return models.ExplanationModule(
            keras.Model(classifier.inputs, classifier.outputs),
            self.layer,
            [label for label in self.explained if label in class_names] or None,
            class_names,
            heatmap_layer=self.heatmap_layer,
            name=self.name,
            **self.options,
        )

    def initialize(self, model, data_dir=None):
        from keras_interp.zoo import artifacts, catalogue

        name = self.classifier.name
        folder = artifacts.shipped_folder(name) or pathlib.Path("runs") / name
        if not folder.is_dir():
            raise FileNotFoundError(
                f"The classifier is trained first: `keras-interp train {name}` writes it to {folder}. Received: no such folder"
            )
        classifier = catalogue.load(folder)
        model.set_classifier_weights(keras.Model(classifier.inputs, classifier.outputs).get_weights())

    def load_data(self, split, data_dir=None):
        """As of every entry, but the modules also train on the test images that are not `held_out`."""
        test = super().load_data("test", data_dir)
        held = held_out(test.targets, [test.class_names.index(label) for label in self.explained])
        if split == "test":
            return dataclasses.replace(test[held], name=f"{test.name}, held out")
        if split != "train":
            return super().load_data(split, data_dir)
        train = super().load_data(split, data_dir)
        images = np.concatenate([train.inputs, test.inputs[~held]])
        targets = np.concatenate([train.targets, test.targets[~held]])
        rng = np.random.default_rng(self.recipe.seed)
        varied = [augment(images, rng, self.recipe.pad, self.recipe.flip) for _ in range(self.copies)]
        return dataclasses.replace(
            train,
            inputs=np.concatenate([images, *varied]),
            targets=np.tile(targets, 1 + self.copies),
            name=f"{train.name} and explained classes of test, with {self.copies} varied copies of each image",
        )

    def measure(self, model, dataset, data_dir=None):
        """The figures of the modules, see `DEFINITIONS`."""
        birds = load_birds(self.dataset, self.test_split, data_dir, self.input_shape[:2])
        birds = birds[held_out(birds.labels, model.target_indices)]
        z, logits = model.activations(dataset.inputs)
        measured = faithfulness(model, z, logits, dataset.targets)
        return measured | heat(model, birds, model.heatmaps)


def faithfulness(module, z, logits, classes):
    """Metrics of logits and decisions in `DEFINITIONS`.

    Args:
        module: a trained module.
        z, logits: activations (n, dimensions) and the classifier's logits (n, classes), of `module.activations`.
        classes: labels (n,).
    """
    rebuilt = module.rebuild(z)
    rows = []
    for number, predictions in zip(module.target_indices, rebuilt.T):
        positive = classes == number
        own = metrics.logit_faithfulness(predictions, logits[:, number], positive)
        rows.append(
            {
                "error": own.error,
                "relative_error": own.relative_error,
                "constant_error": own.constant_error,
                "error_all": metrics.logit_faithfulness(predictions, logits[:, number]).error,
                "unchanged": metrics.concepts.decision_faithfulness(predictions, logits, number, positive),
                "unchanged_all": metrics.concepts.decision_faithfulness(predictions, logits, number),
            }
        )
    return {metric: float(np.mean([row[metric] for row in rows])) for metric in rows[0]}


def part_histograms(birds, maps):
    """Distribution of each x-feature's heat (n, features, h, w) over the parts of the birds of a `BirdDataset`."""
    size = birds.images.shape[1:3]
    # From x before y to rows before columns.
    boxes = np.clip(birds.boxes[:, [1, 0, 3, 2]].round().astype(int), 0, np.array([*size, *size]))
    return metrics.concepts.part_histograms(maps, birds.parts[..., ::-1], birds.visible, boxes, size)


def heat(module, birds, heatmaps):
    """Metrics of heatmaps in `DEFINITIONS`, for a trained module on a `BirdDataset`.

    Args:
        module: the module.
        birds: held-out images; only those of the explained classes are looked at.
        heatmaps: function (images, classes) to float arrays (n, features, h, w), as `module.heatmaps`.
    """
    birds = birds[np.isin(birds.labels, module.target_indices) & birds.visible.any(axis=1)]
    maps = heatmaps(birds.images, [module.class_names[number] for number in birds.labels])
    histograms = part_histograms(birds, maps)
    rows = []
    for number in module.target_indices:
        own = birds.labels == number
        sums = maps[own].sum(axis=(2, 3), keepdims=True)
        # Each map counts alike, as a distribution over the pixels.
        crossed = metrics.concepts.orthogonality(maps[own] / np.where(sums > 0, sums, 1.0), ridge=1e-6)
        rows.append(
            {
                "orthogonality": crossed.excess_norm,
                "log_determinant": crossed.negative_log_determinant,
                "dead": crossed.dead,
                "locality": np.nanmean(metrics.concepts.locality(histograms[own])),
            }
        )
    values = {metric: float(np.nanmean([row[metric] for row in rows])) for metric in rows[0]}
    masked = metrics.heatmaps.masked_accuracy(
        lambda images: module.predict(images, batch_size=256, verbose=0), birds.images, maps, birds.labels
    )
    values["original_accuracy"] = float(masked.original)
    return values | {f"masked_accuracy_{gamma}": float(value) for gamma, value in zip(THRESHOLDS, masked.masked)}


SPARSE = "sparse reconstruction autoencoder"
_CUB200 = {"dataset": "caltech_birds2011_parts", "class_names": CUB200_LABELS, "input_shape": (224, 224, 3)}
_CUB100 = {"dataset": "caltech_birds2011_mini", "class_names": CUB100_LABELS, "input_shape": (128, 128, 3)}
MOBILENET = BirdEntry(
    name="std_mobilenet_cub100",
    description="The ImageNet MobileNet, fine-tuned on 100 species of birds: what the explanation modules explain.",
    method="standard training",
    backbone=functools.partial(backbones.mobilenet, alpha=0.75),
    pretrained="mobilenet_v1_075_224.weights.h5",
    recipe=Recipe(epochs=20, batch_size=64, learning_rate=0.02, warmup=0.1, pad=12, dtype_policy="float32"),
    **_CUB100,
)
VGG19 = BirdEntry(
    name="std_vgg19_cub200",
    description="The ImageNet VGG-19, fine-tuned on all 200 species of birds, as in the paper.",
    method="standard training",
    backbone=backbones.vgg19,
    pretrained="vgg19.weights.h5",
    recipe=Recipe(epochs=60, batch_size=64, learning_rate=1e-3, warmup=0.05, pad=16),
    **_CUB200,
)
_MODULE_RECIPE = Recipe(epochs=30, optimizer="adam", learning_rate=5e-3, warmup=0.1, pad=12, dtype_policy="float32")
_MODULES = {
    **_CUB100,
    "classifier": MOBILENET,
    "layer": "pooled",
    "heatmap_layer": "conv_pw_3_relu",
}
# Chosen on images held out of training, with eight or ten of the species. There are some fifty positives of each, which are
# soon memorized: the more they weigh, the larger the error on new ones.
_OPTIONS = {"hidden_units": (160, 40), "dropout": 0.0, "kernel_weight": 1e-5, "positive_share": 0.2}
# From the classifier's hidden layer there is less to learn, and larger steps would undo the start.
_WARM = {"start": "classifier"}
_WARM_RECIPE = dataclasses.replace(_MODULE_RECIPE, epochs=12, learning_rate=3e-4)
_SRAE = {**_WARM, "pull_away_weight": 2.0}


def _modules(prefix, description, method, options=None, **fields):
    options = {**_OPTIONS, **(options or {})}
    fields |= {**_MODULES, "options": options, "recipe": _WARM_RECIPE if "start" in options else _MODULE_RECIPE}
    name = f"{prefix}_mobilenet_cub100"
    return ExplanationEntry(name=name, description=description, method=method, comparison=prefix != "srae", **fields)


ENTRIES = [
    MOBILENET,
    _modules(
        "srae",
        "Five x-features for each of 30 species, which rebuild its logit; they start from the classifier's hidden layer.",
        SPARSE,
        _SRAE,
    ),
    _modules("srae_cold", "The paper's way: a start from random values, and no pull-away term.", SPARSE),
    _modules("nn", "The comparison without reconstruction.", "network without reconstruction", models.COMPARISONS["nn"]),
    _modules("sae", "The comparison that rebuilds the whole layer.", "stacked autoencoder", models.COMPARISONS["sae"]),
    _modules("cae", "The comparison that only rebuilds the layer.", "classic autoencoder", models.COMPARISONS["cae"]),
    _modules(
        "nn_warm",
        "The comparison without reconstruction, from the start of the explanation module.",
        "network without reconstruction",
        {**models.COMPARISONS["nn"], **_WARM},
    ),
    _modules(
        "sae_warm",
        "The comparison that rebuilds the whole layer, from the start of the explanation module.",
        "stacked autoencoder",
        {**models.COMPARISONS["sae"], **_WARM},
    ),
    _modules("srae3", "Three x-features.", SPARSE, {**_SRAE, "num_features": 3}),
    _modules("srae9", "Nine x-features.", SPARSE, {**_SRAE, "num_features": 9}),
    _modules(
        "srae_wide",
        "The paper's 800 and 100 hidden units, for five of the species.",
        SPARSE,
        {**_SRAE, "hidden_units": (800, 100)},
        explained=EXPLAINED[::6],
    ),
    VGG19,
    ExplanationEntry(
        name="srae_vgg19_cub200",
        description="The explanation modules of the paper: five x-features on fc6 of VGG-19 for each of 30 species.",
        method=SPARSE,
        classifier=VGG19,
        layer="fc1",
        heatmap_layer="block3_pool",
        paper_metrics={
            "error": 0.1539,
            "unchanged": 0.9999,
            "orthogonality": 0.6141,
            "log_determinant": 2.0790,
            "locality": 1.9694,
        },
        recipe=_MODULE_RECIPE,
        **_CUB200,
    ),
]
