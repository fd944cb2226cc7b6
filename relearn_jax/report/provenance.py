"""How a run was made, for every experiment: settings, versions, devices, times; heads of pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from relearn_jax.report import html
from relearn_jax.report.html import Drawn
from relearn_jax.report.reading import Directory
from relearn_jax.report.tables import Sentence


class Work(NamedTuple):
    """A kind of work that stages do, which has a row in the table of wall times."""

    key: str
    label: str
    does: Callable[[str], bool]
    """Whether a stage of this name does it."""


def settings(run: Directory, kinds: Sequence[Work]) -> Drawn:
    """Everything needed to repeat the run; wall time is added up for each of the kinds of work."""
    manifest = run.manifest
    wall = manifest.get("wall_s") or {}
    single = [(f"wall_s.{k}", str(k), seconds(v)) for k, v in wall.items()]
    times = _times(run, kinds)
    # Times have a table of their own. That of the report is not known before the page is written.
    apart = ("data", "stages", *(k for k in manifest if k.endswith("_s")))
    about = {k: v for k, v in manifest.items() if k not in apart}
    rest = [(k, k, shown) for k, shown in flatten(about)]
    config = [(k, k, shown) for k, shown in flatten(run.config)]
    body = html.pairs(times, "manifest", "manifest.json", "Wall time")
    body += html.pairs(rest, "manifest", "manifest.json", "Model, data, versions, devices")
    digests = [
        (f"data.{role}.sha256", f"{role} text, SHA-256", str(facts.get("sha256", "")))
        for role, facts in (manifest.get("data") or {}).items()
    ]
    if digests:
        body += html.pairs(digests, "manifest", "manifest.json", "Data hashes")
    body += html.details(
        "All settings", html.pairs(config, "config", "config.yaml", "Resolved config")
    )
    if single:
        body += html.details(
            "Wall time of every stage", html.pairs(single, "manifest", "manifest.json", "Wall time")
        )
    return body, ()


def _times(run: Directory, kinds: Sequence[Work]) -> list[tuple[str, str, str]]:
    """Wall time by kind of work, and of all sessions on the run."""
    wall, total = run.manifest.get("wall_s") or {}, run.manifest.get("total_s")
    times = [(kind, [s for name, s in wall.items() if kind.does(name)]) for kind in kinds]
    rows = [(kind.key, kind.label, seconds(sum(spent))) for kind, spent in times if spent]
    rows += [("total_s", "all sessions", seconds(total))] if total is not None else []
    compiling = run.manifest.get("compile_s")
    return rows + ([("compile_s", "compiling", seconds(compiling))] if compiling else [])


def seconds(value: float) -> str:
    """A time in seconds, with minutes or hours where it is long."""
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def flatten(value: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf as (dotted key, text). Lists stand on one line; no value is `not set`."""
    for key, part in value.items():
        name = f"{at}{key}"
        if isinstance(part, Mapping) and part:
            yield from flatten(part, f"{name}.")
        elif isinstance(part, list | tuple):
            yield name, ", ".join(map(str, part)) or "–"
        elif part is None or part == "" or part == {}:
            yield name, "not set"
        elif isinstance(part, bool):
            yield name, "yes" if part else "no"
        elif isinstance(part, int):
            yield name, html.show(part, "int")
        else:
            yield name, str(part)


def model(run: Directory) -> str:
    """HTML that names the model and its size."""
    about = run.manifest.get("model") or {}
    parameters = about.get("parameters")
    size = f", {parameters / 1e6:.1f} M parameters" if parameters else ""
    source = about.get("source", "not named")
    return f"{'random weights' if source == 'random' else html.text(source)}{size}"


def steps(run: Directory, items: Sequence[str]) -> str:
    """What was done: the description of the run, and its steps as HTML."""
    described = run.manifest.get("description")
    about = f"<p>{html.text(described)}</p>" if described else ""
    return f'{about}<ol class="prose">{"".join(f"<li>{item}</li>" for item in items)}</ol>'


def document(
    run: Directory,
    title: str,
    sentence: Sentence,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[tuple[str, str, Drawn]],
    protocol: str,
    notice: str = "",
    above: str = "",
) -> Drawn:
    """A page of a run: title, one-line verdict, facts at a glance, sections, and its origin."""
    return html.document(
        title=f"{run.manifest.get('name', run.folder.name)}: {title}",
        header=head(run, title, html.prose(sentence), facts, notice, above),
        sections=sections,
        footer=footer(run.manifest, protocol),
    )


def head(
    run: Directory,
    title: str,
    sentence: str,
    facts: Sequence[tuple[str, str]],
    notice: str,
    above: str = "",
) -> str:
    """The head of a page: name, title, the one-line verdict, and the facts at a glance as HTML."""
    items = "".join(f"<li><b>{name}</b><span>{value}</span></li>" for name, value in facts)
    name = html.text(run.manifest.get("name", run.folder.name))
    return (
        f'<p class="kicker">relearn_jax · {name}</p>'
        f'{above}<h1>{html.text(title)}</h1><p class="lede">{sentence}</p>'
        f'<ul class="meta">{items}</ul>{notice}'
    )


def footer(manifest: Mapping[str, Any], protocol: str) -> str:
    """When the run was made, what the page was made from, and whose protocol it follows."""
    ended = manifest.get("finished")
    when = f"Run started {manifest.get('started', 'at an unknown time')}" + (
        f", finished {ended}." if ended else ", not finished."
    )
    return (
        f"{html.text(when)} Made from the files of the run directory alone; "
        f"<code>relearn report</code> makes it again. Protocol: {html.text(protocol)}."
    )


def unfinished(items: Sequence[str]) -> str:
    """A notice that the run is unfinished, with the list of what is missing."""
    items = items or ["the end of the run is not in manifest.json"]
    listed = "".join(f"<li>{html.text(item)}</li>" for item in items)
    return (
        '<div class="notice" role="note"><p><b>This run is unfinished.</b> The report shows what '
        f"is there. Missing:</p><ul>{listed}</ul></div>"
    )
