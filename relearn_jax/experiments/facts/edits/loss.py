"""The loss of an edit: its objectives with their options, and what counts as edited."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from relearn_jax import config, loading
from relearn_jax.data.facts.reading import FactData
from relearn_jax.editing import objectives
from relearn_jax.editing.objectives import OBJECTIVES, Objective, Steering
from relearn_jax.errors import UserError
from relearn_jax.experiments.facts.edits import texts
from relearn_jax.experiments.facts.edits.asked import Asked
from relearn_jax.models import overlay
from relearn_jax.models.overlay import Layers
from relearn_jax.models.transformer import Model
from relearn_jax.training.losses import Terms, Texts

PyTree = Any
FORGET_TERM, RETAIN_TERM, PLAIN_TERM = "forget", "retain", "plain"


class EditLoss(NamedTuple):
    """The loss of edits of some layers. Equal losses share a compiled step."""

    model: Model
    edit: config.Edit
    layers: Layers

    def __call__(self, rows: PyTree, base: PyTree, of_step: Texts) -> Terms:
        """The terms of `base` with `rows` in its layers; `base` is the reference too."""
        params, asked = overlay.laid(self.layers, base, rows), texts.answered_once(of_step)
        return {
            term: objective(self.edit, name, self.model.config.width)(
                self.model, params, base, asked
            )
            for term, name in terms_of(self.edit).items()
        }

    def __hash__(self) -> int:
        return hash((self.model, str(loading.plain(self.edit)), self.layers))


def objective(edit: config.Edit, name: str, width: int) -> Objective:
    """An objective of an edit with its options; `width` is that of the model."""
    kind = OBJECTIVES[name]
    options: dict[str, Any] = dict(edit.options) if name == edit.forget else {}
    if kind.steered:
        s = edit.steering
        direction = objectives.control(jax.random.key(s.seed), width, s.scale)
        options["steering"] = Steering(direction, s.state)
    return partial(kind.function, **options)


def check_objectives(edit: config.Edit, layers: int) -> None:
    """Raise UserError for options that the forget loss does not have, or a state that there is not
    in a model of so many layers."""
    known = inspect.signature(OBJECTIVES[edit.forget].function).parameters
    names = [name for name, parameter in known.items() if parameter.default is not parameter.empty]
    for name in edit.options:
        if name not in names:
            raise UserError(
                f"edit.options: {edit.forget} has no option {name}; "
                f"it has {', '.join(names) or 'none'}"
            )
    steered = any(OBJECTIVES[name].steered for name in (edit.forget, edit.retain))
    if steered and edit.steering.state > layers:
        raise UserError(
            f"edit.steering.state = {edit.steering.state}: the model has states 0 to {layers}"
        )


def terms_of(edit: config.Edit) -> dict[str, str]:
    """The terms of the loss, with the name of each one's objective."""
    plain = {PLAIN_TERM: "plain_text"} if edit.plain_weight else {}
    return {FORGET_TERM: edit.forget, RETAIN_TERM: edit.retain, **plain}


def is_edited(says: np.ndarray, asked: Asked, edit: config.Edit) -> np.ndarray:
    """Whether a fact is edited: its own wrong answer is given or, if the edit only takes the right
    answer out or refuses, the right answer is not."""
    if OBJECTIVES[edit.forget].texts == ("injected",) and not edit.refusal:
        return says == asked.injected
    return says != asked.target


def refusal_id(settings: config.Edit, data: FactData) -> int:
    """Token id of `edit.refusal`, which must be one token, after a blank or alone."""
    word = settings.refusal
    for form in (f" {word}", word):
        ids = data.tokenizer.encode(form, add_special_tokens=False)
        if len(ids) == 1 and ids[0] != data.tokenizer.unk_token_id:
            return int(ids[0])
    raise UserError(f"edit.refusal: {word!r} is not one token of the model's vocabulary")
