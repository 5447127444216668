"""From a folder of pictures or a table to a model, in one call."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_interp import backbones, zoo
from keras_interp.cli import main
from keras_interp.zoo import own
from tests.tiny import tiny_backbone


@pytest.fixture
def people(tmp_path, rng):
    frame = pd.DataFrame({"age": rng.normal(40, 10, 160).round(), "sea": rng.choice(["near", "far"], 160)})
    frame["buys"] = np.where(frame["sea"] == "near", "yes", "no")
    frame.loc[5, "age"] = np.nan
    frame.to_csv(tmp_path / "people.csv", index=False)
    return tmp_path / "people.csv"


@pytest.fixture
def photos(tmp_path, rng):
    for name, color in (("day", 200), ("night", 40)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.normal(color, 30, (36, 48, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_a_table_becomes_a_model_that_takes_tables(people, tmp_path):
    output = tmp_path / "model"
    arguments = ["fit", str(people), "--target", "buys", "--output", str(output), "--epochs", "8", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout[result.stdout.index("{") :])
    assert found["examples"] == {"training": 128, "held out": 32} and found["measured"]["accuracy"] > 0.8
    assert found["boosting"]["accuracy"] == 1.0 and set(found["baseline"]) == set(found["measured"])
    files = {path.name for path in output.iterdir()}
    assert {"config.json", "model.weights.h5", "README.md", "metrics.json", "explanation.png", "golden.npz"} <= files
    model = zoo.load(output)
    frame = pd.DataFrame({"sea": ["near", "lake"], "age": [None, 30.0]})
    with pytest.warns(UserWarning, match="lake"):
        explanation = model.explain(frame).by_column()
    assert explanation.names_of(0) == ("age = (missing)", "sea = near")
    frame.to_csv(tmp_path / "new.csv", index=False)
    for verb in ("predict", "explain"):
        options = ["--output", str(tmp_path / "why.png")] if verb == "explain" else []
        result = CliRunner().invoke(main, [verb, str(output), str(tmp_path / "new.csv"), *options])
        assert result.exit_code == 0 and "new.csv row 2" in result.stdout and "'lake' (1)" in result.stderr


def test_pictures_become_a_model(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(own.BACKBONES, "resnet20", tiny_backbone)
    options = {"image_size": (32, 32), "epochs": 2, "verbose": 0}
    found = zoo.fit(photos, tmp_path / "model", **options)
    assert found["method"] == "lsg" and found["boosting"] is None and found["baseline"] is not None
    model = zoo.load(tmp_path / "model")
    assert model.class_names == ("day", "night") and model.gate.shape == (2, 16)
    # The same call again finds it done.
    lines = []
    again = zoo.fit(photos, tmp_path / "model", log=lines.append, **options)
    assert again["measured"] == found["measured"]


def test_the_schema_is_that_of_the_training_part(people, tmp_path):
    frame = pd.read_csv(people)
    training, held = own._read_table(people, "buys", 0.25, 1)
    assert held.schema == training.schema and len(training) == 120 and len(held) == 40
    (age,) = [column for column in training.schema.columns if column.name == "age"]
    kept = [row for row in range(len(frame)) if row != 5]
    assert age.fill is None or abs(age.fill - frame["age"][kept].median()) < 3


def test_a_regression(tmp_path, rng):
    rows = rng.normal(size=(120, 2))
    pd.DataFrame({"a": rows[:, 0], "b": rows[:, 1], "price": rows[:, 0] * 3 + 10.5}).to_csv(tmp_path / "t.csv", index=False)
    found = zoo.fit(tmp_path / "t.csv", tmp_path / "model", target="price", epochs=40, verbose=0)
    assert found["measured"]["r2"] > 0.5 and {"rmse", "r2"} <= set(found["boosting"])


def test_a_time_budget_sets_the_epochs(people, tmp_path):
    lines = []
    found = zoo.fit(people, tmp_path / "m", target="buys", time_budget=1e-6, baseline=False, verbose=0, log=lines.append)
    assert found["epochs"] == 1 and any("epochs fit the time" in line for line in lines)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "target=None"),
        ({"target": "none"}, "must be one of"),
        ({"target": "buys", "method": "lsg"}, "`method` must be 'fl' or 'std'"),
        ({"target": "buys", "backbone": "resnet20"}, "no backbone"),
        ({"target": "buys", "held_out": 1.0}, "held_out"),
    ],
)
def test_what_does_not_fit(options, message, people, tmp_path):
    with pytest.raises(ValueError, match=message):
        zoo.fit(people, tmp_path / "model", **options)


def test_sources_that_are_not_there(photos, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder or file"):
        zoo.fit(tmp_path / "absent", tmp_path / "model")
    with pytest.raises(ValueError, match="are their subfolders"):
        zoo.fit(photos, tmp_path / "model", target="day")
    with pytest.raises(ValueError, match="`method` must be one of"):
        zoo.fit(photos, tmp_path / "model", method="xnet")
    with pytest.raises(ValueError, match="`backbone` must be one of"):
        zoo.fit(photos, tmp_path / "model", backbone="resnet99")


def test_every_backbone_can_be_built():
    for name, make in own.BACKBONES.items():
        assert make(input_shape=(64, 64, 3)).output_shape[0] is None, name
    assert backbones.cifar_resnet in own.BACKBONES.values()
