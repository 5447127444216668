import os
import pathlib
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest

from keras_interp.data import ArrayDataset

BACKEND = keras.backend.backend()


def pytest_collection_modifyitems(items):
    if not os.environ.get("TFDS_DATA_DIR"):
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(pytest.mark.skip(reason="set TFDS_DATA_DIR to a folder with prepared data sets"))


@pytest.fixture(autouse=True)
def fresh_state():
    """Every test starts from the same seed and leaves the global dtype policy as it was."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    """Sixteen random images (16, 32, 32, 3) of uint8 pixels."""
    return rng.integers(0, 256, (16, 32, 32, 3), dtype="uint8")


@pytest.fixture
def toy_dataset(rng):
    """64 random images of ten classes."""
    return ArrayDataset(
        rng.integers(0, 256, (64, 32, 32, 3), dtype="uint8"),
        rng.integers(0, 10, 64).astype("int32"),
        tuple("abcdefghij"),
        "toy",
    )


@pytest.fixture
def run_python():
    """Runs a Python program in a fresh process and returns its standard output; fails the test with its errors."""

    def run(program, *arguments, **environment):
        result = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env={**os.environ, **environment},
            cwd=pathlib.Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run
