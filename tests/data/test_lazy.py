import dataclasses

import numpy as np
import pytest

from keras_interp import data, zoo
from keras_interp.data import Batches, LazyDataset
from keras_interp.data.lazy import _random_box
from keras_interp.zoo import registry
from tests.tiny import register


def gradient(height, width):
    """An image whose first two channels hold the row and the column."""
    image = np.zeros((height, width, 3), "uint8")
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    return image


def toy_source(count=12, height=24, width=32):
    return [{"image": gradient(height, width), "label": number % 3} for number in range(count)]


def toy_lazy(crop_size=(21, 21), **options):
    return LazyDataset(toy_source(**options), crop_size, "abc", "toy train")


def test_without_a_generator_it_is_the_centre():
    inputs, targets = toy_lazy().read(slice(2, 4))
    # 7/8 of 24 rows are 21, so nothing is scaled.
    np.testing.assert_array_equal(inputs[0], gradient(24, 32)[2:23, 6:27])
    assert inputs.dtype == np.uint8 and targets.dtype == np.int32 and targets.tolist() == [2, 0]
    half, _ = toy_lazy((7, 7)).read(slice(1))
    assert abs(half[0, 3, 3, :2].astype(int) - [12, 16]).max() <= 1


def test_random_boxes_follow_their_bounds(rng):
    draws = rng.random((2000, 10, 4))
    boxes = np.array([_random_box(240, 320, draw) for draw in draws])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 320).all() and (boxes[:, 3] <= 240).all()
    share, ratio = width * height / (240 * 320), width / height
    assert 0.075 < share.min() < 0.1 and 0.85 < share.max() <= 1
    assert 0.73 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.36
    # Places are uniform over what the size leaves.
    left = boxes[:, 0] / np.maximum(320 - width, 1)
    assert abs(left.mean() - 0.5) < 0.03 and left.min() == 0 and left.max() == 1
    # Nothing fits a strip, which gives the centred square.
    assert _random_box(2, 900, draws[0])[1] >= 0


def test_random_crops_are_a_function_of_the_generator():
    lazy = toy_lazy()
    first, again, other = (lazy.read(np.arange(5), np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.shape == (5, 21, 21, 3)


def test_parts_and_arrays():
    lazy = toy_lazy()
    part = lazy[np.array([4, 1, 0])][1:]
    assert len(part) == 2 and part.read(slice(None))[1].tolist() == [1, 0]
    arrays = lazy.to_arrays()
    assert isinstance(arrays, data.ArrayDataset) and arrays.input_shape == lazy.input_shape == (21, 21, 3)
    np.testing.assert_array_equal(arrays.targets, np.arange(12) % 3)
    assert arrays.class_names == ("a", "b", "c") and arrays.name == "toy train"


def test_batches():
    batches = Batches(toy_lazy(), 4, flip=True, seed=5)
    inputs, targets = batches[1]
    np.testing.assert_array_equal(inputs, Batches(toy_lazy(), 4, flip=True, seed=5)[1][0])
    assert inputs.shape == (4, 21, 21, 3) and targets.shape == (4,)
    shares = [Batches(toy_lazy(), 4, flip=True, seed=5, process=(index, 2))[1] for index in range(2)]
    np.testing.assert_array_equal(np.concatenate([share[0] for share in shares]), inputs)


def test_training_from_disk(monkeypatch, tmp_path):
    register()
    entry = dataclasses.replace(registry.ENTRIES["tiny_dynk"], lazy=True, segmented=None, test_split="validation")
    monkeypatch.setitem(registry.ENTRIES, "tiny_dynk", entry)
    size, asked = entry.input_shape[:2], []

    def load_lazily(name, split, data_dir, crop_size):
        asked.append((name, split, crop_size))
        source = [{"image": gradient(24, 32), "label": number % 10} for number in range(24)]
        return LazyDataset(source, crop_size, entry.class_names, f"{name} {split}")

    monkeypatch.setattr(data, "load_lazily", load_lazily)
    model = zoo.train("tiny_dynk", None, tmp_path / "run", epochs=1, batch_size=8, validation=0.34, verbose=0)
    assert model.input_shape == (None, *size, 3) and (tmp_path / "run" / "model.weights.h5").is_file()
    test = entry.load_data("test")
    assert isinstance(test, data.ArrayDataset)
    assert asked == [(entry.dataset, "train", size), (entry.dataset, "validation", size)]


@pytest.mark.parametrize(
    ("source", "names", "message"),
    [
        ([], "abc", "0 examples"),
        (toy_source(), (), "classes"),
        ([{"image": gradient(8, 8), "label": -1}], "abc", r"\[0, 3\).*-1"),
        ([{"image": gradient(8, 8)[..., 0], "label": 1}], "abc", "image 0"),
        ([{"image": gradient(8, 8) / 2, "label": 1}], "abc", "float64"),
    ],
)
def test_bad_sources(source, names, message):
    with pytest.raises(ValueError, match=message):
        LazyDataset(source, (4, 4), names).read(slice(None))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Two folders with the same six images, one in files that can be read in any order; and one with attributes."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")

    class ToyFaces(tfds.core.GeneratorBasedBuilder):
        """Made up."""

        VERSION = tfds.core.Version("1.0.0")
        code_path = tfds.core.Path(__file__)

        def _info(self):
            features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(names=["a", "b"])}
            features |= {"attributes": {name: np.bool_ for name in ("Young", "Bald", "Bangs")}}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number in range(6):
                attributes = {"Young": number % 2 == 0, "Bald": number == 3, "Bangs": number > 3}
                yield number, {"image": np.full((8, 8, 3), number, "uint8"), "label": number % 2, "attributes": attributes}

    ToyFaces(data_dir=folder / "ordered").download_and_prepare()
    ToyFaces(data_dir=folder / "random", file_format="array_record").download_and_prepare()
    return folder


def test_tfds(prepared):
    lazy = data.load_lazily("toy_faces", "train", prepared / "random", (4, 4))
    inputs, targets = lazy.read(np.array([5, 0]))
    assert len(lazy) == 6 and lazy.class_names == ("a", "b") and inputs.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(inputs[:, 0, 0, 0] % 2, targets)
    with pytest.raises(ValueError, match="--random-access"):
        data.load_lazily("toy_faces", "train", prepared / "ordered")
    with pytest.raises(FileNotFoundError, match="keras-interp prepare"):
        data.load_lazily("toy_faces", "train", prepared)


def test_attributes_of_tfds(prepared):
    loaded = data.load("toy_faces", "train", prepared / "ordered", label="Young", attributes=("Bald", "Bangs"))
    number = loaded.inputs[:, 0, 0, 0]
    assert loaded.class_names == ("not Young", "Young") and loaded.attribute_names == ("Bald", "Bangs")
    np.testing.assert_array_equal(loaded.targets, number % 2 == 0)
    np.testing.assert_array_equal(loaded.attributes, np.stack([number == 3, number > 3], axis=1))
    plain = data.load("toy_faces", "train", prepared / "ordered")
    assert plain.attributes is None and plain.class_names == ("a", "b")
    with pytest.raises(ValueError, match=r"Young.*Received: \['Blad'\]"):
        data.load("toy_faces", "train", prepared / "ordered", label="Young", attributes=("Blad",))
