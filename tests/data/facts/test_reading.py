"""From settings to facts, formats, splits and prompts."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from relearn_jax import loading
from relearn_jax.config import Facts, FactSplit, World
from relearn_jax.data.facts.reading import ask, read
from relearn_jax.errors import UserError

SMALL = World(names=12, degree=9, variant="planted")


def test_sports_are_asked_in_every_published_format(shared, gpt2_text):
    settings = Facts(kind="sports", path="data/sports-facts/sports_original.csv")
    data = read(settings, shared, gpt2_text)
    assert list(data.formats) == ["standard", "qa", "mcq", "mcq_plain", "capitalized"]
    for name in data.formats:
        prompts, fact = ask(data, data.split.forget, name)
        assert fact.tolist() == data.split.forget.tolist()
        assert prompts.others.shape == (16, 2)
    assert read(settings, shared, gpt2_text).digest == data.digest
    other = read(Facts(kind="sports", path=settings.path, seed=1), shared, gpt2_text)
    assert other.digest != data.digest, "the injected answers are drawn by the seed"


def test_counterfact_is_asked_with_what_it_brings(shared, gpt2_text):
    settings = Facts(
        kind="counterfact",
        path="data/counterfact/counterfact_rich_gemma-2-9b.csv",
        split=FactSplit(overlap="drop"),
    )
    data = read(settings, shared, gpt2_text)
    assert list(data.formats) == ["standard", "paraphrase", "neighborhood"]
    _, fact = ask(data, data.split.forget, "paraphrase")
    assert np.bincount(fact).tolist() == [2] * 16
    with pytest.raises(UserError, match="no format `mcq`; there are standard, paraphrase"):
        ask(data, data.split.forget, "mcq")


def test_the_world_is_asked_through_the_same_code_as_real_facts():
    data = read(Facts(world=SMALL, split=FactSplit(forget="planted")), None)
    assert data.split.forget.tolist() == data.world.groups["planted"].tolist()
    for name in data.formats:
        prompts, fact = ask(data, data.split.retain, name, length=SMALL.length)
        for a, b in zip(prompts, data.world.lines[name], strict=True):
            assert (a == b[fact]).all()


def write(folder, rows):
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "own.jsonl"


def rows(count):
    names = ("Anna", "Bob", "Carl", "Dora", "Emil", "Fred", "Gina", "Hugo", "Ida", "Jim")
    return [
        {"subject": n, "target": ("golf", "tennis")[i % 2], "prompt": f"{n} plays"}
        for i, n in enumerate(names[:count])
    ]


def test_unusable_facts_are_refused_or_left_out_before_the_split(tmp_path, gpt2_text):
    own = rows(10)
    own[0]["target"] = "water polo"
    settings = Facts(kind="table", path=write(tmp_path, own), split=FactSplit(forget="first_2"))
    data = read(settings, tmp_path, gpt2_text)
    with pytest.raises(UserError, match=r"unusable: drop.*water polo"):
        ask(data, data.split.forget, "standard")
    data = read(dataclasses.replace(settings, unusable="drop"), tmp_path, gpt2_text)
    assert [data.facts[i].subject for i in data.split.forget] == ["Bob", "Carl"]
    assert "10 facts, of which the tokenizer can ask for 9" in data.source
    assert {a for fact in data.facts for a in fact.alternatives} == {"golf", "tennis"}


def test_few_shot_prompts_take_the_reserved_examples(tmp_path, gpt2_text):
    settings = Facts(
        kind="table",
        path=write(tmp_path, rows(10)),
        formats={"few": "{shots}{standard} {target}"},
        shots=2,
        split=FactSplit(forget="first_2", examples=3),
    )
    data = read(settings, tmp_path, gpt2_text)
    prompts, _ = ask(data, data.split.forget, "few")
    text = gpt2_text.decode(prompts.ids[0][prompts.mask[0]])
    shots = text.split("\n\n")[:-1]
    known = {f"{data.facts[i].subject} plays {data.facts[i].target}" for i in data.split.examples}
    assert len(shots) == 2
    assert set(shots) <= known
    assert gpt2_text.decode(prompts.ids[0][prompts.subject[0]]) == "Anna"


def test_a_table_without_prompts_needs_a_template(tmp_path, gpt2_text):
    bare = [{k: row[k] for k in ("subject", "target")} for row in rows(10)]
    path = write(tmp_path, bare)
    split = FactSplit(forget="first_2")
    with pytest.raises(UserError, match=r"no text and no template.*facts\.formats"):
        read(Facts(kind="table", path=path, split=split), tmp_path, gpt2_text)
    formats = {"standard": "Everyone knows that {subject} plays {target}"}
    data = read(Facts(kind="table", path=path, split=split, formats=formats), tmp_path, gpt2_text)
    prompts, _ = ask(data, data.split.forget, "standard")
    assert gpt2_text.decode(prompts.ids[0][prompts.mask[0]]) == "Everyone knows that Anna plays"


def test_a_missing_file_and_a_path_for_the_world_are_refused(tmp_path, gpt2_text):
    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        read(Facts(kind="sports", path="none.csv"), tmp_path, gpt2_text)
    with pytest.raises(UserError, match="has no file"):
        read(Facts(path="x"), tmp_path)


def test_settings_are_read_strictly_from_plain_values():
    values = {"kind": "world", "formats": {"a": "{subject} {target}"}, "split": {"forget": 16},
              "world": {"mix": {"standard": 1}}}  # fmt: skip
    settings = loading.build(Facts, values, "c.yaml", "facts")
    assert settings.split.forget == "16"
    assert settings.world.mix == {"standard": 1.0}
    with pytest.raises(UserError, match="did you mean degree"):
        loading.build(Facts, {"world": {"degre": 6}}, "c.yaml", "facts")
