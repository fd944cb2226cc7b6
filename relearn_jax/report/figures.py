"""The figures of the page, one function each; they draw what the tables hold.

Axes: S rows (states or blocks), D channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from relearn_jax.report.draw import Key, Panel, Plot, image, light, line
from relearn_jax.report.layer_tables import EVERY, shown_stages
from relearn_jax.report.reading import Run, last_stage, main_arm, stage_name
from relearn_jax.report.tables import Table
from relearn_jax.report.task_tables import ARM_NAMES, types

LOOKS = {"concept": ("o", "-"), "random": ("s", "--"), "layer_matched": ("^", "-."),
         "bottom": ("D", ":")}  # fmt: skip
ARM_KEYS = {arm: Key(ARM_NAMES[arm], arm, *look) for arm, look in LOOKS.items()}


def arm_keys(run: Run) -> tuple[Key, ...]:
    """Legend entries of the arms of this run."""
    return tuple(ARM_KEYS[arm] for arm in run.arms)


def stage_keys(run: Run, stages: tuple[str, ...]) -> dict[str, Key]:
    """The look of base, pruned, first round and last stage."""
    looks = {
        "base": Key("base", "before", "o", ":"),
        "pruned": Key("pruned", "cut", "x", "-."),
        "round1": Key("round 1", "first", "s", "--"),
    }
    last = Key(stage_name(stages[-1]), "last", "o", "-")
    return {s: looks[s] if s in looks and s != stages[-1] else last for s in stages}


def task(run: Run, kinds: tuple[str, ...], name: str, size: tuple[float, float]) -> Plot:
    """F1 against retraining epochs for every arm, one panel for each entity type."""
    scores = run.tables["scores"]
    scores = scores[scores["variant"] == "word"]
    top = min(1.0, float(scores["f1"].max()) * 1.08 + 0.02)
    panels = []
    for kind in kinds:
        some = scores[scores["type"] == kind]

        def draw(ax: Axes, some=some, kind=kind) -> None:
            base = some.loc[some["stage"] == "base", "f1"]
            ax.axhline(base.mean(), color=light("before"), linewidth=1, linestyle=(0, (2, 2)))
            for arm in run.arms:
                _curve(ax, some[some["arm"] == arm], ARM_KEYS[arm])
            _epochs(ax, run, some)
            ax.set_ylim(-0.02 * top, top)
            ax.set_ylabel("F1")
            ax.set_title("All entity types" if kind == "all" else kind)

        label = "all entity types" if kind == "all" else kind
        panels.append(Panel(draw, f"F1 on {label} against retraining epochs, by arm", size))
    legend = (*arm_keys(run), Key("base model", "before", "", ":"))
    return Plot(name, tuple(panels), legend, columns=min(len(panels), 3))


def _curve(ax: Axes, some, key: Key) -> None:
    some = some[(some["stage"] == "pruned") | (some["epoch"] > 0)]
    wide = some.pivot_table(index="epoch", columns="seed", values="f1")
    if wide.empty:
        return
    if wide.shape[1] > 1:
        for seed in wide:
            ax.plot(wide.index, wide[seed], color=light(key.colour), linewidth=0.8, alpha=0.35)
    line(ax, wide.index.to_numpy(), wide.mean(axis=1).to_numpy(), key)


def _epochs(ax: Axes, run: Run, some) -> None:
    retrain = run.config.get("retrain") or {}
    step, last = int(retrain.get("epochs", 1)), int(some["epoch"].max())
    every = max(1, -(-last // 8))
    ticks = [0, *range(every, last + 1, every)]
    ax.set_xticks(ticks, ["pruned", *map(str, ticks[1:])])
    for end in range(step, last, step):
        ax.axvline(end, color=light("rule"), linewidth=0.7, zorder=0)
    ax.set_xlim(-0.35, max(last, 1) + 0.35)
    ax.set_xlabel("retraining epochs")


def heat_maps(run: Run, maps: Mapping[str, np.ndarray], cut: np.ndarray | None, name: str) -> Plot:
    """Saliency of every neuron, one [S, D] map to a stage, and the mask of the pruned ones."""
    panels = []
    stack = [("pruned neurons (dark)", cut.astype(float))] if cut is not None else []
    stages = [(stage_name(s), m) for s, m in maps.items()]
    every = [*stages[:1], *stack, *stages[1:]]
    top = 1.0 if name.endswith("rank") else float(np.nanquantile(list(maps.values()), 0.995))
    for index, (title, values) in enumerate(every):
        binary = values is cut or title.startswith("pruned neurons")
        final = index == len(every) - 1

        def draw(ax: Axes, values=values, title=title, binary=binary, final=final) -> None:
            look = dict(cmap="Greys", vmin=-0.35, vmax=1.4) if binary else dict(
                cmap="viridis", vmin=0, vmax=top)  # fmt: skip
            image(ax, values, **look)
            ax.grid(False)
            _row_ticks(ax.yaxis, len(values))
            ax.set_ylabel(row_word(run))
            ax.set_title(title)
            if not final:
                ax.set_xticklabels([])
            else:
                ax.set_xlabel("channel")

        height = 46 + 11 * len(values) + (24 if final else 0)
        summary = f"{title}: {row_word(run)} by channel, {values.shape[0]} by {values.shape[1]}"
        panels.append(Panel(draw, summary, (1000, height)))
    return Plot(name, tuple(panels), columns=1)


def colour_bar(top: float, label: str) -> Plot:
    """The scale of the heat maps."""

    def draw(ax: Axes) -> None:
        image(ax, np.linspace(0, 1, 128)[None], cmap="viridis", extent=(0, top, 0, 1))
        ax.set_yticks([])
        ax.grid(False)
        ax.spines["left"].set_visible(False)
        ax.set_title(label, fontweight="normal", fontsize=12)

    return Plot("scale", (Panel(draw, f"Colour scale: {label}, 0 to {top:.2g}", (300, 66)),))


def row_word(run: Run) -> str:
    """What a row is: a hidden state, or a block whose feed-forward units are followed."""
    return "block" if run.manifest["neurons"].get("site") == "mlp" else "state"


def _row_ticks(axis, rows: int) -> None:
    step = 1 if rows <= 8 else 2 if rows <= 16 else 4
    axis.set_ticks(range(0, rows, step))


def by_layer(
    run: Run, tables: tuple[Table, ...], labels: tuple[str, ...], arm: str, name: str
) -> Plot:
    """Measures by layer at the main stages, unpruned and pruned neurons in panels of their own.

    Bars are the 95 % interval of the mean over neurons, averaged over seeds.
    """
    stages = shown_stages(run, arm, "layers")
    keys = stage_keys(run, stages)
    legend = tuple(keys.values())
    panels = []
    for table, label in zip(tables, labels, strict=True):
        for group in ("unpruned", "pruned"):

            def draw(ax: Axes, table=table, label=label, group=group) -> None:
                rows = _rows(table, arm)
                extra = f"arithmetic_{group}"
                for stage in stages:
                    if f"{stage}_{group}" in rows:
                        error = _error(run, table, arm, stage, group, rows["layer"])
                        values = rows[f"{stage}_{group}"].to_numpy(float)
                        line(ax, rows["layer"].to_numpy(float), values, keys[stage], error)
                if extra in rows:
                    line(ax, rows["layer"].to_numpy(float), rows[extra].to_numpy(float), THEORY)
                _layer_axis(ax, run, rows)
                ax.set_ylabel(label)
                ax.set_title(f"{group.capitalize()} neurons")

            panels.append(Panel(draw, f"{table.caption} by {row_word(run)}, {group} neurons"))
    if any("arithmetic_unpruned" in t.frame for t in tables):
        legend = (*legend, THEORY)
    return Plot(name, tuple(panels), legend)


THEORY = Key("rank arithmetic alone", "theory", "", (0, (1, 1.2)))


def _rows(table: Table, arm: str):
    frame = table.frame
    frame = frame[(frame["arm"] == arm) & (frame["layer"] != EVERY)]
    return frame.sort_values("layer", key=lambda x: x.astype(int))


def _error(run: Run, table: Table, arm: str, stage: str, group: str, rows) -> np.ndarray:
    measure = table.name if table.name in MEASURE_NAMES else table.name.replace(
        "layers_", "saliency_")  # fmt: skip
    frame = run.tables["layers"]
    use = (frame["arm"] == arm) & (frame["stage"] == stage) & (frame["pruned"] == group)
    frame = frame[use & (frame["measure"] == measure) & (frame["concept"] == run.target)]
    return frame.groupby("layer")["ci95"].mean().reindex(list(rows)).to_numpy(float)


MEASURE_NAMES = ("token_jaccard", "target_share", "similarity")


def _layer_axis(ax: Axes, run: Run, rows) -> None:
    _row_ticks(ax.xaxis, int(rows["layer"].astype(int).max()) + 1 if len(rows) else 1)
    ax.set_xlabel(f"{row_word(run)} (0: embedding)" if row_word(run) == "state" else "block")
    low, high = ax.get_ylim()
    if low > -0.02 * high:
        ax.set_ylim(bottom=0)


def change_by_arm(run: Run, tables: tuple[Table, ...], labels: tuple[str, ...], name: str) -> Plot:
    """What relearning did to each layer, in every arm: last stage minus base."""
    panels = []
    for table, label in zip(tables, labels, strict=True):
        for group in ("unpruned", "pruned"):

            def draw(ax: Axes, table=table, label=label, group=group) -> None:
                ax.axhline(0, color=light("muted"), linewidth=0.8)
                for arm in run.arms:
                    last = f"{last_stage(run, arm, 'layers')}_{group}"
                    rows = _rows(table, arm)
                    if last in rows:
                        change = (rows[last] - rows[f"base_{group}"]).to_numpy(float)
                        line(ax, rows["layer"].to_numpy(float), change, ARM_KEYS[arm])
                _row_ticks(ax.xaxis, int(run.manifest["neurons"]["rows"]))
                ax.set_xlabel(row_word(run))
                ax.set_ylabel(f"change in {label}")
                ax.set_title(f"{group.capitalize()} neurons")

            summary = f"Change from base to last stage of {label} by {row_word(run)}, {group}"
            panels.append(Panel(draw, summary))
    return Plot(name, tuple(panels), arm_keys(run))


def similarity(run: Run, table: Table, arms: tuple[str, ...]) -> Plot:
    """Similarity to the base model by layer, over the band of its null."""
    panels = []
    first = Key("round 1", "first", "s", "--")
    last = Key(stage_name(last_stage(run, main_arm(run), "layers")), "last", "o", "-")
    for arm in arms:
        for group in ("unpruned", "pruned"):

            def draw(ax: Axes, arm=arm, group=group) -> None:
                rows = _rows(table, arm)
                x = rows["layer"].to_numpy(float)
                low, high = (rows[f"{end}_{group}"].to_numpy(float) for end in ("low", "high"))
                ax.fill_between(x, low, high, color=light("band"), alpha=0.75, linewidth=0)
                for key, part in ((first, "first"), (last, "last")):
                    error = None
                    if part == "last":
                        stage = last_stage(run, arm, "layers")
                        error = _error(run, table, arm, stage, group, rows["layer"])
                    line(ax, x, rows[f"{part}_{group}"].to_numpy(float), key, error)
                _layer_axis(ax, run, rows)
                ax.set_ylabel("similarity to base")
                ax.set_title(f"{ARM_NAMES[arm].capitalize()}: {group}")

            panels.append(Panel(draw, f"Similarity to base by layer, {ARM_NAMES[arm]}, {group}"))
    return Plot("similarity", tuple(panels), (first, last, Key("null, 95 %", "band", "", "band")))


def density(run: Run, points: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Plot:
    """Saliency against similarity of all neurons of the main arm, as a density."""
    panels = []
    for group, (x, y) in points.items():

        def draw(ax: Axes, x=x, y=y, group=group) -> None:
            low = min(-0.2, float(x.min())) if x.size else -0.2
            counts, _, _ = np.histogram2d(y, x, bins=(36, 48), range=((0, 1), (low, 1)))
            # One colour that holds on either background; the density is its opacity.
            rgba = np.empty((*counts.shape, 4))
            rgba[..., :3] = (0.16, 0.53, 0.80) if group == "unpruned" else (0.85, 0.42, 0.24)
            rgba[..., 3] = np.sqrt(counts / max(counts.max(), 1))
            image(ax, rgba, origin="lower", extent=(low, 1, 0, 1))
            ax.set_xlabel("similarity to base")
            ax.set_ylabel("saliency by rank")
            ax.set_title(f"{group.capitalize()} neurons (n = {x.size})")

        panels.append(Panel(draw, f"Saliency against similarity, {group} neurons"))
    return Plot("relation", tuple(panels))
