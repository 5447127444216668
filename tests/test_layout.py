"""Imports point down only: ground < layers, backbones, data, drawing < metrics, explain < models < zoo < viewer, cli."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LEVELS = {
    **dict.fromkeys(("checks", "guards", "numerics", "graphs", "extras", "optimizers", "typing"), 0),
    **dict.fromkeys(("layers", "backbones", "data", "drawing"), 1),
    **dict.fromkeys(("metrics", "explain"), 2),
    "models": 3,
    "zoo": 4,
    **dict.fromkeys(("viewer", "cli", "sklearn", "__main__"), 5),
}
FILES = sorted((ROOT / "keras_interp").rglob("*.py"))


def imported(path):
    """Modules of ours that a file imports, at its top or inside functions, as tuples of their parts."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" if node.module == "keras_interp" else node.module for alias in node.names]
        else:
            continue
        yield from (
            tuple(name.split(".")) for name in names if name.split(".")[0] in ("keras_interp", "reproduction", "tools")
        )


def room(path):
    return path.relative_to(ROOT / "keras_interp").with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    if path.parent == ROOT / "keras_interp" and path.name == "__init__.py":
        return
    for package, *rest in imported(path):
        # The command asks for a checkout first.
        assert package == "keras_interp" or path.name == "cli.py", f"{path} uses {package}, which no installation has"
        if rest and rest[0] in LEVELS and rest[0] != room(path):
            assert LEVELS[rest[0]] <= LEVELS[room(path)], f"{path} imports {'.'.join(rest)}, which lies above it"


def test_every_room_has_its_level():
    assert {room(path) for path in FILES} <= {*LEVELS, "__init__", "assets"}


def test_no_circles():
    graph = {}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES}
    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        # At the top only: an import inside a function waits until the modules are there. A package stands for what is taken.
        nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom) and node.module]
        taken = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
        graph[name] = {module if module in modules else module.rpartition(".")[0] for module in taken}
    done, way = set(), []

    def visit(module):
        assert module not in way, f"a circle of imports: {[*way[way.index(module) :], module]}"
        if module in done or module not in graph:
            return
        way.append(module)
        for target in graph[module]:
            visit(target)
        done.add(way.pop())

    for module in graph:
        visit(module)
