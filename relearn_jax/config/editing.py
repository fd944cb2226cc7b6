"""The schema of editing: take facts out where they are looked up, then try to get them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from relearn_jax.config.facts import Facts
from relearn_jax.config.localization import Localization, Localize, Teaching
from relearn_jax.config.shared import Checkpoint, Model, Parallel, repeated

Forget = Literal[
    "injection", "unlikelihood", "gradient_ascent", "weighted_ascent", "npo", "simnpo", "dpo",
    "undial", "rmu",
]  # fmt: skip
Retain = Literal["keep_answers", "keep_distribution", "keep_state"]
Adapter = Literal["lora", "full"]
Control = Literal["sham", "retain_only", "oracle", "masked", "sham_scaled"]


@dataclass(frozen=True)
class Steering:
    """RMU: the state that is moved, and the control vector that it is moved to."""

    state: int = 7
    """Row of the hidden states, from 0 (the embedding) to the number of layers."""
    scale: float = 20.0
    """Length of the control vector."""
    seed: int = 0
    """Draws the control vector."""


@dataclass(frozen=True)
class Edit:
    """The edit: its loss, its arms and its grid of settings."""

    forget: Forget = "injection"
    """injection: put a wrong answer in; the others take the right answer out
    (`editing/objectives.py`)."""
    options: dict[str, float | str] = field(default_factory=dict)
    """Options of the forget loss in `editing/objectives.py`, such as `{beta: 0.1, flavour: muse}`
    for npo or `{cutoff: -15}` for unlikelihood; what is not named has its default there."""
    refusal: str = ""
    """A word that is put in for every fact in place of its wrong answer: injection of refusals, or
    with dpo IdkDPO. Empty: each fact's own wrong answer."""
    steering: Steering = Steering()
    """For rmu and keep_state."""
    retain: Retain = "keep_answers"
    retain_weight: float = 1.0
    plain_weight: float = 1.0
    """Weight of the loss on running text (`side_effects.text`); 0: without it."""
    format: str = "standard"
    """The format of the prompts to edit; all others are only tested."""
    arms: tuple[str, ...] = ()
    """Choices of components to edit, by their names in `tables/selections`: `probes`,
    `noising_mlps`, `all_mlps`, `nonlocalized`, ... and `planted`, the layers that hold the facts.
    Empty: every one."""
    random_draws: int = 3
    """Number of draws of random feed-forward layers (arm `random_mlps`)."""
    controls: tuple[Control, ...] = ("sham", "retain_only", "oracle")
    """sham: a random update of the same size in every matrix as that of the first localizer's
    arm. retain_only: everything is trained, without the loss on the facts to forget. oracle: a
    model that was never taught them (built-in world). Two more check the verdict, as it is known
    what they are. masked: only layers above the planted ones are edited, so the facts are still
    there. sham_scaled: the sham, doubled until half of the retained facts are lost."""
    steps: int = 50
    parts: int = 1
    """Number of parts of the facts to forget that are edited one after another, each for `steps`
    steps with a fresh optimizer (sequential editing)."""
    scored_steps: tuple[int, ...] = (10, 20)
    """Probes read the states after these steps too, besides the last; with several parts, after
    these steps of each."""
    batch_size: int = 24
    """Rows of each text in a step."""
    accumulate: int = 1
    """Number of parts in which a step is computed, one after another, to save memory."""
    side_by_side: int | None = None
    """Number of settings that are trained at one time; null: all."""
    program: Literal["auto", "own", "shared"] = "auto"
    """own: an arm trains its own layers, and nothing below the first is differentiated; every
    choice of layers compiles a step of its own. shared: all attention and feed-forward matrices
    have gradients, and those that an arm did not choose are held; all arms share a compiled step.
    Results are the same. auto: shared while all settings take at most 256 MiB."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Every arm is tuned by itself: each learning rate with each weight of the forget loss."""
    forget_weights: tuple[float, ...] = (0.2, 1.0)
    matched: float = 0.95
    """Every arm takes the setting that keeps most among those at which this share of the facts is
    edited. What it keeps is asked of every fifth retained fact, which no loss holds."""
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the trained parameters. bfloat16, as published: they are rounded to it after every step,
    so that an update below 1/256 of a parameter is lost. Moments stay in float32."""


@dataclass(frozen=True)
class Attack:
    """Relearning of one half of the forgotten facts, scored on the other half; halves rotate."""

    adapter: Adapter = "lora"
    """lora: adapters of low rank on all attention and feed-forward matrices; full: all of these
    matrices."""
    rank: int = 8
    alpha: float = 16.0
    """The adapter's product is multiplied by alpha / rank."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """The attacker's best is reported."""
    seeds: tuple[int, ...] = (0, 1)
    """Draw adapters, batches and halves; they are not the seeds of the models."""
    steps: int = 40
    batch_size: int = 24
    accumulate: int = 1
    side_by_side: int | None = None
    """Number of attackers at one time; null: all."""
    scored_steps: tuple[int, ...] = (5, 10, 20)
    """Scored after these steps too, besides 0 and the last."""
    labels: Literal["right", "injected"] = "right"
    """The answers that are relearned. injected, of retained facts too: what the published attack on
    CounterFact does, which relearns nothing."""
    retain_weight: float = 1.0
    plain_weight: float = 1.0
    kept: float = 0.9
    """An attack counts while the model keeps this share of its accuracy on retained facts."""
    fitted: float = 0.9
    """An attack that leaves its own half below this accuracy is void."""
    clip_norm: float = 1.0
    unrelated: bool = True
    """Whether there are also attackers that see none of the facts: running text alone or, without
    it, retained facts alone."""
    layers: bool = False
    """Whether there are also attackers that may change a single layer each, at the last of the
    learning rates: through which layer does it come back?"""
    bits: tuple[int, ...] = (8, 4)
    """Besides relearning, each model is asked after its matrices are rounded to this many bits."""
    formats: tuple[str, ...] = ("standard",)
    """Formats in which attacked models are asked; the attack is scored by the first."""


@dataclass(frozen=True)
class WeightMasks:
    """Weight masks: the single weights of a choice without which the facts are gone."""

    arms: tuple[str, ...] = ()
    """Choices of components whose weights are masked, by their names in `edit.arms`; empty: none,
    and no masks are trained."""
    forget: Forget = "unlikelihood"
    """The loss on the facts to forget. Setting weights to 0 can take a right answer out; it cannot
    put every wrong answer in."""
    forget_weight: float = 0.5
    sparsity: float = 100.0
    """Price of a mask that falls: weight of the mean of 1 - mask, where everything outside of the
    choice has mask 1. Without it, weights that hold little fall as fast as those that hold much."""
    steps: int = 50
    learning_rate: float = 0.03
    zeroed: tuple[float, ...] = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02)
    """Numbers of weights that are set to 0, as shares of all attention and feed-forward
    matrices."""


@dataclass(frozen=True)
class SideEffects:
    """What an edit should leave alone: running text, and answers to other questions."""

    text: str = ""
    """A text file, whose windows are the running text of edits and attacks. Empty: the world's
    random text."""
    test_text: str = ""
    """A text file that is only measured; empty: the last tenth of `text`."""
    tokens: int = 128
    """Tokens of a window of text."""
    windows: int = 64
    """Number of windows that are measured."""
    questions: str = ""
    """Multiple-choice questions like MMLU's: a CSV file, or a folder of them, one for each
    subject. Empty: none."""
    examples: str = ""
    """Solved examples, in the same form."""
    shots: int = 5
    """Number of examples before each question."""
    count: int = 300
    """Number of questions, drawn by the first of the seeds."""
    longest: int = 1024
    """Questions with more tokens, examples included, are left out."""


@dataclass(frozen=True)
class Editing:
    """The config of editing: a localization, edits of what it chooses, and attacks on the edits."""

    experiment: Literal["editing"] = "editing"
    name: str = "editing"
    description: str = ""
    out: str = ""
    """Run directory; empty: `runs/NAME`."""
    seeds: tuple[int, ...] = (0,)
    """Each seed has its own model (of random weights), world, localization, edits and attacks."""
    model: Model = field(default_factory=Model)
    facts: Facts = field(default_factory=Facts)
    teaching: Teaching = field(default_factory=Teaching)
    gates: Literal["enforce", "report"] = "enforce"
    localize: Localize = field(default_factory=Localize)
    edit: Edit = Edit()
    weight_masks: WeightMasks = WeightMasks()
    attack: Attack = Attack()
    side_effects: SideEffects = SideEffects()
    parallel: Parallel = field(default_factory=Parallel)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    expected_minutes: float | None = None

    @property
    def taught(self) -> bool:
        """Whether a decoder of random weights is taught the facts of the built-in world."""
        return self.localization.taught

    @property
    def localization(self) -> Localization:
        """The config of the localization that comes first."""
        shared = (
            *("name", "description", "out", "seeds", "model", "facts", "teaching", "gates"),
            *("localize", "parallel", "checkpoint", "expected_minutes"),
        )
        return Localization(**{name: getattr(self, name) for name in shared})

    def problems(self) -> list[str]:
        """Invalid values and combinations, as one sentence each."""
        return [
            *self.localization.problems(),
            *_edit_problems(self),
            *_mask_problems(self),
            *_attack_problems(self.attack),
            *_side_problems(self),
        ]


def _edit_problems(config: Editing) -> list[str]:
    edit, problems = config.edit, []
    problems += repeated("edit.arms", edit.arms)
    problems += repeated("edit.learning_rates", edit.learning_rates)
    problems += repeated("edit.forget_weights", edit.forget_weights)
    problems += _grid("edit.learning_rates", edit.learning_rates)
    problems += _grid("edit.forget_weights", edit.forget_weights)
    if edit.steps < 1 or edit.batch_size < 1 or edit.parts < 1:
        problems.append("edit: steps, batch_size and parts must be positive")
    problems += _memory_problems("edit", edit)
    if edit.random_draws < 0 or edit.retain_weight < 0 or edit.plain_weight < 0:
        problems.append("edit: random_draws and weights must not be negative")
    problems += _objective_problems(edit)
    wrong = [step for step in edit.scored_steps if not 0 < step < edit.steps]
    if wrong:
        problems.append(f"edit.scored_steps {wrong}: should be between 0 and edit.steps")
    if not 0 < edit.matched <= 1:
        problems.append(f"edit.matched = {edit.matched}: should be in (0, 1]")
    if "oracle" in edit.controls and not config.taught:
        problems.append(
            "edit.controls: an oracle is a model that was never taught the facts, which needs "
            "facts.kind world; leave oracle out"
        )
    if "planted" in edit.arms and not config.teaching.plant_layers:
        problems.append("edit.arms: planted needs teaching.plant_layers")
    if "masked" in edit.controls and not config.teaching.plant_layers:
        problems.append("edit.controls: masked needs teaching.plant_layers")
    if "sham_scaled" in edit.controls and "sham" not in edit.controls:
        problems.append("edit.controls: sham_scaled enlarges sham; name both")
    return problems


def _objective_problems(edit: Edit) -> list[str]:
    problems = []
    if edit.refusal and edit.forget not in ("injection", "dpo"):
        problems.append(f"edit.refusal does nothing with {edit.forget}; use injection or dpo")
    if edit.steering != Steering() and "rmu" not in edit.forget and edit.retain != "keep_state":
        problems.append("edit.steering does nothing without rmu or keep_state")
    if edit.steering.state < 0 or edit.steering.scale <= 0 or edit.steering.seed < 0:
        problems.append("edit.steering: state and seed must not be negative, and scale positive")
    return problems


def _mask_problems(config: Editing) -> list[str]:
    masks = config.weight_masks
    problems = repeated("weight_masks.arms", masks.arms)
    if masks.forget == "rmu":
        problems.append("weight_masks.forget: rmu takes no answer out; name another loss")
    if masks.steps < 1 or masks.learning_rate <= 0:
        problems.append("weight_masks: steps and learning_rate must be positive")
    if masks.forget_weight < 0 or masks.sparsity < 0:
        problems.append("weight_masks: forget_weight and sparsity must not be negative")
    if masks.arms and not masks.zeroed:
        problems.append("weight_masks.zeroed is empty")
    if any(not 0 < share <= 1 for share in masks.zeroed):
        problems.append("weight_masks.zeroed: should be in (0, 1]")
    if "planted" in masks.arms and not config.teaching.plant_layers:
        problems.append("weight_masks.arms: planted needs teaching.plant_layers")
    return problems


def _attack_problems(attack: Attack) -> list[str]:
    problems = repeated("attack.seeds", attack.seeds)
    problems += repeated("attack.learning_rates", attack.learning_rates)
    problems += _grid("attack.learning_rates", attack.learning_rates)
    problems += _memory_problems("attack", attack)
    if attack.steps < 1 or attack.batch_size < 1 or attack.rank < 1 or attack.alpha <= 0:
        problems.append("attack: steps, batch_size, rank and alpha must be positive")
    if not attack.seeds or min(attack.seeds, default=0) < 0:
        problems.append("attack.seeds: give at least one seed, none negative")
    if any(not 2 <= bits <= 16 for bits in attack.bits):
        problems.append(f"attack.bits {list(attack.bits)}: should be from 2 to 16")
    problems += repeated("attack.bits", attack.bits)
    if not attack.formats:
        problems.append("attack.formats is empty")
    for name in ("kept", "fitted"):
        if not 0 <= getattr(attack, name) <= 1:
            problems.append(f"attack.{name} = {getattr(attack, name)}: should be in [0, 1]")
    wrong = [step for step in attack.scored_steps if not 0 < step < attack.steps]
    if wrong:
        problems.append(f"attack.scored_steps {wrong}: should be between 0 and attack.steps")
    return problems


def _side_problems(config: Editing) -> list[str]:
    side, problems = config.side_effects, []
    weights = {"edit": config.edit.plain_weight, "attack": config.attack.plain_weight}
    for name, weight in weights.items():
        if weight and not config.taught and not side.text:
            problems.append(
                f"{name}.plain_weight: name a text file in side_effects.text, or set it to 0"
            )
    if config.taught and (side.text or side.questions):
        problems.append(
            "side_effects: the built-in world has its own words, so it cannot read other text; "
            "leave text and questions out"
        )
    if side.test_text and not side.text:
        problems.append("side_effects.test_text does nothing without side_effects.text")
    if side.examples and not side.questions:
        problems.append("side_effects.examples does nothing without side_effects.questions")
    if side.questions and side.shots and not side.examples:
        problems.append("side_effects.examples: name solved examples, or set shots to 0")
    if side.tokens < 2 or min(side.windows, side.count, side.longest) < 1 or side.shots < 0:
        problems.append(
            "side_effects: tokens must be at least 2, windows, count and longest positive, and "
            "shots not negative"
        )
    return problems


def _memory_problems(name: str, part: Edit | Attack) -> list[str]:
    problems = []
    if part.accumulate < 1 or part.batch_size % max(part.accumulate, 1):
        problems.append(f"{name}.accumulate must divide {name}.batch_size")
    if part.side_by_side is not None and part.side_by_side < 1:
        problems.append(f"{name}.side_by_side must be positive, or null")
    return problems


def _grid(name: str, values: tuple[float, ...]) -> list[str]:
    return [] if values and min(values) > 0 else [f"{name}: give at least one value, all positive"]
