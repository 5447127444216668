"""One device and several train the same weights. Each case runs in a process of its own: devices are set up once."""

import socket

import keras
import numpy as np
import pytest

TRAINING = """
import sys
import keras, numpy as np
from tests.tiny import tiny_backbone
from keras_interp.data import Batches
from keras_interp.models import LabelSensitiveClassifier
from keras_interp.optimizers import CoupledSGD

def train(process=(0, 1), scheme="alternating"):
    keras.utils.set_random_seed(1)
    backbone = tiny_backbone()
    features = keras.layers.Conv2D(16, 1, name="regularised", kernel_regularizer=keras.regularizers.L2(0.1))(backbone.output)
    backbone = keras.Model(backbone.input, features)
    model = LabelSensitiveClassifier(backbone, 10, scheme=scheme, sparsity_weight=0.02, name="model")
    model.compile(
        CoupledSGD(0.02, momentum=0.9, weight_decay=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], jit_compile=False,
    )
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (32, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 32).astype("int32")
    history = model.fit(Batches(data, 16, pad=2, flip=True, process=process), epochs=2, verbose=0, shuffle=False).history
    return {**{w.path: np.asarray(w) for w in model.weights}, **{f"log {k}": np.array(v) for k, v in history.items()}}
"""


LEVELING = """
import sys
import keras, numpy as np
from keras_interp.models import FeatureLevelingNetwork

def train():
    # The same draw of noise on every replica: one for the batch, of a fixed seed.
    keras.utils.set_random_seed(1)
    model = FeatureLevelingNetwork((8, 6), 3, (5,), l0_weight=0.5, seed=2, name="model")
    model.compile_by_default(keras.optimizers.Adam(0.01))
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(64, 5)).astype("float32"), rng.integers(0, 3, 64).astype("int32")
    history = model.fit(rows, labels, batch_size=16, shuffle=False, verbose=0).history
    return {**{w.path: np.asarray(w) for w in model.weights}, **{f"log {k}": np.array(v) for k, v in history.items()}}
"""
DYNAMIC = """
import sys
import keras, numpy as np
from keras_interp.layers import dynamic_k
from keras_interp.models import DynamicKClassifier
from keras_interp.optimizers import CoupledSGD

def train():
    keras.utils.set_random_seed(1)
    dynamic_k.CHUNK_SIZE = 100
    inputs = keras.Input((12,))
    model = DynamicKClassifier(keras.Model(inputs, keras.layers.Dense(10, "relu", name="units")(inputs)), 3, k=4, name="model")
    model.compile_by_default(CoupledSGD(0.05, momentum=0.9, weight_decay=1e-3))
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(64, 12)).astype("float32"), rng.integers(0, 3, 64).astype("int32")
    history = model.fit(rows, labels, batch_size=16, shuffle=False, verbose=0).history
    return {**{w.path: np.asarray(w) for w in model.weights}, **{f"log {k}": np.array(v) for k, v in history.items()}}
"""
XNET = """
import sys
import keras, numpy as np
from keras_interp.models import XNet
from keras_interp.optimizers import CoupledSGD

def train():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12,))
    backbone = keras.Model(inputs, keras.layers.Dense(10, "relu", name="units")(inputs))
    model = XNet(backbone, ["a", "b", "c"], 2, alpha=0.5, name="model")
    model.get_layer("explained").bias.assign([1.0, 1.0, 1.0])
    model.compile_by_default(CoupledSGD(0.05, momentum=0.9, weight_decay=1e-3))
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(64, 12)).astype("float32"), rng.integers(0, 2, 64).astype("int32")
    # Of a batch of 16 the second half goes to the second replica: "b" is in the first alone, and "c" in neither of one batch.
    attributes = (rng.random((64, 3)) < 0.4).astype("float32")
    attributes[np.arange(64) % 16 >= 8, 1] = 0
    attributes[16:32, 2] = 0
    targets = {"label": labels, "attributes": attributes}
    history = model.fit(rows, targets, batch_size=16, shuffle=False, verbose=0).history
    return {**{w.path: np.asarray(w) for w in model.weights}, **{f"log {k}": np.array(v) for k, v in history.items()}}
"""
EXPLANATION = """
import sys
import keras, numpy as np
from keras_interp.models import ExplanationModule

def train():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12,))
    units = keras.layers.Dense(10, "relu", name="units")(inputs)
    classifier = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(9, "relu")(units)))
    options = {"num_features": 3, "hidden_units": (8, 6), "dropout": 0.0, "start": "classifier", "name": "model"}
    model = ExplanationModule(classifier, "units", **options).compile_by_default(keras.optimizers.SGD(1e-3))
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(64, 12)).astype("float32"), rng.integers(0, 3, 64).astype("int32")
    history = model.fit(rows, labels, batch_size=16, verbose=0).history
    # By their numbers: Keras counts names on from the first training of a process.
    return {str(n): w for n, w in enumerate(model.get_weights())} | {f"log {k}": np.array(v) for k, v in history.items()}
"""
PROGRAMS = {
    "alternating": TRAINING,
    "joint": TRAINING,
    "leveling": LEVELING,
    "dynamic": DYNAMIC,
    "xnet": XNET,
    "explanation": EXPLANATION,
}


def assert_same(one, other, tolerance=1e-5):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=tolerance, rtol=tolerance, err_msg=name)
    if "label_sensitive_gate/gate" in one:
        assert one["label_sensitive_gate/gate"].mean() != 0.5


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
@pytest.mark.parametrize("case", PROGRAMS)
def test_two_mirrored_replicas_train_as_one(tmp_path, run_python, case):
    program = (
        PROGRAMS[case]
        + """
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
folder, case = sys.argv[1:]
options = {"scheme": case} if case in ("alternating", "joint") else {}
np.savez(folder + "/one.npz", **train(**options))
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    np.savez(folder + "/two.npz", **train(**options))
"""
    )
    run_python(program, tmp_path, case)
    assert_same(np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz"))


SMALL_LAST_BATCH = """
import sys
import keras, numpy as np, tensorflow as tf
from keras_interp.layers import dynamic_k
from keras_interp.models import DynamicKClassifier, XNet
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
dynamic_k.CHUNK_SIZE = 100
rng = np.random.default_rng(0)
rows, labels = rng.normal(size=(11, 12)).astype("float32"), rng.integers(0, 3, 11).astype("int32")
attributes = (np.arange(22).reshape(11, 2) % 3 == 0).astype("float32")
cross_entropy = keras.losses.sparse_categorical_crossentropy
results = {}
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    for kind in ("dynamic", "xnet"):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((12,))
        backbone = keras.Model(inputs, keras.layers.Dense(10, "relu")(inputs))
        model = DynamicKClassifier(backbone, 3, k=4) if kind == "dynamic" else XNet(backbone, ["a", "b"], 3, alpha=0.1)
        # A function, and not a Keras loss: the mean over an empty share of a batch is the model's.
        model.compile("sgd", lambda y, logits: cross_entropy(y, logits, from_logits=True), metrics=["accuracy"])
        right = model.predict(rows, batch_size=4, verbose=0).argmax(axis=1) == labels
        found = model.evaluate(rows, labels, batch_size=4, verbose=0, return_dict=True)
        assert set(found) == {"loss", "accuracy"}, found
        results[kind] = [right.mean(), found["accuracy"]]
        # Nine examples: the last batch of 4 has one, and a replica none.
        targets = labels[:9] if kind == "dynamic" else {"label": labels[:9], "attributes": attributes[:9]}
        model.fit(rows[:9], targets, batch_size=4, verbose=0)
        results[f"{kind} weights"] = np.array([np.isfinite(w).all() for w in model.get_weights()])
np.savez(sys.argv[1] + "/results.npz", **results)
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
def test_a_last_batch_smaller_than_the_number_of_replicas(tmp_path, run_python):
    run_python(SMALL_LAST_BATCH, tmp_path)
    results = np.load(tmp_path / "results.npz")
    for kind in ("dynamic", "xnet"):
        np.testing.assert_allclose(*results[kind], rtol=1e-6)
        assert results[f"{kind} weights"].all()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX devices")
@pytest.mark.parametrize("case", ["alternating", "leveling", "dynamic", "xnet", "explanation"])
def test_two_jax_devices_train_as_one(tmp_path, run_python, case):
    program = (
        PROGRAMS[case]
        + """
folder, devices = sys.argv[1:]
if devices == "2":
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
np.savez(folder + f"/{devices}.npz", **train())
"""
    )
    for devices in (1, 2):
        run_python(program, tmp_path, devices, XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}")
    assert_same(np.load(tmp_path / "1.npz"), np.load(tmp_path / "2.npz"))


EXPLANATIONS = """
import keras, numpy as np
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
from keras_interp.models import Classifier, FeatureLevelingNetwork, XNet
from tests.tiny import tiny_backbone
images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype="uint8")
model = Classifier(tiny_backbone(), 3).compile_by_default()
model.fit(images, np.arange(16) % 3, verbose=0)
whole = model.explain(images)
odd = model.explain(images[:15])
np.testing.assert_allclose(odd.contributions, whole.contributions[:15], atol=1e-5)
np.testing.assert_allclose(model.intervene(images[:15], {2: 0.0}), model.intervene(images, {2: 0.0})[:15], atol=1e-5)
assert np.isfinite(model.evaluate(images, np.arange(16) % 3, verbose=0)).all()
model.fit(images, np.arange(16) % 3, verbose=0)

rows = np.random.default_rng(0).normal(size=(16, 5)).astype("float32")
inputs = keras.Input((5,))
backbone = keras.Model(inputs, keras.layers.Dense(6, "relu")(inputs))
for model in (FeatureLevelingNetwork((8, 4), 3, (5,)), XNet(backbone, ("a",), 3)):
    whole, odd = model.explain(rows), model.explain(rows[:15])
    np.testing.assert_allclose(odd.contributions, whole.contributions[:15], atol=1e-5)
"""


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX devices")
def test_any_number_of_images_is_explained_with_several_devices(run_python):
    run_python(EXPLANATIONS, XLA_FLAGS="--xla_force_host_platform_device_count=2")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
