import keras
import numpy as np
import pytest

from keras_interp import backbones
from keras_interp.backbones.batch_normalization import FusedBatchNormalization
from keras_interp.backbones.resnet import ZeroPaddedShortcut


def test_resnet20_has_the_parameters_of_he_et_al():
    model = backbones.cifar_resnet(20)
    assert model.output_shape == (None, 8, 8, 64)
    # 0.27 M with the dense layer (650), all convolutions without bias, and two parameters a channel of batch normalisation.
    convolutions = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == convolutions + 2 * (7 * 16 + 6 * 32 + 6 * 64)


def test_depth_width_and_input_shape():
    assert backbones.cifar_resnet(8, width=4, input_shape=(64, 48, 3)).output_shape == (None, 16, 12, 16)
    with pytest.raises(ValueError, match="6n \\+ 2"):
        backbones.cifar_resnet(18)


@pytest.mark.parametrize("depth, parameters", [(18, 11_176_512), (50, 23_508_032)])
def test_resnets_have_the_parameters_of_torchvision(depth, parameters):
    """11,689,512 and 25,557,032 less the dense layer of 1,000 classes."""
    model = backbones.resnet(depth)
    assert model.output_shape == (None, 7, 7, 512 if depth == 18 else 2048)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    projections = [layer for layer in convolutions if "shortcut" in layer.name]
    assert len(convolutions) - len(projections) == depth - 1 and len(projections) == (3 if depth == 18 else 4)
    assert {layer.kernel_size for layer in convolutions if layer.strides == (2, 2)} == {(7, 7), (3, 3), (1, 1)}
    assert all(layer in projections for layer in convolutions if layer.strides == (2, 2) and layer.kernel_size == (1, 1))


@pytest.mark.parametrize("stem, size, maps", [("imagenet", 64, 2), ("cifar", 32, 4), ("small", 64, 4)])
def test_stems_of_resnets(stem, size, maps):
    assert backbones.resnet(18, 4, stem, (size, 2 * size + 1, 3)).output_shape == (None, maps, 2 * maps + 1, 32)


def test_unknown_depths_and_stems():
    with pytest.raises(ValueError, match="Received: depth=20"):
        backbones.resnet(20)
    with pytest.raises(ValueError, match="Received: stem='tiny'"):
        backbones.resnet(18, stem="tiny")


@pytest.mark.parametrize("depth", [18, 50])
def test_every_weight_of_a_resnet_learns(images, depth):
    model = backbones.resnet(depth, 4, "cifar", (32, 32, 3))
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    before = [np.array(weight) for weight in model.trainable_weights]
    model.train_on_batch(images, np.zeros((16, *model.output_shape[1:]), "float32"))
    for weight, old in zip(model.trainable_weights, before):
        assert np.isfinite(np.array(weight)).all() and not np.array_equal(weight, old), weight.path


def test_saved_resnet(images, tmp_path):
    model = backbones.resnet(18, 4, "cifar", (32, 32, 3))
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy.predict(images, verbose=0), model.predict(images, verbose=0))


def test_alexnet_ends_in_256_filters():
    assert backbones.cifar_alexnet().output_shape == (None, 4, 4, 256)


def test_preprocessing_is_the_first_layer():
    for model in (backbones.cifar_resnet(8, 4), backbones.cifar_alexnet()):
        layer = model.layers[1]
        pixels = np.array([[[[125.3, 122.95, 113.87]]]], "float32")
        np.testing.assert_allclose(layer(pixels), 0.0, atol=1e-5)
        np.testing.assert_allclose(layer(pixels + np.array([62.99, 62.09, 66.7], "float32")), 1.0, atol=1e-5)


def test_shortcut_subsamples_and_pads(rng):
    inputs = rng.normal(size=(2, 5, 6, 3)).astype("float32")
    outputs = np.asarray(ZeroPaddedShortcut(8)(inputs))
    assert outputs.shape == (2, 3, 3, 8) == (2, *ZeroPaddedShortcut(8).compute_output_shape((2, 5, 6, 3))[1:])
    np.testing.assert_array_equal(outputs[..., :3], inputs[:, ::2, ::2])
    assert not outputs[..., 3:].any()


@pytest.mark.parametrize("training", [True, False])
def test_fused_batch_normalization_equals_keras(rng, training):
    inputs = rng.normal(2.0, 3.0, (8, 4, 4, 6)).astype("float32")
    ours, theirs = FusedBatchNormalization(), keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    for layer in (ours, theirs):
        layer.build(inputs.shape)
        layer.gamma.assign(np.linspace(0.5, 2.0, 6))
        layer.beta.assign(np.linspace(-1.0, 1.0, 6))
    np.testing.assert_allclose(ours(inputs, training=training), theirs(inputs, training=training), atol=1e-5)
    for a, b in zip(ours.weights, theirs.weights):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_frozen_batch_normalization_does_not_move(rng):
    layer = FusedBatchNormalization()
    layer.build((None, 4, 4, 6))
    layer.trainable = False
    layer(rng.normal(2.0, 3.0, (8, 4, 4, 6)).astype("float32"), training=True)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(6))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_dtype_policies(images, policy):
    keras.config.set_dtype_policy(policy)
    for model in (backbones.cifar_resnet(8, 4), backbones.resnet(18, 4, "cifar", (32, 32, 3))):
        outputs = model(images, training=True)
        assert keras.backend.standardize_dtype(outputs.dtype) == keras.config.dtype_policy().compute_dtype
        assert np.isfinite(np.asarray(outputs, "float32")).all()


def test_config_round_trip(images):
    model = backbones.cifar_resnet(8, 4)
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy.predict(images, verbose=0), model.predict(images, verbose=0))


def test_a_normalized_output_is_centred(images):
    model = backbones.resnet(18, 4, "small", (32, 32, 3), normalize_output=True)
    maps = keras.ops.convert_to_numpy(model(images, training=True))
    np.testing.assert_allclose(maps.mean(axis=(0, 1, 2)), 0, atol=1e-4)


@pytest.fixture(scope="module")
def imagenet_files(tmp_path_factory):
    """Weights of the networks of `keras.applications`, as Keras would download them; made up."""
    folder, files = tmp_path_factory.mktemp("weights"), {}
    for name, options in (("MobileNet", {"alpha": 0.25}), ("VGG19", {"input_shape": (32, 32, 3)})):
        model = getattr(keras.applications, name)(weights=None, classes=3 if name == "VGG19" else 1000, **options)
        files[name] = model, folder / f"{name}.weights.h5"
        model.save_weights(files[name][1])
    return files


def test_mobilenet_computes_what_keras_does(imagenet_files):
    original, path = imagenet_files["MobileNet"]
    model = backbones.mobilenet(0.25, 8, (224, 224, 3), path)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype("float32")
    pooled = keras.Model(model.inputs, model.get_layer("pooled").output)
    theirs = keras.Model(original.inputs, original.get_layer("conv_pw_13_relu").output)
    expected = keras.ops.convert_to_numpy(theirs(pixels / 127.5 - 1)).mean(axis=(1, 2))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(pooled(pixels)), expected, rtol=1e-4, atol=1e-5)


def test_vgg_takes_red_green_and_blue(monkeypatch, imagenet_files):
    original, path = imagenet_files["VGG19"]
    build = keras.applications.VGG19

    def small(include_top=True, **options):
        return build(**{**options, "input_shape": (32, 32, 3), "classes": 3}) if include_top else build(False, **options)

    monkeypatch.setattr(keras.applications, "VGG19", small)
    model = backbones.vgg19(input_shape=(32, 32, 3), weights=path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    theirs = keras.Model(original.inputs, original.get_layer("fc2").output)
    expected = theirs(keras.applications.vgg19.preprocess_input(pixels.copy()))
    np.testing.assert_allclose(model(pixels), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backbone", [backbones.cifar_resnet, backbones.cifar_alexnet])
def test_grey_images(backbone):
    model = backbone(input_shape=(32, 32, 1))
    layer = model.get_layer("preprocessing")
    grey = np.full((1, 32, 32, 1), 120.7, "float32")
    colours = np.array([125.3, 122.95, 113.87]).mean()
    deviation = np.array([62.99, 62.09, 66.7]).mean()
    np.testing.assert_allclose(np.asarray(layer(grey)), (120.7 - colours) / deviation, atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 4), (3,)])
def test_shapes_that_are_no_image(shape):
    with pytest.raises(ValueError, match=r"\(height, width, 3\).*Received: input_shape="):
        backbones.cifar_resnet(8, input_shape=shape)
