"""The benchmarks run. Their figures mean something only with more steps, on an idle machine."""

import pathlib
import subprocess
import sys

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough")
@pytest.mark.parametrize(
    "command",
    [
        ("benchmark.py", "--batch-size", "8", "--steps", "1"),
        ("explanation_module.py", "--examples", "256", "--epochs", "1", "--bias-epochs", "1"),
        ("feature_leveling.py", "--steps", "2"),
        ("xnet.py", "--batch-size", "8", "--steps", "1"),
    ],
    ids=lambda command: command[0],
)
def test_benchmarks_run(command):
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert "│" in result.stdout
