"""What every layer and every model owes Keras, checked in one place; and a zoo of made-up models."""

import copy
import json

import keras
import numpy as np
import pytest

from keras_interp.explain.gradients import input_gradient
from keras_interp.zoo import artifacts, registry
from tests.tiny import EAGER

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


def arrays(structure):
    """A structure of tensors as a list of float32 arrays."""
    return [keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")) for tensor in keras.tree.flatten(structure)]


def assert_alike(structure, other, **tolerance):
    for one, two in zip(arrays(structure), arrays(other), strict=True):
        np.testing.assert_allclose(one, two, **tolerance)


def json_of(thing):
    """The config as a file would hold it."""
    return json.dumps(keras.saving.serialize_keras_object(thing), sort_keys=True)


def run_layer_test(layer_class, init_kwargs, inputs, output_shapes, folder, call_kwargs=None, trains=True):
    """Round trips, dtypes, shapes and gradients of a layer.

    Args:
        layer_class: the layer's class.
        init_kwargs: arguments of its constructor.
        inputs: list of arrays, its positional inputs; the first is a float array.
        output_shapes: list of the shapes of its outputs, flattened.
        folder: a folder for a saved model.
        call_kwargs: further arguments of a call.
        trains: whether each of its trainable weights moves in a step; without trainable weights there is nothing to move.
    """
    call_kwargs = call_kwargs or {}
    for policy in POLICIES:
        layer = layer_class(**init_kwargs, dtype=policy)
        again = layer_class.from_config(json.loads(json.dumps(layer.get_config())))
        assert json_of(again) == json_of(layer)
        symbols = [keras.Input(array.shape[1:], dtype=array.dtype.name) for array in inputs]
        symbolic = layer(*symbols, **call_kwargs)
        outputs = keras.tree.flatten(layer(*inputs, **call_kwargs))
        for symbol, output, shape in zip(keras.tree.flatten(symbolic), outputs, output_shapes, strict=True):
            assert tuple(output.shape) == shape
            assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype == symbol.dtype
        assert all(weight.dtype in ("float32", "uint32", "int64") for weight in layer.variables)
        assert all(np.isfinite(output).all() for output in arrays(outputs))

        def total(x, layer=layer):
            parts = keras.tree.flatten(layer(x, *inputs[1:], **call_kwargs))
            return sum(keras.ops.sum(keras.ops.cast(part, "float32")) for part in parts)

        (gradient,) = arrays(input_gradient(total, inputs[0]))
        assert gradient.shape == inputs[0].shape and np.isfinite(gradient).all() and gradient.any()

        model = keras.Model(symbols, symbolic)
        path = folder / f"{policy}.keras"
        model.save(path)
        assert_alike(keras.saving.load_model(path)(inputs), model(inputs), rtol=1e-6)
        if not layer.trainable_variables:
            continue
        before = arrays(layer.trainable_variables)
        model.compile(keras.optimizers.SGD(0.1), loss=["mse"] * len(outputs) if len(outputs) > 1 else "mse", **EAGER)
        model.train_on_batch(inputs, [np.full(output.shape, 0.3, "float32") for output in outputs])
        for weight, old, new in zip(layer.trainable_variables, before, arrays(layer.trainable_variables)):
            assert np.isfinite(new).all() and (not trains or (old != new).any()), weight.path


def run_keras_layer_test(layer_class, init_kwargs, **options):
    """Keras's own checks of a layer, where the installed Keras ships them."""
    try:
        from keras.src.testing import TestCase
    except ImportError:
        pytest.skip("this Keras ships no keras.src.testing")
    TestCase("run").run_layer_test(layer_class, init_kwargs, **options)


def run_model_test(build, inputs, targets, folder, policy="float32", explain=True, tolerance=1e-4):
    """A step of training, round trips, copies and completeness of a model.

    Args:
        build: makes the model; called once, under the policy.
        inputs, targets: what it is fitted to, in one batch.
        folder: a folder for the saved model.
        policy: the dtype policy.
        explain: whether contributions and bias add up to the output that they explain.
        tolerance: of the equality of predictions, relative and absolute.

    Returns:
        The trained model.
    """
    keras.config.set_dtype_policy(policy)
    model = build().compile_by_default()
    if policy != "float32":
        # Half precision is a matter of dtypes, which are the same without compiling.
        model.run_eagerly = EAGER["run_eagerly"]
    trained_in = model.dtype_policy.name
    assert (type(model.optimizer).__name__ == "LossScaleOptimizer") == (trained_in == "mixed_float16")
    before = arrays(model.variables)
    # The scale of the loss in float16 is too large at first, and such steps are left out.
    epochs = 8 if policy == "mixed_float16" else 1
    history = model.fit(inputs, targets, batch_size=len(inputs), epochs=epochs, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert any((old != new).any() for old, new in zip(before, arrays(model.variables), strict=True))
    assert all(np.isfinite(values).all() for values in arrays(model.variables))
    keras.config.set_dtype_policy("float32")

    def predict(model):
        return keras.ops.convert_to_numpy(model(inputs))

    predictions = predict(model)
    assert predictions.dtype == np.float32 and predictions.shape == (len(inputs), model.num_outputs)
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    for same in (loaded, copy.deepcopy(model)):
        assert type(same) is type(model) and json.dumps(same.get_config()) == json.dumps(model.get_config())
        assert same.class_names == model.class_names and same.dtype_policy.name == trained_in
        np.testing.assert_allclose(predict(same), predictions, rtol=tolerance, atol=tolerance)
    assert (
        type(loaded.optimizer) is type(model.optimizer)
        and int(loaded.optimizer.iterations) == int(model.optimizer.iterations) > 0
    )
    if policy == "float32":
        np.testing.assert_allclose(loaded.predict(inputs, verbose=0), predictions, rtol=tolerance, atol=tolerance)
    from_config = type(model).from_config(json.loads(json.dumps(model.get_config())))
    assert json.dumps(from_config.get_config()) == json.dumps(model.get_config())
    if explain:
        explanation = model.explain(inputs)
        explanation.check_completeness(1e-3 if policy == "float32" else 1e-2)
        assert explanation.contributions.dtype == np.float32 and len(explanation) == len(inputs)
        assert getattr(loaded, "unit_names", None) == getattr(model, "unit_names", None)

    # A loaded model trains on as the first one does, with the same noise; and without a graph as the first one within.
    for mine, other in zip(loaded.variables, model.variables, strict=True):
        # A copy: on JAX two variables would share an array, which a step of the one deletes.
        mine.assign(np.array(keras.ops.convert_to_numpy(other)))
    loaded.run_eagerly = EAGER["run_eagerly"]
    for one in (model, loaded):
        one.fit(inputs, targets, batch_size=len(inputs), verbose=0, shuffle=False)
    assert_alike(loaded.variables, model.variables, rtol=1e-3, atol=1e-4 if policy == "float32" else 1e-2)
    return model


class FakeZoo:
    """A folder of made-up models, in place of the one that comes with the installation.

    Args:
        root: the folder.
    """

    def __init__(self, root):
        self.root = root

    def add(self, name, model=None, metrics=None, log=None):
        """Saves what is given of a model, its metrics (a dict) and its training log (lines); returns its folder."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        if model is not None:
            artifacts.save(model, folder)
        if metrics is not None:
            (folder / "metrics.json").write_text(json.dumps(metrics))
        if log is not None:
            (folder / "training_log.csv").write_text("\n".join(log) + "\n")
        return folder

    def pins(self):
        """The hashes of all files."""
        return {one.name: {path.name: artifacts.sha256(path) for path in one.iterdir()} for one in self.root.iterdir()}

    def install(self, monkeypatch, entries=None):
        """Has the zoo ship these models, and know entries ({name: entry}) in place of its own."""
        pins = self.pins()
        monkeypatch.setattr(artifacts, "shipped_root", lambda: self.root)
        monkeypatch.setattr(artifacts, "read_pins", lambda: pins)
        for name, entry in (entries or {}).items():
            monkeypatch.setitem(registry.ENTRIES, name, entry)

    def alter(self, monkeypatch, name, file):
        """Has a file not be the one that was published."""
        pins = self.pins()
        pins[name][file] = "0" * 64
        monkeypatch.setattr(artifacts, "read_pins", lambda: pins)
