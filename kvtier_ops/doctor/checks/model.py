"""Checks of the model's files: complete, readable, and on a disk that loads them in time."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.place import write_fix
from kvtier_ops.errors import ModelError
from kvtier_ops.host import DriveKind, FileSystem
from kvtier_ops.host.mounts import MountTable
from kvtier_ops.model.gguf_header import expected_bytes
from kvtier_ops.model.safetensors_header import has_weights, weights_against_index
from kvtier_ops.plan.measured import read_disks
from kvtier_ops.plan.rates import DISK_CLASSES
from kvtier_ops.tune.find import (
    READAHEAD_ENOUGH_KIB,
    READAHEAD_KIB,
    READAHEAD_MATTERS_BYTES,
    readahead_of,
)
from kvtier_ops.units import format_bytes, format_decimal

_TOKENIZERS = ("tokenizer.json", "tokenizer.model")
_SLOW_KINDS = (DriveKind.HDD, DriveKind.NETWORK, DriveKind.OVERLAY, DriveKind.VIRTUAL)
_LOAD_S_MAX = 60.0


def model_files(context: Context) -> Iterator[Outcome]:
    """Configuration, every shard of the weights, and a tokenizer."""
    required = "config.json, all weights and a tokenizer"
    refusal = context.refusal
    if isinstance(refusal, ModelError):
        for problem in refusal.problems:
            yield Outcome(False, required, problem.what, problem.hint)
    elif context.prepared:
        path = context.prepared.model.path
        missing = _missing(path)
        yield Outcome(
            ok=not missing,
            required=required,
            current=missing or f"complete (`{path}`)",
            fix="download the model again",
        )


def _missing(path: Path) -> str:
    """What read_model can do without: weights, the tokenizer, or the end of a GGUF file."""
    if path.is_dir():
        if not has_weights(path):
            return f"`{path}` holds no weights (*.safetensors)"
        has_tokenizer = any((path / name).is_file() for name in _TOKENIZERS)
        return "" if has_tokenizer else f"`{path}` has no tokenizer ({' or '.join(_TOKENIZERS)})"
    if path.suffix == ".json":
        return f"`{path}` is a configuration without weights: it can be planned for"
    size, wanted = path.stat().st_size, expected_bytes(path)
    return "" if size >= wanted else f"`{path}` is cut off: {size:,} of {wanted:,} bytes"


def weights_agree(context: Context) -> Iterator[Outcome]:
    """Every tensor of the index is in the file that it names; files end where they say."""
    folder = context.prepared.model.path if context.prepared else None
    if folder is None or not folder.is_dir() or not has_weights(folder):
        return
    ill, files = weights_against_index(folder)
    yield Outcome(
        ok=not ill,
        required="files with the tensors of the index, as long as their headers say",
        current=ill or f"{files} file{'s' * (files > 1)} of weights agree",
        fix="download the model again, into an empty folder",
    )


def readable(context: Context) -> Iterator[Outcome]:
    """Every file that the engine reads, opened and read a byte of."""
    if context.prepared is None:
        return
    path = context.prepared.model.path
    files = _files(path)
    ills = [ill for each in files if (ill := _unreadable(each))]
    yield Outcome(
        ok=not ills,
        required=f"files that uid {os.geteuid()} may read",
        current=ills[0] + (f", and {len(ills) - 1} more" if len(ills) > 1 else "")
        if ills
        else f"{len(files)} can be read",
        # A download cache has links, which `chmod -R` does not follow.
        fix=f"`sudo find -L {shlex.quote(str(path))} -exec chmod a+rX {{}} +`, or look after the "
        "disk below",
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    kinds = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")
    return sorted({file for kind in kinds for file in path.glob(kind) if not file.is_dir()})


def _unreadable(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"`{path.name}`: {(error.strerror or str(error)).lower()}"
    return ""


def model_disk(context: Context) -> Iterator[Outcome]:
    """How long the weights take to come from where they lie."""
    if context.prepared is None:
        return
    path = context.prepared.model.path
    files = _files(path)
    try:
        # Folders of a download cache hold links to where the bytes are.
        largest = max(files, key=lambda file: file.stat().st_size)
        on = MountTable(context.root).holding(largest.resolve().parent)
        size = sum(file.stat().st_size for file in files)
    except (OSError, ValueError):
        return
    rate, source = _read_rate(on)
    seconds = size / rate
    kind = f"{on.kind or 'a file system'} ({on.drive_kind})"
    yield Outcome(
        ok=on.drive_kind not in _SLOW_KINDS or seconds <= _LOAD_S_MAX,
        required=f"a place that is read in {_LOAD_S_MAX:.0f} s",
        current=f"on {kind}: {_time(seconds)} to read, at {format_decimal(rate)}/s ({source})",
        fix=f"copy it to a local SSD or NVMe drive, `cp -rL {shlex.quote(str(path))} DIR`, and set "
        "`model.path`",
        reason=f"each start reads {format_bytes(size)}",
    )


def readahead(context: Context) -> Iterator[Outcome]:
    """Weights are read through a mapping: as far ahead as the kernel dares."""
    if context.plan is None or context.plan.model.weight_bytes < READAHEAD_MATTERS_BYTES:
        return
    setting = readahead_of(context.plan.model.path, context.root)
    if setting is None:
        return
    try:
        kib = int(setting.read(context.root))
    except (OSError, ValueError):
        return
    yield Outcome(
        ok=kib >= READAHEAD_ENOUGH_KIB,
        required=f"{READAHEAD_ENOUGH_KIB:,} KiB or more",
        current=f"{kib:,} KiB",
        fix=write_fix(context, str(READAHEAD_KIB), setting.path, tuned=True),
        reason=f"each start reads {format_bytes(context.plan.model.weight_bytes)} in one go",
    )


def _read_rate(on: FileSystem) -> tuple[float, str]:
    measured = read_disks().get(on.key)
    if measured is not None:
        return measured.read_bytes_per_s, "measured"
    return DISK_CLASSES[on.drive_kind][0], "assumed of its kind"


def _time(seconds: float) -> str:
    if seconds < 1:
        return "under a second"
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} minutes"


def chat_template(context: Context) -> Iterator[Outcome]:
    """Without one, /v1/chat/completions cannot turn messages into a prompt."""
    if context.prepared is None or not context.prepared.model.path.is_dir():
        return
    folder = context.prepared.model.path
    has_template = (folder / "chat_template.jinja").exists() or _config_has_template(folder)
    yield Outcome(
        ok=has_template,
        required="in tokenizer_config.json or chat_template.jinja",
        current="there" if has_template else "none: this is a base model, or files are missing",
        fix="use /v1/completions, or add the model's chat_template.jinja",
        reason="/v1/chat/completions makes prompts by it",
    )


def _config_has_template(folder: Path) -> bool:
    try:
        values = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and bool(values.get("chat_template"))


CHECKS = (
    Check(
        "KVT-D401",
        "model",
        "files of the model",
        Severity.FAILURE,
        model_files,
        needs=Needs.PROFILE,
        passes="the model has configuration, all weights and a tokenizer",
        why="A download that was cut off leaves files that look whole. The engine would find that "
        "out after minutes of loading, or not start at all. Sizes are compared with what the "
        "files' own headers say, and the shards with those of the index. The fix fetches it again.",
    ),
    Check(
        "KVT-D402",
        "model",
        "chat template",
        Severity.WARNING,
        chat_template,
        needs=Needs.PLAN,
        passes="the model has a chat template",
        why="/v1/chat/completions turns messages into a prompt by the model's own template; "
        "without one it answers 400, and /v1/completions alone is of use. Base models have none "
        "on purpose. The fix adds the file that newer model folders have beside the tokenizer.",
    ),
    Check(
        "KVT-D403",
        "model",
        "weights",
        Severity.FAILURE,
        weights_agree,
        needs=Needs.PLAN,
        passes="every tensor of the index is where it says, and no file is longer than its header "
        "says",
        why="Shards of two versions of a model in one folder have the right names and the wrong "
        "tensors, and a file that is too long was not written by one download. The engine would "
        "fail while it loads, or take weights that do not belong together. The fix fetches it "
        "again into an empty folder.",
    ),
    Check(
        "KVT-D404",
        "model",
        "reading the model",
        Severity.FAILURE,
        readable,
        needs=Needs.PLAN,
        passes="every file of the model can be read by this user",
        why="Models are often downloaded by root, into folders that a service's user may not "
        "read, and links of a download cache lead to places that are not mounted. The fix lets "
        "everybody read the folder.",
    ),
    Check(
        "KVT-D405",
        "model",
        "disk of the model",
        Severity.WARNING,
        model_disk,
        needs=Needs.PLAN,
        passes="the weights can be read in a minute, or lie on a local SSD",
        why="Every start, and every restart after a crash, reads all weights; from a network or a "
        "disk that turns this takes minutes in which nobody is served. The time is estimated "
        "from the kind of drive, or from what `kvtier bench disk` measured. The fix is a copy on "
        "a local drive.",
    ),
    Check(
        "KVT-D406",
        "model",
        "readahead for the weights",
        Severity.WARNING,
        readahead,
        needs=Needs.PLAN,
        passes="the disk that weights of 1 GiB or more lie on reads 1 MiB ahead at least",
        why="Weights are read once, from one end to the other, through the page cache. With the "
        "kernel's 128 KiB a fast disk waits between small reads: with 4 MiB the same disk gave "
        "twice as much (docs/benchmarks.md). Pages of L3 go past the page cache, and do not "
        "care. The fix raises it until the next start of the host.",
    ),
)
