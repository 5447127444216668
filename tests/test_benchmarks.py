"""The benchmarks run. Their figures mean something only with more steps, on the whole networks and an idle machine."""

import pathlib
import runpy
import subprocess
import sys

import keras
import pytest

from keras_interp import backbones
from tests.tiny import tiny_backbone

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough")
@pytest.mark.parametrize(
    "command",
    [
        ("benchmark.py", "--batch-size", "8", "--steps", "1"),
        ("explanation_module.py", "--examples", "256", "--epochs", "1", "--bias-epochs", "1", "--targets", "5"),
        ("feature_leveling.py", "--steps", "2"),
        ("xnet.py", "--batch-size", "8", "--steps", "1"),
    ],
    ids=lambda command: command[0],
)
def test_benchmarks_run(command, monkeypatch, capsys):
    cifar_resnet, check_output = backbones.cifar_resnet, subprocess.check_output

    def small_program(arguments, **options):
        program = arguments[2].replace("cifar_resnet(20)", "cifar_resnet(8)")
        assert program != arguments[2]
        return check_output([*arguments[:2], program, *arguments[3:]], **options)

    monkeypatch.setattr(backbones, "cifar_resnet", lambda depth: cifar_resnet(8))
    monkeypatch.setattr(backbones, "resnet", lambda depth, width, stem, shape, **options: tiny_backbone(shape))
    monkeypatch.setattr(subprocess, "check_output", small_program)
    monkeypatch.setattr(sys, "argv", list(command))
    runpy.run_path(str(FOLDER / command[0]), run_name="__main__")
    assert "│" in capsys.readouterr().out
