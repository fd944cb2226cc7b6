from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fake_run import SHAPE, write_run

from relearn_jax.report import claims
from relearn_jax.report.findings import Findings
from relearn_jax.report.layer_tables import EVERY, arithmetic
from relearn_jax.report.reading import Run, read_run
from relearn_jax.report.snapshots import Snapshot
from relearn_jax.report.tables import Column, Table
from relearn_jax.report.verdict import returned

SHIFTS = ("shift_published", "shift_beyond", "shift_free")
LEVELS = ("high_base", "high_last", "high_arithmetic", "free_base", "free_last")


def snapshot(score: np.ndarray, pruned: np.ndarray) -> Snapshot:
    rank = np.empty(score.size, int)
    rank[np.argsort(-score.ravel(), kind="stable")] = np.arange(score.size)
    rank = rank.reshape(score.shape)
    return Snapshot(rank, 1 - rank / (score.size - 1), score, pruned)


def test_rank_arithmetic_is_what_is_measured_if_pruned_neurons_merely_drop_to_the_end():
    rng = np.random.default_rng(0)
    score, pruned = rng.random((3, 8)), rng.random((3, 8)) < 0.4
    dropped = np.where(pruned, -score, score)
    base = snapshot(score, np.zeros_like(pruned))
    found = {(0, "base", "base"): base, (0, "concept", "pruned"): snapshot(dropped, pruned)}
    measured = found[0, "concept", "pruned"].saliency
    expected = arithmetic("concept", found)
    assert expected[0, EVERY] == pytest.approx(measured[~pruned].mean())
    for row in range(3):
        assert expected[0, row] == pytest.approx(measured[row][~pruned[row]].mean())
    assert expected[0, EVERY] > base.saliency[~pruned].mean()


def one_row(values: dict[str, float], keys: dict[str, str], name: str) -> Table:
    columns = tuple(Column(c, c, "f2") for c in values if not c.endswith("_sd"))
    frame = pd.DataFrame([keys | values])
    return Table(name, name, frame, tuple(Column(k, k) for k in keys), columns, ())


@pytest.mark.parametrize(
    ("shifts", "status"),
    [
        ((-0.9, -0.3, -0.2), claims.HOLDS),
        ((-0.9, 0.1, -0.2), claims.PART),
        ((-0.9, 0.1, 0.0), claims.EXPLAINED),
        ((0.2, 0.1, 0.0), claims.FAILS),
        ((-0.03, -0.03, -0.03), claims.FAILS),
    ],
)
def test_a_shift_that_rank_arithmetic_gives_is_not_credited_to_the_concept(run, shifts, status):
    values = dict.fromkeys(LEVELS, 3.0) | dict(zip(SHIFTS, shifts, strict=True))
    table = one_row(values, {"arm": "concept"}, "centres")
    found = Findings({"centres": table}, {}, {}, {})
    assert claims._earlier(run, found).status == status


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    shape = SHAPE._replace(seeds=(0,), arms=("concept",), channels=8, rounds=1)
    return read_run(write_run(tmp_path_factory.mktemp("claims") / "run", shape))


def test_a_difference_within_two_standard_errors_has_no_sign():
    table = one_row({"x": 0.3, "x_sd": 0.4}, {"arm": "concept"}, "some")
    assert claims.sure(table, ("concept",), "x", seeds=4, least=0.01) == 0
    assert claims.sure(table, ("concept",), "x", seeds=16, least=0.01) == 1
    assert claims.sure(table, ("concept",), "x", seeds=16, least=0.5) == 0


def test_a_missing_number_has_no_sign():
    table = one_row({"x": np.nan, "x_sd": np.nan}, {"arm": "concept"}, "some")
    assert claims.sure(table, ("concept",), "x", seeds=3, least=0.01) == 0
    assert claims.sure(table, ("random",), "x", seeds=3, least=0.01) == 0


def test_words_for_a_regained_share_rise_with_it():
    words = [returned(share) for share in (0.0, 0.3, 0.6, 0.95)]
    assert len(set(words)) == 4
    assert words[0] == "it did not come back"
    assert words[-1] == "it came back"
