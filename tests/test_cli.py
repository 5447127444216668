import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_interp import models, zoo
from keras_interp.cli import main
from keras_interp.data import load_picture
from keras_interp.explain import Explanation
from keras_interp.zoo import listing, registry
from tests.programs import start_program
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


def test_the_list_is_that_of_the_zoo():
    names = [row["name"] for row in json.loads(run("list", "--json"))]
    assert names == [name for name in zoo.list_models() if not name.startswith("tiny_")] and "nn_mobilenet_cub100" not in names
    assert "nn_mobilenet_cub100" in run("list", "--comparisons") and "nn_mobilenet_cub100" in run("list", "nn_*")
    weights = [row["weights"] for row in json.loads(run("list", "--json", "--comparisons"))]
    assert weights == sorted(weights, reverse=True)


def test_what_the_command_knows_without_keras_is_what_the_zoo_knows():
    index = listing.index()
    entries = {name: entry for name, entry in registry.ENTRIES.items() if not name.startswith("tiny")}
    # Written by `python -m tools.release --index`.
    assert index == json.loads(json.dumps({name: registry.facts_of(entry) for name, entry in sorted(entries.items())}))
    for name in ("lsg_resnet20_cifar10", "nn_mobilenet_cub100", "fl_mlp_california_housing", "std_vgg19_cub200"):
        assert listing.describe(name, index[name]) == json.loads(json.dumps(dataclasses.asdict(zoo.info(name))))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list"], ["info", "lsg_resnet20_cifar10"], ["nonsense"]])
def test_the_command_answers_without_keras(arguments):
    process = start_program("loaded_modules", *arguments)
    output, errors = process.communicate(timeout=60)
    assert output.splitlines()[-1] == "loaded", errors


def test_as_a_module_without_chatter_or_colors(model_folder, picture):
    command = [sys.executable, "-m", "keras_interp", "predict", str(model_folder), str(picture), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"} | {"NO_COLOR": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    (record,) = json.loads(result.stdout)
    assert record["input"] == "picture.png" and sum(record["probabilities"].values()) <= 1.001
    assert result.stderr == "" and "\x1b" not in result.stdout


def test_json(model_folder, table_folder, picture, tmp_path):
    (record,) = json.loads(run("explain", model_folder, picture, "--output", tmp_path / "why.png", "--json"))
    model = zoo.load(model_folder)
    explanation = model.explain(load_picture(picture, (32, 32))[None])
    assert record["prediction"] == record["target"] == model.class_names[explanation.target[0]]
    total = sum(record["contributions"].values()) + record["bias"]
    assert total == pytest.approx(explanation.logits.max(), rel=1e-4) and record["picture"].endswith("why.png")
    (tmp_path / "rows.csv").write_text("age,income,sea\n1,2,near\n")
    (record,) = json.loads(run("predict", table_folder, tmp_path / "rows.csv", "--json"))
    assert record["output"] == "price" and isinstance(record["value"], float)


def test_predict(model_folder, picture):
    output = run("predict", model_folder, picture, "--top", 2)
    assert output.startswith("picture.png: ") and output.count("%") == 2


def test_explain(model_folder, picture, tmp_path):
    output = run("explain", model_folder, picture, "--target", "cat", "--output", tmp_path / "why.png")
    assert "why.png" in output and (tmp_path / "why.png").stat().st_size > 1000


def test_damaged_files_are_named_and_the_others_answered(model_folder, picture, tmp_path):
    whole = picture.read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    files = [tmp_path / "torn.png", picture, tmp_path / "text.png"]
    for command in ("predict", "explain"):
        output = run(command, model_folder, *files, *(["--output", tmp_path / "why.png"] * (command == "explain")), code=1)
        assert "picture.png: " in output and "torn.png" in output and "text.png" in output
        assert "2 of the inputs could not be used" in output and "Traceback" not in output
    assert (tmp_path / "why.png").is_file()
    # Nothing could be used: no picture, but the reasons.
    assert "Wrote" not in run("explain", model_folder, tmp_path / "text.png", "--output", tmp_path / "no.png", code=1)


@pytest.fixture(scope="module")
def table_folder(tmp_path_factory):
    """A regression of three numbers and a category."""
    folder = tmp_path_factory.mktemp("models") / "table"
    names = ["age", "income", "sea=near", "sea=far"]
    model = models.FeatureLevelingNetwork((4,), input_shape=(4,), task="regression", class_names=["price"], column_names=names)
    zoo.save(model, folder, np.eye(4, dtype="float32"))
    return folder


def test_tables_by_name_with_rows_that_cannot_be_used(table_folder, tmp_path):
    rows = [(30 + row, row / 10, "near" if row % 2 else "far") for row in range(1000)]
    lines = [f"{sea};{income};{row};{age}" for row, (age, income, sea) in enumerate(rows)]
    lines[7] = "beach;1;7;30"
    (tmp_path / "rows.csv").write_text("\n".join(["sea;income;id;age", *lines]))
    output = run("predict", table_folder, tmp_path / "rows.csv", code=1)
    assert "are ignored: id" in output
    assert "rows.csv row 8: 'sea' must be one of ['near', 'far']. Received: 'beach'" in output
    printed = dict(line.split(": price ") for line in output.splitlines() if ": price " in line)
    array = np.array([[age, income, sea == "near", sea == "far"] for age, income, sea in rows], "float32")
    expected = zoo.load(table_folder).predict(array, verbose=0)[:, 0]
    for row in range(1000):
        if row != 7:
            assert float(printed[f"rows.csv row {row + 1}"]) == pytest.approx(expected[row], rel=1e-3, abs=1e-3)
    assert len(printed) == 999
    # The header in another order gives the same; without one, the columns are taken as they are.
    bare = tmp_path / "bare.csv"
    bare.write_text("1,2,1,0\n3,4,0,1\n")
    assert run("predict", table_folder, bare).count(": price ") == 2
    bare.write_text("age,income\n1,2\n")
    assert "bare.csv: Columns are missing: ['sea=near', 'sea=far']" in run("predict", table_folder, bare, code=1)


def test_many_inputs_have_their_predictions_first_and_numbered_pictures_on_request(table_folder, tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("\n".join(["age,income,sea", *(f"{row},1,near" for row in range(30))]))
    drawn = []

    def plot(explanation, count=5, path=None):
        drawn.append(len(explanation))
        path.write_bytes(b"picture")

    monkeypatch.setattr(Explanation, "plot", plot)
    output = run("explain", table_folder, tmp_path / "rows.csv", "--output", tmp_path / "why.png")
    assert output.count(": price ") == 30 and drawn == [12] and output.rstrip().endswith("why.png")
    drawn.clear()
    output = run("explain", table_folder, tmp_path / "rows.csv", "--output", tmp_path / "all.png", "--all")
    assert drawn == [12, 12, 6] and output.index("row 30") < output.index("Wrote")
    assert sorted(path.name for path in tmp_path.glob("all*")) == ["all_1.png", "all_2.png", "all_3.png"]

    def stop(explanation, count=5, path=None):
        if len(drawn) == 4:
            raise KeyboardInterrupt
        plot(explanation, count, path)

    monkeypatch.setattr(Explanation, "plot", stop)
    arguments = ["explain", table_folder, tmp_path / "rows.csv", "--output", tmp_path / "some.png", "--all"]
    assert "Wrote 1 of 3 pictures" in run(*arguments, code=130)
    assert [path.name for path in tmp_path.glob("some*")] == ["some_1.png"]


def test_the_name_of_the_picture(model_folder, picture, tmp_path):
    (tmp_path / "folder").mkdir()
    for given, written in (("why", "why.png"), ("folder", "folder/explanation.png"), ("new/", "new/explanation.png")):
        run("explain", model_folder, picture, "--output", f"{tmp_path}/{given}")
        assert (tmp_path / written).is_file(), given
    output = run("explain", model_folder, picture, "--output", tmp_path / "why.xyz", code=1)
    assert "--output must end in one of" in output and "png" in output


def test_the_target_is_printed(model_folder, picture, tmp_path):
    output = run("explain", model_folder, picture, "--target", "cat", "--output", tmp_path / "why.png")
    assert "picture.png: explained is cat (" in output
    assert "must be a class index" in run("explain", model_folder, picture, "--target", "cta", code=1)


def test_a_prediction_that_is_not_among_the_explained_classes(picture, tmp_path):
    inputs = keras.Input((8, 8, 3), name="pixels")
    x = keras.layers.Flatten(name="flat")(keras.layers.Rescaling(1 / 255, name="scale")(inputs))
    x = keras.layers.Dense(6, "relu", name="units")(x)
    classifier = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    classifier.get_layer("logits").set_weights([np.zeros((6, 3)), np.array([0.0, 1.0, 9.0])])
    module = models.ExplanationModule(classifier, "units", [0, 1], ["wren", "jay", "gull"], 2, (4,))
    zoo.save(module, tmp_path / "module")
    predicted = run("predict", tmp_path / "module", picture, "--top", 1)
    output = run("explain", tmp_path / "module", picture, "--output", tmp_path / "why.png")
    assert predicted.splitlines()[0] == output.splitlines()[0] and predicted.startswith("picture.png: gull ")
    assert "gull is not among the explained classes; drawn is jay (0.0%)" in output


def test_a_folder_to_publish_that_is_not_there():
    output = run("publish", "./no_such_folder", "user/repo", code=1)
    assert "There is no folder of a model at this path. Received: ./no_such_folder" in output


@pytest.mark.artifact
@pytest.mark.parametrize("name", ["fl_mlp_california_housing", "std_mlp_california_housing"])
def test_california_housing_as_published(name):
    path = pathlib.Path(os.environ.get("KERAS_INTERP_HOUSING", "../shared/data/california_housing/housing.csv"))
    if not path.is_file():
        pytest.skip("no housing.csv: name it in KERAS_INTERP_HOUSING")
    output = run("predict", name, path, code=1)
    values = [line for line in output.splitlines() if "median house value " in line]
    # 207 of 20,640 rows have no total_bedrooms, which are named.
    assert len(values) == 20_433 and output.count("'total_bedrooms' is empty") == 207
    assert "are ignored: median_house_value" in output
    # Some $452,600 by the table.
    assert 3.5 < float(values[0].split()[-1]) < 5.5


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
        (("train", "tiny_lsg", "--data-dir", "/no/such/folder"), "no folder of datasets"),
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
