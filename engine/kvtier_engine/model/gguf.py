"""GGUF files: converted once, and kept as a Hugging Face folder beside the file.

Nothing here imports torch; model.gguf_convert does the conversion itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvtier_engine.model.errors import ModelError

Progress = Callable[[int, int], None]

# Written last of all: what the folder was made from.
_RECORD = "kvtier-conversion.json"
_MAGIC = b"GGUF"
# Part of the record: raise it when a conversion would come out differently.
_CONVERSION_VERSION = 1


def is_gguf(path: Path) -> bool:
    """True if `path` is to be read as a GGUF file: by its name or, for a file, its first bytes."""
    if path.is_dir():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def model_folder(path: Path) -> Path:
    """The Hugging Face folder of a model: `path` itself, or where a GGUF file's conversion
    lies, or will lie once `convert` has run. Reads at most file metadata."""
    if not is_gguf(path):
        return path
    places = _places(path)
    for place in places:
        if _is_current(place, path):
            return place
    return next((place for place in places if _is_writable(place)), places[-1])


def needs_conversion(path: Path) -> bool:
    """True if `path` is a GGUF file whose conversion is missing or of an older file."""
    return is_gguf(path) and not _is_current(model_folder(path), path)


def convert(path: Path, progress: Progress) -> Path:
    """Makes the folder of a GGUF file and returns it; does nothing if it is there already.

    Written beside the file or, if that place is read-only, under the XDG cache folder, to
    a temporary folder that gets its name when it is complete: a kill leaves the folder as
    it was before, and the next call removes the rest. Two processes may call it at once.
    Raises ModelError.
    """
    if not is_gguf(path):
        return path
    _check_file(path)
    folder = model_folder(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if not _is_current(folder, path):
                _convert_into(folder, path, progress)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be converted to {folder}: {error.strerror or error}",
            "it takes about two bytes of disk for each of the model's parameters",
        ) from error
    return folder


def _convert_into(folder: Path, path: Path, progress: Progress) -> None:
    from kvtier_engine.model.gguf_convert import write_folder  # torch, transformers: slow

    for leftover in folder.parent.glob(f".{folder.name}.new-*"):
        shutil.rmtree(leftover)
    record = _record(path)
    fresh = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.new-{os.getpid()}-old")
    try:
        fresh.mkdir()
        write_folder(path, fresh, progress)
        (fresh / _RECORD).write_text(json.dumps(record))
        _sync(fresh)
        # Crash after the first rename: there is no folder, and the next start converts again.
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _places(path: Path) -> list[Path]:
    """Where a conversion may lie, best first."""
    real = path.resolve()
    digest = hashlib.blake2b(os.fsencode(real), digest_size=6).hexdigest()
    return [
        real.with_name(f"{real.stem}.safetensors.d"),
        cache_folder() / "converted" / f"{real.stem}-{digest}",
    ]


def cache_folder() -> Path:
    """kvtier's folder for what can be made again: $XDG_CACHE_HOME/kvtier."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return base / "kvtier"


def _is_writable(place: Path) -> bool:
    """True if `place` may be made: its nearest existing ancestor can be written to."""
    parent = next(parent for parent in place.parents if parent.exists())
    return os.access(parent, os.W_OK | os.X_OK)


def _is_current(folder: Path, path: Path) -> bool:
    try:
        return bool(json.loads((folder / _RECORD).read_bytes()) == _record(path))
    except (OSError, ValueError):
        return False


def _record(path: Path) -> dict[str, object]:
    found = path.stat()
    return {
        "version": _CONVERSION_VERSION,
        "source": path.resolve().name,
        "bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
    }


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if magic != _MAGIC:
        raise ModelError(
            f"{path} is not a GGUF file: it begins with {magic!r}, not {_MAGIC!r}",
            "download it again",
        )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds the right to write `folder`; freed by the kernel when the process ends."""
    with folder.with_name(f".{folder.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(folder: Path) -> None:
    """Returns when the folder's files survive power loss."""
    for place in (*folder.iterdir(), folder):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
