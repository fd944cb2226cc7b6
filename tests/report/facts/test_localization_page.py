from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_localization import SHAPE, write_run
from pages import Page, loose_ends, numbers, undefined
from undrawn import undrawn

from relearn_jax.errors import UserError
from relearn_jax.report import build
from relearn_jax.report.draw import panel_svgs, save
from relearn_jax.report.facts import grids, maps, reading
from relearn_jax.report.facts import page as facts
from relearn_jax.report.facts.tables import usual

SEEDS = SHAPE._replace(seeds=(0, 1, 2))
REAL = SHAPE._replace(planted=(), gates=False, layers=6)
VERDICT = re.compile(r'<p class="lede">.*?</p>|<section id="verdict".*?</dl>', re.DOTALL)


def page_of(folder: Path) -> Page:
    run = reading.read(folder)
    return Page(facts.page(run, facts.page_tables(run))[0])


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("seeds") / "run", SEEDS)
    with undrawn():
        assert build(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(built) -> Page:
    return Page((built / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("written") / "run")


@pytest.fixture
def single(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "run")


def change(folder: Path, name: str, edit) -> None:
    path = folder / "tables" / f"{name}.parquet"
    edit(pd.read_parquet(path)).to_parquet(path, index=False)


def test_every_number_is_the_text_of_the_cell_it_links_to(page):
    found = numbers(page)
    assert len(found) > 30
    for link in found:
        cell = page.cells[link["href"][1:]].replace("\u00a0", " ")
        assert cell.split(" ±")[0] == link["text"].replace("\u00a0", " ")


@pytest.mark.parametrize("shape", [SHAPE, SEEDS, REAL], ids=["one", "seeds", "real"])
def test_the_verdict_has_no_number_that_is_not_a_cell(tmp_path, shape):
    found = VERDICT.findall(page_of(write_run(tmp_path / "run", shape)).source)
    assert len(found) == 2
    for part in found:
        plain = re.sub(r'(?s)<a class="num".*?</a>|<a class="file".*?</a>|<[^>]*>', "", part)
        plain = re.sub(r"Hypothesis H[45]", "", plain)
        assert not re.findall(r"\d", plain)


def test_the_page_stands_alone_and_has_no_loose_ends(page, built):
    assert len(page.ids) == len(set(page.ids))
    assert not loose_ends(page)
    assert not undefined(page)
    assert all(r.startswith("data:") for r in page.resources)
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)
    files = {a["href"] for a in page.links if not a["href"].startswith("#")}
    assert {"tables/maps.csv", "figures/components.svg", "figures/positions.png"} <= files
    assert not [f for f in files if not (built / f).is_file()]


@pytest.mark.parametrize("panels", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_every_figure_is_drawn_in_the_theme(tmp_path, panels):
    """The first panel of each figure, and all."""
    (page,) = facts.build(write_run(tmp_path / "run", SEEDS))
    # Components, positions, states, heads, probes, chosen, agreement.
    number = 7 * 2 + 4 * 3 * 2 + 2 * 2 + 4 * 2 + 2 + 2 + 2
    assert page.text.count("<!--panel ") == sum(len(plot.panels) for plot in page.plots) == number
    drawings = [d for p in page.plots for d in panel_svgs(p._replace(panels=p.panels[:panels]))]
    assert len(drawings) >= len(page.plots) == 7
    assert all(d.startswith("<svg role") for d in drawings)
    assert not [d for d in drawings if re.search(r"(fill|stroke): ?#", d)]


def test_times_are_named_after_the_work_of_a_localization(page):
    times = {name: page.cells[f"c-manifest-{name}_s-value"] for name in ("teaching", "effects")}
    assert times == {"teaching": "70.0 s", "effects": "20.0 s"}
    assert "training and evaluation" not in " ".join(page.text)


def test_every_figure_says_how_to_read_it(page):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page.source, flags=re.DOTALL)
    assert [re.search(r"Figure (\d)", c)[1] for c in captions] == list("1234567")
    assert min(map(len, captions)) > 150


def test_the_same_run_gives_the_same_bytes(built, tmp_path):
    again = write_run(tmp_path / "again", SEEDS)
    with undrawn():
        build(again)
    made = {p.relative_to(again): p for p in again.rglob("*.*")}
    assert {"probes.svg", "probes.png", "report_truth.csv", "report.html"} <= {p.name for p in made}
    assert not [n for n, p in made.items() if p.read_bytes() != (built / n).read_bytes()]
    # Of the drawings, those of one map.
    for folder in (built, again):
        (page,) = facts.build(folder)
        save(next(plot for plot in page.plots if plot.name == "probes"), folder)
    for name in ("probes.svg", "probes.png"):
        assert (again / name).read_bytes() == (built / name).read_bytes()


def test_scores_against_planted_truth_are_means_over_seeds_with_their_range(page, built):
    truth = pd.read_parquet(built / "tables" / "truth.parquet").query("method == 'tracing'")
    row = "c-truth-causal.tracing"
    for column, name in (("area", "roc_area"), ("recall", "recall")):
        expected = f"{truth[name].mean():.2f} ± {truth[name].std():.2f}"
        assert page.cells[f"{row}-{column}"] == expected
    assert page.cells[f"{row}-low"] == f"{truth.roc_area.min():.2f}"
    exact = sum(list(a) == list(b) for a, b in zip(truth.planted, truth.chosen, strict=True))
    assert page.cells[f"{row}-exact"] == str(exact)


def test_chosen_components_have_the_exact_parameters_of_the_table(single):
    page = page_of(single)
    chosen = pd.read_parquet(single / "tables" / "selections.parquet")
    for method, label in (("tracing_mlps", "causal.tracing.MLPs.only"), ("random",) * 2):
        rows = chosen[chosen.method == method]
        label = "random.components" if label == "random" else label
        assert page.cells[f"c-selections-{label}-parameters"] == f"{rows.parameters.sum():,}"


def scores(folder: Path, method: str, column: str = "score", **parts: list[float]) -> None:
    """Give a method these scores or nulls, layer by layer."""

    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        for part, values in parts.items():
            use = (frame["method"] == method) & (frame["part"] == part)
            frame.loc[use, column] = values
        return frame

    change(folder, "scores", edit)


def said(folder: Path, head: str) -> str:
    source = page_of(folder).source
    found = re.search(rf"<dt>{head}</dt><dd>(.*?)<span", source, flags=re.DOTALL)[1]
    return re.sub(r"<[^>]*>", "", found).replace("\u00a0", " ").replace("&nbsp;", " ")


def test_h4_is_answered_by_the_ranks_of_the_planted_layer(single):
    # The planted layer is 1. Signs do not count.
    scores(single, "attribution", attention=[0.4, 0.3, 0.2, 0.5], mlp=[0.6, -0.01, 0.7, 0.3])
    scores(single, "attribution_path", attention=[0.4, 0.1, 0.1, 0.1], mlp=[0.2, -0.5, 0.1, 0.1])
    text = said(single, "Hypothesis H4")
    assert "first half holds; AP puts the planted layers on place 8 of 8 components" in text
    assert "second half holds; AP-IG puts the planted layers on place 1 of 4 MLPs" in text
    assert "place 1 of 8 components" in text
    scores(single, "attribution_path", attention=[0.9, 0.1, 0.1, 0.1])
    assert "second half does not hold; AP-IG puts" in said(single, "Hypothesis H4")
    scores(single, "attribution", attention=[0.4, 0.3, 0.2, 0.5], mlp=[0.6, 0.65, 0.7, 0.3])
    scores(single, "attribution_path", mlp=[0.6, 0.5, 0.1, 0.1])
    text = said(single, "Hypothesis H4")
    assert "first half does not hold; AP puts the planted layers on place 2" in text
    assert "second half does not hold" in text
    assert text.strip().endswith("Its first MLP is MLP 0.")


def test_h5_is_answered_by_the_order_of_the_feed_forward_layers_alone(single):
    scores(single, "tracing", attention=[0.9, 0.9, 0.9, 0.9], mlp=[0.1, 0.5, 0.2, 0.2])
    assert "Found: it holds; causal tracing puts" in said(single, "Hypothesis H5")
    scores(single, "tracing", mlp=[0.6, 0.5, 0.2, 0.2])
    assert "does not hold" in said(single, "Hypothesis H5")


def test_each_null_is_shown_where_it_is_largest_beside_the_score_there(single):
    scores(single, "noising", "null", attention=[0.1, 0.2, -0.4, 0.1], mlp=[0.3, 0.1, 0.1, 0.1])
    scores(single, "noising", attention=[0.5, 0.5, 0.567, 0.5])
    text = said(single, "Null")
    assert "noising: attention 2, −0.400 beside a score of 0.567" in text
    assert "probes: " in text


def test_a_map_and_its_null_have_one_scale(single):
    """The null's panel says its largest value, and the scale is the map's."""
    change(single, "maps", lambda m: m.assign(share=0.5, null=0.25))
    plot = maps.positions(reading.read(single))
    noising = plot.panels[:6]
    assert [p.summary.startswith("Null of") for p in noising] == [False] * 3 + [True] * 3
    source = "".join(panel_svgs(plot))
    assert source.count(">.25<") >= source.count(">.50<") > 0


def test_without_planted_facts_no_hypothesis_is_called_tested(tmp_path):
    folder = write_run(tmp_path / "run", REAL)
    assert "this is no test" in said(folder, "Hypothesis H4")
    page = page_of(folder)
    assert "There are none: gates are for models" in page.source
    assert not loose_ends(page)
    assert not undefined(page)
    assert "planted layer</li>" not in page.source
    assert "unfinished" not in page.source


def test_a_gate_that_is_not_passed_is_in_the_first_line_and_named(single):
    change(single, "gates", lambda g: g.assign(passed=[True, False], value=[1.0, 0.2]))
    lede = re.search(r'class="lede">(.*?)</p>', page_of(single).source)[1]
    assert "nothing here can be relied on" in lede
    text = said(single, "Gates")
    assert "not passed: text: nats above the entropy, 0.200, should be at most 0.050" in text


@pytest.mark.parametrize("name", list(reading.COLUMNS))
def test_a_missing_table_is_named_and_leaves_no_loose_end(single, name):
    (single / "tables" / f"{name}.parquet").unlink()
    with undrawn():
        build(single)
    page = Page((single / "report.html").read_text(encoding="utf-8"))
    assert f"<li>tables/{name}.parquet</li>" in page.source
    assert "unfinished" in page.source
    assert not loose_ends(page)
    assert not undefined(page)
    files = {a["href"] for a in page.links if not a["href"].startswith("#")}
    assert not [f for f in files if not (single / f).is_file()]


def test_an_unfinished_run_reports_its_seeds_and_names_the_others(tmp_path):
    folder = write_run(tmp_path / "run", SEEDS._replace(done=(1,)))
    page = page_of(folder)
    assert "<li>seed 0</li>" in page.source
    assert "<li>seed 2</li>" in page.source
    assert "±" not in page.cells["c-truth-causal.tracing-area"]
    assert not loose_ends(page)
    assert not undefined(page)


@pytest.mark.parametrize("methods", [("patching",), ("probes",), ("attribution", "paths")])
def test_methods_may_be_left_out(tmp_path, methods):
    page = page_of(write_run(tmp_path / "run", SHAPE._replace(methods=methods)))
    assert not loose_ends(page)
    assert not undefined(page)
    assert "unfinished" not in page.source


def test_many_layers_positions_and_seeds_make_a_page_of_a_few_megabytes(tmp_path):
    shape = SEEDS._replace(seeds=tuple(range(3)), layers=42, heads=16, tokens=100, planted=(4, 5))
    page = page_of(write_run(tmp_path / "run", shape))
    assert len(page.source) < 4e6
    assert not loose_ends(page)
    assert not undefined(page)


def test_text_of_the_run_is_escaped(tmp_path):
    folder = write_run(tmp_path / "run", SHAPE._replace(name="<script>x"))
    bad = '<b onclick="x">&'
    for name in ("scores", "selections", "heads", "truth"):
        change(folder, name, lambda t: t.replace({"method": {"attribution": bad}}))
    change(folder, "gates", lambda g: g.replace({"name": {"standard, natural facts": bad}}))
    change(folder, "maps", lambda m: m.replace({"role": {"before": bad}}))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"description": bad, "facts": {"0": {"source": bad}}}
    manifest["model"] |= {"source": bad, "family": bad}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    page = page_of(folder)
    assert "<script>x" not in page.source
    assert "<b onclick" not in page.source
    assert page.source.count("&lt;b onclick=") > 5
    assert bad in page.text


def test_a_run_without_any_result_is_refused_by_saying_what_to_do(single):
    for path in (single / "tables").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no seed of this run.*relearn run"):
        build(single)


def test_a_table_that_lacks_a_column_is_refused_by_naming_both(single):
    change(single, "scores", lambda t: t.drop(columns="low"))
    with pytest.raises(UserError, match=r"scores\.parquet.* low"):
        build(single)


def test_the_level_of_chance_is_drawn_where_the_run_has_it(single):
    assert "most common answer</li>" in page_of(single).source
    change(single, "probes", lambda t: t.drop(columns="chance"))
    page = page_of(single)
    assert "most common answer</li>" not in page.source
    assert "the level of chance is not in the tables" in page.source


def test_maps_are_means_over_seeds(built):
    frame = pd.read_parquet(built / "tables" / "maps.parquet")
    some = frame[(frame.method == "tracing") & (frame.place == "states")]
    values = grids.mean_grid(some, "position")
    cell = some[(some.layer == 2) & (some.position == 3)]
    assert values.shape == (SEEDS.layers, SEEDS.tokens)
    assert values[2, 3] == pytest.approx(cell.share.mean())
    assert len(cell) == 3


def test_labels_of_positions_keep_their_distance_and_the_main_ones_stay():
    rng = np.random.default_rng(0)
    words = ["before", "subject", "subject end", "between", "various", "last"]
    for count in (6, 18, 100):
        roles = sorted(rng.choice(words[3:5], count - 4)) if count > 6 else ["between", "various"]
        spans = grids.runs([*words[:3], *roles, "last"])
        assert sum(end - begin + 1 for begin, end, _ in spans) == len(roles) + 4
        step = 250 / count
        ticks = grids.spaced(spans, step)
        assert {"subject end", "last"} <= {text for _, text in ticks}
        places = [x for x, _ in ticks]
        assert min(np.diff(places)) * step >= grids.LINE


def test_layers_that_most_seeds_chose_are_listed_as_runs():
    assert usual([[0, 1, 2, 5], [1, 2, 5], [2, 7]], 3) == "1–2, 5"
    assert usual([[3]], 1) == "3"
    assert usual([], 1) == "none"


def test_a_run_of_an_earlier_state_says_who_wrote_it(single):
    path = single / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("format")
    path.write_text(json.dumps(manifest | {"versions": {"relearn-jax": "0.0.9"}}))
    with pytest.raises(UserError, match=r"version 0\.0\.9.*writes its tables again"):
        build(single)
