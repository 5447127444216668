import os

import numpy as np
import pytest
from PIL import Image

from keras_interp.data.segmentation import SegmentationDataset, load_broden, load_segmentation

NAMES = ("unlabelled", "sky", "sea")


def read_all(dataset, batch_size=2):
    images, labels = zip(*dataset.batches(batch_size))
    return np.concatenate(images), np.concatenate(labels)


# --- Arrays.

IMAGES, LABELS = np.zeros((5, 8, 8, 3), "uint8"), np.arange(5 * 16).reshape(5, 4, 4) % 3


def test_arrays_come_in_order_and_again():
    dataset = SegmentationDataset.from_arrays(np.arange(5)[:, None, None, None] + IMAGES, LABELS, NAMES)
    assert len(dataset) == 5 and dataset.categories == ("",) * 3
    for _ in range(2):
        batches = list(dataset.batches(2))
        assert [len(images) for images, _ in batches] == [2, 2, 1]
        images, labels = read_all(dataset)
        np.testing.assert_array_equal(images[:, 0, 0, 0], range(5))
        np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    "error, message, call",
    [
        (ValueError, "5 images, 4 label maps", lambda: SegmentationDataset.from_arrays(IMAGES, LABELS[:4], NAMES)),
        (ValueError, "0 images", lambda: SegmentationDataset.from_arrays(IMAGES[:0], LABELS[:0], NAMES)),
        (ValueError, "1 names", lambda: SegmentationDataset.from_arrays(IMAGES, LABELS, ("unlabelled",))),
        (ValueError, "2 categories", lambda: SegmentationDataset.from_arrays(IMAGES, LABELS, NAMES, ("", "object"))),
        (ValueError, "batch_size=0", lambda: read_all(SegmentationDataset.from_arrays(IMAGES, LABELS, NAMES), 0)),
        (ValueError, r"\[3, 4\]", lambda: read_all(SegmentationDataset.from_arrays(IMAGES, LABELS + 2, NAMES))),
        (ValueError, r"\[-1\]", lambda: read_all(SegmentationDataset.from_arrays(IMAGES, LABELS - 1, NAMES))),
        (TypeError, "float64", lambda: read_all(SegmentationDataset.from_arrays(IMAGES, LABELS / 2, NAMES))),
        (ValueError, r"\(2, 4\)", lambda: read_all(SegmentationDataset.from_arrays(IMAGES, LABELS[..., 0], NAMES))),
        (ValueError, r"\(2, 3, 4\)", lambda: read_all(SegmentationDataset(NAMES, 2, lambda _: [(IMAGES, LABELS[:2, :3])]))),
        (ValueError, "5 images$", lambda: read_all(SegmentationDataset(NAMES, 6, lambda _: [(IMAGES, LABELS)]))),
        (
            ValueError,
            r"\(5, 3, 4\) after rows and columns \(4, 4\)",
            lambda: read_all(SegmentationDataset(NAMES, 10, lambda _: [(IMAGES, LABELS), (IMAGES, LABELS[:, :3])])),
        ),
    ],
)
def test_data_that_do_not_fit(error, message, call):
    with pytest.raises(error, match=f"Received: .*{message}"):
        call()


# --- TensorFlow Datasets.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with five images of 8x8 pixels, whose label maps of 4x4 have a concept in each quarter, and a set without."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    quarters = np.kron(np.array([[0, 1], [2, 1]]), np.ones((2, 2), int)).astype("uint8")[..., None]

    class ToySegmentation(tfds.core.GeneratorBasedBuilder):
        """Made up."""

        VERSION = tfds.core.Version("1.0.0")
        code_path = tfds.core.Path(__file__)
        labels = tfds.features.LabeledImage(labels=list(NAMES), shape=(4, 4, 1))
        image_shape = (8, 8, 3)

        def _info(self):
            features = {"image": tfds.features.Image(shape=self.image_shape), "segmentation": self.labels}
            features |= {"label": tfds.features.ClassLabel(num_classes=2)}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"test": self._generate_examples()}

        def _generate_examples(self):
            for number in range(5):
                image = np.full((8, 8, 3), 10 * number, "uint8")
                image[:, ::2] += 9
                yield number, {"image": image, "segmentation": quarters, "label": 0}

    class ToyOfAnySize(ToySegmentation):
        """Made up."""

        image_shape = (None, None, 3)

    class ToyWithoutNames(ToySegmentation):
        """Made up."""

        labels = tfds.features.Image(shape=(4, 4, 1))

    for builder in (ToySegmentation, ToyOfAnySize, ToyWithoutNames):
        builder(data_dir=folder).download_and_prepare()
    return folder


def test_tfds(prepared):
    dataset = load_segmentation("toy_segmentation", "test", prepared)
    assert dataset.concepts == NAMES and len(dataset) == 5 and dataset.name == "toy_segmentation test"
    images, labels = read_all(dataset)
    assert images.shape == (5, 8, 8, 3) and labels.shape == (5, 4, 4)
    assert sorted(images[:, 0, 1, 0]) == [0, 10, 20, 30, 40]
    assert (labels[:, :, 2:] == 1).all() and (labels[:, 2:, :2] == 2).all() and (labels[:, :2, :2] == 0).all()
    assert len(load_segmentation("toy_segmentation", "test[:3]", prepared)) == 3


def test_tfds_resizes(prepared):
    images, labels = read_all(load_segmentation("toy_of_any_size", "test", prepared, image_size=(4, 4), label_size=(8, 8)))
    assert images.shape == (5, 4, 4, 3) and images.dtype == np.uint8 and labels.shape == (5, 8, 8)
    # Columns of 0 and 9 are averaged, and label numbers are not.
    assert (images[:, :, 1:3] % 10 >= 4).all() and (images[:, :, 1:3] % 10 <= 5).all()
    assert set(np.unique(labels)) == {0, 1, 2}


def test_tfds_errors(prepared, tmp_path):
    with pytest.raises(FileNotFoundError, match="keras-interp prepare"):
        load_segmentation("toy_segmentation", "test", tmp_path)
    with pytest.raises(ValueError, match=r"`image_size`.*Received: "):
        load_segmentation("toy_of_any_size", "test", prepared)
    with pytest.raises(ValueError, match=r"names of its labels.*Received: .*segmentation"):
        load_segmentation("toy_without_names", "test", prepared)
    with pytest.raises(ValueError, match="split"):
        load_segmentation("toy_segmentation", "train", prepared)


@pytest.mark.data
def test_places_objects():
    dataset = load_segmentation("places_objects_mini", "test", os.environ["TFDS_DATA_DIR"], image_size=(64, 64))
    assert len(dataset) == 3873 and len(dataset.concepts) == 176 and dataset.concepts[0] == "unlabelled"
    images, labels = next(iter(dataset.batches(32)))
    assert images.shape == (32, 64, 64, 3) and labels.shape == (32, 128, 128) and labels.any(axis=(1, 2)).mean() > 0.9


# --- Broden.

HEADER = "image,split,ih,iw,sh,sw,color,object,scene"
ROWS = (
    "a/one.jpg,train,8,6,4,3,a/one_color.png,a/one_object.png;a/one_parts.png,",
    "a/two.jpg,val,8,6,4,3,,,7;2",
    "a/three.jpg,val,8,6,4,3,,,",
    "a/four.jpg,val,8,6,4,3,a/four_color.png,,7",
)
LABEL_ROWS = (
    "number,name,category,frequency",
    "1,red-c,color(2),2",
    "2,sea,object(1);scene(3),4",
    '3,"rock, wet",object(1),1',
    "7,coast,scene(2),2",
    "300,lamp,object(1),1",
)


def color_map(labels):
    labels = np.asarray(labels)
    return np.stack([labels % 256, labels // 256, np.full_like(labels, 99)], axis=-1).astype("uint8")


@pytest.fixture
def broden(tmp_path):
    """A folder of four images of which one has no labels."""
    (tmp_path / "images" / "a").mkdir(parents=True)
    write_tables(tmp_path, ROWS)
    for number, name in enumerate(("one", "two", "three", "four")):
        Image.new("RGB", (6, 8), (50 * number, 0, 200)).save(tmp_path / "images" / "a" / f"{name}.jpg", quality=95)
    for name, labels in {
        "one_color": np.eye(4, 3, dtype=int),
        "one_object": np.full((4, 3), 300),
        "one_parts": np.tile([0, 2, 3], (4, 1)),
        "four_color": np.ones((4, 3), int),
    }.items():
        Image.fromarray(color_map(labels)).save(tmp_path / "images" / "a" / f"{name}.png")
    return tmp_path


def write_tables(folder, rows, label_rows=LABEL_ROWS):
    (folder / "index.csv").write_text("\n".join((HEADER, *rows)))
    (folder / "label.csv").write_text("\n".join(label_rows))


def test_broden(broden):
    dataset = load_broden(broden)
    assert len(dataset) == 3 and len(dataset.concepts) == 301
    assert [dataset.concepts[n] for n in (0, 1, 2, 3, 4, 300)] == ["unlabelled", "red-c", "sea", "rock, wet", "", "lamp"]
    assert [dataset.categories[n] for n in (1, 2, 3, 7, 300)] == ["color", "scene", "object", "scene", "object"]
    batches = list(dataset.batches(2))
    assert [labels.shape for _, labels in batches] == [(2, 3, 4, 3), (1, 2, 4, 3)]
    (images, labels), (_, last) = batches
    assert images.shape == (2, 8, 6, 3) and abs(int(images[1, 0, 0, 0]) - 50) < 5
    np.testing.assert_array_equal(labels[0], [np.eye(4, 3), np.full((4, 3), 300), np.tile([0, 2, 3], (4, 1))])
    np.testing.assert_array_equal(labels[1], [np.full((4, 3), 7), np.full((4, 3), 2), np.zeros((4, 3))])
    np.testing.assert_array_equal(last[0], [np.ones((4, 3)), np.full((4, 3), 7)])


def test_broden_in_part(broden):
    dataset = load_broden(broden, categories=["object"])
    assert len(dataset) == 1 and dataset.categories[2] == "object"
    assert len(load_broden(broden, split="val")) == 2
    with pytest.raises(ValueError, match="Received: 0 images"):
        load_broden(broden, split="test")
    with pytest.raises(ValueError, match="Received: categories="):
        load_broden(broden, categories=["texture"])


def test_broden_resizes(broden):
    images, labels = next(load_broden(broden, image_size=(4, 4), label_size=(8, 6)).batches(1))
    assert images.shape == (1, 4, 4, 3) and labels.shape == (1, 3, 8, 6)
    np.testing.assert_array_equal(labels[0, 0], np.kron(np.eye(4, 3), np.ones((2, 2))))


def test_broden_with_several_sizes(broden):
    Image.new("RGB", (9, 9)).save(broden / "images" / "a" / "five.jpg")
    write_tables(broden, (*ROWS, "a/five.jpg,val,9,9,3,3,,,7"))
    with pytest.raises(ValueError, match=r"`image_size`.*Received: "):
        load_broden(broden)
    with pytest.raises(ValueError, match=r"`label_size`.*Received: "):
        load_broden(broden, image_size=(8, 8))
    images, labels = read_all(load_broden(broden, image_size=(8, 8), label_size=(4, 4)), 4)
    assert images.shape == (4, 8, 8, 3) and labels.shape == (4, 3, 4, 4)


def test_broden_with_missing_files(broden):
    with pytest.raises(FileNotFoundError, match=r"index\.csv"):
        load_broden(broden / "images")
    (broden / "images" / "a" / "one_parts.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"one_parts\.png"):
        load_broden(broden)
    (broden / "label.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"label\.csv"):
        load_broden(broden)


def test_broden_with_bad_files(broden):
    path = broden / "images" / "a" / "four_color.png"
    for image in (Image.new("RGB", (4, 3)), Image.new("L", (3, 4))):
        image.save(path)
        with pytest.raises(ValueError, match=r"four_color\.png.*Received: "):
            read_all(load_broden(broden), 1)
    Image.fromarray(color_map(np.full((4, 3), 301))).save(path)
    with pytest.raises(ValueError, match=r"Received: \[301\]"):
        list(load_broden(broden).batches(1))
    write_tables(broden, (*ROWS[:1], "a/two.jpg,val,8,6,4,3,,,301"))
    with pytest.raises(ValueError, match=r"label\.csv.*Received: \[301\]"):
        load_broden(broden)
    (broden / "index.csv").write_text("image,split\n")
    with pytest.raises(ValueError, match=r"Received: .*'split'"):
        load_broden(broden)
