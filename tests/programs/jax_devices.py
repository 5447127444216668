"""Trains every case on all devices of JAX: FOLDER/CASE.NAME.npz. With NAME "two", it explains any number of images too."""

import sys

import keras
import numpy as np

from keras_interp.models import Classifier, FeatureLevelingNetwork, XNet
from tests.programs.trainings import TRAININGS, rows_backbone, train
from tests.tiny import tiny_backbone


def explain_any_number():
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype="uint8")
    labels = np.arange(16) % 3
    model = Classifier(tiny_backbone(), 3).compile_by_default()
    model.fit(images, labels, verbose=0)
    whole, odd = model.explain(images), model.explain(images[:15])
    np.testing.assert_allclose(odd.contributions, whole.contributions[:15], atol=1e-5)
    np.testing.assert_allclose(model.intervene(images[:15], {2: 0.0}), model.intervene(images, {2: 0.0})[:15], atol=1e-5)
    assert np.isfinite(model.evaluate(images, labels, verbose=0)).all()
    model.fit(images, labels, verbose=0)
    rows = np.random.default_rng(0).normal(size=(16, 12)).astype("float32")
    for model in (FeatureLevelingNetwork((8, 4), 3, (12,)), XNet(rows_backbone(), ("a",), 3)):
        whole, odd = model.explain(rows), model.explain(rows[:15])
        np.testing.assert_allclose(odd.contributions, whole.contributions[:15], atol=1e-5)


folder, name = sys.argv[1:]
if name == "two":
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
for case in TRAININGS:
    if not case.startswith("senn"):
        np.savez(f"{folder}/{case}.{name}.npz", **train(case))
if name == "two":
    explain_any_number()
