"""Every family computes what torch `transformers` does (golden files; live in tests/oracles)."""

from __future__ import annotations

import numpy as np
from parity import (
    check_forward,
    check_gradients,
    check_language,
    check_long,
    check_steps,
    part,
    same_tensors,
    tagger,
)

from relearn_jax.models import weights

ATOL = 1e-5


def test_logits_and_all_hidden_states(golden):
    check_forward(*golden, ATOL)


def test_logits_at_600_positions(golden):
    check_long(*golden, ATOL)


def test_language_model_logits(golden):
    check_language(*golden, ATOL)


def test_gradients(learned):
    check_gradients(*learned, ATOL)


def test_three_optimizer_steps(learned):
    check_steps(*learned, ATOL)


def test_export_after_load_is_the_identity(golden):
    _, model, params = tagger(*golden)
    ours, theirs = weights.export(model, params), part(golden[2], "weights/")
    same_tensors(ours, theirs, 0.0)
    assert all(ours[k].dtype == theirs[k].dtype for k in theirs)
    assert all(np.array_equal(ours[k].view(np.int32), theirs[k].view(np.int32)) for k in theirs)
