from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.neurons import ranking, saliency


def test_paper_saliency_has_the_published_values():
    """Protocol 6.2 for N = 5376 and N = 2688; 8.5 and item 10-11 for the published mistake."""
    s = saliency.paper(np.arange(5376), 5376)
    assert (s[:100] == 1).all()
    assert s[100] < 1
    assert s[99] - s[100] == pytest.approx(0.019, abs=1e-3)
    assert s[-1] == pytest.approx(0.0045, abs=1e-4)
    np.testing.assert_array_equal(np.flatnonzero(s > 0.5), np.arange(2700))
    assert (saliency.paper(np.arange(2688), 2688) > 0.5).sum() == 1300
    assert saliency.paper(np.array([5375]), 4608)[0] == pytest.approx(0.176, abs=1e-3)


def test_paper_saliency_of_few_neurons_is_one_bucket():
    for neurons in (1, 40, 100):
        np.testing.assert_array_equal(saliency.paper(np.arange(neurons), neurons), 1.0)


def test_rank_saliency_runs_evenly_from_one_to_zero():
    s = saliency.rank(np.arange(11), 11)
    np.testing.assert_allclose(s, np.linspace(1, 0, 11))
    assert saliency.rank(np.array([0]), 1)[0] == 1


def test_only_the_standardized_saliency_is_untouched_by_what_happens_to_others(words, moments_of):
    """Late rows lose their gain, row 0 stays as it is: its rank rises, its effect size does not."""
    x, member = words
    x = x / x.std(0)
    pruned = x * np.array([1, 0.01, 0.01])[None, :, None]
    before, after = moments_of(x, member), moments_of(pruned, member)
    ranks = [ranking.ranks(ranking.probeless(m, 1)) for m in (before, after)]
    assert saliency.rank(ranks[1], 24)[0].mean() > saliency.rank(ranks[0], 24)[0].mean()
    np.testing.assert_array_equal(
        saliency.standardized(after)[:, 0], saliency.standardized(before)[:, 0]
    )
    np.testing.assert_allclose(
        saliency.standardized(after)[1, 1:], saliency.standardized(before)[1, 1:], rtol=1e-9
    )


def test_every_saliency_comes_from_what_a_stage_stores(words, moments_of):
    moments = moments_of(*words)
    scores = ranking.scores_all(moments, "probeless").astype(np.float32)
    columns = saliency.columns({"score": scores, **saliency.stored(moments)})
    assert list(columns) == ["saliency_paper", "saliency_rank", "saliency_standardized"]
    expected = saliency.standardized(moments).astype(np.float32)
    np.testing.assert_array_equal(columns["saliency_standardized"], expected)
    ranks = ranking.ranks(scores)
    np.testing.assert_array_equal(columns["saliency_rank"], saliency.rank(ranks, 24))
    np.testing.assert_array_equal(columns["saliency_paper"], saliency.paper(ranks, 24))


def test_layer_summary_keeps_pruned_and_unpruned_apart():
    rng = np.random.default_rng(0)
    values, pruned = rng.random((3, 20)), rng.random((3, 20)) < 0.4
    pruned[0] = False
    values[1, :3] = np.nan
    summary = saliency.layer_summary(values, pruned)
    for group, member in enumerate((np.ones_like(pruned), pruned, ~pruned)):
        for layer in range(3):
            v = values[layer, member[layer]]
            v = v[~np.isnan(v)]
            assert summary.neurons[group, layer] == len(v)
            if not len(v):
                assert np.isnan([summary.mean[group, layer], summary.ci95[group, layer]]).all()
                continue
            assert summary.mean[group, layer] == pytest.approx(v.mean())
            sem = v.std(ddof=1) / np.sqrt(len(v))
            assert summary.ci95[group, layer] == pytest.approx(1.96 * sem)


def test_a_single_neuron_has_a_mean_and_no_interval():
    summary = saliency.layer_summary(np.array([[0.3, 0.5]]), np.array([[True, False]]))
    np.testing.assert_allclose(summary.mean[:, 0], [0.4, 0.3, 0.5])
    assert np.isfinite(summary.ci95[0, 0])
    assert np.isnan(summary.ci95[1:, 0]).all()


def test_redistribution_counts_every_high_neuron_once():
    ranks = np.random.default_rng(1).permutation(7 * 768).reshape(7, 768)
    base = saliency.redistribution(ranks)
    np.testing.assert_array_equal(base.count, (ranks < 2700).sum(1))
    assert base.share.sum() == pytest.approx(1)


def test_redistribution_ranks_the_unpruned_anew():
    ranks = np.random.default_rng(2).permutation(7 * 768).reshape(7, 768)
    kept = ranks % 2 == 1
    later = saliency.redistribution(ranks, kept)
    # The 2688 kept neurons have the odd ranks, so their new ranks are half of the old ones.
    np.testing.assert_array_equal(later.count, (kept & (ranks // 2 < 1300)).sum(1))
    null = np.zeros_like(kept)
    null[3] = True
    without = saliency.redistribution(ranks, kept, null)
    assert without.count[3] == 0
    assert without.share.sum() == pytest.approx(1)
    np.testing.assert_array_equal(np.delete(without.count, 3), np.delete(later.count, 3))


def test_redistribution_without_a_high_neuron_has_no_shares():
    nothing = saliency.redistribution(np.arange(400).reshape(2, 200), null=np.ones((2, 200), bool))
    assert not nothing.count.any()
    assert np.isnan(nothing.share).all()


def test_association_shows_simpsons_paradox():
    """Protocol 8.6: a positive pooled correlation over two groups with a negative one each."""
    rng = np.random.default_rng(3)
    x = rng.random((2, 300))
    pruned = np.zeros((2, 300), bool)
    pruned[:, 150:] = True
    y = -0.5 * x + 0.05 * rng.random((2, 300))
    x, y = x - 3 * pruned, y - 3 * pruned
    x[0, 0] = np.nan
    both = saliency.association(x, y, pruned)
    assert both.spearman[0] > 0.3
    assert (both.spearman[1:] < -0.9).all()
    assert (both.spearman_by_layer[1:] < -0.9).all()
    np.testing.assert_array_equal(both.neurons, [599, 300, 299])
    assert both.mean[2, 0] == pytest.approx(np.nanmean(x[~pruned]))
    assert both.std[1, 1] == pytest.approx(y[pruned].std(ddof=1))


def test_spearman_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 5, (1, 80)), rng.integers(0, 5, (1, 80))
    both = saliency.association(x, y, np.zeros((1, 80), bool))
    assert both.spearman[0] == pytest.approx(stats.spearmanr(x[0], y[0]).statistic)
    assert np.isnan(both.spearman[1])
