"""The examples in the docstrings run, and every public name has a docstring."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import keras_interp
from keras_interp.data.sources import OWN_BUILDERS

MODULES = [module.name for module in pkgutil.walk_packages(keras_interp.__path__, "keras_interp.")]
# To import it is to run the command.
MODULES = sorted(name for name in MODULES if name != "keras_interp.__main__")

PACKAGES = ["keras_interp.viewer", *(f"keras_interp.{name}" for name in keras_interp.__all__ if name != "optimizers")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    if name in OWN_BUILDERS.values():
        pytest.importorskip("tensorflow_datasets")
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"np": np}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_documented(name):
    module = importlib.import_module(name)
    for public in module.__all__:
        value = getattr(module, public)
        assert inspect.getdoc(value), public
        if inspect.isclass(value):
            methods = [method for method, function in vars(value).items() if inspect.isfunction(function)]
            undocumented = {m for m in methods if m[0] != "_" and not inspect.getdoc(getattr(value, m))}
            assert undocumented <= {"build", "call", "get_config", "from_config", "compute_output_shape"}
