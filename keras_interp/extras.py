"""Optional packages, imported on demand; errors name the command that installs them."""

import importlib
from typing import Any


def require_evaluation_extra() -> None:
    """Raises an `ImportError` with the install command if scikit-learn or SciPy is missing."""
    for module in ("sklearn.cluster", "scipy.optimize"):
        evaluation_extra(module)


def evaluation_extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs scikit-learn and SciPy: pip install 'keras-interp[evaluate]'. Received: {error}"
        ) from error
