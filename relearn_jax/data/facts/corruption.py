"""Prompts that lack the fact: the same words about somebody else, or about nobody.

Localization compares each prompt with such a partner of equal length, token by token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ATTEMPTS = 100
"""Draws of random subjects before a prompt is given up (specs: mechanistic unlearning 3.2)."""
Seed = int | tuple[int, ...]
SHOWN = 10
"""Rows named in a message."""


def swapped(
    prompts: Prompts, seed: Seed, pool: Prompts | None = None, same_answer: bool = False
) -> Prompts:
    """For each prompt that of another fact: the same but for the subject, with another answer.

    The partner's subject has as many tokens, at the same positions; `target` and `others` are the
    partner's own. Drawn uniformly by `seed` from `pool` (None: from the prompts themselves). With
    `same_answer` the partner has another subject and the same answer.

    Raises UserError where a prompt has no partner; `partnered` finds those that have.
    """
    pool = prompts if pool is None else pool
    has, partner = _partners(prompts, pool, seed, same_answer)
    if not has.all():
        answer = "the same" if same_answer else "another"
        raise UserError(
            f"{(~has).sum()} of {len(has)} prompts (rows {_listed(~has)}) have no partner with "
            f"{answer} answer, the same words and as many tokens in its subject. Draw from more "
            "facts (`pool`), leave these out (`partnered`), or use random subjects."
        )
    width = prompts.ids.shape[1]
    return Prompts(
        *(_fitted(part[partner], width) for part in pool[:3]),
        *(part[partner] for part in pool[3:]),
    )


def partnered(
    prompts: Prompts, pool: Prompts | None = None, same_answer: bool = False
) -> Bool[np.ndarray, " B"]:
    """Which prompts have a partner in the sense of `swapped`."""
    return _partners(prompts, prompts if pool is None else pool, 0, same_answer)[0]


def randomized(
    prompts: Prompts, tokenizer: PreTrainedTokenizerFast, seed: Seed, attempts: int = ATTEMPTS
) -> Prompts:
    """The same prompts with every token of the subject replaced by a random one.

    Tokens are drawn uniformly from those that decode to printable ASCII, until the decoded prompt
    encodes to as many tokens again and to the same ones around the subject; the ids are those of
    that second encoding. `target` and `others` stay those of the clean prompts.

    Raises UserError where `attempts` draws do not find any.
    """
    if not prompts.subject.any(1).all():
        raise UserError("these prompts have no subject positions: encode them with positions=True.")
    rng = np.random.default_rng(seed)
    candidates = _ascii_tokens(tokenizer)
    ids = prompts.ids.copy()
    missing = np.arange(len(ids))
    for _ in range(attempts):
        if not len(missing):
            break
        drawn = prompts.ids[missing]
        hidden = prompts.subject[missing]
        drawn[hidden] = rng.choice(candidates, hidden.sum())
        again = _encoded_again(drawn, prompts.mask[missing], tokenizer)
        kept = (again == drawn) | hidden
        changed = ((again != prompts.ids[missing]) & hidden).any(1)
        fine = kept.all(1) & changed
        ids[missing[fine]] = again[fine]
        missing = missing[~fine]
    if len(missing):
        raise UserError(
            f"{len(missing)} prompts (rows {', '.join(map(str, missing[:SHOWN]))}): no random "
            f"subject of as many tokens was found in {attempts} draws. Leave them out, or use "
            "partners of other facts."
        )
    return prompts._replace(ids=ids)


def check_pair(clean: Prompts, corrupt: Prompts) -> None:
    """Raises UserError unless the prompts pair up row by row and token by token."""
    if len(clean.ids) != len(corrupt.ids):
        raise UserError(
            f"{len(clean.ids)} clean prompts and {len(corrupt.ids)} corrupt ones: each needs its "
            "own partner."
        )
    a, b = clean.mask.sum(1), corrupt.mask.sum(1)
    if clean.ids.shape != corrupt.ids.shape or (a != b).any():
        row = int(np.argmax(a != b))
        raise UserError(
            f"clean and corrupt prompts differ in length (row {row}: {a[row]} and {b[row]} tokens, "
            f"padded to {clean.ids.shape[1]} and {corrupt.ids.shape[1]}), so positions do not "
            "correspond. Make partners with `corruption.swapped` or `corruption.randomized`."
        )


def _partners(
    prompts: Prompts, pool: Prompts, seed: Seed, same_answer: bool
) -> tuple[Bool[np.ndarray, " B"], Int[np.ndarray, " B"]]:
    """Which prompts have a partner, and the row in `pool` of one drawn at random."""
    rng = np.random.default_rng(seed)
    width = max(prompts.ids.shape[1], pool.ids.shape[1])
    group = np.unique(
        np.concatenate([_frame(prompts, width), _frame(pool, width)]), axis=0, return_inverse=True
    )[1].reshape(-1)
    own, others = group[: len(prompts.ids)], group[len(prompts.ids) :]
    has, partner = np.zeros(len(own), bool), np.zeros(len(own), np.int64)
    ours, theirs = _fitted(prompts.ids, width), _fitted(pool.ids, width)

    def differ(rows: np.ndarray, candidates: np.ndarray) -> Bool[np.ndarray, "b c"]:
        return (ours[rows, None] != theirs[candidates]).any(-1)

    for members in np.unique(own):
        rows, candidates = np.flatnonzero(own == members), np.flatnonzero(others == members)
        if len(candidates):
            same = prompts.target[rows, None] == pool.target[candidates]
            fits = same & differ(rows, candidates) if same_answer else ~same
            has[rows] = fits.any(1)
            # The largest of independent uniform numbers is each candidate's equally often.
            partner[rows] = candidates[(rng.random(fits.shape) * fits).argmax(1)]
    return has, partner


def _frame(prompts: Prompts, width: int) -> Int[np.ndarray, "B 2*width"]:
    """What partners share: positions of the subject, the words around it, the length."""
    around = np.where(prompts.mask & ~prompts.subject, prompts.ids, -1)
    return np.concatenate(
        [_fitted(around, width, -1), _fitted(prompts.subject, width).astype(np.int32)], axis=1
    )


def _fitted(part: np.ndarray, width: int, fill: int = 0) -> np.ndarray:
    """Columns cut off or filled up to `width`; what is cut off is padding."""
    part = part[:, :width]
    return np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=fill)


def _ascii_tokens(tokenizer: PreTrainedTokenizerFast) -> Int[np.ndarray, " n"]:
    special = set(tokenizer.all_special_ids)
    ordinary = [i for i in range(len(tokenizer)) if i not in special]
    words = tokenizer.batch_decode([[i] for i in ordinary], clean_up_tokenization_spaces=False)
    fine = [w.isascii() and w.isprintable() and bool(w.strip()) for w in words]
    return np.array(ordinary)[np.array(fine)]


def _encoded_again(
    ids: Int[np.ndarray, "B T"], mask: Bool[np.ndarray, "B T"], tokenizer: PreTrainedTokenizerFast
) -> Int[np.ndarray, "B T"]:
    """The ids of the decoded prompts; -1 all over where their number is another one."""
    texts = tokenizer.batch_decode(
        [row[real].tolist() for row, real in zip(ids, mask, strict=True)],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    again = np.full_like(ids, -1)
    for out, old, real, new in zip(again, ids, mask, tokenizer(texts)["input_ids"], strict=True):
        if len(new) == real.sum():
            out[real] = new
            out[~real] = old[~real]
    return again


def _listed(rows: Bool[np.ndarray, " B"]) -> str:
    return ", ".join(map(str, np.flatnonzero(rows)[:SHOWN]))
