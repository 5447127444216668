import sys

import keras
import numpy as np
import pytest

from keras_interp.metrics.heatmaps import heatmap_agreement, masked_accuracy, masked_images, pixel_curves, shifted_bias
from keras_interp.metrics.localization import upsample_bilinear

# --- Masked and inpainted images.


def test_kept_pixels_stay_and_hidden_ones_do_not_show(rng):
    pytest.importorskip("cv2")
    images = rng.integers(0, 256, (3, 32, 24, 3), dtype="uint8")
    # Maps as large as the image, so that it is plain which pixels are kept; one of the borders among them.
    maps = rng.random((3, 2, 32, 24)) ** 8
    thresholds = [0.01, 0.3, 1.0]
    kept = np.zeros((3, 3, 32, 24), bool)
    for t, threshold in enumerate(thresholds):
        for m, f, i, j in np.ndindex(maps.shape):
            kept[t, m, i, j] |= maps[m, f, i, j] >= threshold * maps[m, f].max()
    assert kept[2].sum() == 6
    result = masked_images(images, maps, thresholds)
    assert result.shape == (3, 3, 32, 24, 3) and result.dtype == np.uint8
    others = rng.integers(0, 256, images.shape, dtype="uint8")
    for masked, mask in zip(result, kept):
        np.testing.assert_array_equal(masked[mask], images[mask])
        assert (masked[~mask] != images[~mask]).mean() > 0.9
    # What is hidden by the second threshold may be anything.
    changed = np.where(kept[1][..., None], images, others)
    np.testing.assert_array_equal(masked_images(changed, maps, thresholds)[1:], result[1:])


def test_holes_in_simple_images_are_filled():
    pytest.importorskip("cv2")
    columns = np.repeat(np.linspace(40, 200, 32).round()[None, :, None], 32, axis=0)
    images = np.stack([np.full((32, 32, 1), 77.0), columns])
    hole = np.ones((1, 1, 32, 32))
    hole[..., 12:18, 12:18] = 0
    constant, ramp = masked_images(images, np.repeat(hole, 2, axis=0), [0.5])[0]
    assert (constant == 77).all()
    assert np.abs(ramp - columns).max() < 15
    # From the corner alone.
    corner = np.zeros((1, 1, 32, 32))
    corner[..., :3, :3] = 1
    assert (masked_images(images[:1], corner, [0.5]) == 77).all()


def test_maps_are_enlarged_and_each_counts_by_its_own_maximum():
    pytest.importorskip("cv2")
    images = np.full((1, 4, 4, 1), 9.0)
    maps = np.zeros((1, 2, 2, 2))
    maps[0, 0, 0, 0], maps[0, 1, 1, 1] = 100, 0.001
    labels, predict = np.array([0]), lambda images: images.mean(axis=(1, 2))
    both = masked_accuracy(lambda images: np.repeat(predict(images), 2, axis=1), images, maps, labels, [1.0])
    # Enlarged to four pixels, each of the two maps has its maximum on one pixel.
    np.testing.assert_allclose(both.kept, [2 / 16])


def test_a_map_without_heat_keeps_nothing():
    pytest.importorskip("cv2")
    images, maps = np.full((2, 5, 5, 1), 50, "uint8"), np.zeros((2, 1, 5, 5))
    maps[1] = 1
    result = masked_images(images, maps, [0.01, 1.0])
    assert (result[:, 0] == 0).all() and (result[:, 1] == 50).all()


def test_accuracy_of_masked_images(rng):
    pytest.importorskip("cv2")
    # The class is whether the left or the right half is bright; a map that points to the half's brightness keeps it.
    images = np.zeros((4, 16, 16, 1))
    images[:2, :, :8] = images[2:, :, 8:] = 200
    labels = np.array([0, 0, 1, 1])

    def predict(images):
        assert images.dtype == np.float32 and images.shape == (4, 16, 16, 1)
        return np.stack([images[:, :, :8].mean(axis=(1, 2, 3)), images[:, :, 8:].mean(axis=(1, 2, 3)) + 1], axis=1)

    maps = np.full((4, 1, 16, 16), 0.02)
    maps[:, 0] += images[..., 0] / 200
    result = masked_accuracy(predict, images, maps, labels, [0.01, 0.5])
    assert result.original == 1
    # With the bright half alone, inpainting makes all bright, and the second class has a little more.
    np.testing.assert_allclose(result.masked, [1, 0.5])
    np.testing.assert_allclose(result.kept, [1, 0.5])
    for threshold, expected in zip([0.01, 0.5], result.masked):
        logits = predict(masked_images(images, maps, [threshold])[0].astype("float32"))
        assert (logits.argmax(axis=1) == labels).mean() == expected


def test_opencv_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-interp\[inpaint\]'.*Received: "):
        masked_images(np.ones((1, 2, 2, 1)), np.eye(2)[None, None])


# --- Constant shift.


def test_agreement_of_known_maps():
    map = np.arange(6.0).reshape(1, 1, 2, 3)
    maps = np.concatenate([map, map, map, 0 * map, 0 * map, map], axis=1)
    others = np.concatenate([map, 3 * map + 1, 5 - map, 0 * map, map, 0 * map], axis=1)
    result = heatmap_agreement(maps, others)
    np.testing.assert_allclose(result.correlation, [[1, 1, -1, np.nan, np.nan, np.nan]])
    size = np.linalg.norm(map)
    expected = [0, np.linalg.norm(2 * map + 1) / size, np.linalg.norm(5 - 2 * map) / size, 0, np.inf, 1]
    np.testing.assert_allclose(result.difference, [expected])


def test_agreement_equals_that_of_numpy(rng):
    maps, others = rng.random((3, 2, 4, 5)), rng.random((3, 2, 4, 5))
    result = heatmap_agreement(maps, others)
    for m, n in np.ndindex(3, 2):
        first, second = maps[m, n].ravel(), others[m, n].ravel()
        assert result.correlation[m, n] == pytest.approx(np.corrcoef(first, second)[0, 1])
        squares = sum((a - b) ** 2 for a, b in zip(first, second)) / sum(a**2 for a in first)
        assert result.difference[m, n] == pytest.approx(squares**0.5)


def test_a_shifted_network_computes_the_same(rng):
    images, shift = rng.normal(size=(2, 6, 6, 3)).astype("float32"), np.array([10.0, -3.0, 5.0])
    kernel, bias = rng.normal(size=(3, 3, 3, 4)), rng.normal(size=4)

    def layer(images, bias):
        convolved = keras.ops.conv(images.astype("float32"), kernel.astype("float32"), data_format="channels_last")
        return keras.ops.convert_to_numpy(convolved) + bias

    shifted = layer(images + shift, shifted_bias(kernel, bias, shift))
    np.testing.assert_allclose(shifted, layer(images, bias), atol=1e-4)
    dense = rng.normal(size=(3, 2))
    np.testing.assert_allclose((images + 7) @ dense + shifted_bias(dense, bias[:2], 7), images @ dense + bias[:2], atol=1e-4)


def test_a_gradient_passes_the_shift_and_its_product_with_the_input_does_not(rng):
    inputs, kernel, bias, weights = rng.normal(size=(4, 9)), rng.normal(size=(9, 5)), rng.normal(size=5), rng.normal(size=5)

    def gradients(inputs, bias):
        return ((inputs @ kernel + bias > 0) * weights) @ kernel.T

    moved, moved_bias = inputs + 2, shifted_bias(kernel, bias, 2)
    saliency, moved_saliency = gradients(inputs, bias), gradients(moved, moved_bias)
    maps = np.stack([saliency, inputs * saliency], axis=1).reshape(4, 2, 3, 3)
    others = np.stack([moved_saliency, moved * moved_saliency], axis=1).reshape(4, 2, 3, 3)
    result = heatmap_agreement(maps, others)
    np.testing.assert_allclose(result.correlation[:, 0], 1)
    assert (result.difference[:, 0] == 0).all() and (result.difference[:, 1] > 0.5).all()


# --- Deletion and insertion.


def brightest(images):
    """Logits of images that are bright somewhere, or not."""
    peak = images.max(axis=(1, 2, 3))
    return np.stack([peak - 100, 0 * peak], axis=1)


def test_curves_of_a_known_network():
    pytest.importorskip("scipy")
    images = np.zeros((2, 4, 4, 1))
    images[:, 1, 2] = 255
    maps = np.stack([images[0, ..., 0], -images[0, ..., 0]])
    curves = pixel_curves(brightest, images, maps, np.array([0, 0]), steps=4, blur=1.0, progress=False)
    np.testing.assert_array_equal(curves.shares, [0, 0.25, 0.5, 0.75, 1])
    # The right map deletes the bright pixel in the first step, the wrong one in the last.
    np.testing.assert_allclose(curves.deletion, [[1, 0, 0, 0, 0], [1, 1, 1, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(curves.insertion, [[0, 1, 1, 1, 1], [0, 0, 0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(curves.deletion_area, [0.125, 0.875], atol=1e-6)
    np.testing.assert_allclose(curves.insertion_area, [0.875, 0.125], atol=1e-6)


def test_curves_like_a_loop(rng):
    ndimage = pytest.importorskip("scipy.ndimage")
    images, maps, targets = rng.uniform(0, 255, (3, 6, 5, 2)).astype("float32"), rng.normal(size=(3, 3, 5)), [1, 0, 2]
    weights = rng.normal(size=(60, 3)) / 100

    def predict(images):
        assert images.dtype == np.float32
        return images.reshape(len(images), -1) @ weights

    curves = pixel_curves(predict, images, maps, targets, steps=7, progress=False)
    assert curves.deletion.shape == curves.insertion.shape == (3, 8)
    for m, (image, heat) in enumerate(zip(images, upsample_bilinear(maps, (6, 5)))):
        order = sorted(np.ndindex(6, 5), key=lambda place: -heat[place])
        blurred = np.stack([ndimage.gaussian_filter(image[..., c], 5.0, radius=5) for c in range(2)], axis=-1)
        for step in range(8):
            deleted, inserted = image.copy(), blurred.copy()
            count = round(step / 7 * 30)
            assert curves.shares[step] == count / 30
            for place in order[:count]:
                deleted[place], inserted[place] = image.mean(axis=(0, 1)), image[place]
            for shown, curve in ((deleted, curves.deletion), (inserted, curves.insertion)):
                odds = np.exp(predict(shown[None])[0])
                assert curve[m, step] == pytest.approx(odds[targets[m]] / odds.sum(), rel=1e-4)
        area = sum(
            (curves.shares[k + 1] - curves.shares[k]) * (curves.deletion[m, k] + curves.deletion[m, k + 1]) / 2
            for k in range(7)
        )
        assert curves.deletion_area[m] == pytest.approx(area)
    np.testing.assert_allclose(curves.insertion[:, -1], curves.deletion[:, 0])


def test_equal_heat_takes_pixels_in_reading_order():
    pytest.importorskip("scipy")
    images = np.zeros((1, 2, 2, 1))
    images[0, 0, 1] = 255
    curves = pixel_curves(brightest, images, np.ones((1, 2, 2)), np.array([0]), steps=4, progress=False)
    np.testing.assert_allclose(curves.deletion, [[1, 1, 0, 0, 0]], atol=1e-6)


IMAGES, MAPS = np.ones((2, 8, 8, 1)), np.ones((2, 1, 8, 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masked_images(IMAGES * 300, MAPS), "0..255.*300"),
        (lambda: masked_images(np.ones((2, 3, 3, 4)), MAPS), r"one channel or three.*\(2, 3, 3, 4\)"),
        (lambda: masked_images(IMAGES, MAPS[:1]), r"\(2, features, h, w\)"),
        (lambda: masked_images(IMAGES, -MAPS), "negative"),
        (lambda: masked_images(IMAGES, MAPS, [0.0]), r"\(0, 1\].*\[0.0\]"),
        (lambda: masked_images(IMAGES, MAPS, 0.5), "`thresholds`"),
        (lambda: masked_images(IMAGES, np.ones((2, 1, 9, 9))), r"size=\(8, 8\)"),
        (lambda: masked_accuracy(brightest, IMAGES, MAPS, np.array([0, 2])), r"\[0, 2\)"),
        (lambda: heatmap_agreement(MAPS, MAPS[:, :, :2]), "`others`"),
        (lambda: shifted_bias(np.ones(3), np.ones(3), 1.0), r"\(inputs, outputs\)"),
        (lambda: shifted_bias(np.ones((3, 2)), np.ones(3), 1.0), r"`bias`.*\(2\)"),
        (lambda: shifted_bias(np.ones((3, 2)), np.ones(2), np.ones(2)), r"`shift`.*\(3\)"),
        (lambda: pixel_curves(brightest, IMAGES, MAPS, [0, 0]), r"\(2, h, w\)"),
        (lambda: pixel_curves(brightest, IMAGES, MAPS[:, 0], [0, 5], progress=False), r"\[0, 2\)"),
        (lambda: pixel_curves(brightest, IMAGES, MAPS[:, 0], [0, 0], steps=65), r"\[1, 64\].*steps=65"),
        (lambda: pixel_curves(brightest, IMAGES, MAPS[:, 0], [0, 0], blur=0), "blur=0"),
        (lambda: pixel_curves(lambda images: images, IMAGES, MAPS[:, 0], [0, 0], progress=False), r"predict\(images\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "Received: " in str(caught.value)
