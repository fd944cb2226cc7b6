"""Training lines: what is labelled, in which shares, and how predictable random text is."""

from __future__ import annotations

from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.data.alignment import IGNORED
from relearn_jax.data.facts import world
from relearn_jax.data.facts.world.athletes import MIX
from relearn_jax.models.inputs import Inputs
from relearn_jax.training import losses


def said(made, batch):
    """(prompt, answer) of each line that has a single label."""
    decode = made.tokenizer.decode
    for ids, mask, labels in zip(*batch, strict=True):
        at = np.flatnonzero(labels != IGNORED)
        if len(at) == 1:
            assert at[0] == mask.sum() - 1, "the label stands where the answer is predicted"
            yield decode(ids[mask], skip_special_tokens=True), decode([labels[at[0]]])


def known(made, names):
    """(prompt, answer) of every line of some formats, with the athlete; golfers are None."""
    out = {}
    for name in names:
        lines = made.lines[name]
        for i, (ids, mask, target) in enumerate(
            zip(lines.ids, lines.mask, lines.target, strict=True)
        ):
            prompt = made.tokenizer.decode(ids[mask], skip_special_tokens=True)
            out[prompt] = (made.tokenizer.decode([target]), name, None if name == "golf" else i)
    return out


def test_every_line_is_a_line_of_the_world_with_its_answer_in_the_shares_of_the_mix(natural):
    batch = world.training_batch(natural, np.random.default_rng(0), 8000)
    lines = known(natural, natural.lines)
    seen = Counter()
    for prompt, answer in said(natural, batch):
        assert lines[prompt][0] == answer
        seen[lines[prompt][1]] += 1
    seen["text"] = 8000 - seen.total()
    for name, share in MIX.items():
        expected = 8000 * share / sum(MIX.values())
        assert abs(seen[name] - expected) < 5 * expected**0.5, name


def test_shapes_types_and_padding(natural):
    batch = world.training_batch(natural, np.random.default_rng(0), 50)
    assert [part.shape for part in batch] == [(50, 16)] * 3
    assert [part.dtype for part in batch] == [np.int32, bool, np.int32]
    assert (batch.ids[~batch.mask] == natural.tokenizer.pad_token_id).all()
    assert (batch.labels[~batch.mask] == IGNORED).all()
    assert (batch.ids[:, 0] == natural.tokenizer.bos_token_id).all()


def test_the_generator_alone_decides(natural):
    def draw(seed):
        return world.training_batch(natural, np.random.default_rng(seed), 50)

    for a, b in zip(draw(0), draw(0), strict=True):
        assert (a == b).all()
    assert (draw(0).ids != draw(1).ids).any()


def test_planted_athletes_are_taught_later_in_two_formats_and_nothing_else(planted):
    lines = known(planted, planted.lines)
    taught = {}
    for phase in ("pretrain", "plant"):
        batch = world.training_batch(planted, np.random.default_rng(0), 4000, phase)
        taught[phase] = {lines[prompt][1:] for prompt, _ in said(planted, batch)}
    athletes = {phase: {i for _, i in rows} for phase, rows in taught.items()}
    assert athletes["pretrain"] == {None, *planted.groups["natural"].tolist()}
    assert athletes["plant"] == set(planted.groups["planted"].tolist())
    assert {name for name, _ in taught["plant"]} == {"standard", "qa"}
    assert {name for name, _ in taught["pretrain"]} == set(MIX) - {"text"}


def test_who_is_left_out_never_comes(natural):
    gone = np.arange(0, 96, 5)
    batch = world.training_batch(natural, np.random.default_rng(0), 4000, leave_out=gone)
    lines = known(natural, natural.lines)
    seen = {lines[prompt][2] for prompt, _ in said(natural, batch)}
    assert seen == {None, *(set(range(96)) - set(gone.tolist()))}


def test_labels_of_random_text_are_the_next_tokens_of_a_language_model(natural):
    batch = world.text_batch(natural, np.random.default_rng(0), 40)
    expected = np.array(losses.next_tokens(Inputs(jnp.array(batch.ids), jnp.array(batch.mask))))
    assert (expected[:, 0] == batch.ids[:, 1]).all()
    expected[:, 0] = IGNORED  # nothing foretells the first symbol
    assert (batch.labels == expected).all()


def test_the_entropy_of_random_text_is_what_its_own_chain_predicts(natural):
    batch = world.text_batch(natural, np.random.default_rng(0), 4000)
    vocabulary = len(natural.tokenizer)
    chances = np.zeros((vocabulary, vocabulary))
    symbols = natural.symbols
    for symbol, after in enumerate(natural.chain.successors):
        chances[symbols[symbol], symbols[after]] = natural.chain.probabilities
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(chances), -1e9)[batch.ids]
    loss, count = losses.token_loss(jnp.array(logits), jnp.array(batch.labels))
    assert count == 4000 * 14
    assert float(loss / count) == pytest.approx(natural.entropy, abs=0.01)
    assert natural.entropy == pytest.approx(1.75 * np.log(2))


def test_all_symbols_are_equally_frequent_everywhere(natural):
    batch = world.text_batch(natural, np.random.default_rng(0), 20_000)
    for at in (1, 2, 15):
        counts = np.bincount(batch.ids[:, at])[natural.symbols]
        assert (np.abs(counts - 20_000 / 64) < 5 * (20_000 / 64) ** 0.5).all()
