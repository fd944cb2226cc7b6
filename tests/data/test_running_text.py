"""Laws of running text: windows hold every token in order, and what is measured is not shown."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from relearn_jax.config import World
from relearn_jax.data import running_text
from relearn_jax.data.alignment import IGNORED
from relearn_jax.data.facts import world as worlds
from relearn_jax.data.tokenizer import load_tokenizer
from relearn_jax.errors import UserError

LINES = [f"line {number} of the text , with {number * 7} more words" for number in range(400)]


@pytest.fixture(scope="module")
def tokenizer(shared):
    return load_tokenizer(shared / "data/tokenizer-gpt2", words=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(LINES))
    return path


def shown(running, tokenizer):
    rng = np.random.default_rng(0)
    batch = running.draw(rng, 5000)
    return {tuple(row) for row in batch.inputs.ids.tolist()}


def test_windows_are_the_text(file, tokenizer):
    running = running_text.of_files(file, None, tokenizer, 32, 1000, 0)
    rows = [*shown(running, tokenizer), *map(tuple, running.test.inputs.ids.tolist())]
    assert len(rows) == len(set(rows))
    assert {row[0] for row in rows} == {tokenizer.bos_token_id}
    tokens = [token for line in LINES for token in tokenizer(line + "\n")["input_ids"]]
    assert len(rows) == len(tokens) // 31
    found = Counter(token for row in rows for token in row[1:])
    assert found == Counter(tokens[: len(rows) * 31])


def test_measured_windows_are_not_shown(file, tokenizer):
    running = running_text.of_files(file, None, tokenizer, 32, 1000, 0)
    assert not shown(running, tokenizer) & set(map(tuple, running.test.inputs.ids.tolist()))


def test_every_token_but_the_last_predicts_the_next(file, tokenizer):
    batch = running_text.of_files(file, None, tokenizer, 32, 4, 0).test
    np.testing.assert_array_equal(batch.labels[:, :-1], batch.inputs.ids[:, 1:])
    assert (batch.labels[:, -1] == IGNORED).all()
    assert len(batch.labels) == 4


def test_a_file_of_its_own_is_measured(file, tokenizer, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n".join(line.upper() for line in LINES))
    running = running_text.of_files(file, other, tokenizer, 32, 8, 0)
    assert "LINE" in tokenizer.decode(running.test.inputs.ids.ravel())
    again = running_text.of_files(file, None, tokenizer, 32, 8, 0)
    assert running.digest != again.digest
    assert "LINE" not in "".join(map(tokenizer.decode, shown(running, tokenizer)))


def test_too_little_text_is_an_error(tmp_path, tokenizer):
    path = tmp_path / "short.txt"
    path.write_text("a few words")
    with pytest.raises(UserError, match="fewer than a window"):
        running_text.of_files(path, None, tokenizer, 128, 8, 0)


def test_the_text_of_a_world_has_its_entropy():
    world = worlds.make(World(names=8, degree=3), 0)
    running = running_text.of_world(world, 0)
    drawn = running.draw(np.random.default_rng(1), 8)
    assert running.entropy == world.entropy > 0
    assert drawn.inputs.ids.shape == (8, world.settings.length)
