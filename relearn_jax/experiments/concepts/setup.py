"""Setup of a relearning run: all that it reads, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from relearn_jax.config import Relearning
from relearn_jax.data import tokenizer
from relearn_jax.errors import UserError
from relearn_jax.experiments.concepts import probed, sets, texts
from relearn_jax.experiments.concepts.dose import points
from relearn_jax.experiments.concepts.probed import ProbedText
from relearn_jax.experiments.concepts.texts import Texts
from relearn_jax.models import checkpoint, pretrained
from relearn_jax.models.pretrained import Pretrained
from relearn_jax.models.transformer import Model
from relearn_jax.neurons import statistics


@dataclass(frozen=True, eq=False)
class Setup:
    """A relearning run that is ready to start."""

    config: Relearning
    pretrained: Pretrained
    texts: Texts
    probed: ProbedText

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and channels of the tracked neurons."""
        return statistics.neuron_shape(self.pretrained.model, self.config.concepts.site)


def prepare(config: Relearning, base: Path) -> Setup:
    """Read and check everything that a config names; relative paths start at `base`."""
    sets.check_names(config)
    folder = tokenizer_folder(config)
    train, evaluation, tags = texts.read_task(config.data, base)
    weights = pretrained.open_pretrained(
        config.model, "token-classification", tags, config.training.dropout, folder
    )
    _check_model(config, weights.model, weights.checkpoint.origin)
    tok = tokenizer.load_tokenizer(folder or weights.checkpoint.folder)
    length, targets = config.model.max_length, sets.targets(config)
    encoded = partial(texts.encode, tokenizer=tok, tags=tags, max_length=length, data=config.data)
    text = probed.read(config.concepts, base, tok, length, targets, config.tracking.vectors)
    trained = encoded(train)
    retrain = texts.retraining_texts(config, base, trained, text.concepts, encoded)
    scored, most, choice = encoded(evaluation), config.dose.sentences, None
    if any(group.fraction == "auto" for group in sets.groups(config)):
        texts.check_tags(text.corpus, tags)
        choice = texts.spread(encoded(text.corpus), most)
    of_task = Texts(trained, scored, retrain, texts.spread(scored, most), choice)
    setup = Setup(config, weights, of_task, text)
    for group in sets.groups(config):
        sets.requested(config, group, setup.shape)
    points.check(config, weights.model)
    return setup


def tokenizer_folder(config: Relearning) -> Path | None:
    """The folder of `model.tokenizer`, or None for the model's own tokenizer."""
    name = config.model.tokenizer
    return checkpoint.locate(name, config.model.revision) if name else None


def _check_model(config: Relearning, model: Model, origin: str) -> None:
    if config.model.max_length > model.config.positions:
        raise UserError(
            f"model.max_length = {config.model.max_length}, but {origin} has "
            f"{model.config.positions} positions"
        )
    if config.prune.target != "state_mask" and config.prune.target not in model.family.neurons:
        targets = ", ".join(sorted({*model.family.neurons, "state_mask"}))
        raise UserError(
            f"prune.target {config.prune.target} is unknown to {model.family.name}, which has "
            f"{targets}"
        )
