"""A concept set's result is its own: not its neighbours', not the devices'."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest
from undrawn import undrawn

from relearn_jax import cli, loading, runs
from relearn_jax.experiments import sets

PRODUCT = [
    "--seeds=[0, 1]", "--arms=[concept, random]", "--sets.concepts=[LOC, PER]",
    "--retrain.rounds=1",
]  # fmt: skip
"""2 seeds x 2 concepts x 2 arms: eight sets."""
SEEDS = [
    "--seeds=[0, 1, 2]", "--arms=[concept]", "--sets.concepts=[LOC, PER]", "--retrain.rounds=1",
]  # fmt: skip
"""3 seeds x 2 concepts: three base models and, in chunks of up to five, twice three sets. Programs
for three sets are all that is compiled."""
ALONE = ["--seeds=[1]", "--arms=[concept]", "--sets.concepts=[PER]", "--retrain.rounds=1"]
SET = "seed1-PER-0.5-free-concept"


def run(config, out, *settings, drawn=False):
    with contextlib.nullcontext() if drawn else undrawn():
        assert cli.main(["run", str(config), "--out", str(out), *settings]) == 0
    return out


@pytest.fixture(scope="module")
def alone(write_config, tmp_path_factory):
    return run(write_config(), tmp_path_factory.mktemp("runs") / "alone", *ALONE)


@pytest.fixture(scope="module")
def many(write_config, tmp_path_factory):
    """Eight sets in chunks of three, three and two."""
    out = tmp_path_factory.mktemp("runs") / "many"
    return run(write_config(), out, *PRODUCT, "--sets.chunk=3", drawn=True)


def test_a_set_alone_is_the_set_in_a_chunk(alone, many):
    same(alone, many)


@pytest.mark.parametrize(
    "devices",
    [
        ["--sets.chunk=8", "--parallel.sets=8"],
        ["--sets.chunk=5", "--parallel.sets=2", "--parallel.fsdp=2", "--parallel.tensor=2"],
        ["--sets.chunk=5", "--parallel.driver=pmap", "--parallel.sets=1", "--parallel.data=8"],
    ],
)
def test_a_set_alone_is_the_set_among_others_on_many_devices(
    alone, write_config, tmp_path, devices
):
    same(alone, run(write_config(), tmp_path / "many", *SEEDS, *devices))


def same(alone, out):
    for stage in ("pruned", "round1"):
        one, many = (runs.read_json(o / f"stages/{SET}-{stage}/stage.json") for o in (alone, out))
        assert one["scores"] == many["scores"], "entity scores are counts: equal, not just near"
    one, many = (runs.arrays_of(o, f"{SET}-round1", "params") for o in (alone, out))
    for path in one:
        # Adam makes steps of rounding noise where there is no other gradient: softmax ignores a
        # key's bias, and a rare word is in few batches.
        atol = 1e-3 if path.endswith("key/bias") else 1e-4
        np.testing.assert_allclose(one[path], many[path], rtol=1e-4, atol=atol, err_msg=path)
    one, many = (runs.arrays_of(o, f"{SET}-round1-neurons", "neurons") for o in (alone, out))
    np.testing.assert_allclose(one["score"], many["score"], rtol=1e-5, atol=1e-5)
    # A difference over a spread that is all but 0 where a gain is: rounding shows more.
    np.testing.assert_allclose(one["standardized"], many["standardized"], rtol=0.01, atol=1e-3)
    for name in ("concepts", "neurons", "layers", "recovery"):
        table = pd.read_parquet(out / f"tables/{name}.parquet")
        assert set(table.group) == {"LOC-0.5-free", "PER-0.5-free"}


def test_the_product_and_its_chunks(write_config):
    config = loading.load(
        write_config(),
        ["sets.concepts=[LOC, PER, ORG]", "sets.fractions=[0.25, 0.5]", "seeds=[0, 1, 2]",
         "sets.regrowth=[free, frozen]"],
    )  # fmt: skip
    members = sets.product(config)
    assert len(members) == len(set(members)) == 3 * 3 * 2 * 2 * 4
    for largest in (1, 3, 16, 200):
        parts = sets.chunks(members, largest, lambda one: 0)
        assert [one for part in parts for one in part] == list(members)
        sizes = {len(part) for part in parts}
        assert max(sizes) <= largest
    by_text = sets.chunks(members, 5, lambda one: one.group.target)
    assert all(len({one.group.target for one in part}) == 1 for part in by_text)
    assert sorted(one for part in by_text for one in part) == sorted(members)


def test_streams_and_names_are_a_sets_own(write_config):
    config = loading.load(
        write_config(), ["sets.concepts=[LOC, PER]", "sets.fractions=[0.25, 0.5]"]
    )
    members = sets.product(config)
    assert len({sets.number(one) for one in members}) == len(members)
    assert len({sets.set_name(one) for one in members}) == len(members)
    other = members[0]._replace(seed=5)
    assert sets.number(other) == sets.number(members[0]), "the seed is folded in apart"


def test_a_frozen_and_a_free_set_share_a_program(write_config, tmp_path):
    out = run(
        write_config(), tmp_path / "run", "--sets.regrowth=[free, frozen]", "--arms=[concept]",
        "--retrain.rounds=1",
    )  # fmt: skip
    for regrowth in ("free", "frozen"):
        name = f"seed0-LOC-0.5-{regrowth}-concept"
        keep = runs.arrays_of(out, f"{name}-pruned", "mask")["keep"]
        gains = runs.arrays_of(out, f"{name}-round1", "params")["blocks/output_norm/scale"]
        assert np.all(gains[~keep[1:]] == 0) == (regrowth == "frozen")


def test_random_arms_of_different_concepts_prune_different_neurons(many):
    masks = [
        runs.arrays_of(many, f"seed0-{concept}-0.5-free-random-pruned", "mask")["keep"]
        for concept in ("LOC", "PER")
    ]
    assert not np.array_equal(*masks)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("--sets.concepts=[LOC, NOPE]", "no word of the concept text is NOPE"),
        ("--sets.concepts=[LOC, LOC]", "names one twice"),
        ("--sets.fractions=[0.5, 1.5]", "should be in"),
        ("--sets.chunk=0", "at least 1"),
        ("--parallel.fsdp=64", "makes 64 devices"),
        ("--parallel.driver=pmap --parallel.fsdp=2", "cannot use the mesh axis fsdp"),
        ("--training.accumulate=3", "multiple of training.accumulate"),
    ],
)
def test_what_cannot_be_is_refused_at_once(write_config, tmp_path, capsys, setting, message):
    command = ["run", str(write_config()), "--out", str(tmp_path / "run"), *setting.split(" --")]
    command = [c if c.startswith(("--", "run", "/")) else f"--{c}" for c in command]
    assert cli.main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run/stages").exists()
