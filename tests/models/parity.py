"""Our models against torch's numbers, wherever those come from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from relearn_jax.config import Training
from relearn_jax.data.batching import TokenBatch
from relearn_jax.models import checkpoint, transformer, weights
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Tap, Taps, everything
from relearn_jax.training import losses, optimizer
from relearn_jax.training.losses import TASK, token_loss
from relearn_jax.training.step import Round, start, train_step

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = (
    "bert", "distilbert", "gpt2", "llama", "ministral", "gemma", "gemma2", "gpt_neox",
    "gpt_neox_serial",
)  # fmt: skip
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def of_each(families: Iterable[str], *always: str) -> list:
    """Parameters of a test: all families, those that are not named among the slow tests."""
    slow = pytest.mark.slow
    return [pytest.param(f, marks=() if f in always else slow) for f in families]


def golden_of(family: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Config and arrays of a golden file (see oracles/torch_reference.py)."""
    config = json.loads((GOLDEN / f"{family}.json").read_text())
    return config, load_file(GOLDEN / f"{family}.safetensors")


def part(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(name): v for k, v in arrays.items() if k.startswith(name)}


def opened(folder: Path, config: dict, tensors: dict[str, np.ndarray]) -> checkpoint.Checkpoint:
    """Write a checkpoint folder and open it as a user's would be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return checkpoint.open_checkpoint(str(folder))


def tagger(folder: Path, config: dict, arrays: dict[str, np.ndarray]):
    """Model and parameters with the token-classification weights of a reference."""
    ck = opened(folder, config, part(arrays, "weights/"))
    model = checkpoint.describe(ck, "token-classification", LABELS)
    params, fresh = checkpoint.load(ck, model, jax.random.key(0))
    assert fresh == ()
    return ck, model, weights.to_device(params)


def inputs(arrays: dict[str, np.ndarray]) -> Inputs:
    return Inputs(arrays["ids"], arrays["mask"])


def check_forward(folder: Path, config: dict, arrays: dict[str, np.ndarray], atol: float) -> None:
    """Logits and every hidden state, at real tokens."""
    _, model, params = tagger(folder, config, arrays)
    run = jax.jit(partial(transformer.apply, model, taps=Taps(states=Tap(everything))))
    logits, taps = run(params, inputs(arrays))
    real = arrays["mask"]
    np.testing.assert_allclose(np.asarray(logits)[real], arrays["logits"][real], atol=atol)
    assert taps.states.shape == arrays["states"].shape
    states = np.asarray(taps.states)[:, real]
    np.testing.assert_allclose(states, arrays["states"][:, real], atol=atol)


def check_long(folder: Path, config: dict, arrays: dict[str, np.ndarray], atol: float) -> None:
    """Logits at 600 positions, where rotary frequencies show; nothing for learned positions."""
    if "long_ids" not in arrays:
        return
    _, model, params = tagger(folder, config, arrays)
    ids = arrays["long_ids"]
    inputs = Inputs(ids, np.ones(ids.shape, bool))
    logits, _ = jax.jit(partial(transformer.apply, model))(params, inputs)
    np.testing.assert_allclose(logits, arrays["long_logits"], atol=atol)


def check_language(folder: Path, config: dict, arrays: dict[str, np.ndarray], atol: float) -> None:
    """Logits of the language-model head."""
    ck = opened(folder, config, part(arrays, "lm_weights/"))
    model = checkpoint.describe(ck, "language-model")
    params, _ = checkpoint.load(ck, model, jax.random.key(0))
    logits, _ = jax.jit(partial(transformer.apply, model))(params, inputs(arrays))
    real = arrays["mask"]
    np.testing.assert_allclose(np.asarray(logits)[real], arrays["lm_logits"][real], atol=atol)


def check_gradients(folder: Path, config: dict, arrays: dict[str, np.ndarray], atol: float) -> None:
    """The gradient of the mean loss with respect to every tensor."""
    _, model, params = tagger(folder, config, arrays)

    def loss(p):
        logits, _ = transformer.apply(model, p, inputs(arrays))
        return token_loss(logits, arrays["labels"]).mean

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, arrays["loss"][0], atol=atol)
    same_tensors(weights.export(model, grads), part(arrays, "grads/"), atol)


def check_steps(folder: Path, config: dict, arrays: dict[str, np.ndarray], atol: float) -> None:
    """Parameters after three clipped AdamW steps, the labels turned each time, decay by name.

    Where the true gradient is 0 (a key's bias shifts all scores alike, which softmax ignores) or
    happens to be nearly so, both sides hold rounding noise, which Adam divides by its own size;
    those entries must merely move no further than the learning rate.
    """
    _, model, params = tagger(folder, config, arrays)
    settings = Training(learning_rate=1e-3, weight_decay=0.5, clip_norm=0.5)
    direction = optimizer.direction(settings)
    loss = partial(losses.token_classification, model)
    step = jax.jit(partial(train_step, loss, direction))
    round_ = Round(optimizer.schedule(settings, 10_000_000), jax.random.key(0))
    state, gold = start(params, direction), arrays["labels"]
    for number in range(3):
        labels = np.where(gold >= 0, (gold + 2 * number) % len(LABELS), gold).astype(np.int32)
        batch = TokenBatch(inputs(arrays), labels, np.arange(3, dtype=np.int32))
        state, _ = step(state, {TASK: batch}, round_)
    ours, theirs = weights.export(model, state.params), part(arrays, "after/")
    before, grads = part(arrays, "weights/"), part(arrays, "grads/")
    assert set(ours) == set(theirs)
    for name in theirs:
        noise = is_noise(name, grads)
        np.testing.assert_allclose(
            ours[name][~noise], theirs[name][~noise], atol=atol, err_msg=name
        )
        assert (np.abs(ours[name] - before[name])[noise] <= 3.1e-3).all(), name


def is_noise(name: str, grads: dict[str, np.ndarray]) -> np.ndarray:
    """Which entries of a parameter have a gradient of rounding noise: see `check_steps`."""
    return (np.abs(grads[name]) < 1e-6) & (name.endswith("bias") | (grads[name] != 0))


def same_tensors(ours: dict, theirs: dict, atol: float) -> None:
    assert set(ours) == set(theirs)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], atol=atol, err_msg=name)
