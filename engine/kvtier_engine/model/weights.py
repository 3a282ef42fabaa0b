"""Reads safetensors, single or sharded, into this rank's part of the model."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from kvtier_engine.model.errors import ModelError

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, from one thread at a time."""

_INDEX = "model.safetensors.index.json"
# Tables that older exports kept although they follow from the configuration.
_DERIVED_SUFFIXES = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a checkpoint's tensor and the memory of this rank that it fills.

    `shape` is that of the checkpoint's tensor, `rows` and `columns` are ranges of it (None:
    all); `into` has the rectangle's shape, any dtype and device.
    """

    name: str
    shape: tuple[int, ...]
    into: torch.Tensor
    rows: range | None = None
    columns: range | None = None


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted by name. Raises ModelError if one is missing."""
    index = folder / _INDEX
    if index.exists():
        files = sorted({folder / name for name in _weight_map(index).values()})
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{folder} holds no *.safetensors file",
            "weights in other formats (.bin, .pth) are not read: convert them to safetensors",
        )
    for path in files:
        if not path.is_file():
            raise ModelError(f"{path} is missing, though {_INDEX} names it", "download it again")
    return files


def count_parameters(folder: Path) -> int:
    """Numbers in all tensors of the folder. Raises ModelError, SafetensorError."""
    count = 0
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping: it has no __iter__)
                count += math.prod(file.get_slice(name).get_shape())
    return count


def load_weights(
    folder: Path, parts: Sequence[Part], *, ignore: Iterable[str], workers: int, progress: Progress
) -> None:
    """Fills every part from the folder's files, with `workers` threads.

    `ignore` names tensors that may be in the files and are not wanted. Raises ModelError
    that names every missing and every unexpected tensor, a tensor of another shape, or a
    file that is damaged or cut short.
    """
    where = _locate(weight_files(folder))
    _check_names(folder, where, {part.name for part in parts}, set(ignore))
    meter = _Meter(sum(part.into.nbytes for part in parts), progress)
    reader = _Reader()

    def fill(part: Part) -> None:
        reader.fill(where[part.name], part)
        meter.add(part.into.nbytes)

    with ThreadPoolExecutor(workers, thread_name_prefix="weights") as pool:
        for _ in pool.map(fill, parts):
            pass


class _Meter:
    """Adds up bytes over threads and tells progress in order."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.done = 0
        self.total = total
        self.progress = progress
        self.lock = threading.Lock()

    def add(self, size: int) -> None:
        with self.lock:
            self.done += size
            self.progress(self.done, self.total)


class _Reader:
    """Open files, one set a thread: a handle is not shared between threads."""

    def __init__(self) -> None:
        self.local = threading.local()

    def fill(self, path: Path, part: Part) -> None:
        handles: dict[Path, Any] = self.local.__dict__.setdefault("handles", {})
        if path not in handles:
            handles[path] = _open(path)
        view = handles[path].get_slice(part.name)
        shape = tuple(view.get_shape())
        if shape != part.shape:
            raise ModelError(
                f"{path}: tensor {part.name} has shape {shape}; config.json asks for {part.shape}",
                "the weights and the configuration are of different models",
            )
        ranges = (part.rows, part.columns)[: len(shape)]
        spans = tuple(slice(r.start, r.stop) if r is not None else slice(None) for r in ranges)
        with torch.inference_mode():  # a setting of each thread
            part.into.copy_(view[spans])


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is damaged or cut short ({error})", "download it again"
        ) from error


def _locate(files: Sequence[Path]) -> dict[str, Path]:
    """Which file holds which tensor, from the files' own headers."""
    return {name: path for path in files for name in _open(path).keys()}  # noqa: SIM118


def _weight_map(index: Path) -> dict[str, str]:
    try:
        named = json.loads(index.read_bytes())["weight_map"]
        return {str(name): str(file) for name, file in named.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is damaged: {error!r}", "download it again") from error


def _check_names(folder: Path, found: Iterable[str], wanted: set[str], ignore: set[str]) -> None:
    names = {name for name in found if not name.endswith(_DERIVED_SUFFIXES)}
    complaints = [
        f"{len(group)} {what}: {', '.join(group)}"
        for what, group in (
            ("missing", sorted(wanted - names)),
            ("unexpected", sorted(names - wanted - ignore)),
        )
        if group
    ]
    if complaints:
        raise ModelError(
            f"{folder}: the weights do not match config.json; tensors " + "; ".join(complaints),
            "the files are incomplete or of another model: download the folder again",
        )
