from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from fake_run import SHAPE, Group, write_run
from pages import Page, loose_ends, numbers, undefined
from undrawn import undrawn

from relearn_jax.errors import UserError
from relearn_jax.report import build
from relearn_jax.report.concepts import comparison
from relearn_jax.report.concepts import page as concepts
from relearn_jax.report.concepts.comparison.tables import ABOVE, AT, BELOW, MIXED, verdict
from relearn_jax.report.concepts.reading import read_head
from relearn_jax.report.html import drawn
from relearn_jax.report.page import write

GROUPS = tuple(Group(target, fraction) for fraction in (0.5, 0.25) for target in ("LOC", "PER"))
MANY = SHAPE._replace(seeds=(0, 1), channels=12, rounds=2, groups=GROUPS)
FEW = MANY._replace(arms=("concept", "random"), rows=3, rounds=1, epochs=1, groups=GROUPS[:2])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("many") / "run", MANY)


@pytest.fixture(scope="module")
def page(run) -> Page:
    return compared(run)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A whole report: the pages of two groups, and their comparison."""
    folder = write_run(tmp_path_factory.mktemp("built") / "run", FEW)
    with undrawn():
        assert build(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("written") / "run", FEW)


@pytest.fixture
def few(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "few")


def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def compared(folder: Path) -> Page:
    sets = comparison.read_sets(folder)
    return Page(comparison.page(sets, comparison.tables(sets))[0])


def keep_rows(folder: Path, name: str, keep) -> None:
    path = folder / "tables" / f"{name}.parquet"
    frame = pd.read_parquet(path)
    frame[keep(frame)].to_parquet(path)


def test_every_number_of_the_comparison_is_the_text_of_a_cell_of_a_table(page):
    found = numbers(page)
    assert len(found) > 20
    for link in found:
        cell = page.cells[link["href"][1:]].replace("\u00a0", " ")
        assert cell.split(" ±")[0] == link["text"].replace("\u00a0", " ")


def test_the_comparison_stands_alone_and_has_no_loose_ends(page):
    assert len(page.ids) == len(set(page.ids))
    assert not loose_ends(page)
    assert not undefined(page)
    assert all(r.startswith("data:") for r in page.resources)
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)
    assert page.source.count("<!--panel ") == 2 * len(GROUPS) + 3, "drawn where it is written"


def test_drawings_have_no_colours_of_their_own(few):
    page = concepts.build(few)[-1]
    source = drawn(page.text, page.plots)
    drawings = re.findall(r"<svg role.*?</svg>", source, flags=re.DOTALL)
    assert len(drawings) == 2 * len(FEW.groups) + 3
    assert not [d for d in drawings if re.search(r"(fill|stroke): ?#", d)]
    assert "<!--" not in source


def test_pages_link_to_each_other_and_to_files_that_exist(built):
    pages = {f"groups/{group.name}/report.html" for group in FEW.groups}
    assert pages <= {link["href"] for link in read_page(built / "report.html").links}
    for path in ("report.html", *pages):
        home = (built / path).parent
        files = {a["href"] for a in read_page(built / path).links if not a["href"].startswith("#")}
        assert not [f for f in files if not (home / f).is_file()]
        assert path == "report.html" or "../../report.html" in files


def test_recovery_is_what_the_tables_of_the_run_say(run, page):
    scores = pd.read_parquet(run / "tables" / "scores.parquet")
    scores = scores.query("group == 'PER-0.25-free' and type == 'PER' and variant == 'word'")
    mean = scores[scores.arm == "random"].groupby("stage").f1.agg(["mean", "std"]).loc["round2"]
    cell = page.cells["c-sets-PER.25-random-round2"]
    assert cell == f"{mean['mean']:.3f} ± {mean['std']:.3f}"
    regained = pd.read_parquet(run / "tables" / "recovery.parquet").query(
        "group == 'PER-0.25-free' and arm == 'random' and type == 'PER' and variant == 'word'"
    )
    cell = page.cells["c-sets-PER.25-random-regained"].replace("\u00a0", " ")
    share = regained[regained["round"] == 2].recovery
    assert cell == f"{100 * share.mean():.0f} % ± {100 * share.std():.0f}"


def test_saliency_by_layer_is_the_mean_over_neurons_and_shares_sum_over_them(run):
    table = comparison.tables(comparison.read_sets(run))["by_layer"]
    concepts = pd.read_parquet(run / "tables" / "concepts.parquet").query(
        "group == 'LOC-0.25-free' and concept == 'LOC' and stage == 'round2' and arm == 'concept'"
    )
    for layer, some in ((4, concepts[concepts.layer == 4]), ("all", concepts)):
        means, shares = [], []
        for _, part in some.groupby("seed"):
            values = part.saliency_standardized
            means.append(values.mean())
            shares.append(values[part.pruned].sum() / values.sum())
        row = ("LOC 25 %", layer)
        assert table.row(*row).value("round2") == pytest.approx(sum(means) / 2)
        assert table.row(*row).value("share_last") == pytest.approx(sum(shares) / 2)
        share = some.pruned.sum() / len(some)
        assert table.row(*row).value("neurons") == pytest.approx(share)
    assert table.row("LOC 25 %", 0).value("share_last") == 0


def test_takeover_is_what_the_table_of_the_run_says_beside_chance(run):
    table = comparison.tables(comparison.read_sets(run))["takeover"]
    rows = pd.read_parquet(run / "tables" / "takeover.parquet").query(
        "group == 'LOC-0.5-free' and arm == 'concept' and concept == 'PER'"
    )
    row = ("LOC 50 %", "concept", "PER")
    assert table.row(*row).value("neurons") == rows.neurons.mean()
    beyond = ((rows.neurons - rows.expected) / rows.top).mean()
    assert table.row(*row).value("beyond") == pytest.approx(beyond)
    own = ("LOC 50 %", "concept", "LOC")
    assert table.row(*own).value("was") == table.row(*own).value("top")


def test_a_number_is_above_or_below_chance_if_every_seed_is():
    assert verdict([9, 10], [2, 2], [8, 8]) == ABOVE
    assert verdict([1, 0], [2, 2], [8, 8]) == BELOW
    assert verdict([2, 8], [2, 2], [8, 8]) == AT
    assert verdict([9, 8], [2, 2], [8, 8]) == MIXED


def test_overlap_is_said_to_be_what_its_interval_says(few):
    frame = pd.read_parquet(few / "tables" / "overlap.parquet")
    pair = (frame.concept_a == "LOC") & (frame.concept_b == "PER")
    for number, word in ((frame.high + 1, "Above"), (frame.low - 1, "Below"), (frame.low, "At")):
        frame.loc[pair, "shared"] = number[pair]
        frame.to_parquet(few / "tables" / "overlap.parquet")
        text = re.sub(
            "<[^>]+>", "", re.search(f"<p><b>{word} chance.*?</p>", compared(few).source)[0]
        )
        number = f"{frame[pair].shared.mean():.1f}"
        low, high = frame[pair].low.iloc[0], frame[pair].high.iloc[0]
        assert f"LOC and PER share {number} (chance {low} to {high}" in text


def test_the_page_of_a_group_is_that_of_a_run_with_this_group_alone(built, tmp_path):
    group = FEW.groups[1]
    alone = write_run(tmp_path / "run", FEW._replace(groups=(group,)))
    shutil.copy(built / "config.yaml", alone)
    with undrawn():
        build(alone)
    assert not (alone / "groups").exists()
    home = built / "groups" / group.name
    text = (home / "report.html").read_text(encoding="utf-8")
    text = re.sub(r'<p class="kicker up">.*?</p>', "", text).replace('href="../../', 'href="')
    assert text == (alone / "report.html").read_text(encoding="utf-8")
    for kind in ("figures/*.*", "tables/*.csv"):
        made, expected = ({p.name for p in f.glob(kind)} for f in (home, alone))
        assert made == expected
        for path in home.glob(kind):
            assert path.read_bytes() == (alone / path.relative_to(home)).read_bytes(), path


def test_the_same_run_gives_the_same_comparison_to_the_byte(built, tmp_path):
    again = write_run(tmp_path / "again", FEW)
    with undrawn():
        write(concepts.build(again)[-1])
    made = {p.relative_to(again): p for p in again.rglob("*.*") if p.is_file()}
    assert len(made) > 20
    assert not [n for n, p in made.items() if p.read_bytes() != (built / n).read_bytes()]


@pytest.mark.parametrize("until", ["base", "pruned", "round1"])
def test_an_unfinished_run_is_compared_as_far_as_it_is(tmp_path, until):
    shape = FEW._replace(rounds=2)
    page = compared(write_run(tmp_path / "run", shape, until))
    assert "This run is unfinished" in page.source
    assert re.search(r"<li>PER: [^<]*round 2 of seeds 0, 1, concept and random</li>", page.source)
    assert not loose_ends(page)
    assert not undefined(page)


def test_missing_groups_and_sets_are_named_and_the_others_compared(few):
    for path in (few / "tables").glob("*.parquet"):
        if path.stem != "overlap":
            keep_rows(few, path.stem, lambda frame: frame.group != "PER-0.5-free")
    for name in ("scores", "recovery", "layers", "takeover"):
        keep_rows(few, name, lambda f: (f.seed != 1) | (f.arm != "random") | (f.stage == "base")
                  if "stage" in f else (f.seed != 1) | (f.arm != "random"))  # fmt: skip
    assert list(comparison.read_sets(few).runs) == ["LOC-0.5-free"]
    page = compared(few)
    assert "<li>PER: all sets</li>" in page.source
    assert re.search(r"<li>LOC: pruned, round 1 of seed 1, random</li>", page.source)
    assert "of the groups that can be judged" in page.source
    assert page.cells["c-groups-LOC-done"] == "3 of 4"
    assert "groups/PER-0.5-free" not in page.source
    assert not loose_ends(page)
    assert not undefined(page)


@pytest.mark.parametrize("name", ["recovery", "layers", "takeover", "overlap"])
def test_a_missing_table_is_named_and_leaves_no_loose_end(few, name):
    (few / "tables" / f"{name}.parquet").unlink()
    page = compared(few)
    assert f"<li>tables/{name}.parquet</li>" in page.source
    assert not loose_ends(page)
    assert not undefined(page)


def test_one_seed_and_one_arm_are_compared_without_spread_or_judgement(tmp_path):
    page = compared(write_run(tmp_path / "run", FEW._replace(seeds=(0,), arms=("concept",))))
    assert "±" not in page.cells["c-sets-LOC-concept-base"]
    assert "One seed does not tell whether it moves" in page.source
    assert not undefined(page)


def test_groups_are_named_by_what_tells_them_apart(tmp_path):
    groups = (Group("LOC", 0.5, "free"), Group("LOC", 0.5, "frozen"))
    folder = write_run(tmp_path / "run", FEW._replace(groups=groups))
    assert list(comparison.read_sets(folder).labels.values()) == ["LOC free", "LOC frozen"]
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["groups"][1] |= {"fraction": None, "count": 2400, "regrowth": "free"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    labels = comparison.read_sets(folder).labels.values()
    assert list(labels) == ["LOC 50 %", "LOC 2,400 neurons"]
    page = compared(folder)
    assert "The concept LOC was pruned in several ways" in page.source


def test_a_manifest_without_groups_is_refused(few):
    manifest = json.loads((few / "manifest.json").read_text())
    for groups in ([], [{"name": "LOC-0.5-free"}], None):
        (few / "manifest.json").write_text(json.dumps(manifest | {"groups": groups}))
        with pytest.raises(UserError, match=r"manifest\.json.*groups"):
            build(few)
    del manifest["groups"]
    (few / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json.*groups"):
        read_head(few)


def test_a_run_without_any_evaluation_is_refused_by_naming_the_stage(few):
    (few / "tables" / "scores.parquet").unlink()
    with pytest.raises(UserError, match=r"scores\.parquet.*stage `base` is missing"):
        build(few)


@pytest.mark.parametrize(
    ("name", "column"), [("takeover", "was"), ("overlap", "low_layers"), ("layers", "group")]
)
def test_a_table_that_lacks_a_column_is_refused_by_naming_both(few, name, column):
    path = few / "tables" / f"{name}.parquet"
    pd.read_parquet(path).drop(columns=column).to_parquet(path)
    with pytest.raises(UserError, match=rf"{name}\.parquet.* {column}"):
        build(few)
