import keras
import numpy as np
import pytest

from keras_interp.metrics import pointing_game
from keras_interp.metrics.localization import boxes_to_masks, cam_faithfulness, cam_iou, upsample_bilinear


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (4, 3), (32, 5)])
def test_upsampling_equals_that_of_keras(size):
    maps = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    resized = keras.ops.image.resize(maps[..., None], size, interpolation="bilinear", data_format="channels_last")
    np.testing.assert_allclose(
        upsample_bilinear(maps, size), keras.ops.convert_to_numpy(resized)[..., 0], rtol=1e-5, atol=1e-6
    )


def test_upsampling_keeps_a_constant_and_the_range():
    np.testing.assert_allclose(upsample_bilinear(np.full((1, 4, 4), 3.0), (32, 32)), 3.0, rtol=1e-6)
    enlarged = upsample_bilinear(np.eye(4)[None], (32, 32))
    assert enlarged.min() >= 0 and enlarged.max() <= 1
    assert enlarged.dtype == np.float32


def test_boxes_become_masks():
    masks = boxes_to_masks(np.array([[0, 0, 3, 4], [1, 2, 2, 3]]), (3, 4))
    assert masks[0].all()
    np.testing.assert_array_equal(np.argwhere(masks[1]), [[1, 2]])


def test_iou_equals_sets_of_pixels():
    rng = np.random.default_rng(1)
    maps, masks = rng.normal(size=(5, 6, 5)), rng.random((5, 6, 5)) < 0.4
    for result, values, mask in zip(cam_iou(maps, masks, top_share=0.3), maps, masks):
        ranked = sorted(np.ndindex(6, 5), key=lambda place: -values[place])
        top, area = set(ranked[:9]), {tuple(place) for place in np.argwhere(mask)}
        assert result == len(top & area) / len(top | area)


def test_iou_of_known_maps():
    masks = np.zeros((3, 10, 10), bool)
    masks[:, :3] = True
    maps = np.zeros((3, 10, 10))
    maps[0, :3] = 1  # exactly the object
    maps[1, 7:] = 1  # elsewhere; the third map is constant, and its first pixels count
    np.testing.assert_array_equal(cam_iou(maps, masks), [1, 0, 1])
    # A share too small for one pixel still takes one.
    assert cam_iou(np.eye(2)[None], np.array([[[True, False], [False, False]]]), top_share=0.1) == 1


def test_iou_enlarges_the_maps():
    maps = np.array([[[0.0, 1.0], [0.0, 0.0]]])
    masks = boxes_to_masks(np.array([[0, 4, 4, 8]]), (8, 8))
    assert cam_iou(maps, masks, top_share=0.25) > 0.7
    assert pointing_game(maps, masks) == 1


def test_pointing_game_counts_hits():
    maps = np.zeros((4, 5, 5))
    maps[:, 2, 3] = 1
    masks = np.zeros((4, 5, 5), bool)
    masks[:3, 2, 3] = True
    masks[3, 2, 2] = True
    assert pointing_game(maps, masks) == 0.75


def test_faithfulness_of_a_model_that_looks_at_one_corner():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (6, 8, 8, 3)).astype("uint8")
    images[:, :2, :2] = 255
    right, wrong = np.zeros((2, 6, 8, 8))
    right[:, :2, :2] = 1
    wrong[:, 6:, 6:] = 1

    def predict(images):
        corner = images[:, :2, :2].mean(axis=(1, 2, 3)) - 200
        return np.stack([corner, -corner], axis=1)

    targets = np.zeros(6, int)
    good = cam_faithfulness(predict, images, right, targets, top_share=4 / 64)
    assert good.original > 0.99 and good.kept > 0.99 and good.removed < 0.01 and good.lost > 0.98
    bad = cam_faithfulness(predict, images, wrong, targets, top_share=4 / 64)
    assert bad.original == good.original and bad.kept < 0.01 and bad.removed > 0.99


def test_faithfulness_equals_a_loop():
    rng = np.random.default_rng(3)
    images, maps = rng.random((4, 6, 6, 3)).astype("float32") * 255, rng.random((4, 6, 6))
    targets, weights = np.array([0, 2, 1, 2]), rng.normal(size=(6 * 6 * 3, 3)) / 255

    def probability(image, target):
        logits = image.reshape(-1) @ weights
        return np.exp(logits[target]) / np.exp(logits).sum()

    kept, removed = [], []
    for image, values, target in zip(images, maps, targets):
        ranked = sorted(np.ndindex(6, 6), key=lambda place: -values[place])
        only, without = np.full_like(image, image.mean(axis=(0, 1))), image.copy()
        for place in ranked[:11]:
            only[place], without[place] = image[place], image.mean(axis=(0, 1))
        kept.append(probability(only, target))
        removed.append(probability(without, target))
    found = cam_faithfulness(lambda batch: batch.reshape(len(batch), -1) @ weights, images, maps, targets, top_share=0.3)
    assert found.kept == pytest.approx(np.mean(kept), rel=1e-4)
    assert found.removed == pytest.approx(np.mean(removed), rel=1e-4)


MAPS, MASKS, IMAGES = np.zeros((2, 4, 4)), np.ones((2, 4, 4), bool), np.zeros((2, 4, 4, 3))


def predict_nothing(images):
    return np.zeros((len(images), 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: upsample_bilinear(np.zeros((4, 4)), (8, 8)),
        lambda: upsample_bilinear(MAPS, (3, 8)),
        lambda: upsample_bilinear(MAPS, (8,)),
        lambda: upsample_bilinear(MAPS * np.nan, (8, 8)),
        lambda: boxes_to_masks(np.zeros((2, 3)), (4, 4)),
        lambda: boxes_to_masks(np.array([[0, 0, 5, 4]]), (4, 4)),
        lambda: boxes_to_masks(np.array([[2, 0, 2, 4]]), (4, 4)),
        lambda: cam_iou(MAPS[:1], MASKS),
        lambda: cam_iou(MAPS, MASKS.astype(int)),
        lambda: cam_iou(MAPS, ~MASKS),
        lambda: cam_iou(MAPS, MASKS, top_share=1.0),
        lambda: cam_iou(MAPS, MASKS[:, :2, :2]),
        lambda: pointing_game(MAPS[:1], MASKS),
        lambda: cam_faithfulness(predict_nothing, IMAGES, MAPS[:1], np.array([0, 1])),
        lambda: cam_faithfulness(predict_nothing, IMAGES[..., 0], MAPS, np.array([0, 1])),
        lambda: cam_faithfulness(predict_nothing, IMAGES, MAPS, np.array([0, 2])),
        lambda: cam_faithfulness(predict_nothing, IMAGES, MAPS, np.array([0])),
        lambda: cam_faithfulness(lambda images: np.zeros(2), IMAGES, MAPS, np.array([0, 1])),
        lambda: cam_faithfulness(predict_nothing, IMAGES, MAPS, np.array([0, 1]), top_share=0.0),
    ],
)
def test_bad_inputs_raise(call):
    with pytest.raises(ValueError, match="Received: "):
        call()
