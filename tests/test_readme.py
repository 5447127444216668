"""Each Python example of README and docs runs by itself."""

import pathlib
import re

import pytest

from keras_interp import zoo
from keras_interp.zoo import registry

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), start=1)
]


@pytest.mark.artifact
@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_runs_by_itself(block, tmp_path, monkeypatch):
    if "hf://" in block or "zoo.publish" in block or "no_test" in block:
        pytest.skip("needs the Hub")
    if not {"lsg_resnet20_cifar10", "std_mobilenet_cub100"} <= set(zoo.list_models(trained=True)):
        pytest.skip("models are not shipped")
    monkeypatch.chdir(tmp_path)
    entries = dict(registry.ENTRIES)
    try:
        exec(compile(block, "example", "exec"), {"__name__": "example"})
    finally:
        # One example adds a model to the zoo.
        registry.ENTRIES.clear()
        registry.ENTRIES.update(entries)
