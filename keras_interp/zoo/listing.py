"""Contents of the zoo, read without Keras: names, descriptions, measured figures, and the files of the installation.

`index.json` holds the facts of the entries; `python -m tools.release --index` writes it from them.
"""

import difflib
import fnmatch
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_PACKAGE = pathlib.Path(__file__).parent
INDEX, PINS = _PACKAGE / "index.json", _PACKAGE / "pins.json"
# Places on the Hub of zoo models that do not come with the package: {name: "hf://user/repo@commit"}.
LOCATIONS = _PACKAGE / "hub.json"
# Environment variable with the folder of a mirror, see `zoo.download`.
MIRROR = "KERAS_INTERP_ZOO"


def checkout() -> pathlib.Path | None:
    """Folder of the checkout that this package runs from, or None if it is installed without one."""
    root = _PACKAGE.parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def shipped_root() -> pathlib.Path:
    """Folder of all models that came with the checkout or the installed package."""
    return root / "zoo" if (root := checkout()) else _PACKAGE / "weights"


def index() -> dict[str, dict[str, Any]]:
    """Facts of the entries of all models, {name: facts}."""
    return json.loads(INDEX.read_text())


def is_trained(name: str) -> bool:
    """True if a model has weights with this installation, in the mirror or on the Hub."""
    folders = [shipped_root() / name, *([pathlib.Path(os.environ[MIRROR], name)] if MIRROR in os.environ else [])]
    return any((folder / "config.json").is_file() for folder in folders) or name in json.loads(LOCATIONS.read_text())


def select(
    comparison: Mapping[str, bool],
    pattern: str = "*",
    trained: bool | None = None,
    comparisons: bool = False,
    is_trained: Callable[[str], bool] = is_trained,
) -> list[str]:
    """Names for `zoo.list_models`, models with weights first.

    Args:
        comparison: {name: whether it is a row of a paper's comparisons}.
        pattern, trained, comparisons: as for `zoo.list_models`.
        is_trained: function of a name.
    """
    chosen = sorted(fnmatch.filter(comparison, pattern))
    if not comparisons and pattern == "*":
        chosen = [name for name in chosen if not comparison[name]]
    weights = {name: is_trained(name) for name in chosen}
    return [name for name in sorted(chosen, key=lambda name: not weights[name]) if trained in (None, weights[name])]


def unknown(name: str, names: Iterable[str]) -> KeyError:
    """Error for a name that no model has, with similar ones."""
    nearest = difflib.get_close_matches(str(name), names, n=3, cutoff=0.3)
    hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
    return KeyError(f"There is no model of that name.{hint} zoo.list_models() lists all. Received: {name!r}")


def describe(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All facts about a model, as in `zoo.info`, from those of its entry."""
    pins = json.loads(PINS.read_text()).get(name, {})
    metadata = _read(shipped_root() / name / "metadata.json", pins)
    metrics = _read(shipped_root() / name / "metrics.json", pins).get("values", {})
    provenance = metadata.get("keras_interp", {}).get("provenance", {})
    return {
        **facts,
        "parameters": int(metrics["parameters"]) if "parameters" in metrics else provenance.get("parameters"),
        "metrics": metrics,
        # An older one may lack fields of later recipes.
        "recipe": {**facts["recipe"], **provenance.get("recipe", {})},
        "trained": is_trained(name),
        "location": json.loads(LOCATIONS.read_text()).get(name),
        "license": "Apache-2.0",
        "revision": metadata.get("date_saved"),
        "sha256": pins,
    }


def _read(path, pins):
    if not path.is_file():
        return {}
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != pins.get(path.name):
        raise ValueError(f"A file of the zoo is not the published one. Received: {path}")
    return json.loads(content)
