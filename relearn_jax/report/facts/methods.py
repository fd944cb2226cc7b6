"""Localizers and baselines as the page names them; localizers describe themselves."""

from __future__ import annotations

from collections.abc import Iterable

from relearn_jax.localize.methods import SCORES

METHODS = SCORES
"""In the order of the page."""

BASELINES = {
    "random": "random components",
    "random_mlps": "random MLPs",
    "all_mlps": "all MLPs",
    "nonlocalized": "everything",
}
ONLY = "_mlps"
PARTS = {"attention": "attention", "mlp": "MLP"}
PLACES = {"states": "state that enters", "attention": "attention output", "mlp_out": "MLP output"}
POSITIONS = {"subject": "subject's end", "last": "last position"}


def label(name: str) -> str:
    """A method, a method restricted to feed-forward layers, or a baseline, in words."""
    if name in METHODS:
        return METHODS[name].label
    if name in BASELINES:
        return BASELINES[name]
    if name.endswith(ONLY):
        return f"{label(name.removesuffix(ONLY))}, MLPs only"
    return name


def short(name: str) -> str:
    """The same for axes."""
    if name.endswith(ONLY) and name not in BASELINES:
        return f"{short(name.removesuffix(ONLY))}, MLPs"
    return METHODS[name].short if name in METHODS else label(name)


def unit_of(name: str) -> str:
    """The unit of a method's scores, for axes."""
    return METHODS[name].unit if name in METHODS else "score"


def title(name: str) -> str:
    """A short name at the beginning of a title."""
    text = short(name)
    return text[:1].upper() + text[1:]


def ordered(names: Iterable[str]) -> list[str]:
    """Methods in the order of the page; those it does not know come last."""
    known = [*(n for name in METHODS for n in (name, f"{name}{ONLY}")), *BASELINES]
    unique = list(dict.fromkeys(names))
    return sorted(unique, key=lambda n: known.index(n) if n in known else len(known))
