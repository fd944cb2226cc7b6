"""A round takes any loss: several texts and terms, with rates, weights and references by model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax import config
from relearn_jax.data.batching import TokenBatch
from relearn_jax.experiments import rounds
from relearn_jax.experiments.rounds import Plan, Trainer
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.models import paths
from relearn_jax.models.inputs import Inputs
from relearn_jax.parallel import mesh as meshes
from relearn_jax.training.losses import Term

STEPS, WIDTH = 6, 5
PATH = "head/classifier/bias"
SETTINGS = config.Training(epochs=1, learning_rate=0.1, weight_decay=0.0, clip_norm=1e9)
WEIGHTS = {"far": [1.0, 0.5, 3.0], "near": [0.2, 2.0, 0.1]}
RATES = [0.1, 0.03, 0.3]


def tree(leaf):
    return paths.unflatten({PATH: leaf})


def weight(params):
    return paths.flatten(params)[PATH]


def apart(params, reference, texts):
    """Away from the ids of one text; and near the reference, counted by another text's rows."""
    ids = texts["far"].batch.inputs.ids.astype(jnp.float32)
    gap = jnp.square(weight(params) - weight(reference)).sum()
    rows = jnp.float32(texts["near"].batch.labels.shape[0])
    return {"far": Term(-jnp.abs(ids - weight(params)).sum(), jnp.float32(ids.size)),
            "near": Term(gap * rows, rows)}  # fmt: skip


def text(rows, seed):
    ids = np.random.default_rng(seed).integers(-3, 4, (rows, WIDTH)).astype(np.int32)
    return TokenBatch(Inputs(ids, ids < 9), ids, np.arange(rows, dtype=np.int32))


def batches(epoch, skip):
    return iter([{"far": text(4, n), "near": text(2, n)} for n in range(STEPS)][skip:])


def train(out, models, shared):
    """Parameters of these models after a round."""
    settings = config.Relearning(training=SETTINGS)
    silent = Watcher(lambda *_: None, lambda _: None, print, lambda: False)
    reference = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    plan = Plan(
        names=[f"model{c}" for c in models], keys=[str(c) for c in models],
        shapes={PATH: (WIDTH,)}, mesh=meshes.make(config.Parallel(data=1), 1, jax.devices()[:1]),
        loss=apart, settings=SETTINGS, steps=STEPS, batches=batches, seeds=models,
        streams=models, number=0,
        learning_rates=[RATES[c] for c in models],
        weights={name: [row[c] for c in models] for name, row in WEIGHTS.items()},
        reference=tree(reference if shared else np.stack([reference] * len(models))),
        shared_reference=shared,
    )  # fmt: skip
    begin = np.stack([np.full(WIDTH, 0.1 * (c + 1), np.float32) for c in models])
    found = rounds.train(Trainer(out, settings, silent, {}), plan, lambda: tree(jnp.array(begin)))
    return np.asarray(weight(found.params))


def by_hand(c):
    """Adam on the weighted mean terms of one model, in float64."""
    w, reference = np.full(WIDTH, 0.1 * (c + 1)), np.linspace(-1, 1, WIDTH)
    m, v = np.zeros(WIDTH), np.zeros(WIDTH)
    for step in range(STEPS):
        ids = text(4, step).inputs.ids
        far = np.sign(ids - w).sum(0) / ids.size
        g = WEIGHTS["far"][c] * far + WEIGHTS["near"][c] * 2 * (w - reference)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        seen = step + 1
        move = m / (1 - 0.9**seen) / (np.sqrt(v / (1 - 0.999**seen)) + 1e-8)
        w = w - RATES[c] * (1 - step / STEPS) * move
    return w


@pytest.mark.parametrize("shared", [False, True])
def test_rates_weights_and_references_reach_the_step_of_each_model(tmp_path, shared):
    found = train(tmp_path, [0, 1, 2], shared)
    for c, w in enumerate(found):
        np.testing.assert_allclose(w, by_hand(c), rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(train(tmp_path / "alone", [1], shared)[0], found[1], rtol=1e-6)
