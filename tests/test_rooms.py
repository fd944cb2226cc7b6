"""Imports run downwards, and nothing of one experiment is imported by the other."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import relearn_jax

ROOT = Path(relearn_jax.__file__).parent
FLOORS = (
    ("__main__",), ("cli", "doctor"), ("experiments",), ("report",), ("localize",), ("evaluation",),
    ("neurons",), ("parallel",), ("training",), ("data",), ("models",),
    ("runs", "loading", "config", "stopping", "hosts", "errors"),
)  # fmt: skip
"""From the top, as CONTRIBUTING lists them."""
BOTTOM = len(FLOORS) - 1
APART = ("concepts", "facts")


def modules() -> dict[str, Path]:
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("relearn_jax"):
            base = node.module.removeprefix("relearn_jax").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                found.add(name if name in MODULES else base)
    return found - {""}


def floor(module: str) -> int:
    room = module.split(".")[0]
    return next(n for n, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor():
    for module in MODULES:
        assert module == "" or floor(module) >= 0, module


def test_no_import_runs_upwards():
    wrong = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        if module
        for other in imports(path)
        if floor(other) < floor(module)
    ]
    assert not wrong


def test_no_experiment_imports_another():
    shared = ("experiments", "report")
    for module, path in MODULES.items():
        parts = module.split(".")
        if len(parts) > 1 and parts[0] in shared and parts[1] in APART:
            others = {f"{room}.{other}" for room in shared for other in APART if other != parts[1]}
            wrong = [n for n in imports(path) if ".".join(n.split(".")[:2]) in others]
            assert not wrong, module


def test_no_two_modules_import_each_other():
    graph = {module: imports(path) - {module} for module, path in MODULES.items() if module}
    # A package stands for what it exports; it may name its own parts.
    graph = {m: {o for o in others if not m.startswith(f"{o}.")} for m, others in graph.items()}
    list(TopologicalSorter(graph).static_order())
