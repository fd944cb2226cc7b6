"""What a localization reads, checked before anything is computed: model, facts and their pairs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relearn_jax.config import Localization
from relearn_jax.data.facts import corruption, prompts, reading
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.tokenizer import load_tokenizer
from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, weights
from relearn_jax.models.checkpoint import Checkpoint
from relearn_jax.models.transformer import Model


@dataclass(frozen=True, eq=False)
class Pairs:
    """Prompts of the facts that are localized, with partners of equal length."""

    facts: np.ndarray
    """Index of each pair's fact."""
    clean: Prompts
    corrupt: Prompts
    again: Prompts
    """Partners of the corrupt prompts of which no more is known: other subjects with the same
    answer, or other random tokens."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything the experiment needs besides its config."""

    config: Localization
    checkpoint: Checkpoint
    model: Model
    weights_sha256: str
    parameters: int
    facts: dict[int, FactData]
    """By seed; the same for all seeds unless the facts are the built-in world's."""
    pairs: dict[int, Pairs]
    probed: dict[int, Prompts]
    """By seed: prompts that probes are fitted to and tested on."""

    def chance(self, seed: int) -> float:
        """A probe's accuracy if it always gives the most common answer."""
        answers = np.unique(self.probed[seed].target, return_counts=True)[1]
        return float(answers.max() / answers.sum())


def prepare(config: Localization, base: Path) -> Prepared:
    """Read and check everything a config names; relative paths start at `base`."""
    facts = _facts(config, base)
    first = next(iter(facts.values()))
    settings = dict(config.model.settings)
    if first.world is not None:
        settings = {"vocab_size": len(first.tokenizer)} | settings
    opened = checkpoint.open_checkpoint(config.model.source, config.model.revision, settings)
    model = checkpoint.describe(
        opened, "language-model", (), config.model.dtype,
        ignore_settings=config.model.ignore_settings,
    )  # fmt: skip
    if not model.family.causal:
        raise UserError(
            f"{opened.origin}: facts are localized in decoders (gpt2, gpt_neox, llama, ministral, "
            f"gemma, gemma2), and this is {model.family.name}"
        )
    checkpoint.check(opened, model)
    prepared = Prepared(
        config=config,
        checkpoint=opened,
        model=model,
        weights_sha256=checkpoint.digest(opened),
        parameters=sum(int(np.prod(shape)) for shape in weights.shapes(model).values()),
        facts=facts,
        pairs={seed: _pairs(config, data, seed) for seed, data in facts.items()},
        probed={seed: _probed(config, data) for seed, data in facts.items()},
    )
    _check(prepared)
    return prepared


def _check(prepared: Prepared) -> None:
    """Refuse what this model cannot compute."""
    config, model = prepared.config, prepared.model
    wrong = [layer for layer in config.teaching.plant_layers if layer >= model.config.layers]
    if wrong:
        raise UserError(
            f"teaching.plant_layers: {wrong}: the model has layers 0 to {model.config.layers - 1}"
        )
    for seed, pairs in prepared.pairs.items():
        for asked in (pairs.clean, pairs.corrupt, pairs.again, prepared.probed[seed]):
            tokens, largest = asked.ids.shape[1], int(max(asked.ids.max(), asked.others.max()))
            if tokens > model.config.positions:
                raise UserError(
                    f"localize.format {config.localize.format!r}: prompts of {tokens} tokens, and "
                    f"the model has {model.config.positions} positions; take a shorter format"
                )
            if max(largest, int(asked.target.max())) >= model.config.vocabulary:
                raise UserError(
                    f"the tokenizer has words that the model ({model.config.vocabulary:,} words) "
                    "has not: model.tokenizer, or model.settings.vocab_size, belongs to another "
                    "model"
                )


def _facts(config: Localization, base: Path) -> dict[int, FactData]:
    if config.facts.kind == "world":
        # Each seed has a world of its own; the vocabulary is the same.
        return {
            seed: reading.read(
                dataclasses.replace(config.facts, seed=config.facts.seed + seed), base
            )
            for seed in config.seeds
        }
    source = config.model.tokenizer
    if not source:
        source = str(checkpoint.locate(config.model.source, config.model.revision))
    tokenizer = load_tokenizer(source, words=False)
    data = reading.read(config.facts, base, tokenizer)
    return dict.fromkeys(config.seeds, data)


def _pairs(config: Localization, data: FactData, seed: int) -> Pairs:
    settings = config.localize
    rows = data.split.forget
    asked, fact = reading.ask(data, rows, settings.format)
    pool, _ = reading.ask(data, _peers(data, rows), settings.format)
    fits = np.ones(len(rows), bool)
    if settings.corrupt == "swapped":
        # Each partner needs one of its own, with its answer, for the null.
        pool = prompts.take(pool, np.flatnonzero(corruption.partnered(pool, same_answer=True)))
        fits = corruption.partnered(asked, pool)
    kept = np.flatnonzero(fits)[: settings.pairs]
    if not len(kept):
        raise UserError(
            f"localize: none of the {len(rows)} facts to be forgotten has a partner whose subject "
            "has as many tokens and another answer that a third subject shares; take more facts, "
            "or set localize.corrupt: random"
        )
    clean = prompts.take(asked, kept)
    if settings.corrupt == "swapped":
        corrupt = corruption.swapped(clean, seed, pool)
        again = corruption.swapped(corrupt, (seed, 1), pool, same_answer=True)
    else:
        corrupt = corruption.randomized(clean, data.tokenizer, seed)
        again = corruption.randomized(corrupt, data.tokenizer, (seed, 1))
    for partner in (corrupt, again):
        corruption.check_pair(clean, partner)
    return Pairs(fact[kept], clean, corrupt, again)


def _peers(data: FactData, rows: np.ndarray) -> np.ndarray:
    """Facts that partners are drawn from: where facts were planted, planted ones have planted
    partners, or half of what is patched would be looked up elsewhere."""
    every = np.arange(len(data.facts))
    groups = data.world.groups.values() if data.world is not None else ()
    return next((group for group in groups if np.isin(rows, group).all()), every)


def _probed(config: Localization, data: FactData) -> Prompts:
    every = np.arange(len(data.facts))
    if data.world is not None and "planted" in data.world.groups:
        every = data.world.groups["planted"]
    asked, _ = reading.ask(data, every[: config.localize.probed], config.localize.format)
    return asked


def summary(prepared: Prepared) -> str:
    """What will be done, before it is done."""
    config, model = prepared.config, prepared.model
    data, pairs = prepared.facts[config.seeds[0]], prepared.pairs[config.seeds[0]]
    minutes = config.expected_minutes
    lines = [
        config.name + (f": {config.description}" if config.description else ""),
        f"  model        {prepared.checkpoint.origin} ({model.family.name}, {model.config.layers} "
        f"layers, width {model.config.width}, {prepared.parameters:,} parameters)",
        f"  facts        {data.source}",
        f"  pairs        {len(pairs.facts)} of the {config.localize.pairs} asked for, prompts of "
        f"{pairs.clean.ids.shape[1]} tokens, {config.localize.corrupt} subjects",
        f"  localizers   {', '.join(config.localize.methods)}",
        f"  seeds        {', '.join(map(str, config.seeds))}",
    ]
    if minutes:
        lines.append(f"  expected     about {minutes:g} minutes on two CPU cores")
    return "\n".join(lines)
