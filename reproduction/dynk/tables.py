"""The tables and figures of the paper on Dynamic-K activation."""

import dataclasses
import functools
import itertools
import math

import keras
import numpy as np
from keras import ops
from rich.progress import track

from keras_interp import metrics, models
from keras_interp.layers.dynamic_k import DynamicKDense
from keras_interp.metrics.localization import upsample_bilinear
from keras_interp.optimizers import CoupledSGD
from keras_interp.zoo import artifacts, registry
from keras_interp.zoo.artifacts import LOG
from keras_interp.zoo.entry import Recipe
from keras_interp.zoo.papers.dynk import DETECTOR, DISSECTED_EPOCHS, PAPER
from reproduction import shipped
from reproduction.curves import plot_epoch_curves
from reproduction.dynk import figures
from reproduction.report import Report
from reproduction.shipped import Measured, spread

FULL, HALF, PLACES = "CIFAR-10, full width", "CIFAR-10, half width", "places_mini"
# Our datasets and widths, as names of models end.
SETTINGS = {FULL: "resnet18_cifar10", HALF: "resnet18w32_cifar10", PLACES: "resnet18w32_places_mini"}
STANDARD, L1, SPARSEST, FIVE = "standard", "L1", "Dynamic-1", "Dynamic-5"
# Our kinds of networks, as names of models begin.
KINDS = {STANDARD: "std", L1: "l1", **{f"Dynamic-{k}": f"dynk{k}" for k in (1, 5, 10, 25, 50, 100)}}
DYNAMIC = tuple(kind for kind in KINDS if kind.startswith("Dynamic"))
KS = {kind: int(kind.removeprefix("Dynamic-")) for kind in DYNAMIC}
COLOR_ORDER = (STANDARD, *DYNAMIC, L1)
STD_PLACES, DYNK_PLACES = (f"{KINDS[kind]}_{SETTINGS[PLACES]}" for kind in (STANDARD, FIVE))

# Table 1: the paper's name of a network, ours, and the name of its full-size recipes, whose entries hold the paper's figures.
NETWORKS = (
    ("Res18 (baseline)", STANDARD, "std_resnet18"),
    ("Res18-L1", L1, None),
    *((f"Res18-d{k}a", f"Dynamic-{k}", f"dynk{k}_resnet18") for k in (1, 5, 10, 25, 50, 100)),
    ("Res50 (baseline)", None, "std_resnet50"),
    ("Res50-d25a", None, "dynk25_resnet50"),
)


def published(network):
    """The paper's accuracies on Places365 (top 1, top 5) and CIFAR-10, or None."""
    if network is None:
        return None, None, None
    places, cifar10 = (registry.ENTRIES[f"{network}_{dataset}"].paper_metrics for dataset in ("places365", "cifar10"))
    return places["accuracy"], places["accuracy_top5"], cifar10["accuracy"]


TABLE_1 = tuple((label, kind, *published(network)) for label, kind, network in NETWORKS)
# What the paper says of Res18-d5a on Places365, and what the dissection that comes with its code shows.
PUBLISHED_FIVE = {
    "connection_sparsity": 0.99,
    "units_98": "fewer than 5",
    "concepts_95": "at most 5",
    "classes_of_five_concepts": "more than 0.95",
    "dissection_mean": 0.1028,
    "dissection_top100": 0.2003,
    "dissection_detectors": 441 / 512,
}
PUBLISHED_RESIDUAL, QUOTED_RESIDUAL = 0.02, 0.45

CONNECTIONS = {
    "connection_sparsity": "weights below 0.001",
    "connected_units": "units connected to a class",
    "units_95": "units for 95% of a logit",
    "units_98": "units for 98%",
    "concepts_95": "concepts for 95% of a class",
    "classes_of_five_concepts": "classes of at most 5 concepts",
    "dissection_mean": "mean IoU",
    "dissection_top100": "mean IoU of the best 100 units",
    "dissection_detectors": "units with an IoU above 0.04",
}

# How the last layer of a converted network is trained on the features of the network that it was: so many steps at least that
# weights which are never chosen vanish, see `models.DynamicKClassifier`.
HEAD = Recipe(weight_decay=5e-3)
HEAD_STEPS = 1000
L1_WEIGHT = registry.ENTRIES["l1_resnet18w32_cifar10"].options["l1_weight"]

BEST_UNITS = 100
# Figure 6 draws a connection that makes up at least this share of a class.
SHOWN_SHARE = 0.05
SHOWN_CLASSES = SHOWN_IMAGES = 4
IMAGES_OF_A_UNIT = 3
UNITS_OF_AN_IMAGE = 5

TOY_FEATURES, TOY_CLASSES = ("keyboard", "screen", "telecontrol"), ("laptop", "TV")
# How often each feature is seen in an image of each class.
TOY_SEEN = ((0.7, 0.0), (0.6, 0.9), (0.0, 0.7))
TOY_STEPS = 400
# From this magnitude a weight counts as a connection.
TOY_CONNECTED = 0.1


def toy_data(examples=600, seed=0):
    """Features (n, 3) of a laptop or a TV each, in [0.5, 1] where they are seen and else 0, and classes (n,)."""
    rng = np.random.default_rng(seed)
    classes = np.arange(examples) % len(TOY_CLASSES)
    seen = rng.random((examples, len(TOY_FEATURES))) < np.transpose(TOY_SEEN)[classes]
    return seen * rng.uniform(0.5, 1.0, seen.shape), classes


def train_toy(k, seed=0):
    """The kernel (3, 2) of one `DynamicKDense` layer trained on the toy; with k = 3 an ordinary dense layer."""
    features, classes = toy_data(seed=seed)
    start = keras.initializers.RandomUniform(0.0, 0.5, seed=seed)
    dense = k == len(TOY_FEATURES)
    layer = DynamicKDense(len(TOY_CLASSES), k, nonnegative=not dense, kernel_initializer=start, dtype="float32")
    model = keras.Sequential([keras.Input((len(TOY_FEATURES),)), layer])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(CoupledSGD(0.5, weight_decay=1e-3), loss, steps_per_execution=TOY_STEPS)
    # One epoch of many steps: epochs of few would take longer than their steps.
    model.fit(np.tile(features, (TOY_STEPS, 1)), np.tile(classes, TOY_STEPS), len(classes), shuffle=False, verbose=0)
    return ops.convert_to_numpy(layer.kernel)


def verdict(holds):
    return "as in the paper" if holds else "other than in the paper"


def listing(figures, digits=3):
    """{name: number} as text."""
    return ", ".join(f"{name} {number:.{digits}f}" for name, number in figures.items())


def points(difference):
    """A difference of two shares as text."""
    return f"{100 * difference:.2f} points".replace("-", "−")


def standard_error(*shares):
    """Standard error of the difference of two shares, each given with its number of examples."""
    return math.sqrt(sum(share * (1 - share) / examples for share, examples in shares))


def first_reach(epochs, values, goal):
    """The first of the epochs whose value is at least `goal`, or None."""
    return next((epoch for epoch, value in zip(epochs, values) if value >= goal), None)


def most_alike(shares):
    """The two rows of a matrix of shares that have most in common."""
    common = np.minimum(shares[:, None], shares).sum(axis=-1)
    np.fill_diagonal(common, -1.0)
    return np.unravel_index(common.argmax(), common.shape)


def residual_share(model, inputs, count=UNITS_OF_AN_IMAGE):
    """Share of the predicted logit that the `count` largest products w_ic x_i lack, by magnitude: mean over the inputs.

    All units count, also those that Dynamic-K leaves out of the logit, so that networks can be compared.
    """
    _, pooled, logits = model.features(inputs)
    sizes = -np.sort(-np.abs(pooled * model.readout_weights()[0].T[logits.argmax(axis=-1)]), axis=1)
    return float(np.mean(sizes[:, count:].sum(axis=1) / np.maximum(sizes.sum(axis=1), 1e-12)))


def l1_head(model):
    """A `Classifier` on the pooled features of another one, with its last layer under an L1 term."""
    features = keras.Input(model.get_layer("logits").input.shape[1:])
    head = models.Classifier(
        keras.Model(features, keras.layers.Identity()(features)), class_names=model.class_names, l1_weight=L1_WEIGHT
    )
    head.get_layer("logits").set_weights(model.get_layer("logits").get_weights())
    return head


def train_head(head, features, classes):
    """Trains the last layer of a network on features (n, units), which do not change."""
    steps = -(-len(features) // HEAD.batch_size)
    recipe = dataclasses.replace(HEAD, epochs=-(-HEAD_STEPS // steps))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keras.utils.set_random_seed(recipe.seed)
    head.compile(recipe.build_optimizer(steps), loss)
    head.fit(features, classes, recipe.batch_size, recipe.epochs, verbose=0)


def reproduce(data_dir, output):
    """Table 1, Figures 2 and 4 to 7, and what sections 4.1 to 4.3 say of connections, see `reproduce`."""
    introduction = (
        f"*{PAPER.title}*, drawn with Keras {keras.__version__} on {keras.backend.backend()}. Dynamic-K is the paper's "
        'Res18-d[K]a. Columns named "paper" repeat what the paper reports. The figures in our columns were measured on the '
        "test split when the models were released, after the last epoch. Half width is a ResNet-18 with half of the filters; "
        "places_mini has 20 classes of scenes at 64x64, where the paper has the 365 of Places365 at 224x224, and its units "
        "are dissected on places_objects_mini, where the paper has Broden."
    )
    return DynamicK(data_dir, Report(output, "Dynamic-K activation", introduction)).run()


class DynamicK(shipped.ShippedReport):
    """Table 1, Figures 2 and 4 to 7, and what sections 4.1 to 4.3 say of connections."""

    def __init__(self, data_dir, report):
        super().__init__(data_dir, report)
        self.dissection = functools.cache(lambda name: registry.get_entry(name).dissect(self.model(name), data_dir))
        names = {
            (setting, kind): f"{prefix}_{suffix}" for setting, suffix in SETTINGS.items() for kind, prefix in KINDS.items()
        }
        self.names = {key: name for key, name in names.items() if name in registry.ENTRIES}
        self.measured = {key: Measured(name) for key, name in self.names.items()}

    def parts(self):
        places = (STD_PLACES, DYNK_PLACES)
        return (
            ("Table 1: accuracy", (), self.table_1),
            ("Sections 4.1 to 4.3: connections and concepts", (), self.connections),
            ("Table 1 by converting: accuracy", (), self.table_converted),
            ("Figure 2: a toy of two classes", (), self.figure_2),
            ("Figure 4a: training on CIFAR-10", (), self.figure_4a),
            ("Figure 4b: weights of the last layer", (), self.figure_4b),
            ("Figure 5a: accuracy for different K", (), self.figure_5a),
            ("Figure 5b: sparsity over training", (), self.figure_5b),
            ("Figure 5c: dissection over training", (), self.figure_5c),
            ("Figure 5d: the units that are easiest to interpret", places, self.figure_5d),
            ("Figure 6: from units to classes", (DYNK_PLACES,), self.figure_6),
            ("Figure 7: explanations of images", places, self.figure_7),
        )

    def figures(self, setting, metric, kinds=tuple(KINDS)):
        """{kind: figure} of the networks that were measured."""
        found = {kind: self.measured[setting, kind].figure(metric) for kind in kinds if (setting, kind) in self.measured}
        return {kind: value for kind, value in found.items() if value is not None}

    def curves(self, column, kinds, settings=tuple(SETTINGS)):
        """{setting: {kind: (finished epochs, values)}} of the logs that ship and have the column."""
        curves = {}
        for (setting, kind), name in self.names.items():
            log = shipped.read_log(name) if setting in settings and kind in kinds else None
            if log and not np.isnan(log.get(column, [np.nan])).all():
                curves.setdefault(setting, {})[kind] = (np.array(log["epoch"]) + 1, np.array(log[column]))
        return curves

    # --- Tables.

    def table_1(self, title):
        if not any(model.values for model in self.measured.values()):
            self.report.skip(title, "no figures of its models come with this installation.")
            return []
        columns = [(setting, "accuracy") for setting in SETTINGS] + [(PLACES, "accuracy_top5")]
        seeds = [
            key for key in columns if any(len(m.figures(key[1])) > 1 for (s, _), m in self.measured.items() if s == key[0])
        ]
        heading = {"accuracy": "top 1", "accuracy_top5": "top 5"}
        header = ["model", "ours is", "Places365 top 1, paper", "Places365 top 5, paper", "CIFAR-10, paper"]
        header += [f"{setting}, ours, {heading[metric]}" for setting, metric in columns]
        header += [f"{setting}, {heading[metric]}, all seeds" for setting, metric in seeds]
        rows = []
        for label, kind, *published in TABLE_1:
            models = {setting: self.measured.get((setting, kind), Measured()) for setting in SETTINGS}
            ours = [models[setting].figure(metric) for setting, metric in columns]
            rows.append([label, kind, *published, *ours, *(spread(models[s].figures(metric)) for s, metric in seeds)])
        return self.report.add_table(
            "table_1",
            title,
            header,
            rows,
            "Share of test images whose label has the largest logit, or is among the five largest. The paper says that "
            f"accuracy does not suffer. {self.loss_of_accuracy()}",
        )

    def loss_of_accuracy(self):
        """Sentences comparing Dynamic-5 and Dynamic-1 with the standard network; two standard errors count as no
        difference."""
        theirs = {kind: {PLACES: top1, FULL: cifar, HALF: cifar} for _, kind, top1, _, cifar in TABLE_1}
        sentences = []
        for kind, setting in itertools.product((FIVE, SPARSEST), SETTINGS):
            pair = [self.measured.get((setting, one), Measured()) for one in (STANDARD, kind)]
            if not all(model.values for model in pair):
                continue
            standard, ours = (model.figure("accuracy") for model in pair)
            error = standard_error(*((model.figure("accuracy"), model.examples) for model in pair))
            paper = theirs[kind][setting] - theirs[STANDARD][setting]
            lost, lost_there = ours - standard < -2 * error, paper < -2 * error
            sentences.append(
                f"{setting}: {kind} differs from standard by {points(ours - standard)}, that is "
                f"{'a loss' if lost else 'no loss'} beyond two standard errors of the sampling of the test split, "
                f"{points(2 * error)}; {verdict(lost == lost_there)}, where it is {points(paper)}"
                + (" on Places365." if setting == PLACES else ".")
            )
        return " ".join(sentences)

    def connections(self, title):
        rows = [
            [f"{kind}, {setting}", *(model.figure(metric) for metric in CONNECTIONS)]
            for (setting, kind), model in self.measured.items()
            if model.values
        ]
        if not rows:
            self.report.skip(title, "no figures of its models come with this installation.")
            return []
        rows.insert(0, ["Dynamic-5, Places365, paper", *(PUBLISHED_FIVE.get(metric) for metric in CONNECTIONS)])
        return self.report.add_table(
            "table_connections",
            title,
            ["network", *CONNECTIONS.values()],
            rows,
            "Weights are those of the last layer; units for a share of a logit and the concepts of a class are counted by "
            "magnitude of what acts in the network, so a Dynamic-K network needs at most K units by construction. Units "
            "without a concept count for themselves, and IoU depends on the dataset that is dissected on: compare ours with "
            f"each other. The paper's dissection is that of its released network. {self.claims()}",
        )

    def claims(self):
        """The paper's claims on Dynamic-5, and whether ours agree."""
        sentences = []
        for setting in SETTINGS:
            if sparse := self.figures(setting, "connection_sparsity", (FIVE,)):
                # The paper gives whole percentages.
                holds = sparse[FIVE] >= PUBLISHED_FIVE["connection_sparsity"] - 0.005
                sentences.append(
                    f"{setting}: {sparse[FIVE]:.1%} of the weights of Dynamic-5 are below 0.001, {verdict(holds)}, "
                    f"which has {PUBLISHED_FIVE['connection_sparsity']:.0%} on Places365."
                )
        if few := self.figures(PLACES, "classes_of_five_concepts", (STANDARD, FIVE)):
            shares = ", ".join(f"{kind} {share:.0%}" for kind, share in few.items())
            text = f"Classes of {PLACES} that at most five concepts make up to 95%: {shares}"
            sentences.append(text + (f", {verdict(few[FIVE] > 0.95)}." if FIVE in few else "."))
        scores = self.figures(PLACES, "dissection_mean", (STANDARD, FIVE))
        if len(scores) == 2:
            holds = scores[FIVE] > scores[STANDARD]
            sentences.append(
                f"By their mean IoU ({listing(scores, 4)}) the units of Dynamic-5 are {'' if holds else 'not '}easier to "
                f"interpret than those of the standard network, {verdict(holds)}."
            )
        return " ".join(sentences)

    def table_converted(self, title):
        names = {setting: self.names[setting, STANDARD] for setting in SETTINGS}
        found = {
            setting: self.converted(name) for setting, name in names.items() if artifacts.shipped_folder(name) is not None
        }
        if not found:
            self.report.skip(title, "no weights of a standard network come with this installation.")
            return []
        columns = ("swapped", "trained", "weights below 0.001")
        return self.report.add_table(
            "table_converted",
            title,
            ["network", *(f"{setting}, {column}" for setting in found for column in columns)],
            [[kind, *itertools.chain(*(cells[kind] for cells in found.values()))] for kind in (STANDARD, L1, *DYNAMIC)],
            "What `models.convert` makes of our standard networks. Swapped: accuracy on the test split as soon as the last "
            "layer is a `DynamicKDense` with the weights that were there. Trained: the same after that layer was trained on "
            f"features of the training images, {HEAD_STEPS:,} steps with a weight decay of {HEAD.weight_decay}, while all "
            "else stayed as it was; and how sparse it is then. L1 is the last layer of the standard network, trained so with "
            f"{L1_WEIGHT} of the sum of its weights' magnitudes in the loss. The networks of Table 1 are trained whole.",
        )

    def converted(self, name):
        """{kind: (accuracy with the last layer swapped, and trained, its sparsity)} of a standard network."""
        model, train, test = self.model(name), self.data(name, "train"), self.data(name)
        pooling = keras.Model(model.inputs[0], model.get_layer("logits").input)
        seen, features = (pooling.predict(split.inputs, 256, verbose=0) for split in (train, test))

        def accuracy(network):
            return metrics.accuracy(network.logits_of(features), test.targets)

        found = {STANDARD: (accuracy(model), None, metrics.connection_sparsity(model.readout_weights()[0]))}
        for kind in track((L1, *DYNAMIC), f"Converting {name}"):
            network = l1_head(model) if kind == L1 else models.convert(model, KS[kind])
            swapped = accuracy(network)
            train_head(network.head, seen, train.targets)
            found[kind] = swapped, accuracy(network), metrics.connection_sparsity(network.readout_weights()[0])
        return found

    # --- Figures.

    def figure_2(self, title):
        kernels = {STANDARD: train_toy(len(TOY_FEATURES)), "Dynamic-2": train_toy(2)}
        seen = [
            f"{feature} in {' and '.join(f'{share:.0%} of {name}s' for name, share in zip(TOY_CLASSES, shares) if share)}"
            for feature, shares in zip(TOY_FEATURES, TOY_SEEN)
        ]
        plain, dynamic = (kernel[TOY_FEATURES.index("screen")] for kernel in kernels.values())
        against = [name for name, weight in zip(TOY_CLASSES, plain) if weight < -TOY_CONNECTED]
        joined = [name for name, weight in zip(TOY_CLASSES, dynamic) if weight > TOY_CONNECTED]
        negative = {kind: int((kernel < -TOY_CONNECTED).sum()) for kind, kernel in kernels.items()}
        return self.report.add_figure(
            "figure_2",
            title,
            figures.plot_toy_connections(kernels, TOY_FEATURES, TOY_CLASSES),
            "The wider a line, the larger the weight; dotted lines are negative weights. The paper does not say how it made "
            "its toy. Here two layers are trained, the second by Algorithm 2, on images that show a feature or do not: "
            f"{'; '.join(seen)}. Negative weights, of at least {TOY_CONNECTED} in magnitude: "
            f"{' and '.join(f'{count} in {kind}' for kind, count in negative.items())}, "
            f"{verdict(negative[STANDARD] > 0 == negative['Dynamic-2'])}. The screen, which both have, speaks in the standard "
            f"layer against {' and '.join(against) or 'neither'}, {verdict(against == ['laptop'])}, and is connected by "
            f"Dynamic-2 with {' and '.join(joined) or 'neither'}, {verdict(len(joined) == len(TOY_CLASSES))}, whose figure "
            "connects it with both.",
        )

    def figure_4a(self, title):
        curves = self.curves("accuracy", (STANDARD, L1, SPARSEST, FIVE), (FULL, HALF))
        claim = "The paper says that Dynamic-1 and Dynamic-5 converge at a similar speed as the standard network."
        speeds = []
        for setting, found in curves.items():
            if STANDARD not in found:
                continue
            goal = 0.95 * found[STANDARD][1][-1]
            reached = {kind: first_reach(*curve, goal) for kind, curve in found.items()}
            epochs = ", ".join(f"{kind} {'never' if epoch is None else f'{epoch:.0f}'}" for kind, epoch in reached.items())
            limit = 1.1 * reached[STANDARD]
            slow = [kind for kind, epoch in reached.items() if kind in DYNAMIC and (epoch is None or epoch > limit)]
            speeds.append(
                f"{setting}: epochs until 95% of the standard network's last training accuracy: {epochs}. More than a tenth "
                f"slower than standard: {' and '.join(slow) or 'no Dynamic-K'}, {verdict(not slow)}."
            )
        return self.accuracy_curves("figure_4a", title, curves, " ".join([claim, *speeds]))

    def figure_5a(self, title):
        curves = self.curves("accuracy", (STANDARD, *DYNAMIC))
        claim = "The paper draws this for Places365 and K from 5 to 100, and finds the loss of accuracy negligible."
        losses = []
        for setting in curves:
            accuracy = self.figures(setting, "accuracy", (STANDARD, *(kind for kind in DYNAMIC if kind != SPARSEST)))
            standard = accuracy.pop(STANDARD, None)
            if standard is None or not accuracy:
                continue
            worst = min(accuracy, key=accuracy.get)
            examples = [self.measured[setting, kind].examples for kind in (STANDARD, worst)]
            error = standard_error((standard, examples[0]), (accuracy[worst], examples[1]))
            losses.append(
                f"{setting}: the least accurate of these K, {worst}, differs from standard by "
                f"{points(accuracy[worst] - standard)}, with two standard errors of {points(2 * error)}: "
                f"{verdict(accuracy[worst] - standard >= -2 * error)}."
            )
        return self.accuracy_curves("figure_5a", title, curves, " ".join([claim, *losses]))

    def accuracy_curves(self, name, title, curves, claim):
        if not curves:
            self.report.skip(title, f"no {LOG} of its models comes with this installation.")
            return []
        finals = {setting: self.figures(setting, "accuracy", tuple(found)) for setting, found in curves.items()}
        return self.report.add_figure(
            name,
            title,
            plot_epoch_curves(curves, "accuracy", finals, COLOR_ORDER),
            "Lines: accuracy on the training images, augmented, during the epoch. Points: accuracy on the test split, which "
            f"is read only once, after the last epoch: there is no test curve as the paper has it. {claim}",
        )

    def figure_4b(self, title):
        layers = {}
        for (setting, kind), name in self.names.items():
            if artifacts.shipped_folder(name) is not None:
                kernel, _ = self.model(name).readout_weights()
                heading = f"{setting}, {kind}: {metrics.connection_sparsity(kernel):.1%} of the weights below 0.001"
                layers[heading] = (kernel, [_spoken(label) for label in self.model(name).class_names])
        if not layers:
            self.report.skip(title, "no weights of its models come with this installation.")
            return []
        orders = []
        for setting in (FULL, HALF):
            sparsity = self.figures(setting, "connection_sparsity", (SPARSEST, FIVE, L1, STANDARD))
            if len(sparsity) > 1:
                holds = all(more > less for more, less in itertools.pairwise(sparsity.values()))
                orders.append(f"{setting}: {listing(sparsity)}, in an order {verdict(holds)}.")
        return self.report.add_figure(
            "figure_4b",
            title,
            figures.plot_last_layers(layers),
            "A column is a unit, in the order of the class that it has its largest weight to; each network has a scale of its "
            "own. The paper, which shows CIFAR-10, finds Dynamic-1 sparser than Dynamic-5, that much sparser than L1, and L1 "
            f"than standard. Share of weights below 0.001, ours: {' '.join(orders) or 'not measured.'}",
        )

    def figure_5b(self, title):
        curves = self.curves("connection_sparsity", (STANDARD, *DYNAMIC))
        if not curves:
            self.report.skip(title, f"no {LOG} with the sparsity of connections comes with this installation.")
            return []
        sentences = []
        for setting, found in curves.items():
            last = {kind: values[-1] for kind, (_, values) in found.items()}
            dynamic = [last[kind] for kind in DYNAMIC if kind in last]
            text = f"{setting}: at the end {listing(last)}"
            if STANDARD in last and dynamic:
                holds = min(dynamic) > last[STANDARD]
                text += f"; {'every' if holds else 'not every'} Dynamic-K is sparser than standard, {verdict(holds)}"
            if len(dynamic) > 1:
                holds = all(more >= less for more, less in itertools.pairwise(dynamic))
                text += f"; sparsity {'grows' if holds else 'does not always grow'} as K falls, {verdict(holds)}"
            sentences.append(f"{text}.")
        return self.report.add_figure(
            "figure_5b",
            title,
            plot_epoch_curves(curves, "share of weights below 0.001", order=COLOR_ORDER),
            "Weights of the last layer after each epoch. The paper has this for Places365 alone, where connections become "
            f"denser as K grows to 100 and standard is densest. {' '.join(sentences)}",
        )

    def figure_5c(self, title):
        curves = self.curves("dissection_mean", (STANDARD, *DYNAMIC))
        if not curves:
            self.report.skip(title, f"no {LOG} with dissections comes with this installation.")
            return []
        last = {kind: values[~np.isnan(values)][-1] for kind, (_, values) in curves.get(PLACES, {}).items()}
        claim = f" At the last one: {listing(last, 4)}" if last else ""
        if {STANDARD, FIVE} <= set(last):
            claim += f", {verdict(last[FIVE] > last[STANDARD])}"
        return self.report.add_figure(
            "figure_5c",
            title,
            plot_epoch_curves(curves, "mean IoU of the units", order=COLOR_ORDER),
            f"Mean IoU of all units of the last feature maps with their best concept, every {DISSECTED_EPOCHS} epochs. "
            f"The paper finds it larger for smaller K, and smallest for the standard network.{claim}{'.' if claim else ''}",
        )

    def figure_5d(self, title):
        found = {kind: self.dissection(name) for kind, name in ((STANDARD, STD_PLACES), (FIVE, DYNK_PLACES))}
        count = min(BEST_UNITS, *(len(one.scores) for one in found.values()))
        means = {kind: one.top_mean(count) for kind, one in found.items()}
        detectors = ", ".join(
            f"{kind} {int((one.scores > DETECTOR).sum())} of {len(one.scores)}" for kind, one in found.items()
        )
        return self.report.add_figure(
            "figure_5d",
            title,
            figures.plot_unit_scores({kind: one.scores for kind, one in found.items()}, count, DETECTOR, COLOR_ORDER),
            f"The best {count} units of each network. Their mean IoU: {listing(means, 4)}; Dynamic-5 above standard is the "
            f"paper's finding, so ours is {verdict(means[FIVE] > means[STANDARD])}. The paper's released Dynamic-5 has "
            f"{PUBLISHED_FIVE['dissection_top100']} on Broden. Detectors: {detectors}.",
        )

    def figure_6(self, title):
        model, test, found = self.model(DYNK_PLACES), self.data(DYNK_PLACES), self.dissection(DYNK_PLACES)
        graph = np.nan_to_num(model.class_graph(test.inputs, test.targets))
        shares = np.abs(graph) / np.maximum(np.abs(graph).sum(axis=1, keepdims=True), 1e-12)
        drawn = np.where((graph > 0) & (shares >= SHOWN_SHARE), shares, 0.0)
        pair = most_alike(shares)
        classes = np.array([*pair, *(number for number in range(len(graph)) if number not in pair)][:SHOWN_CLASSES])
        units = np.flatnonzero(drawn[classes].any(axis=0))
        if not units.size:
            self.report.skip(title, f"no unit makes up {SHOWN_SHARE:.0%} of a class.")
            return []
        maps, _, _ = model.features(test.inputs)
        images, regions = self.best_images(test.inputs, maps[..., units], found.thresholds[units])
        few = self.measured[PLACES, FIVE].figure("classes_of_five_concepts")
        return self.report.add_figure(
            "figure_6",
            title,
            figures.plot_class_units(
                drawn[np.ix_(classes, units)],
                [_spoken(model.class_names[number]) for number in classes],
                [self.unit_title(found, unit) for unit in units],
                images,
                regions,
            ),
            "Share of each unit in the magnitudes of the mean contributions to a class, over the test images of that class; "
            f"below {SHOWN_SHARE:.0%} there is no line. The classes are the two that share most and the first others. "
            "Beside a unit stand its best concept with the IoU (in brackets below "
            f"{DETECTOR}, which is not enough for a detector) and the three test images that activate it most, outlined "
            "where its activation is above the threshold of the dissection. Over all classes, "
            f"{(drawn > 0).sum(axis=1).mean():.1f} connections have a line on average and make up "
            f"{drawn.sum(axis=1).mean():.0%}. The paper says that at most 5 concepts represent more than 95% of its classes"
            + ("." if few is None else f"; ours {few:.0%} of the classes, {verdict(few > 0.95)}."),
        )

    def best_images(self, images, maps, thresholds):
        """The images (units, 3, ...) whose maps (n, h, w, units) have the largest values, and where they are active."""
        best = np.argsort(-maps.max(axis=(1, 2)), axis=0, kind="stable")[:IMAGES_OF_A_UNIT].T
        regions = [
            upsample_bilinear(maps[rows, :, :, unit] - threshold, images.shape[1:3]) > 0
            for unit, (rows, threshold) in enumerate(zip(best, thresholds))
        ]
        return images[best], np.stack(regions)

    def unit_title(self, found, unit):
        concept = f"{_spoken(found.labels[unit]) or 'no concept'} {found.scores[unit]:.2f}"
        return f"filter {unit}\n" + (concept if found.scores[unit] >= DETECTOR else f"({concept})")

    def figure_7(self, title):
        models, test = {STANDARD: self.model(STD_PLACES), FIVE: self.model(DYNK_PLACES)}, self.data(DYNK_PLACES)
        right = np.all(
            [model.predict(test.inputs, verbose=0).argmax(axis=-1) == test.targets for model in models.values()], axis=0
        )
        # The first of each class, not the most telling.
        classes, firsts = np.unique(np.where(right, test.targets, -1), return_index=True)
        chosen = firsts[classes >= 0][:SHOWN_IMAGES]
        if not chosen.size:
            self.report.skip(title, "there is no test image that both networks classify rightly.")
            return []
        images, targets = test.inputs[chosen], test.targets[chosen]
        panels = {}
        for kind, model in models.items():
            explanation = model.explain(images, targets)
            top = explanation.top_units(UNITS_OF_AN_IMAGE)
            maps = np.take_along_axis(explanation.maps, top[:, None, None, :], axis=3).transpose(0, 3, 1, 2)
            names = [[_spoken(model.unit_names[unit]) for unit in units] for units in top]
            panels[kind] = maps, names, np.take_along_axis(explanation.contribution_shares, top, axis=1)
        left = {kind: residual_share(model, test.inputs) for kind, model in models.items()}
        holds = left[FIVE] <= PUBLISHED_RESIDUAL + 0.005 and left[FIVE] < left[STANDARD]
        return self.report.add_figure(
            "figure_7",
            title,
            figures.plot_unit_explanations(images, [_spoken(test.class_names[number]) for number in targets], panels),
            "The first test image of each of the first classes that both networks get right. Above a heat map: the share of "
            "the unit's contribution in the logit without bias, its number, and its concept where it has one; red speaks for "
            "the class. The residual is what the five units lack, negative where others speak against the class. With "
            "Dynamic-5 it is 0 by construction, since no other unit counts; were all units to count, as the paper reckons, "
            "the five largest would lack, by magnitude and as a mean "
            f"over {len(test)} test images, {left[FIVE]:.1%} with Dynamic-5 and {left[STANDARD]:.1%} with the standard "
            f"network. The paper says about {PUBLISHED_RESIDUAL:.0%} with Dynamic-5, and quotes {QUOTED_RESIDUAL:.0%} for an "
            f"explanation of a standard network by other means (IBD): ours is {verdict(holds)}.",
        )


def _spoken(name):
    return name.replace("_", " ")
