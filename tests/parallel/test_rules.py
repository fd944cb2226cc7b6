"""The sharding rules know every parameter of every family and task, and nothing else."""

from __future__ import annotations

import jax
import pytest
from jax.sharding import PartitionSpec as P

from relearn_jax import config
from relearn_jax.models import checkpoint, paths, transformer, weights
from relearn_jax.parallel import mesh, sharding
from relearn_jax.training import optimizer
from relearn_jax.training.step import start

GATED = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 32}  # fmt: skip
SIZES = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 32},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "llama": GATED,
    "gemma": GATED | {"head_dim": 16},
    "gemma2": GATED | {"head_dim": 16},
    "gpt_neox": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "intermediate_size": 32, "rotary_pct": 0.5},
}  # fmt: skip
TASKS = ("token-classification", "language-model", "backbone")


@pytest.fixture(scope="module")
def grid():
    return mesh.make(config.Parallel(fsdp=4, tensor=2), 1)


@pytest.fixture(params=[(f, t) for f in SIZES for t in TASKS], ids="-".join)
def model(request):
    family, task = request.param
    settings = {"model_type": family, "vocab_size": 64} | SIZES[family]
    ck = checkpoint.open_checkpoint("random", settings=settings)
    return checkpoint.describe(ck, task, ("O", "B-LOC"))


def state_of(model):
    direction = optimizer.direction(config.Training())
    key = jax.random.key(0)
    return jax.eval_shape(lambda k: start(transformer.init(model, k), direction), key)


def specs(tree, grid):
    placed = sharding.shardings(tree, grid)
    leaves, _ = jax.tree_util.tree_flatten_with_path(placed)
    return {paths.name(path): place.spec for path, place in leaves}


def test_every_matrix_is_split_both_ways_and_no_layer_axis(model, grid):
    found = specs(state_of(model).params, grid)
    for path, shape in weights.shapes(model).items():
        if path.startswith("blocks/"):
            assert found[path][:1] in ((), (None,)), f"{path}: the layer axis is split"
        if path.endswith("kernel") and path != "head/classifier/kernel":
            assert {a for a in found[path] if a} == {mesh.FSDP, mesh.TENSOR}, path
            assert len(shape) == (3 if path.startswith("blocks/") else 2)
        if path.endswith("word/embedding"):
            assert found[path] == P(mesh.TENSOR, mesh.FSDP)


def test_an_axis_that_does_not_divide_joins_the_other():
    """As the 50,257 words of GPT-2, which two devices cannot share."""
    two = mesh.make(config.Parallel(fsdp=4, tensor=2), 1)
    words = "embed/word/embedding"
    assert sharding.spec(words, (50257, 1600), two) == P(None, (mesh.TENSOR, mesh.FSDP))
    assert sharding.spec(words, (50258, 1602), two) == P(mesh.TENSOR)
    assert sharding.spec(words, (50256, 1602), two) == P((mesh.FSDP, mesh.TENSOR))
    assert sharding.spec(words, (50257, 1604), two) == P(None, mesh.FSDP)
    assert sharding.spec("blocks/up/bias", (3, 5), two) == P()


def test_moments_lie_with_their_parameters(model, grid):
    state = state_of(model)
    params, moments = specs(state.params, grid), specs(state.moments, grid)
    for path, spec in params.items():
        followers = [m for m in moments if m.endswith(f"/{path}")]
        assert len(followers) == 2, path
        assert all(moments[m] == spec for m in followers), path
    assert len(moments) == 2 * len(params) + 1, "and the step count"


def test_an_unknown_parameter_is_refused(model, grid):
    params = state_of(model).params
    params["blocks"]["adapter"] = {"kernel": jax.ShapeDtypeStruct((2, 16, 16), "float32")}
    with pytest.raises(ValueError, match="blocks/adapter/kernel"):
        sharding.shardings(params, grid)
