"""CounterFact, as published and with questions of our own."""

from __future__ import annotations

import pandas
import pytest

from relearn_jax.data.facts.readers.counterfact import counterfact
from relearn_jax.errors import UserError

PROBABILITIES = "data/counterfact/counterfact_gemma-7b-probs.parquet"
RICH = "data/counterfact/counterfact_rich_gemma-2-9b.csv"


@pytest.fixture(scope="module")
def rich(shared):
    return counterfact(shared / RICH)


def test_the_published_numbers_of_facts_and_relations(shared, rich):
    facts = counterfact(shared / PROBABILITIES)
    assert (len(facts), len({fact.relation for fact in facts})) == (2189, 28)
    assert (len(rich), len({fact.relation for fact in rich})) == (2250, 26)
    assert len(counterfact(shared / PROBABILITIES, min_probability=0)) == 21_919


def test_every_fact_has_its_texts_and_they_hold_its_subject(rich):
    for fact in rich:
        assert fact.subject in fact.prompts["standard"][0]
        assert len(fact.prompts["paraphrase"]) == 2
        assert len(fact.prompts["neighborhood"]) == 10
        assert all(fact.subject in prompt for prompt in fact.prompts["paraphrase"])
        assert fact.target not in fact.alternatives
        assert fact.target == fact.target.strip()


def test_the_first_fact_word_by_word(rich):
    fact = rich[0]
    assert (fact.subject, fact.relation, fact.target) == ("Danielle Darrieux", "P103", "French")
    assert fact.alternatives == ("English",)
    assert fact.prompts["standard"] == ("The mother tongue of Danielle Darrieux is",)
    assert fact.prompts["paraphrase"][0] == (
        "Shayna does this and Yossel goes still and dies. Danielle Darrieux, a native"
    )
    assert fact.prompts["neighborhood"][2] == "François Bayrou, a native"


def test_both_tables_agree_on_the_facts_that_they_share(shared, rich):
    by_prompt = {f.prompts["standard"]: f for f in counterfact(shared / PROBABILITIES)}
    both = [
        (f, by_prompt[f.prompts["standard"]]) for f in rich if f.prompts["standard"] in by_prompt
    ]
    assert len(both) > 1000
    assert all((a.subject, a.target, a.alternatives) == (b.subject, b.target, b.alternatives)
               for a, b in both)  # fmt: skip


def test_a_facts_row_is_its_prompt_id(shared):
    """So the table that has no such column can be joined with questions."""
    rich = pandas.read_csv(shared / RICH)
    prompts = pandas.read_parquet(shared / PROBABILITIES, columns=["prompt"])["prompt"]
    assert (prompts.iloc[rich["prompt_id"]].to_numpy() == rich["prompt"].to_numpy()).all()


def questions(path, rows):
    columns = ["prompt_id", "question", "target_true", "targets_false"]
    pandas.DataFrame(rows, columns=columns).to_parquet(path)
    return path


def test_questions_join_by_their_id_and_only_where_the_answer_is_the_same(shared, tmp_path):
    rows = [
        (0, "What does she speak?", " French", [" English", " Dutch", " Thai"]),
        (22, "Where is it?", " Paris", [" Mumbai", " Rome", " Oslo"]),
        (25, "Who made it?", " Intel", [" Sony", " Dodge", " Apple"]),
    ]
    path = questions(tmp_path / "q.parquet", rows)
    for table in (RICH, PROBABILITIES):
        # Without a `prompt_id` a fact's row is its id, as the published tables have it.
        facts = counterfact(shared / table, min_probability=0.45, questions=path)
        asked = [fact for fact in facts if "mcq" in fact.prompts]
        assert asked[0].prompts["mcq"] == ("What does she speak?",)
        assert asked[0].alternatives == ("English", "Dutch", "Thai")
        assert [fact.target for fact in asked] == ["French", "Intel"]
        assert asked[1].alternatives == ("Dodge", "Sony", "Apple"), "the false target comes first"


def test_questions_of_other_data_are_refused(shared, tmp_path):
    path = questions(tmp_path / "q.parquet", [(1, "?", "a", ["b", "c", "d"])])
    with pytest.raises(UserError, match=r"q\.parquet: no question has the `prompt_id`"):
        counterfact(shared / RICH, questions=path)


def write(path, **changes):
    row = {"prompt": "The capital of Peru is", "subject": "Peru", "relation_id": "P36"}
    row |= {"target_true": "Lima", "target_false": "Oslo", "prob_of_correct_answer": 0.9}
    pandas.DataFrame([row | changes]).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"subject": "Chile"}, r"a\.csv:2: the prompt .* does not hold the subject 'Chile'"),
        ({"prob_of_correct_answer": 0.4}, "none of 1 facts.*Lower `facts.min_probability`"),
        ({"prob_of_correct_answer": "high"}, r"a\.csv:2: `prob_of_correct_answer` should be a num"),
        ({"target_false": ""}, r"a\.csv:2: `target_false` should be text"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path, changes, match):
    with pytest.raises(UserError, match=match):
        counterfact(write(tmp_path / "a.csv", **changes))


def test_what_is_no_probability_passes_no_threshold(tmp_path):
    rows = [
        {"prompt": f"{name} speaks", "subject": name, "relation_id": "P1", "target_true": "a",
         "target_false": "b", "prob_of_correct_answer": p}
        for name, p in (("X", "0.7"), ("Y", "nan"), ("Z", "0.1"))
    ]  # fmt: skip
    pandas.DataFrame(rows).to_csv(tmp_path / "cf.csv", index=False)
    assert [fact.subject for fact in counterfact(tmp_path / "cf.csv")] == ["X"]
