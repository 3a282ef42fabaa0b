"""Whether directories are the same place on two nodes: one leaves a mark, the others look for it.

L3 must not be (a page store has one owner), `cluster.shared_directories` must.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kvtier_ops.cluster.wire import Seen
from kvtier_ops.errors import Problem
from kvtier_ops.host import nearest_folder

PREFIX = ".kvtier-meet-"
SEE_S_MAX = 10.0  # for a file on NFS to be seen elsewhere
STALE_S = 3600.0  # a mark this old was left by a node that was killed
_POLL_S = 0.1


@dataclass(frozen=True)
class Directories:
    """Of this node. L3's may not exist yet: then the folder is marked in which it will be made."""

    l3: tuple[Path, ...]
    shared: tuple[Path, ...]


class Marks:
    """The files by which others would see this node's directories; gone when it is left."""

    def __init__(self, directories: Directories, mark: str, *, leads: bool) -> None:
        self._directories = directories
        self._mark = mark
        self._leads = leads
        self._made: list[Path] = []
        self.unseen: list[str] = []  # L3 directories that could not be marked, and why
        self.problems: list[Problem] = []

    def __enter__(self) -> Marks:
        for directory in self._directories.l3:
            if why := self._make(nearest_folder(directory)):
                self.unseen.append(f"{directory}: {why}")
        for directory in self._directories.shared if self._leads else ():
            if why := self._make(directory):
                self.problems.append(_not_writable(directory, why))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for path in self._made:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _make(self, folder: Path) -> str:
        """Why it could not be; empty if it is."""
        path = folder / f"{_own_prefix()}{os.getpid()}-{self._mark}"
        try:
            _sweep(folder)
            path.touch(0o600)
        except OSError as error:
            return error.strerror or str(error)
        if path not in self._made:
            self._made.append(path)
        return ""

    def look(self, marks: dict[int, str]) -> Seen:
        """`marks` of the other nodes, by rank. Waits a while for what should be there."""
        found: list[tuple[str, int]] = []
        for directory in self._directories.l3:
            folder = nearest_folder(directory)
            with contextlib.suppress(OSError):
                _refresh(folder, self._mark)
            names = _marks_in(folder)
            found += [
                (str(directory), rank) for rank, mark in sorted(marks.items()) if mark in names
            ]
        missing = [] if self._leads else self._missing(marks.get(0, ""))
        return Seen(l3=found, missing=missing, unseen=self.unseen)

    def _missing(self, mark: str) -> list[tuple[str, str]]:
        """Shared directories in which the mark of node 0 does not appear, and why."""
        deadline = time.monotonic() + SEE_S_MAX
        left = list(self._directories.shared)
        while left:
            left = [path for path in left if mark not in _marks_in(path)]
            if not left or time.monotonic() > deadline or not any(map(_is_there, left)):
                break
            time.sleep(_POLL_S)
        return [
            (
                str(path),
                "what node 0 wrote is not there" if _is_there(path) else "it cannot be read",
            )
            for path in left
        ]


def shared_problems(seen: dict[int, Seen], shown: dict[int, str]) -> list[Problem]:
    """What the nodes' looks amount to; `shown`: nodes by rank, such as `1 (host-b)`."""
    problems = []
    for rank, each in sorted(seen.items()):
        for directory, owner in each.l3:
            if owner < rank and owner in shown:  # the other one has seen it too
                problems.append(
                    Problem(
                        f"`{directory}` of node {shown[rank]} is the same place as one of node "
                        f"{shown[owner]}: a page store has one owner",
                        "give each node directories on drives of its own",
                        "tiers.l3.directories",
                        id="KVT-D705",
                    )
                )
        for directory, why in each.missing:
            problems.append(
                Problem(
                    f"`{directory}` is not shared with node {shown[rank]}: {why}",
                    f"mount there what node {shown[0]} has",
                    "cluster.shared_directories",
                    id="KVT-D705",
                )
            )
    return problems


def _not_writable(directory: Path, why: str) -> Problem:
    return Problem(
        f"node 0 cannot write into `{directory}`: {why}",
        "whether it is shared is found out by a file; make it writable, or remove it from the list",
        "cluster.shared_directories",
        id="KVT-D705",
    )


def _names(folder: Path) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()


def _is_there(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _refresh(folder: Path, mark: str) -> None:
    """A change of our own makes NFS read the folder anew rather than from its cache."""
    path = folder / f"{_own_prefix()}{os.getpid()}-look{mark}"
    path.touch(0o600)
    path.unlink()


def _marks_in(folder: Path) -> set[str]:
    return {name.rpartition("-")[2] for name in _names(folder) if name.startswith(PREFIX)}


def _own_prefix() -> str:
    """How names of this host's marks begin: `.kvtier-meet-1f2e3d4c-`, then pid and mark."""
    host = hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
    return f"{PREFIX}{host}-"


def _sweep(folder: Path) -> None:
    """Removes marks of nodes that were killed: the page store takes no folder for its own that
    holds something else."""
    own = _own_prefix()
    for name in _names(folder):
        if not name.startswith(PREFIX):
            continue
        path = folder / name
        with contextlib.suppress(OSError, ValueError):
            is_dead = name.startswith(own) and not _lives(int(name[len(own) :].partition("-")[0]))
            if is_dead or time.time() - path.stat().st_mtime > STALE_S:
                path.unlink()


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
