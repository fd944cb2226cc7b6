"""Questions: the prompt of Hendrycks et al., both forms of file, and what does not fit."""

from __future__ import annotations

import pytest

from relearn_jax.data import questions
from relearn_jax.data.tokenizer import load_tokenizer
from relearn_jax.errors import UserError

DEV = "What is 1 + 1?,1,2,3,4,B\nWhat is 2 + 2?,1,2,3,4,D\n"
TEST = 'What is 2 - 1?,1,2,3,4,A\n"Which, if any, is 3?",1,2,3,4,C\n'


@pytest.fixture(scope="module")
def tokenizer(shared):
    return load_tokenizer(shared / "data/tokenizer-gpt2", words=False)


@pytest.fixture
def folders(tmp_path):
    for name, text in (("dev", DEV), ("test", TEST)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"early_sums_{name}.csv").write_text(text)
    return tmp_path


def test_the_prompt_has_the_subject_the_examples_and_the_question(folders, tokenizer):
    test, dev = (questions.read(folders / name) for name in ("test", "dev"))
    found = questions.prompts(test, dev, 1, 10, 0, tokenizer, 512)
    (part,) = found.prompts
    assert part.ids.shape == (2, 256)
    text = tokenizer.decode(part.ids[0][part.mask[0]])
    assert text == (
        "The following are multiple choice questions (with answers) about early sums.\n\n"
        "What is 1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\n"
        "What is 2 - 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    )
    assert [tokenizer.decode(token) for token in part.target] == [" A", " C"]
    assert tokenizer.decode(part.others[1]) == " A B D"
    assert found.subjects == ("early sums", "early sums")


def test_a_header_and_indices_mean_the_same(folders, tokenizer):
    with_header = folders / "indices.csv"
    rows = TEST.replace(",A\n", ",0\n").replace(",C\n", ",2\n")
    with_header.write_text(f"question,choice0,choice1,choice2,choice3,answer\n{rows}")
    plain = questions.read(folders / "test")
    assert [q[1:] for q in questions.read(with_header)] == [q[1:] for q in plain]


def test_all_of_mmlu_is_read(shared):
    data = shared / "data/mmlu"
    test, dev = questions.read(data / "test"), questions.read(data / "dev")
    assert (len(test), len(dev)) == (14042, 285)
    assert len({question.subject for question in test}) == 57
    # By hand, from the file.
    (first,) = [q for q in dev if "embryological origin of the hyoid" in q.text]
    assert first.choices[first.answer] == "The second and third pharyngeal arches"


def test_long_questions_are_left_out_and_counted(shared, tokenizer):
    data = shared / "data/mmlu"
    test, dev = questions.read(data / "test"), questions.read(data / "dev")
    found = questions.prompts(test, dev, 5, 100, 0, tokenizer, 400)
    assert found.too_long > 0
    assert len(found.subjects) + found.too_long == 100
    assert sum(len(part.ids) for part in found.prompts) == len(found.subjects)
    assert max(part.ids.shape[1] for part in found.prompts) <= 400
    with pytest.raises(UserError, match="longer than 20 tokens"):
        questions.prompts(test, dev, 5, 3, 0, tokenizer, 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("What?,1,2,3,4,E\n", "row 1: the answer 'E' is none of"),
        ("What?,1,2,3,A\n", "5 columns"),
        ("", "cannot be read as CSV"),
    ],
)
def test_bad_files_are_errors(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        questions.read(path)


def test_too_few_examples_are_an_error(folders, tokenizer):
    test, dev = (questions.read(folders / name) for name in ("test", "dev"))
    with pytest.raises(UserError, match="there are 2 solved examples of early sums"):
        questions.prompts(test, dev, 5, 10, 0, tokenizer, 512)
