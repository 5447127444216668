import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from keras_interp.drawing import OWN
from keras_interp.explain import plot
from keras_interp.explain.explanation import Explanation
from keras_interp.layers.label_sensitive_gate import fixed_gate_matrix
from reproduction import curves
from reproduction.dynk import figures as dynk
from reproduction.fl import figures as fl
from reproduction.lsg import figures as lsg
from reproduction.xnet import figures as xnet

LABELS = ("airplane", "cat", "dog", "ship")


@pytest.fixture
def gate(rng):
    return rng.uniform(size=(4, 9))


@pytest.fixture
def saves(tmp_path):
    """Checks that something is a figure that can be saved and shows the texts; returns its axes with a picture or lines."""

    def check(figure, *texts):
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "figure.png", dpi=60)
        assert (tmp_path / "figure.png").stat().st_size > 1000
        shown = " ".join(text.get_text() for text in figure.findobj(Text))
        assert all(text in shown for text in texts), shown
        return [axis for axis in figure.get_axes() if axis.axison and (axis.images or axis.lines)]

    return check


def make_explanation(rng, **fields):
    maps = rng.normal(size=(2, 4, 4, 6))
    default = {
        "inputs": rng.integers(0, 256, (2, 8, 8, 3), dtype="uint8"),
        "logits": rng.normal(size=(2, 4)),
        "class_names": LABELS,
        "target": np.array([0, 3]),
        "unit_names": (*(f"filter {number}" for number in range(5)), "filter 5 (airplane, cat, dog)"),
        "contributions": maps.mean(axis=(1, 2)),
        "bias": np.zeros(2),
        "maps": maps,
    }
    return Explanation(**{**default, **fields})


def test_explanation(saves, rng):
    explanation = make_explanation(rng)
    saves(plot.plot_explanation(explanation, count=3), "airplane", "ship", "bias")
    # More units than there are, and units that belong to the class.
    owned = make_explanation(rng, units_of_target=rng.random((2, 6)) < 0.5)
    saves(plot.plot_explanation(owned, count=9), "filter 5", "belongs to the class")
    # Of one channel, and without maps.
    gray = make_explanation(rng, maps=None, inputs=rng.integers(0, 256, (2, 8, 8, 1)))
    figure = plot.plot_explanation(gray)
    assert len(saves(figure, "all other units", "airplane")) == 2
    assert figure.get_axes()[0].images[0].cmap.name == "gray"


def test_explanation_of_images_by_levels(saves, rng):
    gradients = rng.normal(size=(2, 2, 8, 8, 3))
    gradients[:, 1] = 0
    leveled = {"levels": np.array([1, 1, 1, 2, 2, 2]), "level_gradients": gradients}
    explanation = make_explanation(rng, **leveled)
    # Levels come before maps.
    axes = saves(plot.plot_explanation(explanation), "ship", "input gradient of level 2", "bias", "raises it")
    first, second = (axis.images[0] for axis in axes[:2])
    np.testing.assert_allclose(first.get_array(), gradients[0, 0].sum(axis=-1))
    assert first.get_clim() == second.get_clim() and np.ma.getmaskarray(second.get_array()).all()
    values = [bar.get_width() for bar in axes[2].patches]
    np.testing.assert_allclose(values, [*explanation.level_contributions[0], 0.0])


def test_explanation_of_rows(saves, rng):
    rows = {"inputs": rng.normal(size=(2, 3)), "maps": None, "levels": np.array([1, 1, 1, 2, 2, 2])}
    explanation = make_explanation(rng, **rows, level_gradients=rng.normal(size=(2, 2, 3)))
    axes = saves(plot.plot_explanation(explanation, count=3), "airplane", "logit", "level 2", "all other units")
    units = np.argsort(-np.abs(explanation.contributions[0]))[:3]
    shown = [bar.get_width() for bar in axes[0].patches]
    np.testing.assert_allclose(shown[:3], explanation.contributions[0, units])
    assert sum(shown) == pytest.approx(explanation.contributions[0].sum())
    # A regression, without levels; of three rows, which leave a place of the grid empty.
    value = {
        "inputs": rows["inputs"][:1].repeat(3, axis=0),
        "maps": None,
        "class_names": ("price",),
        "target": np.zeros(3, int),
    }
    value |= {"logits": np.array([[1.5], [-2.0], [0.0]]), "contributions": rng.normal(size=(3, 6)), "bias": np.ones(3)}
    axes = saves(plot.plot_explanation(make_explanation(rng, **value)), "contributions to price 1.50", "price -2.00")
    assert len(axes) == 3


def test_gates(saves, gate):
    axes = saves(lsg.plot_gates({"with": gate, "without": gate[:, :5]}, LABELS), "with", "without", "ship")
    np.testing.assert_array_equal(axes[1].images[0].get_array(), gate[:, :5])
    saves(lsg.plot_gates({"fixed": fixed_gate_matrix(4, 9, 2)}, LABELS))
    for gates, message in (({}, "one matrix"), ({"a": gate[:3]}, r"`a` must have the shape \(4, filters\)")):
        with pytest.raises(ValueError, match=message):
            lsg.plot_gates(gates, LABELS)


def test_masked_confusions(saves, rng):
    confusion = rng.dirichlet(np.ones(4), size=4)
    confusion[2] = np.nan
    confusions = {"STD": confusion, "LSG": np.eye(4), "third": np.eye(4)}
    masked = {"STD": [0], "LSG": [0, 2], "third": [1]}
    axes = saves(lsg.plot_masked_confusions(confusions, masked, LABELS), "STD", "100", "dog")
    colors = [name.get_color() for name in axes[1].get_yticklabels()]
    assert [color == OWN for color in colors] == [True, False, True, False]
    with pytest.raises(ValueError, match="`masked`"):
        lsg.plot_masked_confusions(confusions, {"STD": [0]}, LABELS)
    with pytest.raises(ValueError, match="Labels must lie in"):
        lsg.plot_masked_confusions({"STD": confusion}, {"STD": [4]}, LABELS)
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        lsg.plot_masked_confusions({"STD": confusion[:, :3]}, {"STD": [0]}, LABELS)


def test_similarities_put_similar_classes_side_by_side(saves):
    # Two pairs of classes that are alike: 0 and 2, 1 and 3.
    similarity = np.array([[9, 1, 5, 1], [1, 9, 1, 5], [5, 1, 9, 1], [1, 5, 1, 9]], float)
    wrong = similarity.copy()
    wrong[1] = np.nan
    axes = saves(lsg.plot_similarities(similarity, wrong, LABELS), "true positives", "false negatives")
    order = [LABELS.index(name.get_text()) for name in axes[0].get_yticklabels()]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    np.testing.assert_array_equal(axes[0].images[0].get_array(), similarity[np.ix_(order, order)])
    with pytest.raises(ValueError, match="`false negatives`"):
        lsg.plot_similarities(similarity, wrong[:2], LABELS)


def test_activation_maps(saves, rng, images):
    maps = {"STD": rng.normal(size=(3, 8, 8)), "LSG": np.zeros((3, 4, 4))}
    saves(lsg.plot_activation_maps(images[:3], maps, LABELS[:3]), "STD", "LSG", "dog", "for the class")
    saves(lsg.plot_activation_maps(images[:1], {"one": maps["STD"][:1]}, ["cat"]))
    for arguments in ((images[:3], maps, LABELS), (images[:3], {}, LABELS[:3]), (images[:2], maps, LABELS[:2])):
        with pytest.raises(ValueError, match="Received"):
            lsg.plot_activation_maps(*arguments)


def test_filter_correlations(saves, rng):
    small, large = (np.corrcoef(rng.normal(size=(count, 50))) for count in (6, 12))
    matrices = {"(a) STD": large, "(b) LSG": large, "(c) STD": small}
    axes = saves(lsg.plot_filter_correlations(matrices), "(a) STD", "(c) STD", "threshold")
    assert [line.get_label() for line in axes[-1].lines] == list(matrices)
    # No pair is above .99 but the diagonal.
    assert axes[-1].lines[0].get_ydata()[-1] == pytest.approx(1 / 12)
    for bad in ({}, {"a": large[:5]}, {"a": np.full((2, 2), np.nan)}):
        with pytest.raises(ValueError, match="Received"):
            lsg.plot_filter_correlations(bad)


def test_cluster_centers(saves, gate, rng):
    centers = {"STD": rng.random((4, 9)), "LSG": 5 * gate}
    axes = saves(lsg.plot_cluster_centers(centers, gate, LABELS), "STD", "LSG", "fixed gate")
    assert [axis.images[0].get_clim()[1] for axis in axes[:3]] == pytest.approx(
        [matrix.max() for matrix in (*centers.values(), gate)]
    )
    for bad in ({}, {"STD": gate[:, :5]}):
        with pytest.raises(ValueError, match="Received"):
            lsg.plot_cluster_centers(bad, gate, LABELS)


def test_training(saves):
    log = {"epoch": [0, 1, 2], "accuracy": [0.1, 0.3, 0.4], "gated_accuracy": [0.2, 0.6, 0.8], "gate_density": [0.5, 0.4, 0.3]}
    axes = saves(lsg.plot_training(log, gated_epochs=[1]), "standard path", "gated epoch", "gate density")
    assert len(axes[0].patches) == len(axes[1].patches) == 1
    saves(lsg.plot_training(log))
    with pytest.raises(ValueError, match="without gate_density"):
        lsg.plot_training({name: values for name, values in log.items() if name != "gate_density"})
    with pytest.raises(ValueError, match="`accuracy`"):
        lsg.plot_training({**log, "accuracy": [0.1]})


def test_independent_xor(saves, rng):
    rows = rng.random((20, 3))
    labels = np.arange(20) % 2
    figure = fl.plot_independent_xor(rows, labels)
    (axis,) = saves(figure, "class 1", "x3 = 0.5", "x2")
    points = axis.collections[1]
    np.testing.assert_allclose(points.get_offsets(), rows[1::2, :2])
    assert (np.argsort(points.get_sizes()) == np.argsort(rows[1::2, 2])).all()
    for arguments in ((rows[:, :2], labels), (rows, labels + 1), (rows, labels[:5])):
        with pytest.raises(ValueError, match="Received"):
            fl.plot_independent_xor(*arguments)


def test_weights(saves, rng):
    names, classes = ("x1", "x2", "x3"), ("no", "yes")
    kernels = [rng.normal(size=shape) for shape in ((3, 5), (5, 4), (12, 2))]
    plain = ([*kernels[:2], kernels[2][8:]], ())
    # x3 goes to the output at level 1, all units of the first hidden layer at level 2; the second is not reached.
    leveled = (kernels, (np.array([1.0, 0.5, 0.0]), np.zeros(5)))
    axes = saves(fl.plot_weights({"plain": plain, "leveled": leveled}, names, classes), "x2", "yes", "level 3", "leveled")
    masks = [np.ma.getmaskarray(axis.images[0].get_array())[:, 0].tolist() for axis in axes[:6]]
    assert not any(map(any, masks[:3]))
    assert masks[3:] == [[False, False, True], [True] * 5, [True, True, *[False] * 6, *[True] * 4]]
    arrows = [
        sum(text.get_text() == "" and text.arrow_patch is not None for text in axis.texts if hasattr(text, "arrow_patch"))
        for axis in axes[:6]
    ]
    assert arrows == [0, 0, 0, 1, 5, 6]
    shallow = (kernels[::2], (np.ones(3),))
    wrong = (kernels, (np.ones(2), np.ones(5)))
    for networks in ({}, {"plain": plain, "shallow": shallow}, {"wrong": wrong}, {"wrong": (kernels, ())}):
        with pytest.raises(ValueError, match="Received"):
            fl.plot_weights(networks, names, classes)


def test_leveling(saves):
    log = {"epoch": [0, 1], "accuracy": [0.5, 0.9], "gate1_open": [700, 300], "gate2_open": [100, 0], "gate1_expected": [9, 9]}
    axes = saves(fl.plot_leveling(log), "training accuracy", "to hidden layer 2")
    assert [line.get_ydata().tolist() for line in axes[1].lines] == [[700, 300], [100, 0]]
    for name, message in (("accuracy", "without accuracy"), ("gate1_open", "without gate1_open")):
        with pytest.raises(ValueError, match=message):
            fl.plot_leveling({column: values for column, values in log.items() if column != name})
    with pytest.raises(ValueError, match="`gate2_open`"):
        fl.plot_leveling({**log, "gate2_open": [1]})


def test_class_gradients(saves, rng):
    gradients = rng.normal(size=(4, 3, 5, 5)) * np.array([1.0, 100.0, 0.0])[:, None, None]
    axes = saves(fl.plot_class_gradients(gradients, LABELS), "ship", "level 3", "0%", "raises it")
    limits = np.reshape([axis.images[0].get_clim()[1] for axis in axes[:12]], (4, 3))
    # One scale for a level, each with its own.
    assert (limits == limits[0]).all() and limits[0, 1] > 50 * limits[0, 0]
    saves(fl.plot_class_gradients(np.zeros((4, 1, 5, 5)), LABELS))
    with pytest.raises(ValueError, match=r"\(4, levels, height, width\)"):
        fl.plot_class_gradients(gradients[:3], LABELS)


def test_level_gradients(saves, rng):
    image, heat = rng.integers(0, 256, (6, 6, 1)), rng.normal(size=(6, 6))
    gradients = {"leveled": {"level 1": heat, "level 2": 9 * heat}, "plain": {"whole": heat}}
    axes = saves(fl.plot_level_gradients(image, gradients), "leveled\nlevel 2", "plain\nwhole")
    limits = [axis.images[0].get_clim()[1] for axis in axes[:3]]
    assert limits[0] == limits[1] > limits[2]
    for bad in ({}, {"plain": {}}, {"plain": {"whole": heat[:3]}}):
        with pytest.raises(ValueError, match="Received"):
            fl.plot_level_gradients(image, bad)


def test_column_gradients(saves, rng):
    gradients = rng.normal(size=(7, 2, 3))
    (axis,) = saves(fl.plot_column_gradients(gradients, ("age", "income", "rooms"), "price per year"), "income", "level 2")
    np.testing.assert_allclose([bar.get_width() for bar in axis.patches], gradients.mean(axis=0).ravel())
    with pytest.raises(ValueError, match=r"\(n, levels, 2\)"):
        fl.plot_column_gradients(gradients, ("age", "income"), "price")


def test_depth_probe(saves):
    layers = {"plain": [[2.0, 2.0], [3.0, 3.0]], "leveled": [[1.0, 2.0], [np.nan, np.nan]]}
    errors = {"plain": [[0.3, 0.5], [0.2, np.nan]], "leveled": [[0.3, 0.3], [np.nan, np.nan]]}
    axes = saves(fl.plot_depth_probe((2, 3), layers, errors, "MSE"), "leveled", "MSE", "hidden layers that remain")
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), [0.4, 0.2])
    assert np.isnan(axes[0].lines[3].get_ydata()[1])
    for bad in (({}, {}), (layers, {"plain": errors["plain"]}), (layers, {**errors, "leveled": errors["leveled"][:1]})):
        with pytest.raises(ValueError, match="Received"):
            fl.plot_depth_probe((2, 3), *bad, "MSE")


def test_toy_connections(saves):
    kernel = np.array([[2.0, 0.0], [-0.5, 1.0], [0.0, 0.02]])
    kernels = {"dense": kernel, "dynamic": np.abs(kernel)}
    axes = saves(dynk.plot_toy_connections(kernels, ("keys", "screen", "remote"), ("laptop", "TV")), "screen", "dense")
    assert "laptop = 2.0 keys − 0.5 screen\nTV = 1.0 screen" in [text.get_text() for text in axes[0].texts]
    styles = [line.get_linestyle() for line in axes[0].lines if line.get_linewidth() > 1]
    assert styles == ["-", ":", "-"] and max(line.get_linewidth() for line in axes[0].lines) == 9
    saves(dynk.plot_toy_connections({"none": np.zeros((1, 2))}, ("keys",), ("laptop", "TV")), "TV = 0")
    for bad in ({}, {"dense": kernel[:2]}):
        with pytest.raises(ValueError, match="Received"):
            dynk.plot_toy_connections(bad, ("keys", "screen", "remote"), ("laptop", "TV"))


def test_epoch_curves(saves):
    epochs = np.arange(1, 21)
    sparse = np.where(epochs % 10 == 0, epochs / 20, np.nan)
    panels = {"small": {"K = 5": (epochs, sparse)}, "large": {"standard": (epochs, epochs / 30), "K = 5": (epochs, sparse)}}
    finals = {"large": {"standard": 0.5, "K = 5": None}}
    order = ("standard", "K = 1", "K = 5")
    small, large = saves(curves.plot_epoch_curves(panels, "share", finals, order), "K = 5", "test split", "large")
    assert small.lines[0].get_xydata().tolist() == [[10, 0.5], [20, 1.0]]
    assert small.lines[0].get_color() == large.lines[1].get_color() != large.lines[0].get_color() == OWN
    assert large.lines[2].get_xydata().tolist() == [[20.5, 0.5]] and max(large.get_xticks()) == 20
    # Without an order the first network is the baseline.
    assert saves(curves.plot_epoch_curves(panels, "share"))[0].lines[0].get_color() == OWN
    nothing = {"small": {"K = 5": (epochs, np.full(20, np.nan))}}
    for bad in ({}, {"small": {}}, {"small": {"K = 5": (epochs, sparse[10:])}}, nothing):
        with pytest.raises(ValueError, match="Received"):
            curves.plot_epoch_curves(bad, "share")


def test_last_layers(saves):
    kernel = np.zeros((6, 4))
    kernel[[5, 0, 3], [0, 1, 2]] = 1.0, 2.0, -3.0
    axes = saves(dynk.plot_last_layers({"standard": (kernel, LABELS), "none": (np.zeros((3, 2)), ("a", "b"))}), "ship", "none")
    # Those of class 0 first, in their order.
    np.testing.assert_array_equal(axes[0].images[0].get_array()[0], [0, 0, 0, 0, 1, 0])
    for bad in ({}, {"standard": (kernel, LABELS[:3])}):
        with pytest.raises(ValueError, match="Received"):
            dynk.plot_last_layers(bad)


def test_unit_scores(saves, rng):
    scores = {"standard": rng.random(20), "dynamic": rng.random(3)}
    (axis,) = saves(dynk.plot_unit_scores(scores, count=5, threshold=0.2), "standard", "IoU above 0.2")
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), np.sort(scores["standard"])[:14:-1])
    assert len(axis.lines[1].get_xdata()) == 3
    for bad in ({}, {"standard": rng.random((2, 2))}):
        with pytest.raises(ValueError, match="Received"):
            dynk.plot_unit_scores(bad)


def test_class_units(saves, rng):
    shares = np.array([[0.6, 0.4, 0.0], [0.0, 0.25, 0.75]])
    names, classes = ("unit 0\nsky", "unit 1\nsea", "unit 2\na very long name of a concept that is cut"), ("coast", "desert")
    images, regions = rng.integers(0, 256, (3, 2, 8, 8, 3)), np.zeros((3, 2, 8, 8), bool)
    regions[:, :, :4, 2:5] = True
    figure = dynk.plot_class_units(shares, classes, names, images, regions)
    texts = ("coast", "60%", "75%", "sea", "unit 2")
    assert saves(figure, *texts) == []
    (axis,) = figure.get_axes()
    assert len(axis.lines) == 4 and len(axis.images) == 6
    assert axis.lines[0].get_linewidth() > axis.lines[1].get_linewidth()
    picture = axis.images[0].get_array()
    np.testing.assert_array_equal(picture[:4, 2:5], images[0, 0, :4, 2:5])
    assert picture[4:].max() <= 0.35 * 255
    for bad in ((-shares, images, regions), (shares[:1], images, regions), (shares, images, regions[..., :4])):
        with pytest.raises(ValueError, match="Received"):
            dynk.plot_class_units(bad[0], classes, names, *bad[1:])


def test_unit_explanations(saves, rng, images):
    shares = np.array([[0.5, 0.3], [0.9, 0.3]])
    names = [["unit 3 (sky)", "unit 1"], ["unit 2", "unit 0"]]
    explanations = {kind: (rng.normal(size=(2, 2, 4, 4)), names, shares) for kind in ("standard", "dynamic")}
    figure = dynk.plot_unit_explanations(images[:2], ("coast", "desert"), explanations)
    saves(figure, "coast", "dynamic", "50%\nunit 3 (sky)", "residual\n20%", "residual\n−20%")
    assert sum(len(axis.images) > 0 for axis in figure.get_axes()) == 4 * 3
    for arguments in ((images[:2], ("coast",), explanations), (images[:2], ("coast", "desert"), {})):
        with pytest.raises(ValueError, match="Received"):
            dynk.plot_unit_explanations(*arguments)
    with pytest.raises(ValueError, match="shares of standard"):
        dynk.plot_unit_explanations(images[:2], ("a", "b"), {"standard": (np.zeros((2, 3, 4, 4)), names, shares)})


def test_plots_of_neurons(rng):
    names = ("shadow", "bald", "bangs")
    shares = rng.random((3, 3))
    figure = xnet.plot_activation_shares({"baseline": shares / shares.sum(axis=0), "XNet": np.eye(3)}, names, names)
    frames = [patch.get_xy() for patch in figure.axes[1].patches]
    assert [(round(x + 0.47), round(y + 0.47)) for x, y in frames] == [(0, 0), (1, 1), (2, 2)]
    images = rng.integers(0, 256, (3, 8, 8, 3))
    for signed in (True, False):
        maps = {"baseline": rng.random((3, 4, 4)), "XNet": np.zeros((3, 4, 4))}
        figure = xnet.plot_category_maps({"high": (images, maps), "low": (images, maps)}, names, signed)
        assert len(figure.axes) == 2 * 3 * 3
    figure = xnet.plot_top_images(images[:, None].repeat(5, axis=1), names, [["1.0"] * 5] * 3)
    assert len(figure.axes) == 3 * 6
    figure = xnet.plot_trade_off({"α": ([0.0, 0.2], [0.9, 0.8], ["0", "1"])}, {"trained": (0.1, 0.85)})
    assert len(figure.axes[0].lines) == 2


def test_bad_plots_of_neurons():
    for call, message in (
        (lambda: xnet.plot_activation_shares({}, "ab", "ab"), "one matrix"),
        (lambda: xnet.plot_activation_shares({"a": np.eye(3)}, "ab", "ab"), "a"),
        (lambda: xnet.plot_category_maps({}, "ab", True), "one group"),
        (lambda: xnet.plot_category_maps({"a": (np.ones((3, 4, 4, 3)), {})}, "ab", True), "a"),
        (lambda: xnet.plot_top_images(np.ones((2, 4, 4, 3)), "ab"), "images"),
        (lambda: xnet.plot_trade_off({}), "one curve"),
        (lambda: xnet.plot_trade_off({"a": ([1.0], [1.0, 2.0], ["x"])}), "accuracies"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
