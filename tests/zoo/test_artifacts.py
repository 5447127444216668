import json
import pathlib
import shutil

import keras
import numpy as np
import pytest

from keras_interp import zoo
from keras_interp.models import LabelSensitiveClassifier
from keras_interp.zoo import artifacts
from tests.programs import run_program
from tests.tiny import tiny_backbone


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model's artifact; tests that alter it take a copy."""
    keras.utils.set_random_seed(0)
    model = LabelSensitiveClassifier(tiny_backbone(), class_names=("cat", "dog", "ship"), sparsity_weight=0.01)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    model.fit(images, np.array([0, 1, 2, 0]), epochs=2, verbose=0)
    folder = artifacts.save(model, tmp_path_factory.mktemp("zoo") / "model", images)
    return model, folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved[1], tmp_path / "model")


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_round_trip(saved, images):
    model, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "golden.npz", "metadata.json", "model.weights.h5"]
    loaded = zoo.load(folder)
    assert loaded.class_names == model.class_names and loaded.sparsity_weight == 0.01
    np.testing.assert_array_equal(loaded.gate, model.gate)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)
    assert artifacts.golden_difference(loaded, folder) < 1e-4
    loaded.fit(images, np.arange(16) % 3, verbose=0)
    assert zoo.load(str(folder)).class_names == model.class_names


def test_half_precision_storage(saved, tmp_path, images):
    model, folder = saved
    half = artifacts.save(model, tmp_path / "half", images, storage_dtype="float16")
    assert (half / "model.weights.h5").stat().st_size < (folder / "model.weights.h5").stat().st_size
    loaded = zoo.load(half)
    assert loaded.get_layer("logits").kernel.dtype == "float32"
    # The golden logits are those of the rounded weights.
    assert artifacts.golden_difference(loaded, half) < 1e-4
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=0.05)


def test_no_optimizer_state(saved):
    import h5py

    with h5py.File(saved[1] / "model.weights.h5") as file:
        assert "optimizer" not in file
    assert "SparseCategoricalCrossentropy" not in (saved[1] / "config.json").read_text()


def test_keras_itself_can_load_it(folder, images, saved):
    archive = shutil.make_archive(folder.parent / "packed", "zip", folder)
    shutil.move(archive, folder.parent / "packed.keras")
    loaded = keras.saving.load_model(folder.parent / "packed.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), saved[0].predict(images, verbose=0), atol=1e-5)


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5", "golden.npz"])
def test_pins_catch_altered_and_missing_files(folder, name):
    pins = {path.name: artifacts.sha256(path) for path in folder.iterdir()}
    artifacts.load(folder, pins)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(artifacts.ArtifactError, match=f"not the published one.*{name}"):
        artifacts.load(folder, pins)
    (folder / name).unlink()
    with pytest.raises(artifacts.ArtifactError, match=f"{name}"):
        artifacts.load(folder, pins)


def test_truncated_weights(folder):
    data = (folder / "model.weights.h5").read_bytes()
    (folder / "model.weights.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(artifacts.ArtifactError, match="damaged"):
        artifacts.load(folder)


def test_weights_of_another_model(folder, tmp_path):
    other = artifacts.save(LabelSensitiveClassifier(tiny_backbone(filters=8), num_classes=3), tmp_path / "other")
    shutil.copy(other / "model.weights.h5", folder / "model.weights.h5")
    with pytest.raises(artifacts.ArtifactError, match="do not fit"):
        artifacts.load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_config_that_is_no_json_object(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(artifacts.ArtifactError, match="JSON"):
        artifacts.load(folder)


def test_an_artifact_of_the_first_format_still_loads():
    folder = pathlib.Path(__file__).parent / "format_1"
    model = zoo.load(folder)
    assert model.class_names == ("cat", "dog", "ship")
    artifacts.check_golden(model, folder)


def test_golden_outputs_that_are_not_there(folder):
    model = artifacts.load(folder)
    (folder / "golden.npz").unlink()
    with pytest.raises(artifacts.ArtifactError, match=r"golden\.npz"):
        artifacts.check_golden(model, str(folder))


@pytest.mark.parametrize("ours", [None, [1], {"format": -3}, {"format": True}, {"format": "1"}])
def test_a_format_that_is_none(folder, ours):
    edit_json(folder / "metadata.json", lambda value: value.update(keras_interp=ours))
    with pytest.raises(artifacts.ArtifactError, match="Received"):
        artifacts.load(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": ["Dense"], "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": "Dense", "config": {"units": "many"}, "registered_name": None},
    ],
)
def test_a_config_that_makes_no_model(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(artifacts.ArtifactError, match=r"does not make a model|must name a class by"):
        artifacts.load(folder)


def test_json_that_is_nested_without_end(folder):
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(artifacts.ArtifactError, match="not JSON"):
        artifacts.load(folder)


def test_small_files_that_ask_for_much(folder):
    import h5py

    def refused(change, match):
        with h5py.File(folder / "model.weights.h5", "w") as file:
            change(file)
        with pytest.raises(artifacts.ArtifactError, match=match):
            artifacts.load(folder)

    def chain(file):
        group = file
        for _ in range(30):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner

    refused(chain, "is there twice")
    refused(lambda file: file.create_dataset("x", (4, 2), "V100000000"), "holds")


def test_what_keras_will_find_decides_whom_to_trust(folder):
    class Mine(keras.layers.Layer):
        pass

    @keras.saving.register_keras_serializable("elsewhere")
    class Danger(keras.layers.Layer):
        pass

    config = {"module": "m", "class_name": "Mine", "config": {}, "registered_name": "elsewhere>Danger"}
    with pytest.raises(artifacts.ArtifactError, match="outside the allow-list"):
        artifacts.check_config(config, {"Mine": Mine})
    artifacts.check_config(config | {"registered_name": "Mine"}, {"Mine": Mine})
    artifacts.check_config(config, {"Danger": Danger})


def test_newer_format(folder):
    edit_json(folder / "metadata.json", lambda value: value["keras_interp"].update(format=artifacts.FORMAT + 1))
    with pytest.raises(artifacts.ArtifactError, match="install a newer version"):
        artifacts.load(folder)


@pytest.mark.parametrize(
    "foreign",
    [
        {"module": "keras.layers", "class_name": "Lambda", "registered_name": None},
        {"module": "keras.layers", "class_name": "TFSMLayer", "registered_name": None},
        {"module": "os", "class_name": "system", "registered_name": None},
        {"module": "subprocess", "class_name": "Popen", "registered_name": "keras_interp>LabelSensitiveGate"},
        {"module": "builtins", "class_name": "function", "registered_name": "eval"},
        {"module": "keras.utils", "class_name": "get_file", "registered_name": None},
        {"module": "keras", "class_name": "utils", "registered_name": None},
        {"module": None, "class_name": "__lambda__", "registered_name": None},
        {"module": "evil.layers", "class_name": "LabelSensitiveGate", "registered_name": "evil>LabelSensitiveGate"},
        {"class_name": "Lambda", "config": {}},
    ],
)
def test_foreign_classes_are_refused_before_anything_is_deserialised(folder, foreign, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("deserialized")

    monkeypatch.setattr(keras.saving, "deserialize_keras_object", never)
    edit_json(
        folder / "config.json",
        lambda value: value["config"]["backbone"]["config"]["layers"].insert(2, {"config": {}, **foreign}),
    )
    with pytest.raises(artifacts.ArtifactError, match="outside the allow-list"):
        artifacts.load(folder)


def test_allowed_classes(images):
    """What a user's own backbone may hold."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(1e-4), kernel_constraint="max_norm")(x)
    x = keras.layers.Activation("gelu")(keras.layers.BatchNormalization(dtype="mixed_bfloat16")(x))
    artifacts.check_config(
        json.loads(json.dumps(keras.saving.serialize_keras_object(LabelSensitiveClassifier(keras.Model(inputs, x), 3))))
    )


@keras.saving.register_keras_serializable("elsewhere")
class Elsewhere(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def test_operations_and_trusted_layers_of_ones_own(tmp_path, images):
    inputs = keras.Input((32, 32, 3))
    x = keras.ops.relu(keras.layers.Conv2D(4, 3, 8)(inputs) + 1.0)
    operations = LabelSensitiveClassifier(keras.Model(inputs, x), 3)
    loaded = zoo.load(artifacts.save(operations, tmp_path / "operations"))
    np.testing.assert_allclose(loaded.predict(images, verbose=0), operations.predict(images, verbose=0), atol=1e-4)

    own = LabelSensitiveClassifier(keras.Model(inputs, Elsewhere()(x)), 3)
    with pytest.raises(artifacts.ArtifactError, match="outside the allow-list"):
        artifacts.save(own, tmp_path / "own")
    trusted = {"Elsewhere": Elsewhere}
    artifacts.save(own, tmp_path / "own", custom_objects=trusted)
    with pytest.raises(artifacts.ArtifactError, match="outside the allow-list"):
        zoo.load(tmp_path / "own")
    assert zoo.load(tmp_path / "own", custom_objects=trusted).num_classes == 3


OTHER = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"


def test_saved_on_one_backend_it_loads_and_trains_on_the_other(tmp_path, images):
    run_program("save_trained", tmp_path / "model", KERAS_BACKEND=OTHER)
    model = zoo.load(tmp_path / "model")
    assert artifacts.golden_difference(model, tmp_path / "model") < 1e-4
    model.fit(images, np.arange(16) % 10, verbose=0)


def test_shipped_models_must_be_pinned(monkeypatch):
    monkeypatch.setattr(artifacts, "read_pins", dict)
    with pytest.raises(artifacts.ArtifactError, match="without pins"):
        artifacts.pins_of("lsg_resnet20_cifar10")


def test_what_persons_note_is_not_pinned(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "PINS", tmp_path / "pins.json")
    files = {path.name for path in folder.iterdir()}
    (folder / "concepts.json").write_text("{}")
    artifacts.pin("any", folder)
    assert set(artifacts.read_pins()["any"]) == files
    artifacts.load(folder, artifacts.read_pins()["any"])


def test_missing_folder(tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="no folder of a model at this path"):
        zoo.load(tmp_path / "absent")
