"""Memory and time of a training step by arithmetic, as the Markdown tables of docs/scaling.md.

    python scripts/scaling_table.py

Nothing is measured here; JAX is not needed. Sizes are in bytes and elements, times in seconds, GB
are 1e9 bytes. For a mesh of your own add a line to PLANS. Parameters, moments and gradients are
float32; the computation is bfloat16, with blocks recomputed in the backward pass.
"""

from __future__ import annotations

import math
from typing import NamedTuple

USABLE = 0.9
"""Share of a device's memory that a plan may fill."""
UTILISATION = 0.4
"""Assumed share of the peak that matrix products reach."""
LOSS_TOKENS = 1024
"""Tokens whose logits exist at once."""
UPDATE = 4
"""Bytes a parameter of a second gradient tree during the update, as XLA's analysis shows it."""


class Size(NamedTuple):
    """A model."""

    name: str
    layers: int
    width: int
    heads: int
    vocabulary: int
    block: int
    """Parameters of a block."""
    other: int
    """Parameters that are neither in a block nor the word embedding."""
    inner: int
    """Values a token inside a block that tensor parallelism splits."""
    dropout: bool

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        return self.layers * self.block + self.other + self.embedding


class Chip(NamedTuple):
    """A device: bytes of memory; the others a second. `link` is what it receives from its peers."""

    name: str
    memory: float
    flops: float
    bandwidth: float
    link: float


class Mesh(NamedTuple):
    """The axes of the config's `parallel`."""

    sets: int = 1
    data: int = 1
    fsdp: int = 1
    tensor: int = 1


class Plan(NamedTuple):
    """A step on `rows` sentences of `length` tokens for each of `sets` concept sets."""

    size: Size
    chip: Chip
    mesh: Mesh
    rows: int
    length: int
    sets: int = 1
    vocabulary_loss: bool = True
    """False: a tagger, whose few labels take no memory to speak of."""


class Memory(NamedTuple):
    """Bytes on one device."""

    state: float
    activations: float
    loss: float
    working: float
    update: float

    @property
    def peak(self) -> float:
        return self.state + max(self.activations + self.loss + self.working, self.update)


class Time(NamedTuple):
    """Seconds of one step of all sets."""

    compute: float
    update: float
    communication: float


def encoder(name: str, layers: int, d: int, f: int, heads: int, v: int, other: int) -> Size:
    """BERT's and GPT-2's blocks: biases, two LayerNorms, query, key, value and output [D, D]."""
    block = 4 * (d * d + d) + (2 * d * f + f + d) + 4 * d
    return Size(name, layers, d, heads, v, block, other, 4 * d + 2 * f, True)


def gemma(name: str, layers: int, d: int, f: int, heads: int, keys: int, v: int) -> Size:
    """Gemma 2's blocks: no biases, four RMSNorms, heads of 256, shared keys, gated feed-forward."""
    query, key = 256 * heads, 256 * keys
    block = 2 * d * query + 2 * d * key + 3 * d * f + 4 * d
    return Size(name, layers, d, heads, v, block, d, 2 * query + 2 * key + 3 * f, False)


def activations(size: Size, rows: float, length: int, tensor: int = 1, width: int = 2) -> float:
    """Bytes in the backward pass of one set, blocks recomputed, values of `width` bytes.

    One state [B, T, D] a layer; and inside one block all values and their gradients, and the
    attention scores, 12 bytes each, with dropout 28 (as XLA's analysis shows).
    """
    tokens = rows * length
    states = size.layers * tokens * size.width * width
    inside = 2 * tokens * (4 * size.width + size.inner / tensor) * width
    scores = rows * size.heads * length**2 * (28 if size.dropout else 12) / tensor
    return states + inside + scores


def working(size: Size, mesh: Mesh, width: int = 2) -> float:
    """Bytes of the largest piece of the parameters, a block or the word embedding, in use.

    A copy of `width` bytes a value; under fsdp also its whole gradient, before it is scattered.
    """
    return max(size.block, size.embedding) / mesh.tensor * (width + 4 * (mesh.fsdp > 1))


def memory(plan: Plan) -> Memory:
    """Bytes on one device at the step's peak."""
    size, mesh = plan.size, plan.mesh
    here = math.ceil(plan.sets / mesh.sets)
    shards = mesh.fsdp * mesh.tensor
    rows = plan.rows / (mesh.data * mesh.fsdp)
    logits = min(rows * plan.length, LOSS_TOKENS) * size.vocabulary * 8 / mesh.tensor
    return Memory(
        state=here * 16 * size.parameters / shards,
        activations=here * activations(size, rows, plan.length, mesh.tensor),
        loss=here * logits if plan.vocabulary_loss else 0.0,
        working=here * working(size, mesh),
        update=here * UPDATE * size.parameters / shards,
    )


def time(plan: Plan) -> Time:
    """Seconds of one step, each part by itself."""
    size, chip, mesh = plan.size, plan.chip, plan.mesh
    here = math.ceil(plan.sets / mesh.sets)
    shards = mesh.fsdp * mesh.tensor
    multiplied = size.layers * size.block + plan.vocabulary_loss * size.embedding
    flops = 6 * multiplied * plan.rows * plan.length * 4 / 3
    tokens = plan.rows * plan.length / (mesh.data * mesh.fsdp)
    sent = (
        3 * 4 * size.parameters / mesh.tensor * (1 - 1 / mesh.fsdp)
        + 2 * 4 * size.parameters / shards * (1 - 1 / mesh.data)
        + 6 * size.layers * 2 * tokens * size.width * 2 * (1 - 1 / mesh.tensor)
    )
    return Time(
        compute=here * flops / (mesh.data * shards) / (UTILISATION * chip.flops),
        update=here * 28 * size.parameters / shards / chip.bandwidth,
        communication=here * sent / chip.link,
    )


MINILM = encoder("MiniLM", 6, 384, 1536, 12, 30522, other=516 * 384)
DISTILBERT = encoder("DistilBERT", 6, 768, 3072, 12, 30522, other=514 * 768)
GPT2_XL = encoder("GPT-2 XL", 48, 1600, 6400, 25, 50257, other=1026 * 1600)
GEMMA_9B = gemma("Gemma 2 9B", 42, 3584, 14336, 16, 8, 256000)

V5E = Chip("v5e", 16e9, 197e12, 819e9, 100e9)
V6E = Chip("v6e", 32e9, 918e12, 1640e9, 200e9)
H100 = Chip("H100", 80e9, 989e12, 3350e9, 450e9)

PLANS = (
    Plan(DISTILBERT, V5E, Mesh(sets=8), 32, 128, sets=64, vocabulary_loss=False),
    Plan(DISTILBERT, V6E, Mesh(sets=8), 32, 128, sets=128, vocabulary_loss=False),
    Plan(DISTILBERT, H100, Mesh(sets=8), 32, 128, sets=320, vocabulary_loss=False),
    Plan(GPT2_XL, V5E, Mesh(fsdp=8), 64, 512),
    Plan(GPT2_XL, V5E, Mesh(data=2, fsdp=4), 64, 512),
    Plan(GPT2_XL, V6E, Mesh(data=8), 64, 512),
    Plan(GPT2_XL, V6E, Mesh(data=4, fsdp=2), 64, 512),
    Plan(GPT2_XL, H100, Mesh(data=8), 64, 512),
    Plan(GPT2_XL, H100, Mesh(sets=8), 64, 512, sets=8),
    Plan(GEMMA_9B, V5E, Mesh(fsdp=16), 64, 1024),
    Plan(GEMMA_9B, V5E, Mesh(fsdp=16, tensor=2), 64, 1024),
    Plan(GEMMA_9B, V6E, Mesh(fsdp=8), 64, 1024),
    Plan(GEMMA_9B, V6E, Mesh(fsdp=16), 64, 1024),
    Plan(GEMMA_9B, H100, Mesh(fsdp=8), 64, 1024),
    Plan(GEMMA_9B, H100, Mesh(fsdp=4, tensor=2), 64, 1024),
)


def table(header: str, rows: list[list[str]], text: int) -> str:
    """A Markdown table whose first `text` columns are text, the others numbers."""
    columns = header.split(" | ")
    rule = ["---"] * text + ["---:"] * (len(columns) - text)
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, rule, *rows))


def place(plan: Plan) -> list[str]:
    mesh = " x ".join(map(str, plan.mesh))
    return [plan.size.name, f"{math.prod(plan.mesh)} {plan.chip.name}", mesh, str(plan.sets)]


def gb(value: float) -> str:
    return f"{value / 1e9:.1f}"


def ms(value: float) -> str:
    return f"{value * 1e3:,.0f}"


def sizes() -> str:
    rows = []
    for size in (MINILM, DISTILBERT, GPT2_XL, GEMMA_9B):
        counts = [f"{n:,}" for n in (size.parameters, size.block, size.embedding)]
        rows.append([size.name, *counts, f"{16 * size.parameters / 1e9:.2f}"])
    return table("model | parameters | of a block | of the word embedding | 16 B each, GB", rows, 1)


def memories() -> str:
    rows = []
    for plan in PLANS:
        m = memory(plan)
        share = m.peak / plan.chip.memory
        parts = [gb(v) for v in (m.state, m.activations, m.loss, m.working, m.update, m.peak)]
        fits = f"{share:.0%}" if share <= USABLE else f"{share:.0%}: no"
        rows.append([*place(plan), f"{plan.rows} x {plan.length}", *parts, fits])
    return table(
        "model | devices | mesh | sets | batch a set | state | activations | logits | working | "
        "update | peak, GB | of the memory", rows, 5,
    )  # fmt: skip


def times() -> str:
    rows = []
    for plan in PLANS:
        if memory(plan).peak > USABLE * plan.chip.memory:
            continue
        t = time(plan)
        local = t.compute + t.update
        step = f"{ms(max(local, t.communication))} to {ms(local + t.communication)}"
        if t.communication == 0:
            step = ms(local)
        speed = plan.sets * plan.rows * plan.length / (local + t.communication)
        parts = [ms(v) for v in (t.compute, t.update, t.communication)]
        rows.append([*place(plan), *parts, step, f"{speed / 1e3:,.0f}"])
    return table(
        "model | devices | mesh | sets | compute | update | communication | step, ms | "
        "thousand tokens/s", rows, 4,
    )  # fmt: skip


def chunks() -> str:
    """How many sets one device holds, and the time of each of them."""
    rows = []
    for size, batch, length in ((MINILM, 32, 128), (DISTILBERT, 32, 128), (GPT2_XL, 8, 512)):
        row = [size.name, f"{batch} x {length}"]
        for chip in (V5E, V6E, H100):
            plan = Plan(size, chip, Mesh(), batch, length, vocabulary_loss=False)
            most = int(USABLE * chip.memory / memory(plan).peak)
            t = time(plan)
            row += [str(most), f"{(t.compute + t.update) * 1e3:.1f}" if most else "-"]
        rows.append([*row[:2], gb(memory(plan).peak), *row[2:]])
    return table(
        "tagger | batch | a set, GB | v5e: sets | ms a set | v6e: sets | ms a set | "
        "H100: sets | ms a set", rows, 1,
    )  # fmt: skip


def tables() -> dict[str, str]:
    """The tables by their place in the document."""
    return {"sizes": sizes(), "memory": memories(), "time": times(), "chunk": chunks()}


if __name__ == "__main__":
    for name, text in tables().items():
        print(f"{name}\n\n{text}\n")
