"""One device and several train the same weights. Devices are set up once in a process, so the trainings run in their own."""

import keras
import numpy as np
import pytest

from tests.programs import run_program

CASES = ("alternating", "joint", "leveling", "dynamic", "xnet", "explanation")
SELF_EXPLAINING = ("senn", "senn of values")


def assert_same(folder, case, tolerance=1e-5):
    one, other = np.load(folder / f"{case}.one.npz"), np.load(folder / f"{case}.two.npz")
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=tolerance, rtol=tolerance, err_msg=name)
    if "label_sensitive_gate/gate" in one:
        assert one["label_sensitive_gate/gate"].mean() != 0.5
    assert case != "senn of values" or "log robustness_loss" in one


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute")
    folder = tmp_path_factory.mktemp("mirrored")
    run_program("mirrored", folder)
    return folder


@pytest.mark.parametrize("case", CASES + SELF_EXPLAINING)
def test_two_mirrored_replicas_train_as_one(mirrored, case):
    assert_same(mirrored, case)


def test_a_last_batch_smaller_than_the_number_of_replicas(mirrored):
    results = np.load(mirrored / "last_batch.npz")
    for kind in ("dynamic", "xnet"):
        np.testing.assert_allclose(*results[kind], rtol=1e-6)
        assert results[f"{kind} weights"].all()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX devices")
def test_two_jax_devices_train_as_one_and_explain_any_number_of_images(tmp_path):
    for devices, name in enumerate(("one", "two"), 1):
        run_program("jax_devices", tmp_path, name, XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}")
    for case in CASES:
        assert_same(tmp_path, case)
