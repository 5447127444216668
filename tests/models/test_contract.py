"""What every model owes Keras and its users: training, round trips, copies and explanations that add up."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_interp import models
from keras_interp.backbones import column_scaling
from tests.harness import POLICIES, run_model_test

ROWS = np.random.default_rng(0).normal(1.0, 3.0, (12, 5)).astype("float32")
LABELS = np.arange(12, dtype="int32") % 3
VALUES = 100 * ROWS[:, 0] + 500
ATTRIBUTES = {"label": LABELS, "attributes": np.eye(2, dtype="float32")[np.arange(12) % 2]}
NAMES = {"class_names": ("cat", "dog", "ship")}
REGRESSION = {"task": "regression", "target_mean": 500.0, "target_scale": 200.0}


def backbone():
    inputs = keras.Input((5,), name="rows")
    return keras.Model(inputs, layers.Dense(6, "elu", name="units")(inputs))


def classifier():
    plain = backbone()
    return keras.Model(
        plain.input, layers.Dense(3, name="scores", dtype="float32")(layers.ReLU(name="features")(plain.output))
    )


def leveling(**options):
    options = {"input_shape": (5,), "preprocessing": column_scaling(ROWS), "seed": 1, "column_names": list("abcde"), **options}
    return models.FeatureLevelingNetwork((6, 4), **options)


def self_explaining(**options):
    scaling = column_scaling(ROWS)
    return models.SelfExplainingNetwork(
        (6,), input_shape=(5,), num_concepts=4, preprocessing=scaling, robustness_weight=0.1, **options
    )


def explanation_module(**options):
    options = {"num_features": 2, "hidden_units": (4,), "concept_names": {"dog": ("tail", "")}, **NAMES, **options}
    return models.ExplanationModule(classifier(), "features", ["dog", "cat"], **options)


# Makes the model, and the targets it is trained on.
MODELS = {
    "Classifier": (lambda: models.Classifier(backbone(), **NAMES), LABELS),
    "Regressor": (lambda: models.Regressor(backbone(), target_mean=500.0, target_scale=200.0), VALUES),
    "LabelSensitiveClassifier": (
        lambda: models.LabelSensitiveClassifier(backbone(), scheme="joint", sparsity_weight=0.01, **NAMES),
        LABELS,
    ),
    "LabelSensitiveClassifier with a fixed gate": (
        lambda: models.LabelSensitiveClassifier(backbone(), fixed_gate=1, align_readout=True, scheme="joint", **NAMES),
        LABELS,
    ),
    "DynamicKClassifier": (lambda: models.DynamicKClassifier(backbone(), k=2, **NAMES), LABELS),
    "XNet": (
        lambda: models.XNet(backbone(), ("a", "b"), reduction="mean", drop_loss_cap=3.0, alpha=0.1, activation="elu", **NAMES),
        ATTRIBUTES,
    ),
    "FeatureLevelingNetwork": (lambda: leveling(l0_weight=0.5, **NAMES), LABELS),
    "FeatureLevelingNetwork of values": (lambda: leveling(**REGRESSION), VALUES),
    "L0Network": (lambda: models.L0Network((6, 4), input_shape=(5,), seed=1, **NAMES), LABELS),
    "SelfExplainingNetwork": (lambda: self_explaining(**NAMES), LABELS),
    "SelfExplainingNetwork of values": (lambda: self_explaining(**REGRESSION), VALUES),
    "ExplanationModule": (explanation_module, LABELS),
}


def test_every_model_class_is_here():
    classes = {name for name in models.__all__ if isinstance(getattr(models, name), type)} - {"NeuronMatching", "LassoModule"}
    assert classes == {name.split()[0] for name in MODELS}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", MODELS)
def test_contract(kind, policy, tmp_path):
    build, targets = MODELS[kind]
    model = run_model_test(build, ROWS, targets, tmp_path, policy, explain=kind != "L0Network")
    assert model.dtype_policy.name == ("float32" if kind == "ExplanationModule" else policy)
