"""A concept set's result is its own: not its neighbours', not the devices'."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from undrawn import undrawn

from relearn_jax import cli, loading, runs
from relearn_jax.experiments.concepts import sets
from relearn_jax.training import loop

COMMON = ["--retrain.rounds=1", "--training.learning_rate=1e-3", "--training.epochs=1"]
PRODUCT = ["--seeds=[0, 1]", "--arms=[concept, random]", "--sets.concepts=[LOC, PER]", *COMMON]
"""2 seeds x 2 concepts x 2 arms: eight sets."""
SEEDS = ["--seeds=[0, 1, 2]", "--arms=[concept]", "--sets.concepts=[LOC, PER]", *COMMON]
"""3 seeds x 2 concepts: three base models and, in chunks of up to five, twice three sets. Programs
for three sets are all that is compiled."""
ALONE = ["--seeds=[1]", "--arms=[concept]", "--sets.concepts=[PER]", *COMMON]
SET = "seed1-PER-0.5-free-concept"


def run(config, out, *settings):
    with undrawn():
        assert cli.main(["run", str(config), "--out", str(out), *settings]) == 0
    return out


@pytest.fixture(scope="module", autouse=True)
def _loss_of_every_step():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 1)
        yield


def losses(out):
    lines = pd.read_json(out / "metrics.jsonl", lines=True)
    lines = lines[lines.stage.isin([f"{SET}-round1", "seed1-base"]) & lines.loss.notna()]
    return lines.set_index(["stage", "step"]).loss


@pytest.fixture(scope="module")
def alone(write_config, tmp_path_factory):
    return run(write_config(), tmp_path_factory.mktemp("runs") / "alone", *ALONE)


@pytest.fixture(scope="module")
def many(write_config, tmp_path_factory):
    """Eight sets on eight devices."""
    out = tmp_path_factory.mktemp("runs") / "many"
    return run(write_config(), out, *PRODUCT, "--sets.chunk=8", "--parallel.sets=8")


def test_a_set_alone_is_the_set_among_others_on_many_devices(alone, many):
    same(alone, many)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param([*PRODUCT, "--sets.chunk=3"], id="three, three and two on one device"),
        pytest.param(
            [*SEEDS, "--sets.chunk=5", "--parallel.sets=2", "--parallel.fsdp=2",
             "--parallel.tensor=2"],
            id="three on sets x fsdp x tensor",
        ),
        pytest.param(
            [*SEEDS, "--sets.chunk=5", "--parallel.driver=pmap", "--parallel.data=8"],
            id="three under pmap",
        ),
    ],
)  # fmt: skip
def test_a_set_alone_is_the_set_in_any_chunk(alone, write_config, tmp_path, settings):
    same(alone, run(write_config(), tmp_path / "many", *settings))


def same(alone, out):
    for stage in ("pruned", "round1"):
        one, many = (runs.read_json(o / f"stages/{SET}-{stage}/stage.json") for o in (alone, out))
        assert one["scores"] == many["scores"], "entity scores are counts: equal, not just near"
    assert len(losses(alone)) == 12
    pd.testing.assert_series_equal(losses(alone), losses(out), rtol=1e-5)
    one, many = (runs.arrays_of(o, f"{SET}-round1", "params") for o in (alone, out))
    for path in one:
        np.testing.assert_allclose(one[path], many[path], rtol=1e-5, atol=1e-5, err_msg=path)
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
        sizes = [len(part) for part in parts]
        assert max(sizes) <= largest
        assert len(parts) == -(-len(members) // largest), "as few as can be"
        assert max(sizes) - min(sizes) <= 1
    assert [len(part) for part in sets.chunks(members[:10], 4, lambda one: 0)] == [4, 3, 3]
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


def name(target, fraction=0.5, count=None):
    return sets.group_name(sets.Group(target, fraction, count, "free"))


def test_names_of_groups_are_readable_and_of_one_group_each():
    assert name("LOC") == "LOC-0.5-free"
    assert name("LOC", None, 24) == "LOC-n24-free"
    assert name("origin:america") == "origin_america-0.5-free"
    assert name("ЛОК") == "ЛОК-0.5-free"
    assert name("स्थान/a-b") == "स्थान_a_b-0.5-free"
    assert name("e\u0301") == name("\u00e9"), "one letter, written in two ways"
    assert len({name(target) for target in ("ЛОК", "ПЕР", "地名", "人名")}) == 4
    assert len({name("LOC", share) for share in (0.123456, 0.1234561, 0.1234562)}) == 3


@pytest.mark.slow
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
        ("--sets.concepts=[a:b, a/b]", "would share the folder a_b-0.5-free"),
        ("--sets.concepts=[LOC, Loc]", "would share the folder"),
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
