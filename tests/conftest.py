import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest

from tests import tiny

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
def toy_dataset():
    """64 random images of ten classes."""
    return tiny.toy_dataset()
