"""A page store's directory from outside: what may be removed from it, and when.

File names and the superblock's first bytes are those of docs/disk-format.md.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvtier_ops.errors import BadInput, HostError, Refused

_MAGIC = b"KVTSTORE"
_OURS = re.compile(r"(superblock|journal)(\.new)?|segment-\d{5,}")  # and `lock`, which goes last
_SEGMENT = re.compile(r"segment-\d{5,}")
_NOBODYS = ("lock", "lost+found")  # a store has the one; neither says that there is one


def clear_store(path: Path) -> int:
    """Removes a store's pages, whatever version or model they are of; the bytes that frees.

    The directory stays, and what else is in it. Without a superblock of ours, or with a damaged
    one, the names are all there is to go by (`is_lost_store`). Raises BadInput if
    `path` is no store, Refused if a process uses it, HostError if a file cannot be removed.
    """
    _check_is_store(path)
    with _own(path):
        try:
            # The superblock goes last: a clear that is cut off can be done again.
            files = sorted(_files(path), key=lambda file: file.name == "superblock")
            freed = sum(file.stat().st_blocks * 512 for file in files)
            for file in files:
                file.unlink()
        except OSError as error:
            raise HostError(f"cannot remove `{error.filename}`: {error.strerror}") from error
    return freed


def strange_names(names: Iterable[str]) -> list[str]:
    """Of what lies in a directory, what no store writes."""
    return sorted(name for name in names if name not in _NOBODYS and not _OURS.fullmatch(name))


def is_lost_store(names: Iterable[str]) -> bool:
    """Whether that is what a store leaves that has lost its superblock: its segments, and nothing
    that no store writes. A `journal` alone may be anybody's."""
    names = list(names)
    return not strange_names(names) and any(map(_SEGMENT.fullmatch, names))


def may_be_cleared(path: Path) -> bool:
    """Whether `clear_store` takes it for a store. Raises OSError."""
    return _has_magic(path / "superblock") or is_lost_store(os.listdir(path))


def _check_is_store(path: Path) -> None:
    try:
        if may_be_cleared(path):
            return
        names = os.listdir(path)
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise HostError(f"cannot read `{path}`: {error.strerror}") from error
    strange = strange_names(names)
    if strange and "superblock" in names:
        raise BadInput(
            f"`{path}` is not a page store, or a damaged one: its superblock is not kvtier's, and "
            f"it holds `{strange[0]}`, which no store writes",
            "nothing was removed; if it was a store, move that elsewhere, and clear it again",
        )
    raise BadInput(
        f"`{path}` is not a page store",
        "it would hold a `superblock` of kvtier's, or segments; nothing was removed",
    )


def _has_magic(superblock: Path) -> bool:
    """Raises OSError, but not for a file that is not there."""
    try:
        with superblock.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except FileNotFoundError:
        return False


@contextmanager
def _own(path: Path) -> Iterator[None]:
    """Holds the store's lock; removes it at the end, as the last file."""
    lock = path / "lock"
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostError(f"cannot open `{lock}`: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        lock.unlink()
    except BlockingIOError:
        holder = os.read(fd, 512).decode(errors="replace").strip() or "another process"
        raise Refused(f"`{path}` is in use by {holder}", "stop that process first") from None
    finally:
        os.close(fd)


def _files(path: Path) -> list[Path]:
    found = (file for file in path.iterdir() if _OURS.fullmatch(file.name))
    return [file for file in found if file.is_file() and not file.is_symlink()]
