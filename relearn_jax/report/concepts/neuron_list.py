"""The section on single neurons: those that took the concept over, with tokens before and after."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from relearn_jax.report import html
from relearn_jax.report.concepts import figures
from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.reading import Run, main_arm, stage_name
from relearn_jax.report.sentences import say
from relearn_jax.report.tables import show

SHOWN = 12


def taken_over(run: Run, results: Findings) -> tuple[str, tuple]:
    """The neurons of the main arm that rank highest at the last stage and ranked low before."""
    frame, arm = run.tables["taken_over"], main_arm(run)
    frame = frame[frame["arm"] == arm]
    if frame.empty:
        what = f"neurons that took the concept over ({stage_name(run.stages[-1])})"
        return html.absent(f"{what}, tables/taken_over.parquet"), ()
    seeds = sorted(set(frame["seed"]))
    target = html.text(run.target)
    body = (
        f"<p>These neurons of the {ARM_NAMES[arm]} arm were in the lower half of the ranking for "
        f"{target} and stand among its first after relearning. Words in bold are new among a "
        "neuron's top tokens, words in grey were there before.</p>"
    )
    first = frame[frame["seed"] == seeds[0]]
    body += _listing(run, first.head(SHOWN), f"Seed {seeds[0]}: the first {SHOWN}", "t-taken_over")
    for seed in seeds:
        neurons = frame[frame["seed"] == seed]
        neurons = neurons.iloc[SHOWN:] if seed == seeds[0] else neurons
        if len(neurons):
            lead = "the others" if seed == seeds[0] else "all"
            title = f"Seed {seed}: {lead} ({len(neurons)})"
            body += html.details(title, _listing(run, neurons, title, f"t-taken_over-{seed}"))
    return body + _comparison(run, results, arm), ()


def _listing(run: Run, neurons: pd.DataFrame, title: str, anchor: str) -> str:
    word = figures.row_word(run)
    heads = (word, "channel", "rank before", "rank after", "tokens before", "tokens after")
    rows = map(_row, neurons.itertuples())
    heads = (*heads, "similarity")
    return html.listing("tokens", title, heads, rows, "tables/taken_over.csv", anchor)


def _row(record) -> tuple[str, ...]:
    before, now = list(record.tokens_base), list(record.tokens_final)
    note = " (pruned)" if record.pruned else ""
    ranks = (show(rank + 1, "int") for rank in (record.rank_base, record.rank_final))
    return (
        *(str(record.layer), f"<td>{record.channel}{note}</td>"),
        *(f"<td>{rank}</td>" for rank in ranks),
        f'<td class="words">{_words(before, ())}</td>',
        f'<td class="words">{_words(now, before)}</td>',
        f"<td>{show(record.similarity, 'f2')}</td>",
    )


def _words(words: Iterable[str], before: Iterable[str]) -> str:
    known = set(before)
    if not known:
        return html.text(" · ".join(map(str, words)))
    return " · ".join(
        f'<span class="{"kept" if w in known else "new"}">{html.text(w)}</span>' for w in words
    )


def _comparison(run: Run, results: Findings, arm: str) -> str:
    item = results.tables["takers"]
    row = item.row(arm)
    body = "<h3>What they were before, beside others of their layers</h3>"
    if row.has("share_base", "share_base_pool", "share_last", "share_last_pool"):
        text = (
            "{target} words made up {share_base} of their top tokens in the base model "
            "({share_base_pool} in others of the same layers) and {share_last} at the last stage "
            "({share_last_pool} in the others)."
        )
        body += f"<p>{html.prose(say(text, row, target=run.target))}</p>"
    return body + html.table(item, note="Mean ± standard deviation over seeds.")
