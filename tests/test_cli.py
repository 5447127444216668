import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_interp import zoo
from keras_interp.cli import main
from tests.tiny import register

register()


def run(*arguments, code=0):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    zoo.save(zoo.build("tiny_lsg"), folder)
    return folder


@pytest.fixture
def picture(tmp_path, rng):
    path = tmp_path / "picture.png"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype="uint8")).save(path)
    return path


def test_list_and_info():
    assert "lsg_resnet20_cifar10" in run("list", "lsg_*")
    assert json.loads(run("info", "lsg_resnet20_cifar10"))["dataset"] == "cifar10"


def test_predict(model_folder, picture):
    output = run("predict", model_folder, picture, "--top", 2)
    assert output.startswith("picture.png: ") and output.count("%") == 2


def test_explain(model_folder, picture, tmp_path):
    output = run("explain", model_folder, picture, "--target", "cat", "--output", tmp_path / "why.png")
    assert "why.png" in output and (tmp_path / "why.png").stat().st_size > 1000


def test_explain_makes_the_folder_of_its_picture(model_folder, picture, tmp_path):
    run("explain", model_folder, picture, "--output", tmp_path / "new" / "why.png")
    assert (tmp_path / "new" / "why.png").is_file()


def test_a_broken_npz_file(tmp_path):
    (tmp_path / "part.npz").write_bytes(b"PK part of an archive")
    output = run("train", "tiny_lsg", "--data", tmp_path / "part.npz", code=1)
    assert "must be an .npz file" in output and "Traceback" not in output


def test_train_and_evaluate(toy_dataset, tmp_path):
    np.savez(tmp_path / "toy.npz", inputs=toy_dataset.inputs, targets=toy_dataset.targets)
    out = tmp_path / "out"
    run(
        "train",
        "tiny_lsg",
        "--data",
        tmp_path / "toy.npz",
        "--output",
        out,
        "--epochs",
        2,
        "--no-progress",
        "--validation",
        0.25,
    )
    assert (out / "training_log.csv").read_text().count("\n") == 3
    zoo.load(out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "lsg_resnet"), "Did you mean"),
        (("predict", "lsg_resnet", __file__), "Did you mean"),
        (("train", "tiny_lsg", "--data-dir", "/no/such/folder"), "no folder of data sets"),
        (("evaluate", "tiny_lsg"), "keras-interp train tiny_lsg"),
    ],
)
def test_errors_are_one_line_without_a_traceback(arguments, message):
    output = run(*arguments, code=1)
    assert message in output and "Traceback" not in output


@pytest.mark.artifact
def test_demo(tmp_path):
    if "lsg_resnet20_cifar10" not in zoo.list_models(trained=True):
        pytest.skip("lsg_resnet20_cifar10 is not shipped")
    output = run("demo", "--output", tmp_path)
    assert output.count("%") >= 18 and (tmp_path / "explanation.png").stat().st_size > 10_000
