"""What probes' accuracies are turned into."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.localize import probes
from relearn_jax.localize.probes import Readable

FOUND = Readable(
    states=np.array([0.05, 0.3, 0.9]), middle=np.array([0.1, 0.5]),
    shuffled=np.array([0.3, 0.4, 0.3]), middle_shuffled=np.array([0.35, 0.3]),
    facts=60, chance=0.35,
)  # fmt: skip


def test_gains_below_the_most_common_answer_do_not_count():
    gains = probes.gains(FOUND)
    np.testing.assert_allclose(gains["attention"], [0.0, 0.15])
    np.testing.assert_allclose(gains["mlp"], [0.0, 0.4])
    np.testing.assert_allclose(sum(map(np.sum, gains.values())), 0.9 - 0.35)


def test_noise_is_what_shuffled_answers_gain():
    noise = probes.noise_of(FOUND)
    np.testing.assert_allclose(noise["attention"], [0.05, -0.1])
    np.testing.assert_allclose(noise["mlp"], [0.05, 0.0])


def test_gains_within_the_noise_do_not_widen_the_window():
    gains = np.array([0.0, 0.4, 0.0, 0.03])
    assert probes.window(gains) == (1, 3)
    assert probes.window(gains, noise=0.03) == (1, 1)


@pytest.mark.parametrize(
    ("gains", "wanted"),
    [
        ([0, 0.5, 0.4, 0.01, 0], (1, 2)),
        ([0.9, 0, 0, 0], (0, 0)),
        ([0.3, 0, 0.3, 0], (0, 2)),
        ([-0.2, 0.4, -0.1, 0.0], (1, 1)),
        ([0.0, 0.0], (0, -1)),
    ],
)
def test_the_window_is_the_shortest_with_nearly_all_gain(gains, wanted):
    assert probes.window(np.array(gains)) == wanted
