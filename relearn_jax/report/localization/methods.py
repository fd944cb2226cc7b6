"""Localizers and baselines as the page names them, what each does, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Method(NamedTuple):
    """`about` has settings in braces; `short` is for axes."""

    label: str
    short: str
    about: str
    source: str


METHODS = {
    "patching": Method(
        "activation patching",
        "patching",
        "one output of the clean run is replaced by the corrupt run's, and all that follows is "
        "computed again: how far does the answer move towards the corrupt one",
        "Vig et al. 2020; Zhang, Nanda 2024 (noising)",
    ),
    "restoring": Method(
        "restoring",
        "restoring",
        "the same the other way round: one output of the corrupt run is replaced by the clean "
        "run's: how much of the answer comes back",
        "Meng et al. 2022; Zhang, Nanda 2024 (denoising)",
    ),
    "tracing": Method(
        "causal tracing",
        "tracing",
        "the subject's embeddings are drowned in noise ({localize.draws} draws), one output is "
        "restored and compared with the corrupted run of its own draw: how much of the lost "
        "probability comes back",
        "Meng et al. 2022",
    ),
    "attribution": Method(
        "attribution patching",
        "AP",
        "what patching would do, to first order, from one gradient at the clean run",
        "Nanda 2023; Syed, Rager, Conmy 2023",
    ),
    "attribution_path": Method(
        "AP with integrated gradients",
        "AP-IG",
        "the same with the gradient averaged over {localize.path_steps} points between the two "
        "runs' embeddings",
        "Sundararajan, Taly, Yan 2017; Hanna, Pezzelle, Belinkov 2024",
    ),
    "paths": Method(
        "path patching",
        "paths",
        "the {localize.heads} heads with the largest direct effect on the answer are found first; "
        "a feed-forward layer's score is its effect on the state that enters the earliest of them",
        "Wang et al. 2023; fact lookup of Guo et al. 2025",
    ),
    "probes": Method(
        "probes",
        "probes",
        "logistic regression reads the answer from the stream at the subject's end; a layer's "
        "score is what it adds to the accuracy above that of the most common answer, and the "
        "shortest run of layers that holds most of the gain beyond that of shuffled answers is "
        "chosen",
        "Alain, Bengio 2017; Nanda et al. 2023; Guo et al. 2025 (by eye; the rule is ours)",
    ),
}
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


def title(name: str) -> str:
    """A short name at the beginning of a title."""
    text = short(name)
    return text[:1].upper() + text[1:]


def ordered(names: Iterable[str]) -> list[str]:
    """Methods in the order of the page; those it does not know come last."""
    known = [*(n for name in METHODS for n in (name, f"{name}{ONLY}")), *BASELINES]
    found = list(dict.fromkeys(names))
    return sorted(found, key=lambda n: known.index(n) if n in known else len(known))
