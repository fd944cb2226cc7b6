"""Imports run downwards, and nothing of one experiment is imported by the other."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import relearn_jax
from relearn_jax.config import SCHEMAS
from relearn_jax.experiments.registry import EXPERIMENTS
from relearn_jax.report import PAGES

PACKAGE = "relearn_jax"
ROOT = Path(relearn_jax.__file__).parent
FLOORS = (
    ("__main__",), ("cli", "doctor"),
    ("experiments.driver", "experiments.verify", "experiments.export"), ("experiments.registry",),
    ("experiments.concepts*", "experiments.facts*"), ("experiments*",),
    ("report",), ("report.concepts*", "report.facts*"), ("report.*",),
    ("localize*",), ("editing*",), ("evaluation*",), ("neurons*",), ("parallel*",),
    ("training*",), ("data*",), ("models*",),
    ("runs", "loading", "config*", "stopping", "hosts", "errors"),
)  # fmt: skip
"""From the top, as CONTRIBUTING lists them. The longest pattern that fits a module counts."""
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
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name the whole package"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name.removeprefix(f"{PACKAGE}.") in MODULES else node.module)
    inside = {n.removeprefix(PACKAGE).removeprefix(".") for n in names if n.startswith(PACKAGE)}
    return inside - {""}


def floor(module: str) -> int:
    fitting = [(len(p), n) for n, ps in enumerate(FLOORS) for p in ps if fnmatch(module, p)]
    return max(fitting)[1]


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
    list(TopologicalSorter(graph).static_order())


def test_every_experiment_has_a_schema_and_pages():
    assert set(EXPERIMENTS) == set(SCHEMAS) == set(PAGES)
