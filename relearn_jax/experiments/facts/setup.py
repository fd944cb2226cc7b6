"""Setup of a localization: all that it reads, checked before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from relearn_jax.config import Facts, Localization
from relearn_jax.data.facts import reading
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.tokenizer import load_tokenizer
from relearn_jax.errors import UserError
from relearn_jax.experiments.facts import pairs as pairing
from relearn_jax.localize.batch import Pairs
from relearn_jax.localize.methods import LOCALIZERS
from relearn_jax.models import checkpoint, pretrained
from relearn_jax.models.checkpoint import FAMILIES
from relearn_jax.models.pretrained import Pretrained
from relearn_jax.models.transformer import Model


@dataclass(frozen=True, eq=False)
class Setup:
    """A localization that is ready to run; mappings are by seed."""

    config: Localization
    decoder: Pretrained
    facts: Mapping[int, FactData]
    """The same for all seeds, except for facts of the built-in world."""
    pairs: Mapping[int, Pairs]
    probed: Mapping[int, Prompts]


def prepare(config: Localization, base: Path) -> Setup:
    """Read and check everything that a config names; relative paths start at `base`."""
    _check_budget(config)
    facts = read_facts(config, base)
    decoder = open_decoder(config, facts[config.seeds[0]])
    _check_layers(config, decoder.model)
    pairs = {seed: pairing.make(data, config.localize, seed) for seed, data in facts.items()}
    probed = {seed: pairing.probed(data, config.localize) for seed, data in facts.items()}
    for seed, pair in pairs.items():
        prompts = (pair.clean, pair.corrupt, pair.null, probed[seed])
        _check_prompts(prompts, decoder.model, config.localize.format)
    return Setup(config, decoder, facts, pairs, probed)


def open_decoder(config: Localization, data: FactData) -> Pretrained:
    """The decoder that a config names.

    Raises:
      UserError: the model is no decoder; see also `pretrained.open_pretrained`.
    """
    words = {"vocab_size": len(data.tokenizer)} if config.taught else {}
    decoder = pretrained.open_pretrained(config.model, "language-model", defaults=words)
    if not decoder.model.family.causal:
        causal = ", ".join(name for name, family in FAMILIES.items() if family.causal)
        raise UserError(
            f"{decoder.checkpoint.origin}: facts are localized in decoders ({causal}), and this is "
            f"{decoder.model.family.name}"
        )
    return decoder


def read_facts(config: Localization, base: Path) -> dict[int, FactData]:
    """The facts of every seed; each seed has its own world, over one vocabulary."""
    if config.taught:
        return {seed: reading.read(world_of(config, seed), base) for seed in config.seeds}
    data = reading.read(config.facts, base, tokenizer_of(config))
    return dict.fromkeys(config.seeds, data)


def tokenizer_of(config: Localization) -> PreTrainedTokenizerFast:
    """The tokenizer of a pretrained decoder, or the one that the config names."""
    source = config.model.tokenizer
    if not source:
        source = str(checkpoint.locate(config.model.source, config.model.revision))
    return load_tokenizer(source, words=False)


def world_of(config: Localization, seed: int) -> Facts:
    """The settings of the world of a seed."""
    return dataclasses.replace(config.facts, seed=config.facts.seed + seed)


def _check_budget(config: Localization) -> None:
    setters = [name for name, localizer in LOCALIZERS.items() if localizer.sets_budget]
    if config.localize.budget is None and not set(setters) & set(config.localize.methods):
        names = " or ".join(setters)
        raise UserError(
            f"localize.budget null means as many parameters as {names} may choose: add {names} to "
            "localize.methods, or give a budget"
        )


def _check_layers(config: Localization, model: Model) -> None:
    layers = model.config.layers
    wrong = [layer for layer in config.teaching.plant_layers if layer >= layers]
    if wrong:
        raise UserError(f"teaching.plant_layers: {wrong}: the model has layers 0 to {layers - 1}")


def _check_prompts(all_prompts: Iterable[Prompts], model: Model, name: str) -> None:
    """Raise UserError for prompts that the model cannot read."""
    positions, vocabulary = model.config.positions, model.config.vocabulary
    for prompts in all_prompts:
        tokens = prompts.ids.shape[1]
        if tokens > positions:
            raise UserError(
                f"localize.format {name!r}: prompts of {tokens} tokens, and the model has "
                f"{positions} positions; take a shorter format"
            )
        if max(part.max() for part in (prompts.ids, prompts.others, prompts.target)) >= vocabulary:
            raise UserError(
                f"the tokenizer has words that the model ({vocabulary:,} words) lacks: "
                "model.tokenizer, or model.settings.vocab_size, belongs to another model"
            )


def summary(setup: Setup, out: Path | None = None) -> list[str]:
    """Lines to show before a run starts."""
    config, model = setup.config, setup.decoder.model
    data, pairs = setup.facts[config.seeds[0]], setup.pairs[config.seeds[0]]
    return [
        f"  model        {setup.decoder.checkpoint.origin} ({model.family.name}, "
        f"{model.config.layers} layers, width {model.config.width}, "
        f"{setup.decoder.parameters:,} parameters)",
        f"  facts        {data.source}",
        f"  pairs        {len(pairs.facts)} of the {config.localize.pairs} asked for, prompts of "
        f"{pairs.clean.ids.shape[1]} tokens, {config.localize.corrupt} subjects",
        f"  localizers   {', '.join(config.localize.methods)}",
        f"  seeds        {', '.join(map(str, config.seeds))}",
    ]
