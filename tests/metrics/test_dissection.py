import os

import keras
import numpy as np
import pytest

from keras_interp import backbones
from keras_interp.data.segmentation import SegmentationDataset, load_segmentation
from keras_interp.metrics import dissect
from keras_interp.metrics import dissection as module
from keras_interp.metrics.dissection import Dissection
from keras_interp.models import Classifier

CONCEPTS = ("unlabelled", "sky", "sea", "never there", "red", "blue")
CATEGORIES = ("", "object", "object", "object", "color", "color")


def enlarge(values, size):
    """Bilinear between centres, one pixel at a time."""
    enlarged = np.zeros(size)
    for place in np.ndindex(size):
        (top, below, down), (left, right, across) = (
            (max(0, int(np.floor(at))), min(old - 1, int(np.floor(at)) + 1), at - np.floor(at))
            for at, old in zip([(p + 0.5) * old / new - 0.5 for p, old, new in zip(place, values.shape, size)], values.shape)
        )
        upper = (1 - across) * values[top, left] + across * values[top, right]
        lower = (1 - across) * values[below, left] + across * values[below, right]
        enlarged[place] = (1 - down) * upper + down * lower
    return enlarged


def reference(maps, labels, categories, quantile):
    """Thresholds and IoU by loops over units, concepts and images; labels (n, layers, rows, columns)."""
    maps, units = maps.astype("float64"), maps.shape[-1]
    thresholds, iou = np.zeros(units), np.full((units, len(categories)), np.nan)
    for unit in range(units):
        values = maps[..., unit].ravel()
        thresholds[unit] = min(value for value in values if (values > value).mean() <= quantile)
        masks = np.array([enlarge(one, labels.shape[-2:]) for one in maps[..., unit]]) > thresholds[unit]
        for concept in range(1, len(categories)):
            both = either = pixels = 0
            siblings = [number for number, category in enumerate(categories) if number and category == categories[concept]]
            for mask, layers in zip(masks, labels):
                if np.isin(layers, siblings).any():
                    shown = (layers == concept).any(axis=0)
                    both, either, pixels = both + (mask & shown).sum(), either + (mask | shown).sum(), pixels + shown.sum()
            if pixels:
                iou[unit, concept] = both / either
    return thresholds, iou


def random_data(rng, count=11, layers=2, size=(9, 10)):
    """Maps (count, 3, 4, 5) with a dead unit, and labels in blobs of 3x3 pixels; the last images lack a category, or both."""
    maps = rng.normal(size=(count, 3, 4, 5)).astype("float32")
    maps[..., 3] = 0
    shape = count, layers, -(-size[0] // 3), -(-size[1] // 3)
    labels = np.kron(rng.choice([0, 1, 2, 4, 5], shape), np.ones((3, 3), int))[..., : size[0], : size[1]]
    labels[-3:][labels[-3:] > 3] = 0
    labels[-1] = 0
    return maps, labels


def dataset_of(maps, labels, concepts=CONCEPTS, categories=CATEGORIES):
    """A data set whose images hold their own number, and the model that returns their maps."""
    images = np.arange(len(maps), dtype="float32")[:, None, None, None]
    dataset = SegmentationDataset.from_arrays(images, labels, concepts, categories)
    return lambda images: maps[np.asarray(images)[:, 0, 0, 0].astype(int)], dataset


@pytest.mark.parametrize("quantile, batch_size", [(0.1, 64), (0.1, 4), (0.3, 1), (0.005, 5)])
def test_equals_the_reference(rng, quantile, batch_size):
    maps, labels = random_data(rng)
    found = dissect(*dataset_of(maps, labels), quantile, batch_size, progress=False)
    thresholds, iou = reference(maps, labels, CATEGORIES, quantile)
    np.testing.assert_array_equal(found.thresholds, thresholds.astype("float32"))
    np.testing.assert_allclose(found.iou, iou, rtol=1e-12)
    assert np.isnan(found.iou).all(axis=0).tolist() == [True, False, False, True, False, False]
    assert (found.iou[3, [1, 2, 4, 5]] == 0).all() and found.best[3] == -1 and found.labels[3] == ""


def test_one_category_and_one_layer(rng):
    maps, labels = random_data(rng, layers=1)
    found = dissect(*dataset_of(maps, labels[:, 0].astype("uint8"), categories=()), 0.1, 4, progress=False)
    np.testing.assert_allclose(found.iou, reference(maps, labels, ("object",) * 6, 0.1)[1], rtol=1e-12)


def test_units_in_parts(rng, monkeypatch):
    maps, labels = random_data(rng)
    whole = dissect(*dataset_of(maps, labels), 0.5, progress=False)
    monkeypatch.setattr(module, "_CHUNK", 100)
    np.testing.assert_array_equal(dissect(*dataset_of(maps, labels), 0.5, progress=False).iou, whole.iou)


def test_labels_far_beyond_a_byte(rng):
    maps, labels = random_data(rng)
    concepts, categories = ("",) * 400, ("",) * 400
    labels = np.where(labels == 5, 399, np.where(labels == 4, 300, labels))
    found = dissect(*dataset_of(maps, labels.astype("uint16"), concepts, categories), 0.1, progress=False)
    np.testing.assert_allclose(found.iou, reference(maps, labels, categories, 0.1)[1], rtol=1e-12)


# --- Thresholds.


@pytest.mark.parametrize("quantile", [0.005, 0.01234, 0.25, 0.29, 0.9, 1 - 1e-12])
def test_thresholds_are_exact_quantiles(rng, quantile):
    maps = np.concatenate([rng.normal(size=(25, 20, 20, 2)), rng.integers(0, 7, (25, 20, 20, 1))], axis=-1).astype("float32")
    found = module._thresholds([(maps[start : start + 6], None) for start in range(0, 25, 6)], 25, quantile)
    for values, threshold in zip(np.sort(maps.reshape(-1, 3).T), found):
        shares_above = 1 - np.searchsorted(values, values, side="right") / len(values)
        assert threshold == values[shares_above <= quantile + 1e-12][0]
        if quantile == 0.01234:
            assert threshold == np.quantile(values, 1 - quantile, method="inverted_cdf")


def test_thresholds_do_not_depend_on_the_order(rng):
    maps = np.sort(rng.normal(size=20_000).astype("float32")).reshape(50, 20, 20, 1)
    for ordered in (maps, maps[::-1]):
        assert module._thresholds([(part, None) for part in np.split(ordered, 10)], 50, 0.005) == np.sort(maps.ravel())[-101]


# --- Known answers.


def planted(rng, count=20):
    """Label maps at the maps' resolution whose concept 1 covers 5% of the positions, and units that detect it more or less."""
    labels = np.zeros(count * 100, int)
    sky, sea = np.split(rng.permutation(labels.size)[:200], 2)
    labels[sky], labels[sea] = 1, 2
    labels = labels.reshape(count, 10, 10)
    values = np.zeros((labels.size, 4), "float32")
    values[sky, 0] = 1 + rng.random(100)
    values[np.concatenate([sky[:50], sea[:50]]), 1] = 3
    values[sky[:20], 2] = 1
    return values.reshape(count, 10, 10, 4), labels


def test_planted_units(rng):
    maps, labels = planted(rng)
    found = dissect(*dataset_of(maps, labels, CONCEPTS[:3], ()), 0.05, batch_size=7, progress=False)
    # All, half of each of two, and a fifth of the concept's 100 pixels; and a dead unit.
    expected = np.array([[np.nan, 1, 0], [np.nan, 1 / 3, 1 / 3], [np.nan, 0.2, 0], [np.nan, 0, 0]])
    np.testing.assert_allclose(found.iou, expected, rtol=1e-12)
    assert found.thresholds.tolist() == [0, 0, 0, 0]
    assert found.best.tolist() == [1, 1, 1, -1] and found.labels == ("sky", "sky", "sky", "")
    assert found.scores == pytest.approx([1, 1 / 3, 0.2, 0])
    assert found.mean == pytest.approx((1 + 1 / 3 + 0.2) / 4)
    assert found.top_mean(2) == pytest.approx(2 / 3) and found.top_mean(4) == pytest.approx(found.mean)
    assert found.detectors() == 0.75 and found.detectors(0.2) == 0.5 and found.detectors(1.0) == 0


def test_a_saturated_unit_is_active_only_where_it_is_above():
    """Enlarging 0.7 to seven pixels rounds to more than 0.7 in places."""
    maps = np.full((2, 3, 3, 1), 0.7, "float32")
    maps[0, 0, 0] = 1
    data = dataset_of(maps, np.ones((2, 7, 7), int), CONCEPTS[:2], ())
    found = dissect(*data, 0.1, progress=False)
    assert found.thresholds == np.float32(0.7)
    assert found.scores == pytest.approx((enlarge(maps[0, ..., 0] == 1.0, (7, 7)) > 0).sum() / (2 * 7 * 7))
    assert dissect(*data, 0.01, progress=False).scores == 0


def test_a_concept_of_images_that_lack_its_category_does_not_count():
    maps, labels = np.zeros((2, 2, 2, 1), "float32"), np.zeros((2, 2, 2), int)
    maps[:, 0] = 1
    labels[0, 0], labels[1] = 1, 4
    one = dissect(*dataset_of(maps, labels, categories=("object",) * 6), 0.5, progress=False)
    several = dissect(*dataset_of(maps, labels), 0.5, progress=False)
    assert one.iou[0, [1, 4]].tolist() == [0.5, 2 / 6] and several.iou[0, [1, 4]].tolist() == [1.0, 0.5]


def test_an_unknown_concept_is_never_the_best():
    found = Dissection(np.zeros(2), np.array([[np.nan, np.nan, 0.1], [np.nan, np.nan, 0.0]]), CONCEPTS[:3])
    assert found.best.tolist() == [2, -1] and found.scores.tolist() == [0.1, 0]


# --- Models.


def test_models_and_functions(images, capsys):
    labels = np.repeat(np.arange(16) % 3, 64).reshape(16, 8, 8)
    dataset = SegmentationDataset.from_arrays(images, labels, CONCEPTS[:3])
    backbone = backbones.cifar_resnet(8, 4)
    classifier = Classifier(backbone, num_classes=3)
    expected = dissect(lambda images: classifier.features(images)[0], dataset, 0.05, batch_size=5, progress=False)
    assert expected.iou.shape == (backbone.output_shape[-1], 3) and expected.mean > 0
    assert not capsys.readouterr().out
    for model in (classifier, backbone, lambda images: backbone(keras.ops.cast(images, "float32"))):
        found = dissect(model, dataset, 0.05, batch_size=5)
        np.testing.assert_allclose(found.thresholds, expected.thresholds, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.iou, expected.iou, atol=0.02)
    assert "Thresholds" in capsys.readouterr().out


@pytest.mark.data
def test_places_objects():
    dataset = load_segmentation("places_objects_mini", "test[:200]", os.environ["TFDS_DATA_DIR"], image_size=(32, 32))
    backbone = backbones.cifar_resnet(8, 4)
    found = dissect(backbone, dataset)
    active = np.concatenate([backbone.predict_on_batch(images) for images, _ in dataset.batches(64)]) > found.thresholds
    assert active.mean(axis=(0, 1, 2)) == pytest.approx(0.005, abs=1e-3)
    assert 0 < found.mean < 0.5 and set(found.labels) <= set(dataset.concepts[1:])


# --- Bad inputs.

MAPS, LABELS = np.ones((4, 2, 2, 3), "float32"), np.ones((4, 4, 4), int)


@pytest.mark.parametrize(
    "error, message, call",
    [
        (ValueError, "quantile=0", lambda: dissect(*dataset_of(MAPS, LABELS), quantile=0)),
        (ValueError, "quantile=1", lambda: dissect(*dataset_of(MAPS, LABELS), quantile=1)),
        (ValueError, "batch_size=0", lambda: dissect(*dataset_of(MAPS, LABELS), batch_size=0)),
        (ValueError, "16 NaN", lambda: dissect(*dataset_of(MAPS * [1, 1, np.nan], LABELS), progress=False)),
        (ValueError, r"shape=\(4, 3\)", lambda: dissect(*dataset_of(MAPS[:, 0, 0], LABELS), progress=False)),
        (ValueError, r"1x4 under maps of 2x2", lambda: dissect(*dataset_of(MAPS, LABELS[:, :1]), progress=False)),
        (ValueError, "only labels 0", lambda: dissect(*dataset_of(MAPS, 0 * LABELS), progress=False)),
        (ValueError, r"\[7\]", lambda: dissect(*dataset_of(MAPS, 7 * LABELS), progress=False)),
        (TypeError, "list", lambda: dissect([], dataset_of(MAPS, LABELS)[1])),
        (TypeError, "tuple", lambda: dissect(len, (MAPS, LABELS))),
        (ValueError, "count=0", lambda: Dissection(np.zeros(2), np.zeros((2, 3)), CONCEPTS[:3]).top_mean(0)),
        (ValueError, "count=100", lambda: Dissection(np.zeros(2), np.zeros((2, 3)), CONCEPTS[:3]).top_mean()),
    ],
)
def test_bad_inputs_raise(error, message, call):
    with pytest.raises(error, match=f"Received: .*{message}"):
        call()


def test_maps_that_change_their_size():
    sizes = iter([(2, 2), (3, 2)])
    dataset = dataset_of(MAPS, LABELS)[1]
    with pytest.raises(ValueError, match=r"\(2, 2, 2, 3\).*Received: shape=\(2, 3, 2, 3\)"):
        dissect(lambda images: np.ones((len(images), *next(sizes), 3)), dataset, batch_size=2, progress=False)
