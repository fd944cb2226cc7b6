"""Localizers and baselines as the page names them; localizers describe themselves."""

from __future__ import annotations

from collections.abc import Iterable

from relearn_jax.localize.arms import BASELINES, Arm
from relearn_jax.localize.methods import SCORES

METHODS = SCORES
"""In the order of the page."""
PARTS = {"attention": "attention", "mlp": "MLP"}
PLACES = {"states": "state that enters", "attention": "attention output", "mlp_out": "MLP output"}
POSITIONS = {"subject": "subject's end", "last": "last position"}


def label(name: str) -> str:
    """A method, a method restricted to feed-forward layers, or a baseline, in words."""
    arm = Arm.from_name(name)
    if arm in BASELINES:
        return BASELINES[arm]
    text = METHODS[arm.method].label if arm.method in METHODS else arm.method
    return f"{text}, MLPs only" if arm.among == "mlps" else text


def short(name: str) -> str:
    """The same for axes."""
    arm = Arm.from_name(name)
    if arm in BASELINES:
        return BASELINES[arm]
    text = METHODS[arm.method].short if arm.method in METHODS else arm.method
    return f"{text}, MLPs" if arm.among == "mlps" else text


def unit_of(name: str) -> str:
    """The unit of a method's scores, for axes."""
    return METHODS[name].unit if name in METHODS else "score"


def title(name: str) -> str:
    """A short name at the beginning of a title."""
    text = short(name)
    return text[:1].upper() + text[1:]


def ordered(names: Iterable[str]) -> list[str]:
    """Methods in the order of the page; those it does not know come last."""
    arms = [arm for method in METHODS for arm in (Arm(method), Arm(method, "mlps"))]
    known = [arm.name for arm in (*arms, *BASELINES)]
    unique = list(dict.fromkeys(names))
    return sorted(unique, key=lambda n: known.index(n) if n in known else len(known))
