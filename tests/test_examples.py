"""The examples, on small data that are made here."""

import pathlib
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from keras_interp import zoo

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.artifact


def run(monkeypatch, program, *arguments):
    monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / program), run_name="__main__")


def needs(name):
    if name not in zoo.list_models(trained=True):
        pytest.skip(f"{name} is not shipped")


def make(kind, folder):
    """A source of the kind of data that a model takes, as arguments."""
    rng = np.random.default_rng(0)
    if kind == "folder":
        for label in ("left", "right"):
            (folder / label).mkdir()
            for number in range(10):
                Image.fromarray(rng.integers(0, 256, (20, 30, 3), "uint8")).save(folder / label / f"{number}.png")
        return "--images", folder
    extra = {"task": "classification"}
    if kind == "rows":
        inputs = rng.normal(size=(200, 13)).astype("float32") * np.arange(1, 14)
        extra, targets = {"task": "regression"}, inputs[:, 0] + 0.1 * rng.normal(size=200)
    elif kind == "faces":
        inputs, targets = rng.integers(0, 256, (60, 64, 64, 3), "uint8"), np.arange(60) % 2
        extra |= {"attributes": rng.random((60, 3)) < 0.5, "attribute_names": ["hat", "scarf", "glasses"]}
    elif kind == "photos":
        inputs, targets = rng.integers(0, 256, (60, 128, 128, 3), "uint8"), np.arange(60) % 3
    else:
        inputs, targets = rng.integers(0, 256, (60, 28, 28, 1), "uint8"), np.arange(60) % 3
    np.savez(folder / "data.npz", inputs=inputs, targets=targets, **extra)
    return "--dataset", folder / "data.npz"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lsg_resnet20_cifar10", "folder"),
        ("std_resnet20_cifar10", "folder"),
        ("dynk5_resnet18w32_cifar10", "folder"),
        ("fl_mlp_mnist", "digits"),
        ("fl_cnn_mnist", "digits"),
        ("l0_mlp_mnist", "folder"),
        ("senn_mlp_mnist", "digits"),
        ("fl_mlp_california_housing", "rows"),
        ("xnet_capped_resnet18w32_celeb_a_mini", "faces"),
    ],
)
def test_every_kind_of_model_can_be_fine_tuned(name, kind, tmp_path, monkeypatch):
    needs(name)
    (tmp_path / "data").mkdir()
    output = tmp_path / "tuned"
    run(monkeypatch, "finetune.py", "--name", name, *make(kind, tmp_path / "data"), "--epochs", 1, "--output", output)
    tuned = zoo.load(output)
    assert type(tuned) is type(zoo.load(name)) and all(np.isfinite(weight).all() for weight in tuned.get_weights())
    explained = tuned.explain(np.zeros((1, *tuned.input_shape[1:]), "uint8"))
    explained.check_completeness()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("srae_mobilenet_cub100", "photos", "fine-tune that"),
        ("xnet_capped_resnet18w32_celeb_a_mini", "folder", "learns from attributes"),
    ],
)
def test_what_cannot_be_fine_tuned_says_what_to_do(name, kind, message, tmp_path, monkeypatch, capsys):
    needs(name)
    (tmp_path / "data").mkdir()
    with pytest.raises(SystemExit):
        run(monkeypatch, "finetune.py", "--name", name, *make(kind, tmp_path / "data"))
    assert message in capsys.readouterr().err
