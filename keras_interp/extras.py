"""Packages that are not always there: they are imported when they are needed, with the command that installs them."""

import importlib
from typing import Any


def require_evaluation_extra() -> None:
    """Raises an `ImportError` that tells how to install scikit-learn and SciPy where they are missing."""
    for module in ("sklearn.cluster", "scipy.optimize"):
        evaluation_extra(module)


def evaluation_extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs scikit-learn and SciPy: pip install 'keras-interp[evaluate]'. Received: {error}"
        ) from error
