import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_interp import plots
from keras_interp.explain.explanation import Explanation
from keras_interp.layers.label_sensitive_gate import fixed_gate_matrix

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
        axes = figure.get_axes()
        shown = " ".join(
            text.get_text() for axis in axes for text in axis.findobj(match=lambda artist: hasattr(artist, "get_text"))
        )
        assert all(text in shown for text in texts), shown
        return [axis for axis in axes if axis.axison and (axis.images or axis.lines)]

    return check


def make_explanation(rng, **fields):
    maps = rng.normal(size=(2, 4, 4, 6))
    default = {
        "inputs": rng.integers(0, 256, (2, 8, 8, 3), dtype="uint8"),
        "logits": rng.normal(size=(2, 4)),
        "labels": LABELS,
        "target": np.array([0, 3]),
        "unit_names": (*(f"filter {number}" for number in range(5)), "filter 5 (airplane, cat, dog)"),
        "contributions": maps.mean(axis=(1, 2)),
        "bias": np.zeros(2),
        "maps": maps,
    }
    return Explanation(**{**default, **fields})


def test_explanation(saves, rng):
    explanation = make_explanation(rng)
    saves(plots.plot_explanation(explanation, count=3), "airplane", "ship", "bias")
    # More units than there are, and units that belong to the class.
    owned = make_explanation(rng, units_of_target=rng.random((2, 6)) < 0.5)
    saves(plots.plot_explanation(owned, count=9), "filter 5")
    with pytest.raises(ValueError, match="without `maps`"):
        plots.plot_explanation(make_explanation(rng, maps=None))


def test_gates(saves, gate):
    axes = saves(plots.plot_gates({"with": gate, "without": gate[:, :5]}, LABELS), "with", "without", "ship")
    np.testing.assert_array_equal(axes[1].images[0].get_array(), gate[:, :5])
    saves(plots.plot_gates({"fixed": fixed_gate_matrix(4, 9, 2)}, LABELS))
    for gates, message in (({}, "one matrix"), ({"a": gate[:3]}, r"`a` must have the shape \(4, filters\)")):
        with pytest.raises(ValueError, match=message):
            plots.plot_gates(gates, LABELS)


def test_masked_confusions(saves, rng):
    confusion = rng.dirichlet(np.ones(4), size=4)
    confusion[2] = np.nan
    confusions = {"STD": confusion, "LSG": np.eye(4), "third": np.eye(4)}
    masked = {"STD": [0], "LSG": [0, 2], "third": [1]}
    axes = saves(plots.plot_masked_confusions(confusions, masked, LABELS), "STD", "100", "dog")
    colors = [name.get_color() for name in axes[1].get_yticklabels()]
    assert [color == plots.OWN for color in colors] == [True, False, True, False]
    with pytest.raises(ValueError, match="`masked`"):
        plots.plot_masked_confusions(confusions, {"STD": [0]}, LABELS)
    with pytest.raises(ValueError, match="Labels must lie in"):
        plots.plot_masked_confusions({"STD": confusion}, {"STD": [4]}, LABELS)
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        plots.plot_masked_confusions({"STD": confusion[:, :3]}, {"STD": [0]}, LABELS)


def test_similarities_put_similar_classes_side_by_side(saves):
    # Two pairs of classes that are alike: 0 and 2, 1 and 3.
    similarity = np.array([[9, 1, 5, 1], [1, 9, 1, 5], [5, 1, 9, 1], [1, 5, 1, 9]], float)
    wrong = similarity.copy()
    wrong[1] = np.nan
    axes = saves(plots.plot_similarities(similarity, wrong, LABELS), "true positives", "false negatives")
    order = [LABELS.index(name.get_text()) for name in axes[0].get_yticklabels()]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    np.testing.assert_array_equal(axes[0].images[0].get_array(), similarity[np.ix_(order, order)])
    with pytest.raises(ValueError, match="`false negatives`"):
        plots.plot_similarities(similarity, wrong[:2], LABELS)


def test_activation_maps(saves, rng, images):
    maps = {"STD": rng.normal(size=(3, 8, 8)), "LSG": np.zeros((3, 4, 4))}
    saves(plots.plot_activation_maps(images[:3], maps, LABELS[:3]), "STD", "LSG", "dog", "for the class")
    saves(plots.plot_activation_maps(images[:1], {"one": maps["STD"][:1]}, ["cat"]))
    for arguments in ((images[:3], maps, LABELS), (images[:3], {}, LABELS[:3]), (images[:2], maps, LABELS[:2])):
        with pytest.raises(ValueError, match="Received"):
            plots.plot_activation_maps(*arguments)


def test_filter_correlations(saves, rng):
    small, large = (np.corrcoef(rng.normal(size=(count, 50))) for count in (6, 12))
    matrices = {"(a) STD": large, "(b) LSG": large, "(c) STD": small}
    axes = saves(plots.plot_filter_correlations(matrices), "(a) STD", "(c) STD", "threshold")
    assert [line.get_label() for line in axes[-1].lines] == list(matrices)
    # No pair is above .99 but the diagonal.
    assert axes[-1].lines[0].get_ydata()[-1] == pytest.approx(1 / 12)
    for bad in ({}, {"a": large[:5]}, {"a": np.full((2, 2), np.nan)}):
        with pytest.raises(ValueError, match="Received"):
            plots.plot_filter_correlations(bad)


def test_cluster_centers(saves, gate, rng):
    centers = {"STD": rng.random((4, 9)), "LSG": 5 * gate}
    axes = saves(plots.plot_cluster_centers(centers, gate, LABELS), "STD", "LSG", "fixed gate")
    assert [axis.images[0].get_clim()[1] for axis in axes[:3]] == pytest.approx(
        [matrix.max() for matrix in (*centers.values(), gate)]
    )
    for bad in ({}, {"STD": gate[:, :5]}):
        with pytest.raises(ValueError, match="Received"):
            plots.plot_cluster_centers(bad, gate, LABELS)


def test_training(saves):
    log = {"epoch": [0, 1, 2], "accuracy": [0.1, 0.3, 0.4], "gated_accuracy": [0.2, 0.6, 0.8], "gate_density": [0.5, 0.4, 0.3]}
    axes = saves(plots.plot_training(log, gated_epochs=[1]), "standard path", "gated epoch", "gate density")
    assert len(axes[0].patches) == len(axes[1].patches) == 1
    saves(plots.plot_training(log))
    with pytest.raises(ValueError, match="without gate_density"):
        plots.plot_training({name: values for name, values in log.items() if name != "gate_density"})
    with pytest.raises(ValueError, match="`accuracy`"):
        plots.plot_training({**log, "accuracy": [0.1]})
