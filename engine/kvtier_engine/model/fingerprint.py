"""The fingerprint of a model: a digest of its weights and configuration.

Part of every page key's namespace, so that a cache never serves another model. Equal for
equal files on any machine: names of folders and times do not enter. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.gguf import cache_folder

Progress = Callable[[int, int], None]

DIGEST_BYTES = 32
_READ_BYTES = 8 << 20


def model_fingerprint(
    folder: Path, *, workers: int = 2, progress: Progress = lambda done, total: None
) -> bytes:
    """The digest (DIGEST_BYTES long) of `folder`'s config.json and safetensors files.

    Hashes every byte, `workers` files at a time, the first time; later calls find each
    unchanged file's digest in the XDG cache folder. `progress` gets bytes done and in all.
    Raises ModelError.
    """
    files = _files(folder)
    lock, done = Lock(), 0
    try:
        total = sum(path.stat().st_size for path in files)

        def add(size: int) -> None:
            nonlocal done
            with lock:
                done += size
                progress(done, total)

        with ThreadPoolExecutor(workers, thread_name_prefix="fingerprint") as pool:
            digests = list(pool.map(lambda path: _file_digest(path, add), files))
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read: {error.strerror}") from error
    return _whole(files, digests)


def known_fingerprint(folder: Path) -> bytes | None:
    """The same without reading weights: None unless an earlier call has, of these very files."""
    files = _files(folder)
    try:
        digests = [_recall(_identity(path, path.stat())) for path in files]
    except OSError:
        return None
    known = [digest for digest in digests if digest is not None]
    return _whole(files, known) if len(known) == len(files) else None


def _files(folder: Path) -> list[Path]:
    return sorted([folder / "config.json", *folder.glob("*.safetensors")])


def _whole(files: list[Path], digests: list[bytes]) -> bytes:
    whole = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for path, digest in zip(files, digests, strict=True):
        whole.update(hashlib.blake2b(path.name.encode(), digest_size=DIGEST_BYTES).digest())
        whole.update(digest)
    return whole.digest()


def _file_digest(path: Path, add: Callable[[int], None]) -> bytes:
    """BLAKE2b of the file's content; `add` is told how many bytes are done."""
    with path.open("rb") as file:
        identity = _identity(path, os.fstat(file.fileno()))
        known = _recall(identity)
        if known is not None:
            add(os.fstat(file.fileno()).st_size)
            return known
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        while block := file.read(_READ_BYTES):
            digest.update(block)
            add(len(block))
        # A file that changed under our hands is not remembered by what it was before.
        if _identity(path, os.fstat(file.fileno())) == identity:
            _remember(identity, digest.digest())
    return digest.digest()


def _identity(path: Path, found: os.stat_result) -> str:
    """All that tells a file from its former and later selves without reading it."""
    parts = [str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev]
    return json.dumps(parts)


def _entry(identity: str) -> Path:
    name = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    return cache_folder() / "fingerprints" / name


def _recall(identity: str) -> bytes | None:
    """The digest remembered for `identity`; None if there is none that can be trusted."""
    try:
        named, digest = _entry(identity).read_text().splitlines()
        found = bytes.fromhex(digest)
    except (OSError, ValueError):
        return None
    return found if named == identity and len(found) == DIGEST_BYTES else None


def _remember(identity: str, digest: bytes) -> None:
    """Keeps the digest for the next start. A cache folder that cannot be written to costs
    time, not correctness."""
    entry = _entry(identity)
    fresh = entry.with_name(f"{entry.name}.{os.getpid()}")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(f"{identity}\n{digest.hex()}\n")
        fresh.replace(entry)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
