import numpy as np
import pytest

from keras_interp import metrics


def test_sparsity_and_connected_units(rng):
    kernel = rng.normal(size=(30, 4)) * (rng.random((30, 4)) < 0.3)
    kernel[0] = 1e-3, -1e-3, 9e-4, -9e-4
    small = [[abs(weight) < 1e-3 for weight in row] for row in kernel]
    assert metrics.connection_sparsity(kernel) == pytest.approx(sum(map(sum, small)) / 120)
    assert metrics.connections.connected_units(kernel).tolist() == [30 - sum(row[c] for row in small) for c in range(4)]


@pytest.mark.parametrize("share", [0.5, 0.95, 0.98, 1.0])
def test_units_to_explain_equals_a_search(rng, share):
    contributions = rng.normal(size=(20, 9)) * (rng.random((20, 9)) < 0.6)
    contributions[0], contributions[1] = 0, [0, 0, -2, 0, 0, 0, 0, 0, 0]
    for row, count in zip(contributions, metrics.units_to_explain(contributions, share)):
        sizes = sorted(map(abs, row), reverse=True)
        enough = [n for n in range(10) if sum(sizes[:n]) >= share * sum(sizes) - 1e-12]
        assert count == enough[0]


def test_units_of_one_concept_count_as_one(rng):
    contributions = np.abs(rng.normal(size=(12, 6)))
    labels = np.arange(12) % 3
    alone = metrics.connections.concepts_of_classes(contributions, labels, [""] * 6, 4)
    assert np.isnan(alone[3])
    for number in range(3):
        mean = contributions[labels == number].mean(axis=0)
        assert alone[number] == metrics.units_to_explain(mean[None])[0]
    assert metrics.connections.concepts_of_classes(contributions, labels, ["sea"] * 6, 3).tolist() == [1, 1, 1]


def test_bad_arguments():
    with pytest.raises(ValueError, match="threshold"):
        metrics.connection_sparsity(np.ones((2, 2)), 0.0)
    with pytest.raises(ValueError, match="kernel"):
        metrics.connections.connected_units(np.ones(3))
    with pytest.raises(ValueError, match="share"):
        metrics.units_to_explain(np.ones((2, 2)), 1.5)
    with pytest.raises(ValueError, match="contributions"):
        metrics.units_to_explain(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="one concept"):
        metrics.connections.concepts_of_classes(np.ones((2, 2)), [0, 1], ["sea"], 2)
