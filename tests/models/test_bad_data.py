"""What arrays and streams may hold: arrays are checked before the first step, streams stop at their first bad batch."""

import keras
import numpy as np
import pytest

from keras_interp import zoo
from keras_interp.data import Batches
from keras_interp.models import Classifier, FeatureLevelingNetwork, LabelSensitiveClassifier, XNet
from tests.tiny import tiny_backbone

LABELS = np.arange(16) % 3
KINDS = {
    "standard": lambda: Classifier(tiny_backbone(), 3),
    "alternating": lambda: LabelSensitiveClassifier(tiny_backbone(), 3),
    "joint": lambda: LabelSensitiveClassifier(tiny_backbone(), 3, scheme="joint"),
}


@pytest.fixture(scope="module", params=KINDS)
def compiled_model(request):
    keras.utils.set_random_seed(0)
    model = KINDS[request.param]().compile_by_default()
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def model(compiled_model):
    """A model whose step is traced once; each test finds and leaves the same weights."""
    variables = [*compiled_model.variables, *compiled_model.optimizer.variables]
    values = [keras.ops.convert_to_numpy(one) for one in variables]
    yield compiled_model
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    compiled_model.stop_training = False


def with_bad_label(label):
    def change(images, labels):
        return images, np.where(np.arange(16) == 3, label, labels)

    return change


def with_bad_pixel(value):
    def change(images, labels):
        images = images.astype("float32")
        images[5, 0, 0, 0] = value
        return images, labels

    return change


BAD = {
    "too large": with_bad_label(99),
    "negative": with_bad_label(-1),
    "fraction": with_bad_label(1.5),
    "NaN label": with_bad_label(np.nan),
    "NaN pixel": with_bad_pixel(np.nan),
    "infinite pixel": with_bad_pixel(np.inf),
}


def stream(images, labels, change, bad, batches=4):
    """Batches of 16, of which number `bad` is changed."""
    for number in range(batches):
        yield change(images, labels) if number == bad else (images, labels)


@pytest.mark.parametrize("bad", [0, 3])
@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_a_stream_stops_at_its_first_bad_batch(model, images, change, bad):
    labels = LABELS.astype("float32")
    seen = []

    class Count(keras.callbacks.Callback):
        async_safe = True

        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(logs["loss"]))

    with pytest.raises(FloatingPointError, match=r"label outside .* NaN or infinite inputs"):
        model.fit(stream(images.astype("float32"), labels, change, bad), steps_per_epoch=4, verbose=0, callbacks=[Count()])
    assert len(seen) == bad and np.isfinite(seen).all()


@pytest.mark.parametrize("change", [with_bad_label(99), with_bad_label(-1)])
def test_a_bad_label_of_a_stream_leaves_the_weights_finite(model, images, change):
    with pytest.raises(FloatingPointError):
        model.fit(stream(images, LABELS, change, 0), steps_per_epoch=4, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_bad_label_of_an_xnets_stream(images):
    net = XNet(tiny_backbone(), ("a", "b"), 3).compile_by_default()
    targets = {"label": np.where(np.arange(16) == 3, 99, LABELS), "attributes": np.ones((16, 2), "float32")}
    with pytest.raises(FloatingPointError, match="label outside"):
        net.fit(((images, targets) for _ in range(2)), steps_per_epoch=2, verbose=0)


def test_a_bad_row_of_a_stream(rng):
    network = FeatureLevelingNetwork((8, 4), 3, (5,)).compile_by_default(keras.optimizers.Adam(0.01))
    rows = rng.normal(size=(16, 5)).astype("float32")
    rows[2, 1] = np.nan
    with pytest.raises(FloatingPointError, match="NaN or infinite inputs"):
        network.fit(((rows, LABELS) for _ in range(2)), steps_per_epoch=2, verbose=0)


@pytest.mark.parametrize("arrays", [True, False])
def test_bad_labels_beside_attributes(images, arrays):
    net = XNet(tiny_backbone(), ("a", "b"), 3).compile_by_default()
    good = {"label": LABELS, "attributes": np.ones((16, 2), "float32")}
    bad = {**good, "label": np.where(np.arange(16) == 3, 99, LABELS)}
    data = (images, bad) if arrays else (Batches((images, bad), 8, shuffle=False),)
    validation = data if arrays else data[0]
    for call in (lambda: net.evaluate(*data, verbose=0), lambda: net.fit(images, good, validation_data=validation, verbose=0)):
        with pytest.raises(ValueError, match=r"Received: \[99\]"):
            call()
    # An attribute without an example is one to evaluate on, not to train on.
    absent = {**good, "attributes": np.zeros((16, 2), "float32")}
    assert np.isfinite(net.evaluate(images, absent, verbose=0)[0])


@pytest.mark.parametrize(("dtype", "classes"), [("uint8", 256), ("int8", 128), ("uint8", 1000)])
def test_labels_of_few_bits(rng, dtype, classes):
    inputs = keras.Input((4,))
    model = Classifier(keras.Model(inputs, keras.layers.ReLU()(inputs)), classes).compile_by_default()
    rows, labels = rng.random((16, 4)).astype("float32"), np.arange(100, 116).astype(dtype)
    assert np.isfinite(model.fit(rows, labels, verbose=0).history["loss"]).all()
    assert np.isfinite(model.fit(((rows, labels) for _ in range(1)), steps_per_epoch=1, verbose=0).history["loss"]).all()


def test_booleans_and_lists_of_a_stream_pass(rng):
    inputs = keras.Input((4,))
    model = Classifier(keras.Model(inputs, keras.layers.ReLU()(inputs)), 2).compile_by_default()
    rows = rng.random((16, 4)).astype("float32")
    for targets in (np.arange(16) % 2 == 0, (np.arange(16) % 2,)):
        assert np.isfinite(model.fit(((rows, targets) for _ in range(1)), steps_per_epoch=1, verbose=0).history["loss"]).all()


def test_classes_to_ignore_are_refused_with_a_way_out(images):
    model = Classifier(tiny_backbone(), 3)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2))
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(images, LABELS, verbose=0)


def test_one_hot_labels_of_a_stream_pass(images):
    model = Classifier(tiny_backbone(), 3)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    one_hot = np.eye(3, dtype="float32")[LABELS] * 0.9 + 0.1 / 3
    history = model.fit(((images, one_hot) for _ in range(2)), steps_per_epoch=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_the_guard_does_not_change_the_loss(images):
    model = Classifier(tiny_backbone(), 3).compile_by_default()
    logits = model.predict(images, verbose=0).astype(float)
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(16), LABELS])
    floats = LABELS.astype("float32")
    for data in ((images, LABELS[:, None]), (images, LABELS.astype("uint8")), (((images, floats) for _ in range(1)),)):
        np.testing.assert_allclose(model.evaluate(*data, verbose=0)[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (with_bad_label(99), ValueError, r"Labels must lie in \[0, 3\). Received: \[99\]"),
        (with_bad_label(1.5), TypeError, "integers"),
        (with_bad_pixel(np.nan), ValueError, r"images \[5\]"),
        (lambda images, labels: (images[..., :1], labels), ValueError, r"\(n, 32, 32, 3\)"),
    ],
)
def test_arrays_are_checked_before_the_first_step(model, images, change, error, message):
    bad = change(images, LABELS)
    before = model.get_weights()
    calls = [
        lambda: model.fit(*bad, verbose=0),
        lambda: model.fit(Batches(bad, 8), verbose=0),
        lambda: model.fit(images, LABELS, validation_data=bad, verbose=0),
        lambda: model.fit(images, LABELS, 8, 1, 0, None, 0.0, bad),
        lambda: model.fit(images, LABELS, validation_data=Batches(bad, 8), verbose=0),
        lambda: model.evaluate(*bad, verbose=0),
        lambda: model.evaluate(Batches(bad, 8, shuffle=False), verbose=0),
    ]
    for call in calls:
        with pytest.raises(error, match=message):
            call()
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda x: x[0], r"images\[None\]"),
        (lambda x: x[..., :1], r"\(n, 32, 32, 3\)"),
        (lambda x: x[:, :16], r"\(n, 32, 32, 3\)"),
        (lambda x: np.full(x.shape, np.nan, "float32"), "finite"),
    ],
)
def test_predict_checks_images(model, images, broken, message):
    with pytest.raises(ValueError, match=message):
        model.predict(broken(images), verbose=0)


@pytest.mark.parametrize("kind", ["array", "list", "batches", "generator", "stream", "pydataset"])
def test_pixels_out_of_range_raise_and_divided_ones_warn(images, kind):
    model = KINDS["standard"]().compile_by_default()

    def given(pixels):
        if kind == "stream":
            tf = pytest.importorskip("tensorflow")
            return tf.data.Dataset.from_tensor_slices(pixels).batch(8)
        kinds = {
            "array": lambda: pixels,
            "list": lambda: pixels.tolist(),
            "batches": lambda: Batches((pixels, LABELS), 8, shuffle=False),
            "generator": lambda: (pixels[start : start + 8] for start in (0, 8)),
            "pydataset": lambda: Batches((pixels, LABELS), 8, shuffle=False),
        }
        return kinds[kind]()

    floats = images.astype("float32")
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(model.predict(given(floats), verbose=0), expected, rtol=1e-5, atol=1e-6)
    with pytest.warns(UserWarning, match="divided by 255"):
        model.predict(given(floats / 255), verbose=0)
    floats[12, 3, 3, 1] = 300
    with pytest.raises(ValueError, match=r"raw pixels in 0..255.*input_range = None"):
        model.predict(given(floats), verbose=0)
    model.input_range = None
    assert np.isfinite(model.predict(given(floats), verbose=0)).all()


def test_pixels_out_of_range_in_other_verbs(images):
    model = KINDS["standard"]().compile_by_default()
    floats = images.astype("float32") - 1000
    for call in (model.explain, model.features, lambda x: model.fit(x, LABELS), lambda x: model.evaluate(x, LABELS)):
        with pytest.raises(ValueError, match="raw pixels"):
            call(floats)
    with pytest.raises(FloatingPointError, match=r"pixels outside 0\.\.255"):
        model.fit(((floats, LABELS) for _ in range(1)), steps_per_epoch=1, verbose=0)


def test_the_hint_for_grey_images(rng):
    grey = keras.Input((28, 28, 1))
    model = Classifier(keras.Model(grey, keras.layers.Conv2D(2, 3)(grey)), 3)
    with pytest.raises(ValueError, match=r"channel axis: images\[..., None\]"):
        model.predict(np.zeros((5, 28, 28)), verbose=0)


def test_the_range_is_saved(tmp_path, images):
    model = KINDS["standard"]()
    model.input_range = None
    zoo.save(model, tmp_path / "free")
    assert zoo.load(tmp_path / "free").input_range is None
    zoo.save(KINDS["standard"](), tmp_path / "pixels")
    assert zoo.load(tmp_path / "pixels").input_range == (0, 255)


def test_validation_and_evaluation_streams_show_nan(images):
    model = KINDS["standard"]().compile_by_default()
    bad = with_bad_label(-1)(images, LABELS)
    assert np.isnan(model.evaluate((bad for _ in range(1)), steps=1, verbose=0)[0])


@pytest.mark.parametrize(
    ("pair", "options", "message"),
    [
        ((np.zeros((8, 2, 2, 3)), np.zeros(7, int)), {}, r"one target for each input. Received: lengths \[8, 7\]"),
        ((np.zeros((8, 2, 2, 3)), {"label": np.zeros(8, int), "attributes": np.zeros((6, 2))}), {}, "lengths"),
        ((np.zeros((8, 2, 2, 3)), 3), {}, "lengths"),
        ((np.zeros((8, 2, 2, 3)), np.zeros(8, int)), {"batch_size": 0}, "batch_size=0"),
        ((np.zeros((8, 2, 2, 3)), np.zeros(8, int)), {"pad": -1}, "pad=-1"),
        ((np.zeros((8, 2, 2, 3)), np.zeros(8, int)), {"process": (2, 2)}, r"process=\(2, 2\)"),
    ],
)
def test_bad_batches(pair, options, message):
    with pytest.raises(ValueError, match=message):
        Batches(pair, **{"batch_size": 4, **options})


def test_batches_of_lists():
    batches = Batches([np.zeros((8, 2, 2, 3)), [0, 1] * 4], 4, shuffle=False)
    assert len(batches) == 2 and batches[1][1].tolist() == [0, 1, 0, 1]
