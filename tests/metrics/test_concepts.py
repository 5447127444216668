import math

import numpy as np
import pytest

from keras_interp.metrics import logit_faithfulness
from keras_interp.metrics.concepts import decision_faithfulness, locality, orthogonality, part_histograms, voronoi_cells
from keras_interp.metrics.localization import upsample_bilinear

# --- Faithfulness.


def test_errors_of_known_predictions():
    logits = np.array([0.0, 2.0, 4.0, 10.0])
    perfect = logit_faithfulness(logits, logits)
    assert (perfect.error, perfect.relative_error, perfect.constant_error) == (0, 0, 3)
    # The median, 3, is as good as a constant can be, and the mean is not.
    constant = logit_faithfulness(np.full(4, 3.0), logits)
    assert constant.error == constant.constant_error
    assert logit_faithfulness(np.full(4, 4.5), logits).error > constant.constant_error
    off = logit_faithfulness(logits + np.array([1, -1, 1, -1]), logits)
    assert off.error == 1 and off.relative_error == pytest.approx(1 / logits.std())


def test_errors_of_some_images_like_a_loop(rng):
    predictions, logits, mask = rng.normal(size=50), 3 * rng.normal(size=50), rng.random(50) < 0.3
    result = logit_faithfulness(predictions, logits, mask)
    chosen = [i for i in range(50) if mask[i]]
    assert result.error == pytest.approx(sum(abs(predictions[i] - logits[i]) for i in chosen) / len(chosen))
    mean = sum(logits) / 50
    assert result.relative_error == pytest.approx(result.error / math.sqrt(sum((y - mean) ** 2 for y in logits) / 50))
    constants = np.linspace(-9, 9, 10001)
    best = min(np.mean([abs(c - logits[i]) for i in chosen]) for c in constants)
    assert result.constant_error == pytest.approx(best, abs=1e-3)
    everything = logit_faithfulness(predictions, logits, np.ones(50, bool))
    assert everything == logit_faithfulness(predictions, logits)


def test_a_logit_without_variation_has_no_relative_error():
    result = logit_faithfulness(np.zeros(3), np.full(3, 0.1))
    assert result.error == pytest.approx(0.1) and math.isnan(result.relative_error)


def test_decisions_of_known_predictions():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0]])
    assert decision_faithfulness(logits[:, 0], logits, 0) == 1
    # Class 0 loses the first image, and does not win another.
    assert decision_faithfulness(np.array([0.5, 0.5, 0.5]), logits, 0) == pytest.approx(2 / 3)
    assert decision_faithfulness(np.array([0.5, 0.5, 0.5]), logits, 0, np.array([True, False, False])) == 0
    # Class 0 wins all.
    assert decision_faithfulness(np.full(3, 9.0), logits, 0) == pytest.approx(1 / 3)
    assert logits[0, 0] == 2


def test_decisions_like_a_loop(rng):
    logits, predictions, mask = rng.normal(size=(60, 4)), rng.normal(size=60), rng.random(60) < 0.5
    same = []
    for i in np.flatnonzero(mask):
        row = list(logits[i])
        before = row.index(max(row))
        row[2] = predictions[i]
        same.append(row.index(max(row)) == before)
    assert 0 < np.mean(same) < 1
    assert decision_faithfulness(predictions, logits, 2, mask) == pytest.approx(np.mean(same))


# --- Orthogonality.


def test_uncorrelated_maps_are_at_the_optimum():
    waves = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]], float).reshape(1, 3, 2, 2)
    result = orthogonality(np.concatenate([waves, waves]))
    assert result.excess_norm == pytest.approx(0, abs=1e-12)
    assert result.negative_log_determinant == pytest.approx(0, abs=1e-12)
    assert result.dead == 0


def test_the_same_map_several_times_is_at_the_other_end(rng):
    map = rng.random((4, 1, 3, 3))
    result = orthogonality(np.concatenate([map, 2 * map + 1, map, 0 * map, 0 * map + 0.1], axis=1))
    assert result.excess_norm == pytest.approx(3 - math.sqrt(3))
    assert result.negative_log_determinant == math.inf
    assert result.dead == 2


def test_linear_dependence_is_found_without_a_pair_that_is_equal(rng):
    maps = rng.random((5, 4, 6, 6))
    assert 0 < orthogonality(maps).negative_log_determinant < 1
    maps[:, 3] = maps[:, 0] + 2 * maps[:, 1]
    assert orthogonality(maps).negative_log_determinant == math.inf
    ridged = orthogonality(maps, ridge=1e-6).negative_log_determinant
    assert 8 < ridged < -math.log(1e-7)


def test_orthogonality_equals_that_of_numpy(rng):
    maps = rng.random((6, 3, 4, 5))
    maps[:, 1] += maps[:, 0]
    vectors = [[maps[m, n, i, j] for m in range(6) for i in range(4) for j in range(5)] for n in range(3)]
    correlations = np.corrcoef(vectors)
    result = orthogonality(maps)
    assert result.excess_norm == pytest.approx(math.sqrt((correlations**2).sum()) - math.sqrt(3))
    assert result.negative_log_determinant == pytest.approx(-math.log(np.linalg.det(correlations)))
    ridged = -math.log(np.linalg.det((correlations + 0.1 * np.eye(3)) / 1.1))
    assert orthogonality(maps, ridge=0.1).negative_log_determinant == pytest.approx(ridged)
    # Neither the scale nor the offset of a feature counts.
    scaled = orthogonality(maps * np.array([1, 5, 0.1])[:, None, None] + 2)
    assert scaled.excess_norm == pytest.approx(result.excess_norm)


def test_few_live_features():
    alone = orthogonality(np.arange(8.0).reshape(1, 2, 2, 2) * np.array([1, 0])[:, None, None])
    assert (alone.excess_norm, alone.negative_log_determinant, alone.dead) == (0, 0, 1)
    none = orthogonality(np.zeros((2, 5, 3, 3)))
    assert math.isnan(none.excess_norm) and math.isnan(none.negative_log_determinant) and none.dead == 5


def test_counts_of_a_study(rng):
    counts = rng.integers(0, 9, (5, 16))
    correlations = np.corrcoef(counts)
    assert orthogonality(counts[None, :, None]).negative_log_determinant == pytest.approx(-np.linalg.slogdet(correlations)[1])
    shares = counts / counts.sum(axis=1, keepdims=True)
    expected = [-sum(p * math.log(p) for p in row if p) for row in shares]
    np.testing.assert_allclose(locality(counts[None]), expected)


# --- Locality.


def image_histogram(heat, points, visible, box):
    """Algorithm 1 written out for one image and one x-feature."""
    top, left, bottom, right = box
    inside = [(i, j) for i in range(top, bottom) for j in range(left, right)]

    def distance(pixel, part):
        return math.sqrt((pixel[0] - points[part][0]) ** 2 + (pixel[1] - points[part][1]) ** 2)

    seen = [part for part in range(len(points)) if visible[part]]
    cells = {part: [] for part in seen}
    for pixel in inside:
        cells[min(seen, key=lambda part: distance(pixel, part))].append(pixel)
    total = heat.sum()
    histogram = [0.0] * (len(points) + 1)
    for part, pixels in cells.items():
        distances = [distance(pixel, part) for pixel in pixels]
        for pixel, d in zip(pixels, distances):
            spread = max(distances) - min(distances)
            scaled = (d - min(distances)) / spread if spread else 0.0
            histogram[part] += (1 - scaled) * heat[pixel] / total
    histogram[-1] = sum(heat[pixel] for pixel in np.ndindex(heat.shape) if pixel not in inside) / total
    return histogram


def test_histograms_like_a_loop(rng):
    maps, size = rng.random((4, 3, 5, 4)), (10, 12)
    parts, visible = rng.uniform(0, 10, (4, 6, 2)), rng.random((4, 6)) < 0.6
    visible[:, 2] = True
    boxes = np.array([[0, 0, 10, 12], [1, 2, 9, 7], [3, 3, 4, 4], [5, 0, 10, 12]])
    histograms = part_histograms(maps, parts, visible, boxes, size)
    assert histograms.shape == (4, 3, 7)
    for m in range(4):
        for n, heat in enumerate(upsample_bilinear(maps[m], size).astype("float64")):
            expected = image_histogram(heat, parts[m], visible[m], boxes[m])
            np.testing.assert_allclose(histograms[m, n], expected, rtol=1e-6, atol=1e-12)
    totals = histograms.mean(axis=0)
    expected = [-sum(p * math.log(p) for p in row / row.sum() if p > 0) for row in totals]
    np.testing.assert_allclose(locality(histograms), expected)
    assert (locality(histograms) < math.log(7)).all()


def test_cells_of_known_parts():
    # Two parts in a row of pixels, the left one hidden in the second image, and a box that leaves the last pixel out.
    parts, visible = np.tile([[0.0, 1], [0, 5]], (2, 1, 1)), np.array([[True, True], [False, True]])
    cells, weights = voronoi_cells(parts, visible, np.tile([0, 0, 1, 7], (2, 1)), (1, 8))
    np.testing.assert_array_equal(cells[:, 0], [[0, 0, 0, 0, 1, 1, 1, 2], [1, 1, 1, 1, 1, 1, 1, 2]])
    np.testing.assert_allclose(weights[:, 0], [[0.5, 1, 0.5, 0, 0, 1, 0, 1], [0, 0.2, 0.4, 0.6, 0.8, 1, 0.8, 1]])


def test_places_between_and_beyond_pixels():
    # The pixel that is closest to a part counts in full, wherever the part is, even outside the box or alone in its cell.
    parts = np.array([[[0.4, 0.3], [-2.0, 9.0], [0.4, 0.3]]])
    cells, weights = voronoi_cells(parts, np.ones((1, 3), bool), np.array([[0, 0, 1, 6]]), (1, 6))
    np.testing.assert_array_equal(cells[0, 0], [0, 0, 0, 0, 0, 1])
    assert weights[0, 0, 0] == 1 and weights[0, 0, 4] == 0 and weights[0, 0, 5] == 1


def test_locality_of_known_heat():
    parts, visible, box = np.array([[[1, 1], [1, 5], [0, 0]]]), np.array([[True, True, False]]), np.array([[0, 0, 3, 7]])
    heat = np.zeros((1, 6, 3, 8))
    heat[0, 0, 1, 1] = 7.0  # on the first part
    heat[0, 1, 1, 5] = 2.0  # on the second
    heat[0, 2, 1, [1, 5]] = 1.0  # on both
    heat[0, 3, 1, 7] = 0.1  # outside the box
    heat[0, 4, 1, [1, 5, 7]] = 0.2  # everywhere
    histograms = part_histograms(heat, parts, visible, box, (3, 8))
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 1], [1 / 3, 1 / 3, 0, 1 / 3], [0, 0, 0, 0]]
    np.testing.assert_allclose(histograms[0], expected, rtol=1e-6)
    np.testing.assert_allclose(locality(histograms), [0, 0, math.log(2), 0, math.log(3), np.nan], rtol=1e-6)
    # An image of which a feature sees nothing does not change its locality.
    heat = np.concatenate([heat, 0 * heat])
    again = part_histograms(heat, np.tile(parts, (2, 1, 1)), np.tile(visible, (2, 1)), np.tile(box, (2, 1)), (3, 8))
    np.testing.assert_allclose(locality(again), locality(histograms))


def test_images_that_are_cropped_have_no_context(rng):
    maps, parts, visible = rng.random((2, 3, 4, 4)), rng.uniform(0, 8, (2, 5, 2)), np.ones((2, 5), bool)
    histograms = part_histograms(maps, parts, visible, None, (8, 8))
    assert (histograms[..., -1] == 0).all() and (histograms[..., :-1].sum(axis=-1) > 0.2).all()
    whole = part_histograms(maps, parts, visible, np.tile([0, 0, 8, 8], (2, 1)), (8, 8))
    np.testing.assert_array_equal(histograms, whole)


ONE = np.ones((1, 1), bool)
BOX = np.array([[0, 0, 2, 2]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: logit_faithfulness(np.ones((3, 1)), np.ones(3)), r"`predictions`.*\(3\).*shape=\(3, 1\)"),
        (lambda: logit_faithfulness(np.ones(3), np.ones((3, 1))), r"`logits`.*shape=\(3, 1\)"),
        (lambda: logit_faithfulness(np.array([np.nan]), np.ones(1)), "finite"),
        (lambda: logit_faithfulness(np.ones(2), np.ones(2), np.zeros(2, bool)), "none of 2"),
        (lambda: logit_faithfulness(np.ones(2), np.ones(2), np.zeros(2, int)), "booleans.*int64"),
        (lambda: decision_faithfulness(np.ones(3), np.ones((3, 1)), 0), r"two classes.*\(3, 1\)"),
        (lambda: decision_faithfulness(np.ones(3), np.ones((3, 2)), 2), r"\[0, 2\).*target=2"),
        (lambda: decision_faithfulness(np.ones(3), np.ones((3, 2)), -1), "target=-1"),
        (lambda: orthogonality(np.ones((2, 3, 4))), r"\(images, features, h, w\)"),
        (lambda: orthogonality(np.ones((1, 2, 3, 4)), ridge=-1.0), "ridge=-1.0"),
        (lambda: voronoi_cells(np.ones((1, 1, 3)), ONE, BOX, (2, 2)), r"\(n, parts, 2\)"),
        (lambda: voronoi_cells(np.ones((1, 1, 2)), ~ONE, BOX, (2, 2)), r"visible.*images \[0\]"),
        (lambda: voronoi_cells(np.ones((1, 1, 2)), np.ones((1, 1)), BOX, (2, 2)), "booleans.*float64"),
        (lambda: voronoi_cells(np.ones((1, 1, 2)), ONE, BOX + 1, (2, 2)), "boxes="),
        (lambda: part_histograms(-np.ones((1, 1, 2, 2)), np.ones((1, 1, 2)), ONE, BOX, (2, 2)), "negative.*-1.0"),
        (lambda: part_histograms(np.ones((2, 1, 2, 2)), np.ones((1, 1, 2)), ONE, BOX, (2, 2)), r"\(1, features, h, w\)"),
        (lambda: part_histograms(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2)), ONE, BOX, (2, 2)), r"size=\(2, 2\)"),
        (lambda: locality(-np.ones((1, 2, 3))), "negative"),
        (lambda: locality(np.ones((2, 3))), r"\(images, features, cells\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "Received: " in str(caught.value)
