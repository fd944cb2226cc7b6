"""The page says first what pruning did, in every kind of damage."""

from __future__ import annotations

import re

import dosed
import pandas as pd
import pytest
from fake_run import Group, Shape, write_run
from pages import Page, loose_ends, numbers, undefined

from relearn_jax import report

SMALL = Shape(seeds=(0, 1), channels=24, rounds=1, arms=("concept", "random", "layer_matched"))
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(name="undrawn", scope="module", autouse=True)
def _undrawn():
    from undrawn import undrawn

    with undrawn():
        yield


@pytest.fixture(scope="module", params=list(dosed.HARM))
def built(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "run"
    dosed.add(write_run(folder, SMALL), SMALL, request.param)
    report.build(folder)
    return request.param, folder, Page((folder / "report.html").read_text())


def words(page):
    return re.sub(r"\s+", " ", " ".join(page.text)).replace("\xa0", " ")


def test_the_title_and_the_lead_name_the_damage(built):
    kind, _, page = built
    said = {
        "removed": ("LOC was removed from the model", "LOC was removed, and selectively"),
        "partial": ("LOC was partly removed", "LOC was removed in part"),
        "collapsed": ("The model collapsed", "The model collapsed, so nothing was removed"),
        "unspecific": ("Pruning damaged more than LOC", "The damage is not specific to LOC"),
        "slight": ("Pruning hardly touched LOC", "LOC was hardly damaged"),
    }[kind]
    start = words(page)[:1500]
    assert all(text in start for text in said)


def test_only_a_removal_is_called_one(built):
    kind, _, page = built
    if kind not in ("removed", "partial"):
        text = words(page).replace("nothing was removed on its own", "")
        text = text.replace("Relearn Removed Concepts", "")
        assert not re.findall(r"\b[Rr]emoved\b", text)


def test_numbers_link_to_their_cells_and_nothing_is_undefined(built):
    _, _, page = built
    assert not loose_ends(page)
    assert not undefined(page)
    for link in numbers(page):
        if link["href"].startswith("#"):
            text = link["text"].replace("\xa0", " ").strip()
            assert text in page.cells[link["href"][1:]].replace("\xa0", " "), link


def test_files_that_the_page_links_to_exist(built):
    _, folder, page = built
    files = {link["href"] for link in page.links if not link["href"].startswith(("#", "http"))}
    assert "tables/selectivity.csv" in files
    assert not [name for name in files if not (folder / name).is_file()]


def test_selectivity_on_the_page_is_that_of_the_table(built):
    _, folder, page = built
    table = pd.read_parquet(folder / "tables" / "damage.parquet")
    row = table[(table.arm == "concept") & table.seed.isna()].iloc[0]
    sign = "−" if row.selectivity < 0 else ""
    assert f"selectivity is {sign}{abs(row.selectivity):.2f}" in words(page).replace(" .", ".")
    assert row.low < row.selectivity < row.high
    assert row.seeds_low < row.selectivity < row.seeds_high


def test_groups_are_compared_by_their_damage(tmp_path):
    shape = SMALL._replace(groups=(Group(), Group(fraction=0.25), Group("PER")))
    dosed.add(write_run(tmp_path / "run", shape), shape, "removed")
    report.build(tmp_path / "run")
    for home in (tmp_path / "run", *(tmp_path / "run" / "groups").iterdir()):
        links = Page((home / "report.html").read_text()).links
        files = {link["href"] for link in links if not link["href"].startswith(("#", "http"))}
        assert not [name for name in files if not (home / name).is_file()], home.name
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert "The concept was removed, and selectively for every group" in words(page)
    assert not loose_ends(page)
    assert not undefined(page)
    assert sum(cell.startswith("c-damage_sets") for cell in page.cells) > 20


def test_a_run_without_curves_still_reports(tmp_path):
    write_run(tmp_path / "run", SMALL)
    report.build(tmp_path / "run")
    page = words(Page((tmp_path / "run" / "report.html").read_text()))
    assert "The concept LOC was pruned from the model. Does it come back?" in page
    assert "unfinished" not in page
