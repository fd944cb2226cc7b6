"""The arithmetic of docs/scaling.md: against the models, XLA's analysis, sums by hand, the text."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from relearn_jax.models import bert, distilbert, gpt2, postnorm, transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("scaling_table", ROOT / "scripts/scaling_table.py")
scaling = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = scaling
spec.loader.exec_module(scaling)


def encoder(layers: int, d: int, f: int, kinds: int, dropout: float = 0.1) -> postnorm.Encoder:
    return postnorm.Encoder(
        vocabulary=30522, width=d, layers=layers, heads=12, mlp_width=f, positions=512,
        kinds=kinds, activation="gelu", epsilon=1e-12, hidden_dropout=dropout,
        attention_dropout=dropout, head_dropout=dropout, padding_id=0,
    )  # fmt: skip


def decoder(layers: int, dropout: float = 0.1) -> gpt2.Decoder:
    return gpt2.Decoder(
        vocabulary=50257, width=1600, layers=layers, heads=25, mlp_width=6400, positions=1024,
        activation="gelu_new", epsilon=1e-5, embedding_dropout=dropout, attention_dropout=dropout,
        hidden_dropout=dropout, head_dropout=dropout,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "model"),
    [
        (scaling.MINILM, Model(bert.FAMILY, encoder(6, 384, 1536, 2))),
        (scaling.DISTILBERT, Model(distilbert.FAMILY, encoder(6, 768, 3072, 0))),
        (scaling.GPT2_XL, Model(gpt2.FAMILY, decoder(48))),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_parameters_are_those_of_the_model(size, model):
    params = jax.eval_shape(lambda k: transformer.init(model, k), jax.random.key(0))
    assert size.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert size.layers * size.block == sum(leaf.size for leaf in jax.tree.leaves(params["blocks"]))


def test_parameters_of_gemma_are_the_published_ones():
    assert scaling.GEMMA_9B.parameters == 9_241_705_984


@pytest.mark.parametrize(
    ("size", "family", "config", "batch", "dropout"),
    [
        (scaling.DISTILBERT, distilbert.FAMILY, encoder(6, 768, 3072, 0), (64, 128), 0.1),
        (scaling.GPT2_XL, gpt2.FAMILY, decoder(6), (16, 512), 0.0),
    ],
    ids=("distilbert", "gpt2"),
)
def test_activations_are_near_what_xla_plans(size, family, config, batch, dropout):
    rates = {f.name: dropout for f in dataclasses.fields(config) if f.name.endswith("dropout")}
    model = Model(family, dataclasses.replace(config, **rates), remat=True)
    params = jax.eval_shape(lambda k: transformer.init(model, k), jax.random.key(0))
    shape = jax.ShapeDtypeStruct(batch, jnp.int32)

    def loss(params, ids, keys):
        inputs = Inputs(ids, jnp.ones(batch, bool))
        return jnp.sum(transformer.apply(model, params, inputs, keys=keys)[0] ** 2)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch[0]))
    compiled = jax.jit(jax.value_and_grad(loss)).lower(params, shape, keys).compile()
    planned = compiled.memory_analysis().temp_size_in_bytes
    size = size._replace(layers=config.layers, dropout=dropout > 0)
    ours = scaling.activations(size, *batch, width=4) + scaling.working(size, scaling.Mesh(), 4)
    assert ours == pytest.approx(planned, rel=0.15)


def test_sums_by_hand():
    # GPT-2 XL over 8 v5e by fsdp, 64 x 512 tokens: 8 sentences, 4,096 tokens a device.
    plan = scaling.Plan(scaling.GPT2_XL, scaling.V5E, scaling.Mesh(fsdp=8), 64, 512)
    memory, time = scaling.memory(plan), scaling.time(plan)
    assert memory.state == 16 * 1_557_611_200 / 8 == 3_115_222_400
    states, inside, scores = 629_145_600, 419_430_400, 1_468_006_400
    assert states == 48 * 4096 * 1600 * 2
    assert inside == 2 * 4096 * (4 * 1600 + 4 * 1600 + 2 * 6400) * 2
    assert scores == 8 * 25 * 512 * 512 * 28
    assert memory.activations == states + inside + scores
    assert memory.loss == 1024 * 50257 * 8
    assert memory.working == 80_411_200 * 6
    assert memory.peak == pytest.approx(6.526e9, rel=1e-3)
    # 6 x 1.556e9 x 32,768 x 4/3 = 4.079e14; 8 chips give 0.4 x 8 x 197e12 = 6.304e14 a second.
    assert time.compute == pytest.approx(0.647, rel=1e-3)
    assert time.update == pytest.approx(28 * 1_557_611_200 / 8 / 819e9)
    # Two gathers and a scatter of 6.23 GB, of which 7/8 come from elsewhere, at 100 GB/s.
    assert time.communication == pytest.approx(3 * 6.2304e9 * 7 / 8 / 100e9, rel=1e-4)


@pytest.mark.parametrize("plan", scaling.PLANS, ids=lambda p: "-".join(scaling.place(p)))
def test_splitting_moves_work_and_makes_none(plan):
    """What all devices hold and compute together does not fall below one device's work."""
    alone = plan._replace(mesh=scaling.Mesh())
    devices = math.prod(plan.mesh)
    held, once = scaling.memory(plan), scaling.memory(alone)
    assert held.state * devices == pytest.approx(plan.mesh.data * once.state)
    assert held.activations * devices >= once.activations * (1 - 1e-9)
    assert scaling.time(plan).compute * devices == pytest.approx(scaling.time(alone).compute)
    assert scaling.time(alone).communication == 0


def test_the_document_holds_these_tables():
    text = (ROOT / "docs" / "scaling.md").read_text()
    for name, table in scaling.tables().items():
        assert table in text, f"docs/scaling.md: run scripts/scaling_table.py for table {name}"
