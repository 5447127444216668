"""The tables and figures of the paper on feature leveling."""

import functools

import keras
import numpy as np
from keras import ops

from keras_interp import metrics
from keras_interp.explain.gradients import input_gradient
from keras_interp.zoo import artifacts
from keras_interp.zoo.artifacts import LOG
from keras_interp.zoo.papers.fl import PAPER
from reproduction import shipped
from reproduction.fl import figures
from reproduction.report import Report
from reproduction.shipped import spread

STD_IXOR, FL_IXOR, LIGHT_IXOR = "std_mlp_ixor", "fl_mlp_ixor", "fl_mlp_ixor_light"
STD_MNIST, SENN_MNIST, FL_MNIST, CNN_MNIST = "std_mlp_mnist", "senn_mlp_mnist", "fl_mlp_mnist", "fl_cnn_mnist"
STD_HOUSING, FL_HOUSING = "std_mlp_california_housing", "fl_mlp_california_housing"
DEPTHS = (2, 3, 4, 5)

# The rows of the paper's tables: its name for a model, its architecture, and our model, if we have one.
MNIST = (
    ("FCNN", "784-300-100-10", STD_MNIST),
    ("L0-FCNN", "219-214-100-10", "l0_mlp_mnist"),
    ("SENN (FCNN)", "784-300-100", SENN_MNIST),
    ("proposed", "291-300*-10", FL_MNIST),
)
HOUSING = (
    ("FCNN", "13-64-32-1", STD_HOUSING),
    ("GAM", None, None),
    ("NIT", "8-400-300-200-100-1", None),
    ("proposed", "10-28-32*-1", FL_HOUSING),
)
CIFAR10 = (
    ("FCNN", "3072-2048-1024-2", "std_mlp_cifar10_cat_deer"),
    ("GAM", None, None),
    ("NIT", "3072-400-400-1", None),
    ("SENN (FCNN)", "3072-2048-1024-2", "senn_mlp_cifar10_cat_deer"),
    ("proposed", "3072-130-1024*-2", "fl_mlp_cifar10_cat_deer"),
)
# What the paper quotes from Tsang et al. (2018), and what it says of depth in appendix A.6.
QUOTED = {"GAM": {"rmse": 0.506, "auc": 0.829}, "NIT": {"rmse": 0.430, "auc": 0.860}}
PUBLISHED_ERRORS, PUBLISHED_DEPTHS = {3: 0.2364, 4: 0.2618, 5: 0.4807}, {5: 3}

# How the paper's numbers of parameters follow from its architectures.
PUBLISHED_COUNTS = {
    "table_3": "So counted, the paper's 291-300*-10 has 95,230 weights, 1,868 fewer than it reports: the sizes of its inputs, "
    "twice, and of its first hidden layer. Its 219-214-100-10 has 69,266, not 240,962.",
    "table_4": "So counted, the paper's 10-28-32*-1 has 1,607 weights; its 1,247 leaves out the units of the first hidden "
    "layer that go to the output.",
    "table_5": "So counted, the paper's 3072-130-1024*-2 has the weights that it reports.",
}

SCATTERED_ROWS = 800
IMAGES_PER_CLASS = 100
DIGIT = 4
COUNTS = ("weights", "parameters", "hidden_layers")


class Measured(shipped.Measured):
    """As `shipped.Measured`, with the sizes of the network."""

    def figure(self, metric):
        """The figure of the shipped model, a whole number for a count, or None."""
        value = super().figure(metric)
        return int(value) if metric in COUNTS and value is not None else value

    @property
    def architecture(self):
        """Remaining network, in the paper's notation: a star marks the layer that earlier levels are joined to."""
        if not self.values or self.entry is None:
            return None
        sizes, outputs = [int(np.prod(self.entry.input_shape)), *self.entry.hidden_units], len(self.entry.class_names)
        gates = [int(self.values.get(f"open_gates_{number}", 0)) for number in range(1, len(sizes) + 1)]
        if self.entry.network == "fl":
            depth = self.figure("hidden_layers")
            return "-".join(map(str, [*gates[:depth], f"{sizes[depth]}*", outputs]))
        if self.entry.network == "l0":
            return "-".join(map(str, [*gates, outputs]))
        return ("2 × " if self.entry.network == "senn" else "") + self.entry.architecture


def with_figures(rows, values=None):
    """The rows of a table, (label, architecture, name), with a `Measured` in place of the name.

    Args:
        rows: as `MNIST`.
        values: {label: {metric: value}} of models that are not in the zoo.
    """
    values = values or {}
    return [(label, paper, Measured(name, values.get(label), QUOTED.get(label))) for label, paper, name in rows]


def fit_additive_model(rows, targets):
    """A generalized additive model: a cubic spline of each number, a constant for each column of 0 and 1, ridge penalty.

    Cross-validation on the given rows chooses the number of knots and the weight of the penalty.

    Args:
        rows: float array (n, columns).
        targets: float array (n,).

    Returns:
        The fitted scikit-learn model.
    """
    metrics.require_evaluation_extra()
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    numbers = ~((rows == 0) | (rows == 1)).all(axis=0)
    splines = make_column_transformer((SplineTransformer(knots="quantile"), numbers), remainder="passthrough")
    model = make_pipeline(splines, RidgeCV(np.logspace(-4, 3, 8)))
    knots = {"columntransformer__splinetransformer__n_knots": [10, 20, 40]}
    return GridSearchCV(model, knots, scoring="neg_mean_squared_error", cv=3).fit(rows, targets)


def total_gradient(model, image, target):
    """Gradient of a logit with respect to the pixels of an image in units of 0..1, summed over the channels: (h, w)."""
    gradient = input_gradient(lambda pixels: model(pixels, training=False)[:, target], image[None].astype("float32"))
    return 255 * ops.convert_to_numpy(gradient)[0].sum(axis=-1)


def reproduce(data_dir, output):
    """Tables 1 to 5, Figures 1, 2, 4 and 5, and what section 5.2 and appendix A.6 show, see `reproduce`."""
    introduction = (
        f"*{PAPER.title}*, drawn with Keras {keras.__version__} on {keras.backend.backend()}. FCNN is the plain network, "
        '"proposed" the feature-leveling network. Columns named "paper" repeat what the paper reports. The figures in our '
        "columns were measured on the test split when the models were released, after the last epoch: of the shipped model "
        'and, under "all seeds", as mean ± standard deviation. According to its code, the paper reports the best of many '
        "checkpoints on the test split."
    )
    return FeatureLeveling(data_dir, Report(output, "Feature leveling", introduction)).run()


class FeatureLeveling(shipped.ShippedReport):
    """Tables 1 to 5, Figures 1, 2, 4 and 5, and what section 5.2 and appendix A.6 show."""

    def parts(self):
        return (
            ("Table 1: MNIST classification", (), self.table_1_mnist),
            ("Table 1: California Housing price prediction", (), self.table_1_housing),
            ("Table 2: CIFAR-10 binary", (), self.table_2),
            ("Table 3: parameters, MNIST", (), functools.partial(self.parameters, "table_3", MNIST)),
            ("Table 4: parameters, California Housing", (), functools.partial(self.parameters, "table_4", HOUSING)),
            ("Table 5: parameters, CIFAR-10 binary", (), functools.partial(self.parameters, "table_5", CIFAR10)),
            ("Figure 1: independent XOR", (), self.figure_1),
            ("Figure 2: weights on independent XOR", (STD_IXOR, FL_IXOR), self.figure_2),
            ("Figure 4: training on MNIST", (), self.figure_4),
            (f"Section 5.2: the levels of a digit {DIGIT}", (FL_MNIST,), self.digit),
            ("Section 5.2: the levels of California Housing", (FL_HOUSING,), self.housing),
            ("Figure 5: levels of a convolutional network", (CNN_MNIST,), self.figure_5),
            ("Appendix A.6: depth", (), self.depth),
        )

    # --- Tables.

    def results(self, name, title, rows, columns, caption):
        """A table of results. `rows` are (label, the paper's architecture, `Measured`), `columns` {metric: heading}."""
        if not any(model.values for *_, model in rows):
            self.report.skip(title, "no figures of its models come with this installation.")
            return []
        first = next(iter(columns))
        header = ["model", "architecture, paper", "architecture, ours", f"{columns[first]}, paper"]
        for heading in columns.values():
            header += [f"{heading}, ours", f"{heading}, all seeds"]
        lines = []
        for label, architecture, model in rows:
            line = [label, architecture, model.architecture, model.published.get(first)]
            for metric in columns:
                line += [model.figure(metric), spread(model.figures(metric))]
            lines.append(line)
        return self.report.add_table(name, title, header, lines, caption)

    def table_1_mnist(self, title):
        return self.results(
            "table_1_mnist",
            title,
            with_figures(MNIST),
            {"accuracy": "accuracy"},
            "Sizes are those that remain without what closed gates make dead. A star marks the layer to whose units the "
            "features of all earlier levels are joined before the output. SENN has two networks, for concepts and relevances.",
        )

    def table_1_housing(self, title):
        note = "GAM, ours: cubic splines and a ridge penalty, both chosen by cross-validation on the training split."
        try:
            additive = self.additive_model()
        except (FileNotFoundError, ImportError) as error:
            additive, note = None, f"GAM, ours, is left out: {error}"
        return self.results(
            "table_1_california_housing",
            title,
            with_figures(HOUSING, {"GAM": additive}),
            {"rmse": "RMSE in $100,000", "rmse_standardized": "RMSE in standard deviations"},
            "The paper does not state the unit of its RMSE; $100,000 is our reading, by the size of its FCNN's. "
            f"Standard deviations are those of the training targets. {note} The paper quotes GAM and NIT, which sees eight "
            "inputs, from Tsang et al. (2018), who may have split the data otherwise.",
        )

    def additive_model(self):
        train, test = (self.data(FL_HOUSING, split) for split in ("train", "test"))
        model = fit_additive_model(train.inputs, train.targets)
        error = metrics.root_mean_squared_error(model.predict(test.inputs), test.targets)
        return {"rmse": float(error), "rmse_standardized": float(error / train.targets.std())}

    def table_2(self, title):
        return self.results(
            "table_2",
            title,
            with_figures(CIFAR10),
            {"auc": "AUC"},
            "Cats against deer. The paper quotes GAM and NIT from Tsang et al. (2018).",
        )

    def parameters(self, name, rows, title):
        measured = [(label, model) for label, _, model in with_figures(rows) if model.entry]
        if not any(model.values for _, model in measured):
            self.report.skip(title, "no figures of its models come with this installation.")
            return []
        lines = [
            [
                label,
                model.published.get("weights"),
                model.figure("weights"),
                spread(model.figures("weights"), digits=0),
                model.figure("parameters"),
            ]
            for label, model in measured
        ]
        return self.report.add_table(
            name,
            title,
            ["model", "paper", "ours, without biases", "the same, all seeds", "ours, with biases"],
            lines,
            "The paper counts no biases. Ours are counted in the network that remains without gates and without what closed "
            f"gates make dead. {PUBLISHED_COUNTS[name]}",
        )

    def depth(self, title):
        networks = {"plain": "std", "feature leveling": "fl"}
        measured = {
            (network, depth): Measured(f"{prefix}_mlp_california_housing_depth{depth}")
            for network, prefix in networks.items()
            for depth in DEPTHS
        }
        if not any(model.values for model in measured.values()):
            self.report.skip(title, "no figures of its models come with this installation.")
            return []
        layers = {key: model.figures("hidden_layers") for key, model in measured.items()}
        errors = {key: [error**2 for error in model.figures("rmse_standardized")] for key, model in measured.items()}
        lines = []
        for depth in DEPTHS:
            plain, leveled = errors["plain", depth], errors["feature leveling", depth]
            remaining = layers["feature leveling", depth]
            lines.append(
                [
                    depth,
                    PUBLISHED_ERRORS.get(depth),
                    *(next(iter(plain), None), spread(plain)),
                    *(next(iter(leveled), None), spread(leveled)),
                    PUBLISHED_DEPTHS.get(depth),
                    ", ".join(f"{count:.0f}" for count in remaining) or None,
                ]
            )
        header = ["initial hidden layers", "plain: MSE, paper", "plain: MSE, ours", "plain: all seeds"]
        header += ["leveling: MSE, ours", "leveling: all seeds", "leveling: layers that remain, paper", "the same, ours"]
        tables = self.report.add_table(
            "table_depth",
            title,
            header,
            lines,
            "California Housing, hidden layers of 32 units. The MSE is that of the standardized target; the paper does not "
            "state the unit of its own. It says that its gated networks end with 3 layers when they start with more than 4. "
            "Layers that remain are those before the first gate that is closed as a whole, one number for each seed.",
        )
        seeds = max(map(len, errors.values()))

        def filled(figures):
            return {
                network: [(figures[network, depth] + [np.nan] * seeds)[:seeds] for depth in DEPTHS] for network in networks
            }

        figure = figures.plot_depth_probe(DEPTHS, filled(layers), filled(errors), "test MSE, standardized target")
        caption = "The same as a picture: lines are means over seeds, points are single networks."
        return [*tables, *self.report.add_figure("figure_depth", f"{title}, as a picture", figure, caption)]

    # --- Figures.

    def figure_1(self, title):
        dataset = self.data(FL_IXOR)[:SCATTERED_ROWS]
        return self.report.add_figure(
            "figure_1",
            title,
            figures.plot_independent_xor(dataset.inputs, dataset.targets),
            f"{len(dataset)} rows, drawn as the paper defines them: the class is 1 where x1 · x2 > 0 and x3 > 0.5. x3 alone "
            "is of use to a linear output, x1 and x2 are not.",
        )

    def figure_2(self, title):
        plain, leveled = self.model(STD_IXOR), self.model(FL_IXOR)
        names = self.data(FL_IXOR).column_names
        gates = leveled.gate_values()
        hidden = [ops.convert_to_numpy(layer.kernel) * gate[:, None] for layer, gate in zip(leveled.hidden_layers, gates)]
        kernels = [ops.convert_to_numpy(layer.kernel) for layer in plain.layers if layer.name.startswith("hidden")]
        output = [ops.convert_to_numpy(model.get_layer("logits").kernel) for model in (plain, leveled)]
        networks = {"plain": ([*kernels, output[0]], ()), "feature leveling": ([*hidden, output[1]], gates)}
        variants = {"plain": STD_IXOR, "feature leveling": FL_IXOR, "feature leveling with a lighter penalty": LIGHT_IXOR}
        accuracy = {label: Measured(name).figure("accuracy") for label, name in variants.items()}
        measured = ", ".join(f"{label} {share:.3f}" for label, share in accuracy.items() if share is not None)
        levels = ", ".join(f"{name} at level {level}" for name, level in zip(names, leveled.input_levels()))
        return self.report.add_figure(
            "figure_2",
            title,
            figures.plot_weights(networks, names, leveled.class_names),
            "A matrix has a row for each feature and a column for each unit. Hatched rows take no part: their feature goes to "
            "the output, by the arrows, or its layer is not reached. Ours first reaches the output with "
            f"{levels}; {leveled.depth} of {len(leveled.hidden_units)} hidden layers remain. The paper's keeps x3 apart at "
            f"level 1 and has nothing left in the second hidden layer. Test accuracy, ours: {measured}.",
        )

    def figure_4(self, title):
        log = shipped.read_log(FL_MNIST)
        if log is None:
            self.report.skip(title, f"no {LOG} of {FL_MNIST} comes with this installation.")
            return []
        last = [f"{log[f'gate{number}_open'][-1]:.0f}" for number in (1, 2)]
        return self.report.add_figure(
            "figure_4",
            title,
            figures.plot_leveling(log),
            "Accuracy on the training data, in training and so with sampled gates, and the features that would pass to each "
            f"hidden layer at test time. In the last epoch {last[0]} of 784 inputs and {last[1]} of 300 units pass; in the "
            "paper's network 291 and none do.",
        )

    def digit(self, title):
        fours = self.data(FL_MNIST)
        images = fours.inputs[fours.targets == DIGIT][:200]
        networks = {"plain": STD_MNIST, "self-explaining": SENN_MNIST, "feature leveling": FL_MNIST}
        found = {label: self.model(name) for label, name in networks.items() if artifacts.shipped_folder(name) is not None}
        right = [model.predict(images, verbose=0).argmax(axis=-1) == DIGIT for model in found.values()]
        image = images[np.argmax(np.all(right, axis=0))]
        explanation = found.pop("feature leveling").explain(image[None], DIGIT)
        levels = explanation.level_gradients[0].sum(axis=-1)
        leveled = {
            **{f"level {number}": level for number, level in enumerate(levels, start=1)},
            "all levels": levels.sum(axis=0),
        }
        gradients = {label: {"whole gradient": total_gradient(model, image, DIGIT)} for label, model in found.items()}
        return self.report.add_figure(
            "figure_digit",
            title,
            figures.plot_level_gradients(image, {"feature leveling": leveled, **gradients}),
            f"Gradients of the logit of {DIGIT} with respect to the pixels of the first test image of a {DIGIT} that all "
            "networks classify rightly: the part of each level, their sum, and the whole gradient of the other networks. The "
            "panels of one network share a scale. At level 1 the gradient is the weight of a pixel in the output and the same "
            "for every image. The paper sees the contour of the digit in level 1, and in level 2 negative gradients in its "
            "hole.",
        )

    def housing(self, title):
        dataset, model = self.data(FL_HOUSING), self.model(FL_HOUSING)
        explanation = model.explain(dataset.inputs)
        linear = [name.split(": ", 1)[1] for name in np.array(model.unit_names)[model.unit_levels == 1]]
        return self.report.add_figure(
            "figure_california_housing",
            title,
            figures.plot_column_gradients(
                explanation.level_gradients,
                dataset.column_names,
                "mean gradient in $100,000 per standard deviation of the column",
            ),
            f"Means over {len(dataset)} test rows, and as lines the standard deviation over them; for a column of 0 and 1 the "
            "gradient is that per 1. Level 1 is linear and so without spread; a mean near 0 with a wide line is an effect "
            f"that changes its sign. Ours has at level 1: {', '.join(linear) or 'no column'}. The paper has 3 columns there, "
            "and names longitude.",
        )

    def figure_5(self, title):
        dataset, model = self.data(CNN_MNIST), self.model(CNN_MNIST)
        means = []
        for number in range(len(model.class_names)):
            images = dataset.inputs[dataset.targets == number][:IMAGES_PER_CLASS]
            means.append(model.explain(images, number).level_gradients.mean(axis=0).sum(axis=-1))
        sizes = np.abs(means).mean(axis=(2, 3))
        first = sizes[:, 0] / sizes.sum(axis=1)
        ours = ", ".join(model.class_names[number] for number in np.argsort(-first)[:4] if first[number]) or "none"
        return self.report.add_figure(
            "figure_5",
            title,
            figures.plot_class_gradients(np.stack(means), model.class_names),
            "Gradients of the logit of each class with respect to the pixels, by level, as means over the first "
            f"{IMAGES_PER_CLASS} test images of the class. A level has one scale for all classes; the numbers, the level's "
            "share of the class's absolute gradients, tell how levels compare. Hatched: the gradient is zero, as of a level "
            "without features. The paper, which does not state its scales, finds that 5, 0, 1 and 8 rely on the first level "
            f"more than other classes do. In ours the first four are: {ours}.",
        )
