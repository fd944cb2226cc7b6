"""Split of facts into forget, held-out and retained parts, without overlap between parts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from relearn_jax import config
from relearn_jax.data.facts.fact import Fact
from relearn_jax.errors import UserError

RETAIN_SHARE = 0.8
"""Share of the facts to retain that are shown (specs: mechanistic unlearning 2.1)."""
OWN_TEXTS = ("standard", "paraphrase")
"""Texts about the fact itself; neighbourhood texts are about other subjects on purpose."""
SHOWN = 3
"""Number of overlaps in a message."""


class Split(NamedTuple):
    """Indices into the facts (int64); no fact is in two parts."""

    forget: Int[np.ndarray, " f"]
    """Facts to forget that an editing method may see."""
    held_out: Int[np.ndarray, " h"]
    """Facts to forget that are never shown; empty if unsplit."""
    retain: Int[np.ndarray, " r"]
    """Facts to retain that an editing method may see."""
    retain_test: Int[np.ndarray, " s"]
    """Facts to retain that are never shown."""
    examples: Int[np.ndarray, " e"]
    """Facts for solved examples in few-shot prompts only."""

    @property
    def forgotten(self) -> Int[np.ndarray, " F"]:
        """All facts to forget, shown or held out."""
        return np.concatenate([self.forget, self.held_out])

    @property
    def measured(self) -> Int[np.ndarray, " m"]:
        """The facts to measure forgetting on: held-out facts or, if unsplit, the forget facts."""
        return self.held_out if len(self.held_out) else self.forget


def split(
    facts: Sequence[Fact],
    settings: config.FactSplit,
    seed: int,
    groups: Mapping[str, Int[np.ndarray, " n"]] | None = None,
) -> Split:
    """Split facts as in specs: mechanistic unlearning 2.1.

    All parts are in the order of the facts, unless they are shuffled by `seed`. The first half of
    the forget set is shown, and of the other facts the first 4 of 5 (or `retain`).

    Args:
      facts: all facts.
      settings: see the schema.
      seed: seed of the order.
      groups: facts of further names that `settings.forget` may use.

    Raises:
      UserError: an unknown or empty forget set, an empty part, a subject (compared without case,
        accents, punctuation and extra blanks) or a prompt that occurs in two parts.
    """
    order = np.arange(len(facts))
    if settings.order == "random":
        order = np.random.default_rng(seed).permutation(len(facts))
    if not 0 <= settings.examples < len(facts):
        raise UserError(
            f"`split.examples: {settings.examples}`: there are {len(facts)} facts, and some must "
            "be left."
        )
    order, examples = np.split(order, [len(order) - settings.examples])
    to_forget = _selected(facts, order, settings.forget, groups or {})
    forget, others = order[to_forget], order[~to_forget]
    half = -(-len(forget) // 2) if settings.mode == "split" else len(forget)
    shown = int(RETAIN_SHARE * len(others)) if settings.retain is None else settings.retain
    parts = Split(forget[:half], forget[half:], others[:shown], others[shown:], examples)
    parts = _without_overlap(facts, parts, settings.overlap == "drop")
    _check_filled(parts, settings, len(facts))
    return parts


def key(subject: str) -> str:
    """A subject without case, accents, punctuation and extra blanks."""
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", subject) if not unicodedata.combining(c)
    )
    words = re.sub(r"[^\w\s]|_", " ", plain.casefold()).split()
    # A subject of punctuation only is kept.
    return " ".join(words) or subject.strip()


def _selected(
    facts: Sequence[Fact],
    order: Int[np.ndarray, " n"],
    name: str,
    groups: Mapping[str, Int[np.ndarray, " m"]],
) -> np.ndarray:
    """Which facts, in the given order, `name` selects: bool [n]."""
    if match := re.fullmatch(r"(?:first_)?(\d+)", name):
        count = int(match[1])
        if not 0 < count < len(order):
            raise UserError(
                f"`split.forget: {name}`: there are {len(order)} facts, and some must be retained."
            )
        return np.arange(len(order)) < count
    group, _, count = name.partition("_")
    if group in groups and (not count or count.isdigit()):
        members = np.isin(order, groups[group])
        return members & (np.cumsum(members) <= (int(count) if count else len(order)))
    selected = np.array([name in (facts[i].target, facts[i].relation) for i in order])
    if not selected.any():
        answers = sorted({fact.target for fact in facts} | {fact.relation for fact in facts})
        listed = ", ".join([*groups, *answers][:12])
        raise UserError(
            f"`split.forget: {name}`: no fact has this answer or relation. Use first_N, or one of: "
            f"{listed}{', ...' if len(answers) + len(groups) > 12 else ''}"
        )
    return selected


def _without_overlap(facts: Sequence[Fact], parts: Split, drop: bool) -> Split:
    """The parts without facts that overlap with an earlier part; UserError unless `drop`."""
    owner: dict[tuple[str, str], tuple[str, int]] = {}
    overlaps, distinct = [], []
    for name, rows in zip(Split._fields, parts, strict=True):
        keys = [_keys(facts[row]) for row in rows]
        clashes = [next((owner[k] for k in ks if k in owner), None) for ks in keys]
        overlaps += [
            f"{facts[row].subject!r} ({name}, fact {row + 1}, and {clash[0]}, fact {clash[1] + 1})"
            for row, clash in zip(rows, clashes, strict=True)
            if clash
        ]
        distinct.append(rows[np.array([clash is None for clash in clashes], bool)])
        for row, ks in zip(rows, keys, strict=True):
            owner |= {k: (name, int(row)) for k in ks}
    if overlaps and not drop:
        raise UserError(
            f"leakage: {len(overlaps)} facts share their subject or a prompt with a fact of "
            f"another part of the split: {'; '.join(overlaps[:SHOWN])}. Set `split.overlap: "
            "drop` to leave them out of the later part, or correct the data."
        )
    return Split(*distinct)


def _keys(fact: Fact) -> set[tuple[str, str]]:
    texts = {text.strip() for name in OWN_TEXTS for text in fact.prompts.get(name, ())}
    return {("subject", key(fact.subject)), *(("prompt", text) for text in texts)}


def _check_filled(parts: Split, settings: config.FactSplit, total: int) -> None:
    needed = {
        "forget": "Choose another `split.forget`.",
        "retain": "Forget fewer facts, or raise `split.retain`.",
        "retain_test": "Forget fewer facts, or lower `split.retain`.",
    }
    if settings.mode == "split":
        needed["held_out"] = "A split forget set needs two facts or more."
    if settings.examples:
        needed["examples"] = "Raise `split.examples`: all of them overlapped with other parts."
    for name, remedy in needed.items():
        if not len(getattr(parts, name)):
            sizes = ", ".join(f"{n} {len(p)}" for n, p in zip(parts._fields, parts, strict=True))
            raise UserError(f"`split`: {name} is empty ({total} facts: {sizes}). {remedy}")
