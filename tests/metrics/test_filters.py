import itertools
import math
import sys

import keras
import numpy as np
import pytest
from scipy.optimize import minimize

from keras_interp.layers.label_sensitive_gate import LabelSensitiveGate, fixed_gate_matrix
from keras_interp.metrics import gate_density, gates, masking_effect
from keras_interp.metrics.filters import (
    cluster_agreement,
    cluster_centers,
    correlated_share,
    filter_correlation,
    inter_class_filter_correlation,
    mutual_information_score,
)
from keras_interp.metrics.gates import class_filters, feature_gate_similarity, filter_ambiguity, match_centers, owned_filters
from keras_interp.metrics.masking import class_means, masked_confusion, masked_predictions, most_active_filters

NUM_CLASSES, NUM_FILTERS = 3, 6


@pytest.fixture
def head():
    """Pooled features, kernel, bias and labels of a small network."""
    rng = np.random.default_rng(0)
    pooled = np.maximum(0, rng.normal(size=(40, NUM_FILTERS))).astype("float32")
    kernel, bias = rng.normal(size=(NUM_FILTERS, NUM_CLASSES)), rng.normal(size=NUM_CLASSES)
    return pooled, kernel, bias, rng.integers(0, NUM_CLASSES, 40)


@pytest.fixture
def gate():
    gate = np.random.default_rng(1).random((NUM_CLASSES, NUM_FILTERS))
    return gate / gate.max(axis=0)


# --- The gate.


def test_density_of_the_papers_fixed_gate():
    assert gate_density(fixed_gate_matrix(10, 64, 6)) == 0.15625


def test_density_and_ownership_agree_with_the_layer(gate):
    layer = LabelSensitiveGate(NUM_CLASSES)
    layer.build((None, NUM_FILTERS))
    layer.gate.assign(gate)
    assert gate_density(gate) == pytest.approx(float(layer.density()), rel=1e-6)
    ownership = owned_filters(gate)
    layer.tighten()
    columns = keras.ops.convert_to_numpy(layer.gate).T.tolist()
    assert ownership.shared == columns.count([1.0] * NUM_CLASSES)
    assert ownership.owned.tolist() == [columns.count(row) for row in np.eye(NUM_CLASSES).tolist()]


def test_ownership_of_the_papers_fixed_gate():
    ownership = owned_filters(fixed_gate_matrix(10, 64, 6))
    assert ownership.owned.tolist() == [6] * 10
    assert ownership.shared == 4


def test_a_filter_that_no_class_has_counts_as_shared():
    assert owned_filters(np.zeros((2, 3))).shared == 3


def test_class_filters_are_above_the_threshold(gate):
    found = class_filters(gate, 0.3)
    assert all(found[place] == (gate[place] > 0.3) for place in np.ndindex(gate.shape))


# --- The features.


def test_class_means_and_most_active_filters_equal_loops(head):
    pooled, _, _, labels = head
    means = class_means(pooled, labels, NUM_CLASSES)
    found = most_active_filters(pooled, labels, NUM_CLASSES, count=2)
    for c in range(NUM_CLASSES):
        rows = [row for row, label in zip(pooled.tolist(), labels) if label == c]
        expected = [sum(column) / len(rows) for column in zip(*rows)]
        np.testing.assert_allclose(means[c], expected, rtol=1e-6)
        assert set(np.flatnonzero(found[c])) == set(sorted(range(NUM_FILTERS), key=lambda k: -expected[k])[:2])


def test_a_class_without_examples_has_no_means_and_no_filters(head):
    pooled, _, _, labels = head
    assert np.isnan(class_means(pooled, labels, 5)[3:]).all()
    np.testing.assert_array_equal(most_active_filters(pooled, labels, 5, count=2).sum(axis=1), [2, 2, 2, 0, 0])


def test_equally_active_filters_count_once():
    found = most_active_filters(np.ones((2, 4)), np.array([0, 1]), 2, count=3)
    np.testing.assert_array_equal(found, [[True, True, True, False]] * 2)


# --- Masking.


def test_masked_predictions_equal_features_set_to_zero(head):
    pooled, kernel, bias, labels = head
    mask = np.array([True, False, True, False, False, True])
    zeroed = pooled.copy()
    zeroed[:, mask] = 0
    expected = [int(np.argmax(row @ kernel + bias)) for row in zeroed]
    assert masked_predictions(pooled, kernel, bias, mask).tolist() == expected
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES))
    for label, prediction in zip(labels, expected):
        counts[label, prediction] += 1
    np.testing.assert_allclose(
        masked_confusion(pooled, kernel, bias, labels, mask), counts / counts.sum(axis=1, keepdims=True)
    )


def test_with_all_filters_masked_the_bias_decides(head):
    pooled, kernel, _, labels = head
    everything = np.ones(NUM_FILTERS, bool)
    confusion = masked_confusion(pooled, kernel, np.array([0.0, 2.0, 1.0]), labels, everything)
    np.testing.assert_array_equal(confusion, [[0, 1, 0]] * 3)
    assert not masked_predictions(pooled, kernel, np.zeros(3), everything).any()


def test_masking_effect_equals_a_loop(head, gate):
    pooled, kernel, bias, labels = head
    masks = class_filters(gate)
    effect = masking_effect(pooled, kernel, bias, labels, masks)
    none = np.zeros(NUM_FILTERS, bool)
    base = np.diagonal(masked_confusion(pooled, kernel, bias, labels, none))
    np.testing.assert_array_equal(effect.base_recall, base)
    for c in range(NUM_CLASSES):
        masked = np.diagonal(masked_confusion(pooled, kernel, bias, labels, masks[c]))
        np.testing.assert_allclose(effect.drop[c], base - masked)
        assert effect.own_recall[c] == masked[c]
        assert effect.other_drop[c] == pytest.approx(max(base[y] - masked[y] for y in range(NUM_CLASSES) if y != c))


def test_ideally_specific_filters_drop_only_their_own_class():
    labels = np.arange(30) % 3
    features = np.repeat(np.eye(3)[labels], 2, axis=1)
    kernel, masks = np.repeat(np.eye(3), 2, axis=0), np.repeat(np.eye(3, dtype=bool), 2, axis=1)
    # The bias keeps a tie of zeros from going to the masked class.
    effect = masking_effect(features, kernel, np.array([0.0, 0.1, 0.2]), labels, masks)
    np.testing.assert_array_equal(effect.base_recall, 1)
    np.testing.assert_array_equal(effect.own_recall, [0, 0, 1])
    np.testing.assert_array_equal(effect.other_drop, 0)


def test_masking_ignores_a_class_without_examples(head, gate):
    pooled, kernel, bias, labels = head
    labels = np.where(labels == 2, 1, labels)
    effect = masking_effect(pooled, kernel, bias, labels, class_filters(gate))
    assert np.isnan(effect.drop[:, 2]).all() and np.isnan(effect.base_recall[2])
    assert effect.other_drop[0] == effect.drop[0, 1]
    assert effect.other_drop[2] == pytest.approx(effect.drop[2, :2].max())


# --- Features against the gate.


def test_similarity_equals_a_loop(head, gate):
    pooled, kernel, bias, labels = head
    predictions = (pooled @ kernel + bias).argmax(axis=1)
    for found, chosen in zip(feature_gate_similarity(pooled, gate, labels, predictions), (True, False)):
        for y, c in np.ndindex(NUM_CLASSES, NUM_CLASSES):
            products = [
                float(np.dot(a, gate[c])) for a, t, p in zip(pooled, labels, predictions) if t == y and (t == p) == chosen
            ]
            expected = np.mean(products) if products else np.nan
            assert found[y, c] == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_similarity_without_errors_has_no_false_negatives(head, gate):
    pooled, _, _, labels = head
    correct, wrong = feature_gate_similarity(pooled, gate, labels, labels)
    assert np.isfinite(correct).all() and np.isnan(wrong).all()


def test_clusters_of_gated_features_are_the_gate():
    gate = fixed_gate_matrix(4, 14, 3)
    labels = np.arange(80) % 4
    features = 5 * gate[labels] + np.random.default_rng(0).normal(0, 0.1, (80, 14))
    centers, assignments = cluster_centers(features, 4)
    assert cluster_agreement(assignments, labels) == 1
    ordered, cosine = match_centers(centers, gate)
    assert cosine > 0.999
    for c in range(4):
        np.testing.assert_allclose(ordered[c], features[labels == c].mean(axis=0), rtol=1e-6, atol=1e-9)
    again, _ = cluster_centers(features, 4)
    np.testing.assert_array_equal(again, centers)


def test_matching_takes_the_best_permutation(gate):
    centers = np.random.default_rng(5).normal(size=gate.shape)
    cosines = [[a @ b / (math.hypot(*a) * math.hypot(*b)) for b in centers] for a in gate]
    best = max(itertools.permutations(range(3)), key=lambda order: sum(cosines[c][o] for c, o in enumerate(order)))
    ordered, cosine = match_centers(centers, gate)
    np.testing.assert_array_equal(ordered, centers[list(best)])
    assert cosine == pytest.approx(np.mean([cosines[c][o] for c, o in enumerate(best)]))


def test_a_center_of_zeros_has_cosine_zero():
    ordered, cosine = match_centers(np.array([[0.0, 0.0], [0.0, 2.0]]), np.eye(2))
    np.testing.assert_array_equal(ordered, [[0, 0], [0, 2]])
    assert cosine == 0.5


def test_agreement_of_unrelated_clusters_is_near_zero():
    rng = np.random.default_rng(0)
    assert abs(cluster_agreement(rng.integers(0, 4, 400), rng.integers(0, 4, 400))) < 0.05


# --- Correlation.


def test_correlation_equals_a_loop():
    kernel = np.random.default_rng(2).normal(size=(3, 3, 2, 4)).astype("float32")
    found = filter_correlation(kernel)
    for i, j in np.ndindex(4, 4):
        a, b = kernel[..., i].ravel().tolist(), kernel[..., j].ravel().tolist()
        product = sum(x * y for x, y in zip(a, b))
        assert found[i, j] == pytest.approx(product / math.hypot(*a) / math.hypot(*b), abs=1e-6)


def test_a_filter_of_zeros_correlates_with_none():
    kernel = np.ones((1, 1, 3, 3))
    kernel[..., 1] = 0
    np.testing.assert_allclose(filter_correlation(kernel), [[1, 0, 1], [0, 0, 0], [1, 0, 1]])


def test_correlated_share_counts_elements():
    correlation = np.random.default_rng(0).uniform(-1, 1, (5, 5))
    thresholds = np.array([-1.0, 0.0, correlation[0, 0], 1.0])
    expected = [sum(value > t for value in correlation.ravel()) / 25 for t in thresholds]
    np.testing.assert_allclose(correlated_share(correlation, thresholds), expected, atol=1e-12)
    assert correlated_share(np.eye(4), 0.5) == 0.25


@pytest.mark.parametrize("include_shared", [True, False])
def test_inter_class_correlation_equals_a_loop(include_shared):
    rng = np.random.default_rng(4)
    correlation, means = filter_correlation(rng.normal(size=(9, 8))), rng.random((4, 8))
    groups = [sorted(range(8), key=lambda k: -row[k])[:3] for row in means]
    values = [
        correlation[k, other]
        for c, d in itertools.permutations(range(4), 2)
        for k, other in itertools.product(groups[c], groups[d])
        if include_shared or k != other
    ]
    assert inter_class_filter_correlation(correlation, means, 3, include_shared) == pytest.approx(np.mean(values))
    assert include_shared or len(values) < 4 * 3 * 9  # the classes do share filters here


def test_inter_class_correlation_of_known_groups():
    means = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    blocks = np.kron(np.eye(2), np.ones((2, 2)))
    assert inter_class_filter_correlation(blocks, means, 2) == 0
    same = np.ones((2, 4)) * np.arange(4)
    assert inter_class_filter_correlation(np.eye(4), same, 1) == 1
    assert math.isnan(inter_class_filter_correlation(np.eye(4), same, 1, include_shared=False))
    absent = np.vstack([means, np.full(4, np.nan)])
    assert inter_class_filter_correlation(blocks + 0.25, absent, 2) == 0.25


# --- Mutual information.


def test_mutual_information_of_known_filters():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    own = (labels == 1) + rng.normal(0, 1e-3, 600)
    found = mutual_information_score(np.stack([own, rng.normal(size=600), np.zeros(600)], axis=1), labels, 3)
    entropy = -(math.log(1 / 3) / 3 + math.log(2 / 3) * 2 / 3)
    assert found.matrix.shape == (3, 3)
    assert found.matrix[1, 0] == pytest.approx(entropy, abs=0.02)
    np.testing.assert_allclose(found.per_filter[1:], 0, atol=0.05)
    assert found.score == pytest.approx(sum(max(column) for column in found.matrix.T.tolist()) / 3)


def test_mutual_information_draws_examples_by_the_seed():
    rng = np.random.default_rng(0)
    pooled, labels = rng.normal(size=(100, 2)), np.arange(100) % 2
    first, again, other = (mutual_information_score(pooled, labels, 2, max_examples=40, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.matrix, again.matrix)
    assert (first.matrix != other.matrix).any()


def test_a_class_with_one_example_or_none_tells_nothing():
    labels = np.array([0] * 19 + [1])
    found = mutual_information_score(np.random.default_rng(0).normal(size=(20, 3)), labels, 3)
    np.testing.assert_allclose(found.matrix, 0, atol=1e-12)


@pytest.mark.parametrize(
    "module, call",
    [
        ("sklearn.feature_selection", lambda: mutual_information_score(np.ones((5, 2)), np.zeros(5, int), 1)),
        ("sklearn.cluster", lambda: cluster_centers(np.ones((5, 2)), 1)),
        ("sklearn.metrics", lambda: cluster_agreement(np.zeros(5, int), np.zeros(5, int))),
        ("scipy.optimize", lambda: match_centers(np.eye(2), np.eye(2))),
    ],
)
def test_a_missing_package_is_named(monkeypatch, module, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'keras-interp\[evaluate\]'.*Received: "):
        call()


# --- Filter ambiguity.


def objective(gate, pooled, kernel, bias, labels, sparsity_weight=2.0, target_density=1 / NUM_CLASSES):
    """Eq. 2 written out, one example at a time."""
    loss = 0.0
    for features, label in zip(pooled.astype("float64"), labels):
        logits = (features * gate[label]) @ kernel + bias
        loss += math.log(sum(math.exp(v) for v in logits)) - logits[label]
    return loss / len(labels) + sparsity_weight * abs(np.mean(gate) - target_density)


def test_the_gradient_is_that_of_finite_differences(head, gate):
    pooled, kernel, bias, labels = head
    blocks = [pooled[labels == c].astype("float64") for c in range(NUM_CLASSES)]
    loss, gradient = gates._gated_cross_entropy(blocks, kernel, bias, gate)
    assert loss == pytest.approx(objective(gate, *head, sparsity_weight=0))
    for place in np.ndindex(gate.shape):
        step = np.zeros_like(gate)
        step[place] = 1e-5
        difference = objective(gate + step, *head, sparsity_weight=0) - objective(gate - step, *head, sparsity_weight=0)
        assert gradient[place] == pytest.approx(difference / 2e-5, abs=1e-8)


def smallest_objective(owners, pooled, kernel, bias, labels):
    """The minimum of Eq. 2 where it is given whose entry of each column is 1: the rest is convex."""
    blocks = [pooled[labels == c].astype("float64") for c in range(NUM_CLASSES)]
    gate, free = np.ones((NUM_CLASSES, NUM_FILTERS)), np.ones((NUM_CLASSES, NUM_FILTERS), bool)
    free[owners, range(NUM_FILTERS)] = False

    def smooth(values):
        # The density cannot be below its target of 1/classes here, so that the absolute value is smooth.
        gate[free] = values
        loss, gradient = gates._gated_cross_entropy(blocks, kernel, bias, gate)
        return loss + 2 * (gate.mean() - 1 / NUM_CLASSES), (gradient + 2 / gate.size)[free]

    return minimize(smooth, np.full(free.sum(), 0.5), jac=True, bounds=[(0, 1)] * free.sum(), method="L-BFGS-B").fun


def test_ambiguity_finds_a_minimum_close_to_the_smallest(head):
    found = filter_ambiguity(*head)
    assert found.phi == pytest.approx(objective(found.gate, *head), rel=1e-9)
    assert found.gate.min() >= 0 and (found.gate.max(axis=0) == 1).all()
    assert found.phi == pytest.approx(smallest_objective(found.gate.argmax(axis=0), *head), abs=1e-5)
    smallest = min(smallest_objective(owners, *head) for owners in itertools.product(range(NUM_CLASSES), repeat=NUM_FILTERS))
    assert smallest - 1e-6 <= found.phi <= smallest + 0.01
    assert filter_ambiguity(*head).phi == found.phi


def test_ambiguity_of_one_filter_for_two_classes():
    # One class gets the entry 1; the other's g solves the derivative of log(1 + exp(-6g)) / 2 + g, which gives exp(-6g) = 1/2.
    found = filter_ambiguity(np.array([[3.0], [-3.0]]), np.array([[1.0, -1.0]]), np.zeros(2), np.array([0, 1]))
    expected = (math.log(1 + math.exp(-6)) + math.log(1.5)) / 2 + math.log(2) / 6
    assert found.phi == pytest.approx(expected, abs=1e-6)
    assert sorted(found.gate[:, 0]) == pytest.approx([math.log(2) / 6, 1], abs=1e-3)


def test_ambiguity_of_a_network_without_weights_is_that_of_guessing(head):
    pooled, kernel, bias, labels = head
    found = filter_ambiguity(pooled, 0 * kernel, 0 * bias, labels)
    assert found.phi == pytest.approx(math.log(NUM_CLASSES), abs=1e-9)
    assert gate_density(found.gate) == pytest.approx(1 / NUM_CLASSES)


def test_ambiguity_of_ideally_specific_filters_is_their_cross_entropy():
    specific, labels = np.repeat(np.eye(3), 2, axis=1), np.arange(60) % 3
    found = filter_ambiguity(3 * specific[labels], 2 * specific.T, np.zeros(3), labels)
    assert found.phi == pytest.approx(math.log(1 + 2 * math.exp(-12)), rel=1e-6)
    np.testing.assert_array_equal(found.gate, specific)


def test_ambiguity_is_at_most_that_of_the_gate_given(head, gate):
    pooled, kernel, bias, labels = head
    for start in (gate, np.ones_like(gate), np.repeat(np.eye(3), 2, axis=1)):
        assert filter_ambiguity(pooled, kernel, bias, labels, start, steps=1).phi <= objective(start, *head)


def test_ambiguity_reaches_another_target_density(head):
    found = filter_ambiguity(*head, sparsity_weight=50.0, target_density=0.6)
    assert found.gate.mean() == pytest.approx(0.6, abs=5e-3)


def test_without_sparsity_ambiguity_is_the_best_cross_entropy(head):
    found = filter_ambiguity(*head, sparsity_weight=0.0)
    assert found.phi == found.cross_entropy <= objective(np.ones((NUM_CLASSES, NUM_FILTERS)), *head, sparsity_weight=0)


def test_ambiguity_with_a_class_without_examples_or_dead_filters(head):
    pooled, kernel, bias, labels = head
    found = filter_ambiguity(pooled * [1, 0, 1, 1, 1, 0], kernel, bias, np.where(labels == 2, 1, labels))
    assert np.isfinite(found.phi) and (found.gate.max(axis=0) == 1).all()


# --- Bad inputs.

POOLED, KERNEL, BIAS, LABELS, GATE = np.ones((4, 3)), np.ones((3, 2)), np.zeros(2), np.array([0, 1, 0, 1]), np.ones((2, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda: gate_density(np.ones(3)),
        lambda: gate_density(GATE * np.nan),
        lambda: owned_filters(np.ones(3)),
        lambda: owned_filters(GATE, threshold=0.0),
        lambda: class_filters(np.ones(3)),
        lambda: class_means(POOLED, LABELS[:3], 2),
        lambda: class_means(POOLED[:, 0], LABELS, 2),
        lambda: class_means(POOLED, LABELS + 1, 2),
        lambda: most_active_filters(POOLED, LABELS, 2, count=0),
        lambda: most_active_filters(POOLED, LABELS, 2, count=4),
        lambda: masked_predictions(POOLED, KERNEL.T, BIAS, np.ones(3, bool)),
        lambda: masked_predictions(POOLED, KERNEL, np.zeros(3), np.ones(3, bool)),
        lambda: masked_predictions(POOLED, KERNEL, BIAS, np.ones(2, bool)),
        lambda: masked_predictions(POOLED, KERNEL, BIAS, np.array([0, 1, 2])),
        lambda: masked_confusion(POOLED, KERNEL, BIAS, LABELS + 1, np.ones(3, bool)),
        lambda: masking_effect(POOLED, KERNEL, BIAS, LABELS, np.ones((3, 2), bool)),
        lambda: masking_effect(POOLED, KERNEL, BIAS, LABELS, GATE),
        lambda: feature_gate_similarity(POOLED, GATE.T, LABELS, LABELS),
        lambda: feature_gate_similarity(POOLED, GATE, LABELS, LABELS[:3]),
        lambda: feature_gate_similarity(POOLED, GATE, LABELS, LABELS + 1),
        lambda: cluster_centers(POOLED, 5),
        lambda: cluster_centers(POOLED[0], 1),
        lambda: cluster_agreement(LABELS, LABELS[:3]),
        lambda: match_centers(POOLED, GATE),
        lambda: filter_correlation(np.ones(3)),
        lambda: filter_correlation(np.full((2, 3), np.inf)),
        lambda: correlated_share(np.ones(3), 0.5),
        lambda: inter_class_filter_correlation(np.eye(2), GATE, 1),
        lambda: inter_class_filter_correlation(np.eye(3), GATE[0], 1),
        lambda: inter_class_filter_correlation(np.eye(3), GATE, 4),
        lambda: mutual_information_score(POOLED, LABELS[:3], 2),
        lambda: mutual_information_score(POOLED, LABELS, 2, max_examples=3),
        lambda: filter_ambiguity(POOLED, KERNEL, BIAS, LABELS[:3]),
        lambda: filter_ambiguity(POOLED, KERNEL, BIAS, LABELS + 1),
        lambda: filter_ambiguity(POOLED, KERNEL, BIAS, LABELS, gate=GATE.T),
        lambda: filter_ambiguity(POOLED, KERNEL, BIAS, LABELS, gate=2 * GATE),
        lambda: filter_ambiguity(POOLED, KERNEL, BIAS, LABELS, gate=0 * GATE),
        lambda: filter_ambiguity(POOLED, KERNEL, BIAS, LABELS, steps=0),
    ],
)
def test_bad_inputs_raise(call):
    with pytest.raises(ValueError, match="Received: "):
        call()
