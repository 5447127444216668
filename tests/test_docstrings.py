"""The examples in the docstrings run, and every public name has a docstring."""

import doctest
import importlib
import inspect
import itertools
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
            assert undocumented <= {
                "build",
                "call",
                "get_config",
                "from_config",
                "compute_output_shape",
                "compute_output_spec",
            }


def public_functions(value):
    """A public function, or the public methods, properties and the constructor of a public class."""
    if not inspect.isclass(value):
        return [value] if inspect.isfunction(value) else []
    members = [member for name, member in vars(value).items() if name[0] != "_" or name == "__init__"]
    members = [part for m in members for part in ((m.fget, m.fset) if isinstance(m, property) else (m,))]
    return [function for m in members if inspect.isfunction(function := getattr(m, "__func__", m))]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("keras_interp.zoo.papers.")])
def test_public_functions_are_annotated(name):
    if name in OWN_BUILDERS.values():
        pytest.importorskip("tensorflow_datasets")
    module = importlib.import_module(name)
    own = [value for key, value in vars(module).items() if key[0] != "_" and getattr(value, "__module__", "") == name]
    for function in itertools.chain(*map(public_functions, own)):
        signature = inspect.signature(function)
        bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
        assert not bare and signature.return_annotation is not signature.empty, f"{function.__qualname__}: {bare or 'return'}"
