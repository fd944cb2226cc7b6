"""Corrupt prompts, which lack the fact: the same words about another subject or a random one.

Localization compares each prompt, token by token, with such a partner of equal length.
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
"""Number of random subjects to try for a prompt (specs: mechanistic unlearning 3.2)."""
Seed = int | tuple[int, ...]
SHOWN = 10
"""Number of rows named in a message."""


def swapped(
    prompts: Prompts, seed: Seed, pool: Prompts | None = None, same_answer: bool = False
) -> Prompts:
    """A partner for each prompt: the prompt of a fact with another subject and another answer.

    The partner's subject has as many tokens, at the same positions, and all other words are equal;
    `target` and `others` are the partner's. Partners are drawn uniformly by `seed` from `pool`
    (None: from the prompts). With `same_answer` the answer is the same.

    Raises UserError if a prompt has no partner; see `partnered`.
    """
    pool = prompts if pool is None else pool
    has_partner, partner = _partners(prompts, pool, seed, same_answer)
    if not has_partner.all():
        answer = "the same" if same_answer else "another"
        raise UserError(
            f"{(~has_partner).sum()} of {len(has_partner)} prompts (rows "
            f"{_listed(~has_partner)}) have no partner with {answer} answer, the same "
            "words and as many tokens in its subject. Draw from more facts "
            "(`pool`), leave these out (`partnered`), or use random subjects."
        )
    width = prompts.ids.shape[1]
    return Prompts(
        *(_fitted(part[partner], width) for part in pool[:3]),
        *(part[partner] for part in pool[3:]),
    )


def partnered(
    prompts: Prompts, pool: Prompts | None = None, same_answer: bool = False
) -> Bool[np.ndarray, " B"]:
    """Which prompts have a partner for `swapped`."""
    return _partners(prompts, prompts if pool is None else pool, 0, same_answer)[0]


def randomized(
    prompts: Prompts, tokenizer: PreTrainedTokenizerFast, seed: Seed, attempts: int = ATTEMPTS
) -> Prompts:
    """The prompts with every token of the subject replaced by a random token.

    Tokens that decode to printable ASCII are drawn uniformly, until the decoded prompt is encoded
    to as many tokens again, with the same tokens around the subject; the ids are from this second
    encoding. `target` and `others` are those of the clean prompts.

    Raises UserError if `attempts` draws fail for a prompt.
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
        encoded = _encoded_again(drawn, prompts.mask[missing], tokenizer)
        unchanged = (encoded == drawn) | hidden
        changed = ((encoded != prompts.ids[missing]) & hidden).any(1)
        valid = unchanged.all(1) & changed
        ids[missing[valid]] = encoded[valid]
        missing = missing[~valid]
    if len(missing):
        raise UserError(
            f"{len(missing)} prompts (rows {', '.join(map(str, missing[:SHOWN]))}): no random "
            f"subject of as many tokens was found in {attempts} draws. Leave them out, or use "
            "partners of other facts."
        )
    return prompts._replace(ids=ids)


def check_pair(clean: Prompts, corrupt: Prompts) -> None:
    """Raise UserError unless rows and tokens of the prompts correspond one to one."""
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
    """Which prompts have a partner, and the row in `pool` of a random partner."""
    rng = np.random.default_rng(seed)
    width = max(prompts.ids.shape[1], pool.ids.shape[1])
    group = np.unique(
        np.concatenate([_frame(prompts, width), _frame(pool, width)]), axis=0, return_inverse=True
    )[1].reshape(-1)
    prompt_groups, pool_groups = group[: len(prompts.ids)], group[len(prompts.ids) :]
    has_partner, partner = (
        np.zeros(len(prompt_groups), bool),
        np.zeros(len(prompt_groups), np.int64),
    )
    prompt_ids, pool_ids = _fitted(prompts.ids, width), _fitted(pool.ids, width)

    def differ(rows: np.ndarray, candidates: np.ndarray) -> Bool[np.ndarray, "b c"]:
        return (prompt_ids[rows, None] != pool_ids[candidates]).any(-1)

    for members in np.unique(prompt_groups):
        rows, candidates = (
            np.flatnonzero(prompt_groups == members),
            np.flatnonzero(pool_groups == members),
        )
        if len(candidates):
            same = prompts.target[rows, None] == pool.target[candidates]
            fits = same & differ(rows, candidates) if same_answer else ~same
            has_partner[rows] = fits.any(1)
            # The largest of independent uniform numbers is a uniform draw among the candidates.
            partner[rows] = candidates[(rng.random(fits.shape) * fits).argmax(1)]
    return has_partner, partner


def _frame(prompts: Prompts, width: int) -> Int[np.ndarray, "B 2*width"]:
    """The tokens that partners share: positions of the subject, words around it, and length."""
    around = np.where(prompts.mask & ~prompts.subject, prompts.ids, -1)
    return np.concatenate(
        [_fitted(around, width, -1), _fitted(prompts.subject, width).astype(np.int32)], axis=1
    )


def _fitted(part: np.ndarray, width: int, fill: int = 0) -> np.ndarray:
    """Cut or pad columns to `width`; only padding is cut."""
    part = part[:, :width]
    return np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=fill)


def _ascii_tokens(tokenizer: PreTrainedTokenizerFast) -> Int[np.ndarray, " n"]:
    special = set(tokenizer.all_special_ids)
    ordinary = [i for i in range(len(tokenizer)) if i not in special]
    words = tokenizer.batch_decode([[i] for i in ordinary], clean_up_tokenization_spaces=False)
    printable = [w.isascii() and w.isprintable() and bool(w.strip()) for w in words]
    return np.array(ordinary)[np.array(printable)]


def _encoded_again(
    ids: Int[np.ndarray, "B T"], mask: Bool[np.ndarray, "B T"], tokenizer: PreTrainedTokenizerFast
) -> Int[np.ndarray, "B T"]:
    """The ids of the decoded prompts, encoded again; rows with another number of tokens are -1."""
    texts = tokenizer.batch_decode(
        [row[real].tolist() for row, real in zip(ids, mask, strict=True)],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    encoded = np.full_like(ids, -1)
    for out, old, real, new in zip(encoded, ids, mask, tokenizer(texts)["input_ids"], strict=True):
        if len(new) == real.sum():
            out[real] = new
            out[~real] = old[~real]
    return encoded


def _listed(rows: Bool[np.ndarray, " B"]) -> str:
    return ", ".join(map(str, np.flatnonzero(rows)[:SHOWN]))
