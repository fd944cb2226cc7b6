from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_run import SHAPE, write_run

from relearn_jax.evaluation.entities import SMALLEST_LOSS
from relearn_jax.report.concepts import claims, verdict
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.layer_tables import EVERY, arithmetic, centres
from relearn_jax.report.concepts.reading import Run, read_run
from relearn_jax.report.concepts.snapshots import Snapshot, Tokens
from relearn_jax.report.concepts.verdict import returned
from relearn_jax.report.tables import Column, Table, averaged

SHIFTS = ("shift_published", "shift_beyond", "shift_free")
LEVELS = (
    *("published_base", "published_last"),
    *("high_base", "high_last", "high_arithmetic", "free_base", "free_last"),
)
JITTER = (-0.01, 0.0, 0.01)
"""What the numbers of three seeds differ by: their mean stays, and their spread is small."""


def snapshot(score: np.ndarray, pruned: np.ndarray) -> Snapshot:
    rank = np.empty(score.size, int)
    rank[np.argsort(-score.ravel(), kind="stable")] = np.arange(score.size)
    rank = rank.reshape(score.shape)
    saliency = {"rank": 1 - rank / (score.size - 1), "standardized": score}
    return Snapshot(rank, pruned, saliency)


def test_rank_arithmetic_is_what_is_measured_if_pruned_neurons_merely_drop_to_the_end(run):
    rng = np.random.default_rng(0)
    score, pruned = rng.random((3, 8)), rng.random((3, 8)) < 0.4
    dropped = np.where(pruned, -score, score)
    base = snapshot(score, np.zeros_like(pruned))
    neurons = {(0, "base", "base"): base, (0, "concept", "pruned"): snapshot(dropped, pruned)}
    measured = neurons[0, "concept", "pruned"].saliency["rank"]
    expected = arithmetic(run, neurons).set_index("layer")["arithmetic_unpruned"]
    assert expected[EVERY] == pytest.approx(measured[~pruned].mean())
    for row in range(3):
        assert expected[row] == pytest.approx(measured[row][~pruned[row]].mean())
    assert expected[EVERY] > base.saliency["rank"][~pruned].mean()


def page_table(name: str, keys: tuple[str, ...], values: dict[tuple, dict[str, float]]) -> Table:
    """A table of the page from `{(seed, *row): {column: value}}`."""
    names = tuple(dict.fromkeys(c for cell in values.values() for c in cell))
    rows = [dict(zip(("seed", *keys), at, strict=True)) | cell for at, cell in values.items()]
    columns = tuple(Column(c, c, "f2") for c in names)
    return averaged(name, name, pd.DataFrame(rows), tuple(Column(k, k) for k in keys), columns, ())


def spread(row: tuple, cell: dict[str, float], seeds: int = 3) -> dict[tuple, dict[str, float]]:
    """The same row for several seeds, with `cell` as its mean and a small spread."""
    jitter = JITTER if seeds == 3 else (0.0,) * seeds
    return {
        (seed, *row): {k: v + more for k, v in cell.items()} for seed, more in enumerate(jitter)
    }


def found_of(*tables: Table) -> Findings:
    return Findings({t.name: t for t in tables}, {}, {})


def moved(shifts: tuple[float, ...]) -> dict[str, float]:
    return dict.fromkeys(LEVELS, 3.0) | dict(zip(SHIFTS, shifts, strict=True))


STILL = (-0.5, 0.0, 0.0)


@pytest.mark.parametrize(
    ("shifts", "random", "status"),
    [
        ((-0.9, -0.3, -0.2), STILL, claims.HOLDS),
        ((-0.9, -0.3, -0.2), None, claims.PART),
        ((-0.9, -0.3, -0.2), (-0.9, -0.3, -0.2), claims.PART),
        ((-0.9, 0.1, -0.2), STILL, claims.PART),
        ((-0.9, 0.1, 0.0), STILL, claims.EXPLAINED),
        ((-0.9, 0.1, 0.0), None, claims.EXPLAINED),
        ((0.2, 0.1, 0.0), STILL, claims.FAILS),
        ((-0.03, -0.03, -0.03), STILL, claims.FAILS),
    ],
)
def test_a_shift_that_ranks_or_random_pruning_give_is_not_credited_to_the_concept(
    run, shifts, random, status
):
    values = spread(("concept",), moved(shifts))
    if random is not None:
        values |= spread(("random",), moved(random))
    found = found_of(page_table("centres", ("arm",), values))
    assert claims._earlier(run, found).status == status


def test_one_seed_shows_its_numbers_and_judges_nothing(run):
    shift = spread(("concept",), moved((-0.9, -0.3, -0.2)), 1)
    shift |= spread(("random",), moved(STILL), 1)
    names = ("primed", "primed_pool", "primed_more", "blend", "blend_pool", "blend_more")
    takers = spread(("concept",), dict.fromkeys(names, 0.6), 1)
    task = spread(("all", "concept"), {"pruned": 0.5}, 1)
    share = spread(("all", "concept"), {"lost": 0.3, "round1": 0.95, "epochs_to_90": 2}, 1)
    task |= spread(("all", "random"), {"pruned": 0.2}, 1)
    share |= spread(("all", "random"), {"lost": 0.6, "round1": 0.4}, 1)
    table = page_table("recovery", ("type", "arm"), share)
    found = found_of(
        page_table("centres", ("arm",), shift),
        page_table("takers", ("arm",), takers),
        page_table("task", ("type", "arm"), task),
        table._replace(columns=(*table.columns, Column("reached", "reached", "text"))),
    )
    regained, *others = claims.claims(run, found)
    assert regained.text[0].startswith("There is only one seed")
    assert [c.status for c in others] == [claims.OPEN] * 4
    assert all(c.text[0] == claims.TOO_FEW and len(c.text) > 3 for c in others)


def test_a_neuron_table_of_one_random_seed_leaves_the_primed_claim_open(run):
    cell = {"primed": 0.6, "primed_pool": 0.4, "primed_more": 0.2}
    values = spread(("concept",), cell)
    table = page_table("takers", ("arm",), values)
    assert claims._primed(run, found_of(table)).status == claims.HOLDS
    table = page_table("takers", ("arm",), values | spread(("random",), cell, 1))
    assert claims._primed(run, found_of(table)).status == claims.OPEN


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    shape = SHAPE._replace(seeds=(0,), arms=("concept",), channels=8, rounds=1)
    return read_run(write_run(tmp_path_factory.mktemp("claims") / "run", shape))


def row_of(arm: str, numbers: list[float]) -> dict[tuple, dict[str, float]]:
    return {(seed, arm): {"x": number} for seed, number in enumerate(numbers)}


def test_a_mean_has_a_sign_if_its_t_interval_excludes_zero():
    # Mean 0.3, sd 0.2, n = 3: two standard errors are 0.23, but the t interval reaches 0.50.
    table = page_table("some", ("arm",), row_of("concept", [0.1, 0.3, 0.5]))
    assert claims.sure(table.row("concept"), "x", least=0.01) == 0
    table = page_table("some", ("arm",), row_of("concept", [-0.1, -0.3, -0.5] * 5))
    assert claims.sure(table.row("concept"), "x", least=0.01) == -1
    assert claims.sure(table.row("concept"), "x", least=0.5) == 0


def test_arms_are_compared_within_each_seed_and_only_where_both_are_there():
    first, second = [0.9, 0.1, 0.5], [0.8, 0.01, 0.4]

    def differ(values, *arms):
        table = page_table("some", ("arm",), values)
        return claims.differ(*map(table.row, arms), "x", least=0.01)

    both = row_of("concept", first) | row_of("random", second)
    assert differ(both, "concept", "random") == 1
    assert differ(both, "random", "concept") == -1
    # A seed of one arm only says nothing; with two seeds in different places there is no pair.
    more = row_of("concept", [*first, -99]) | row_of("random", second)
    assert differ(more, "concept", "random") == 1
    apart = row_of("concept", first[:1]) | {(1, "random"): {"x": 0.0}}
    assert differ(apart, "concept", "random") == 0


def test_a_missing_number_has_no_sign():
    table = page_table("some", ("arm",), row_of("concept", [np.nan, np.nan, 0.5]))
    assert claims.sure(table.row("concept"), "x", least=0.01) == 0
    assert claims.sure(table.row("random"), "x", least=0.01) == 0


def test_the_published_shift_follows_the_published_recipe(run):
    rng = np.random.default_rng(4)
    base, last = (snapshot(rng.random((4, 100)), np.zeros((4, 100), bool)) for _ in range(2))
    last = last._replace(pruned=rng.random((4, 100)) < 0.5)
    null = rng.random((2, 400)) < 0.3
    words = [Tokens(np.empty(400), np.zeros(400), np.zeros(400), n) for n in null]
    places = ((0, "base", "base"), (0, "concept", "round1"))
    found = dict(zip(places, (base, last), strict=True))
    table = centres(run, found, dict(zip(places, words, strict=True)))

    row = np.repeat(np.arange(4), 100)
    before, now = base.rank.ravel(), last.rank.ravel()
    lower = [n for n in np.argsort(now) if before[n] >= 200]
    # In buckets of 100, saliency is over 0.5 in two buckets of four, and in one of two.
    start = np.mean([row[n] for n in np.argsort(before)[:200] if not null[0, n]])
    end = np.mean([row[n] for n in lower[:100] if not null[1, n]])
    assert table.row("concept").value("published_base") == pytest.approx(start)
    assert table.row("concept").value("published_last") == pytest.approx(end)
    assert table.row("concept").value("shift_published") == pytest.approx(end - start)
    without = centres(run, found, {})
    assert np.isnan(without.row("concept").value("shift_published"))
    assert np.isfinite(without.row("concept").value("shift_beyond"))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (0.01, "too little F1"),
        (0.3, "No control comes back further"),
    ],
)
def test_controls_are_compared_with_the_concept_arm_or_not_at_all(run, lost, said):
    arms = {"concept": (lost, 0.95), "random": (0.4, 0.5), "bottom": (0.3, 0.6)}
    values = {
        (seed, "all", arm): {"base": 0.7, "pruned": 0.7 - lost, "lost": lost, "round1": share}
        for arm, (lost, share) in arms.items()
        for seed in range(2)
    }
    tables = (page_table(name, ("type", "arm"), values) for name in ("task", "recovery"))
    _, text = verdict._controls(replace(run, arms=tuple(arms)), found_of(*tables))
    whole = "".join(p if isinstance(p, str) else p.text for p in text)
    assert said in whole
    assert ("comes back" in whole) == (lost >= SMALLEST_LOSS)


def test_words_for_a_regained_share_rise_with_it():
    words = [returned(share) for share in (0.0, 0.3, 0.6, 0.95)]
    assert len(set(words)) == 4
    assert words[0] == "it did not come back"
    assert words[-1] == "it came back"
