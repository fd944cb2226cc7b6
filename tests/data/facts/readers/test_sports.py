"""Sports Facts."""

from __future__ import annotations

from collections import Counter

import pytest

from relearn_jax.data.facts.readers.sports import RELATION, sports
from relearn_jax.errors import UserError


def test_the_published_table_without_its_repeats(shared):
    facts = sports(shared / "data/sports-facts/sports_original.csv")
    assert Counter(fact.target for fact in facts) == {
        "football": 583, "basketball": 490, "baseball": 486,
    }  # fmt: skip
    assert len({fact.subject for fact in facts}) == len(facts)
    assert [fact.subject for fact in facts[:2]] == ["DeForest Buckner", "Walter Payton"]
    assert {fact.relation for fact in facts} == {RELATION}
    assert not any(fact.alternatives or fact.prompts for fact in facts)


def test_an_athlete_with_two_sports_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("athlete,sport\nBo,baseball\nBo,baseball\nBo,football\n")
    with pytest.raises(UserError, match=r"a\.csv:4: Bo plays football.*says baseball"):
        sports(tmp_path / "a.csv")
