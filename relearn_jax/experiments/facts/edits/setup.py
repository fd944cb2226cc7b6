"""Setup of an editing run: that of its localization, and everything that models are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relearn_jax.config import Editing
from relearn_jax.data import questions, running_text
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.questions import Questions
from relearn_jax.data.readers.files import locate, placed
from relearn_jax.data.running_text import RunningText
from relearn_jax.errors import UserError
from relearn_jax.experiments.facts import setup as localization
from relearn_jax.experiments.facts.edits import arms, asked, loss
from relearn_jax.experiments.facts.edits.asked import (
    FORGET,
    HELD_OUT,
    RETAIN_TEST,
    VALIDATION,
    Asked,
)
from relearn_jax.experiments.facts.setup import Setup
from relearn_jax.models.transformer import Model


@dataclass(frozen=True, eq=False)
class EditSetup:
    """An editing run that is ready to start; mappings are by seed."""

    config: Editing
    localization: Setup
    asked: Mapping[int, Asked]
    """Prompts for every edited model."""
    attacked: Mapping[int, Asked]
    """Prompts for every attacked model."""
    running: Mapping[int, RunningText | None]
    """Running text; None without any."""
    questions: Questions | None
    """Questions about other things."""

    @property
    def model(self) -> Model:
        """The decoder."""
        return self.localization.decoder.model

    def side_digests(self, seed: int) -> list[str]:
        """Digests of running text and questions; empty where there are none."""
        texts = (self.running[seed], self.questions)
        return ["" if text is None else text.digest for text in texts]


def prepare(config: Editing, base: Path) -> EditSetup:
    """Read and check everything that a config names; relative paths start at `base`."""
    arms.check(config)
    localized = localization.prepare(config.localization, base)
    loss.check_objectives(config.edit, localized.decoder.model.config.layers)
    if config.edit.refusal:
        for data in localized.facts.values():
            loss.refusal_id(config.edit, data)
    for data in localized.facts.values():
        names = {"edit.format": (config.edit.format,), "attack.formats": config.attack.formats}
        for setting, formats in names.items():
            for name in formats:
                if name not in data.formats:
                    raise UserError(
                        f"{setting}: there is no format {name}; there are {', '.join(data.formats)}"
                    )
        if config.edit.parts > len(data.split.forget):
            raise UserError(
                f"edit.parts = {config.edit.parts}: there are {len(data.split.forget)} facts"
            )
        if len(data.split.measured) < 2:
            raise UserError(
                "attack: one half of the facts to forget is relearned and the other scored, so "
                "there must be at least two; raise facts.split.forget"
            )
    groups = (FORGET, HELD_OUT, VALIDATION, RETAIN_TEST)
    return EditSetup(
        config,
        localized,
        {
            seed: asked.ask(data, tuple(data.formats), groups, only=config.edit.format)
            for seed, data in localized.facts.items()
        },
        {
            seed: asked.ask(data, config.attack.formats, (FORGET, HELD_OUT, RETAIN_TEST))
            for seed, data in localized.facts.items()
        },
        {seed: _running(config, base, data, seed) for seed, data in localized.facts.items()},
        _questions(config, base, localized),
    )


def _running(config: Editing, base: Path, data: FactData, seed: int) -> RunningText | None:
    side = config.side_effects
    if data.world is not None:
        return running_text.of_world(data.world, seed)
    if not side.text:
        return None
    return running_text.of_files(
        locate(side.text, base, "side_effects.text"),
        locate(side.test_text, base, "side_effects.test_text") if side.test_text else None,
        data.tokenizer,
        side.tokens,
        side.windows,
        seed,
    )


def _questions(config: Editing, base: Path, localized: Setup) -> Questions | None:
    side, data = config.side_effects, localized.facts[config.seeds[0]]
    if not side.questions:
        return None
    return questions.prompts(
        questions.read(placed(side.questions, base)),
        questions.read(placed(side.examples, base)) if side.shots else (),
        side.shots,
        side.count,
        config.seeds[0],
        data.tokenizer,
        min(side.longest, localized.decoder.model.config.positions),
    )


def summary(setup: EditSetup, out: Path | None = None) -> list[str]:
    """Lines to show before a run starts."""
    config, edit, attack = setup.config, setup.config.edit, setup.config.attack
    split = setup.localization.facts[config.seeds[0]].split
    layers = setup.model.config.layers
    grid = len(edit.learning_rates) * len(edit.forget_weights)
    rates, seeds = len(attack.learning_rates), len(attack.seeds)
    attacks = seeds * (rates * (2 + attack.unrelated) + 2 * attack.layers * layers)
    adapter = f"rank {attack.rank}" if attack.adapter == "lora" else "all matrices"
    return [
        *localization.summary(setup.localization, out),
        f"  edit         {len(split.forget)} facts by {edit.forget}, {len(split.retain)} retained, "
        f"{len(split.retain_test)} retained for tests; {edit.steps} steps, {grid} settings for "
        "each arm",
        *_mask_summary(config),
        *_side_summary(setup),
        f"  attack       relearning of one half by {adapter}, {attack.steps} steps, {attacks} "
        "attackers for each arm",
    ]


def _mask_summary(config: Editing) -> list[str]:
    masks = config.weight_masks
    if not masks.arms:
        return []
    shares = ", ".join(f"{share:.1%}" for share in masks.zeroed)
    return [f"  masks        of {', '.join(masks.arms)}; {masks.steps} steps, {shares} of weights"]


def _side_summary(setup: EditSetup) -> list[str]:
    lines, running = [], setup.running[setup.config.seeds[0]]
    if running is not None and running.digest:
        rows, tokens = running.test.labels.shape
        lines.append(f"  text         loss on {rows} windows of {tokens} tokens")
    if setup.questions is not None:
        count, out = len(setup.questions.subjects), setup.questions.too_long
        subjects = len(set(setup.questions.subjects))
        lines.append(
            f"  questions    {count} on {subjects} subjects" + f", {out} too long" * bool(out)
        )
    return lines
