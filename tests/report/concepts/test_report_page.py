from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
from fake_run import SHAPE, write_run
from pages import Page, loose_ends, numbers, undefined
from undrawn import undrawn

from relearn_jax.errors import UserError
from relearn_jax.report import build
from relearn_jax.report.concepts import page as concepts
from relearn_jax.report.concepts.reading import read_run
from relearn_jax.report.draw import panel_svgs

SMALL = SHAPE._replace(seeds=(0,), arms=("concept",), channels=24, rounds=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("whole") / "run", SHAPE._replace(seeds=(0, 1)))
    with undrawn():
        build(folder)
    return folder


@pytest.fixture(scope="module")
def page(run) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["text", pytest.param("drawn", marks=pytest.mark.slow)])
def drawing(request):
    """A context to build reports in: without drawings or, among the slow tests, with them."""
    return undrawn if request.param == "text" else nullcontext


@pytest.fixture(scope="module")
def single(drawing, tmp_path_factory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("single") / "run", SMALL)
    with drawing():
        build(folder)
    return folder


def partial(folder: Path) -> Page:
    run = read_run(folder)
    return Page(concepts.page(run, concepts.findings(run))[0])


def test_the_page_needs_nothing_outside_itself(page):
    assert all(r.startswith("data:") for r in page.resources)
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)
    assert len(page.source) < 4e6


def test_ids_are_unique_and_all_anchors_resolve(page):
    assert len(page.ids) == len(set(page.ids))
    assert not loose_ends(page)


def test_files_that_the_page_links_to_exist(page, run):
    files = {link["href"] for link in page.links if not link["href"].startswith("#")}
    assert {"tables/scores.csv", "figures/task.svg", "figures/task.png"} <= files
    assert not [f for f in files if not (run / f).is_file()]


def test_nothing_undefined_is_printed(page):
    assert not undefined(page)


def test_every_number_in_a_sentence_is_the_text_of_the_cell_it_links_to(page):
    found = numbers(page)
    assert len(found) > 30
    for link in found:
        cell = page.cells[link["href"][1:]].replace("\u00a0", " ")
        assert cell.split(" ±")[0] == link["text"].replace("\u00a0", " ")


def test_headline_numbers_equal_those_recomputed_from_the_scores(page, run):
    scores = pd.read_parquet(run / "tables" / "scores.parquet")
    scores = scores[(scores.type == "LOC") & (scores.variant == "word")]
    lede = re.search(r'class="lede">(.*?)</p>', page.source)[1]
    shown = re.findall(r">([^<]+)</a>", lede)
    base = scores[scores.arm == "base"].f1.mean()
    mean = scores[scores.arm == "concept"].groupby("stage").f1.mean()
    expected = [f"{v:.3f}" for v in (base, mean["pruned"], mean["round4"])]
    assert [shown[0], shown[1], shown[4]] == expected
    assert shown[2:4] == ["168", "336"]


def test_recovery_and_layer_numbers_equal_those_recomputed_from_the_tables(page, run):
    tables = run / "tables"
    recovery = pd.read_parquet(tables / "recovery.parquet").query(
        "arm == 'random' and type == 'PER' and variant == 'word' and round == 1"
    )
    cell = page.cells["c-recovery-PER-random-round1"].replace("\u00a0", " ")
    assert cell.startswith(f"{100 * recovery.recovery.mean():.0f} %")
    assert cell.endswith(f"± {100 * recovery.recovery.std():.0f}")
    layers = pd.read_parquet(tables / "layers.parquet").query(
        "arm == 'concept' and layer == 3 and pruned == 'unpruned' and stage == 'round4' "
        "and measure == 'saliency_standardized'"
    )
    cell = page.cells["c-layers_standardized-concept-3-round4_unpruned"]
    assert cell.startswith(f"{layers['mean'].mean():.3f}")


def test_generated_text_is_marked_as_such(page):
    assert "GENERATED" in page.text


def test_tables_are_written_as_csv_but_for_the_two_of_neurons(run):
    names = {p.stem for p in (run / "tables").glob("*.csv")}
    assert {"scores", "recovery", "layers", "taken_over", "similarity_null"} <= names
    assert not {"concepts", "neurons"} & names
    csv = pd.read_csv(run / "tables" / "taken_over.csv")
    first = pd.read_parquet(run / "tables" / "taken_over.parquet").iloc[0]
    assert csv.tokens_base[0] == " ".join(first.tokens_base)


@pytest.mark.parametrize("panels", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_inline_figures_take_every_colour_from_the_theme(tmp_path, panels):
    """The first panel of each figure, and all."""
    (page,) = concepts.build(write_run(tmp_path / "run", SMALL))
    assert page.text.count("<!--panel ") == sum(len(plot.panels) for plot in page.plots) > 20
    drawings = [d for p in page.plots for d in panel_svgs(p._replace(panels=p.panels[:panels]))]
    assert len(drawings) >= len(page.plots) > 5
    assert all(d.startswith("<svg role") for d in drawings)
    assert not [d for d in drawings if re.search(r"(fill|stroke): ?#|<!--", d)]


def test_the_same_run_gives_the_same_bytes(single, drawing, tmp_path):
    again = write_run(tmp_path / "run", SMALL)
    # A run learns how long its report took when that has been written.
    manifest = json.loads((again / "manifest.json").read_text()) | {"report_s": 9.9}
    (again / "manifest.json").write_text(json.dumps(manifest))
    with drawing():
        build(again)
    (again / "manifest.json").write_bytes((single / "manifest.json").read_bytes())
    first, second = ({p.relative_to(f): p for p in f.rglob("*.*")} for f in (single, again))
    assert first.keys() == second.keys()
    assert not [n for n in first if first[n].read_bytes() != second[n].read_bytes()]


def test_one_arm_and_one_seed_make_a_whole_page(single):
    page = Page((single / "report.html").read_text(encoding="utf-8"))
    assert "unfinished" not in page.source
    assert "±" not in page.cells["c-task-all-concept-base"]
    assert not loose_ends(page)
    assert not undefined(page)


@pytest.mark.parametrize("until", ["base", "pruned", "round1"])
def test_an_unfinished_run_gives_a_partial_page_that_says_what_is_missing(tmp_path, until):
    folder = write_run(tmp_path / "run", SMALL._replace(arms=("concept", "random")), until)
    page = partial(folder)
    assert "This run is unfinished" in page.source
    assert re.search(r"<li>[^<]*round 2 of seed 0, concept and random</li>", page.source)
    assert not loose_ends(page)
    assert not undefined(page)


@pytest.mark.parametrize("name", ["recovery", "concepts", "neurons", "layers", "taken_over"])
def test_a_missing_table_is_named_and_leaves_no_loose_end(tmp_path, name):
    shape = SMALL._replace(arms=("concept", "random"), channels=12, rounds=1)
    folder = write_run(tmp_path / "run", shape)
    (folder / "tables" / f"{name}.parquet").unlink()
    page = partial(folder)
    assert f"<li>tables/{name}.parquet</li>" in page.source
    assert not loose_ends(page)
    assert not undefined(page)


def test_a_run_without_any_evaluation_is_refused_by_naming_the_stage(tmp_path):
    folder = write_run(tmp_path / "run", SMALL, "base")
    (folder / "tables" / "scores.parquet").unlink()
    with pytest.raises(UserError, match=r"scores\.parquet.*stage `base` is missing"):
        build(folder)


@pytest.mark.parametrize("name", ["manifest.json", "config.yaml"])
def test_a_folder_that_is_no_run_is_refused_by_naming_the_file(tmp_path, name):
    folder = write_run(tmp_path / "run", SMALL, "base")
    (folder / name).unlink()
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        build(folder)


def test_an_interrupted_run_without_tables_is_refused_by_naming_its_stages(tmp_path):
    folder = write_run(tmp_path / "run", SMALL, "base")
    (folder / "manifest.json").unlink()
    (folder / "stages" / "seed0-base").mkdir(parents=True)
    (folder / "stages" / "seed0-base" / "stage.json").write_text("{}")
    with pytest.raises(UserError, match=r"seed0-base among them.*relearn run"):
        build(folder)


def test_a_run_of_a_later_version_is_refused_by_naming_it(tmp_path):
    folder = write_run(tmp_path / "run", SMALL, "base")
    manifest = json.loads((folder / "manifest.json").read_text())
    later = {"format": 99, "versions": {"relearn-jax": "7.1"}}
    (folder / "manifest.json").write_text(json.dumps(manifest | later))
    with pytest.raises(UserError, match=r"later version \(relearn-jax 7\.1, format 99\)"):
        build(folder)


def test_a_damaged_table_is_refused_by_naming_it(tmp_path):
    folder = write_run(tmp_path / "run", SMALL, "base")
    (folder / "tables" / "concepts.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"concepts\.parquet"):
        build(folder)


def test_a_table_that_lacks_a_column_is_refused_by_naming_both(tmp_path):
    folder = write_run(tmp_path / "run", SMALL, "base")
    path = folder / "tables" / "scores.parquet"
    pd.read_parquet(path).drop(columns="f1").to_parquet(path)
    with pytest.raises(UserError, match=r"scores\.parquet.* f1"):
        build(folder)
