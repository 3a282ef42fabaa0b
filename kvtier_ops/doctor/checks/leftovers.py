"""Shared memory that processes which are gone have left behind, and what NCCL needs of it."""

from __future__ import annotations

import os
import re
import shlex
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.place import in_container
from kvtier_ops.errors import HostError
from kvtier_ops.host.sysfs import read_text
from kvtier_ops.instances import all_instances
from kvtier_ops.tune.journal import read_journal
from kvtier_ops.tune.rights import kvtier_as_root
from kvtier_ops.tune.undo import is_stale
from kvtier_ops.units import UNITS, format_bytes

# Names that engines and their libraries give; another name may be anybody's.
_OURS = re.compile(
    r"kvtier|torch_\d|psm_|nccl-|cuda\.shm\.|sglang|vllm|lightllm|lmcache|sem\.mp-|loky-"
)
_NCCL_BYTES = UNITS["GiB"]
_MATTERS_BYTES = UNITS["MiB"]
_YOUNG_S = 60  # whoever made it may be about to map it
_SHOWN = 4
_UNSEEN = "; first see that no other container shares this /dev/shm: its processes cannot be seen"


@dataclass(frozen=True)
class _Leftover:
    name: str
    bytes: int


def shm_size(context: Context) -> Iterator[Outcome]:
    """For NCCL alone, between several ranks: L2 is a memfd, which /dev/shm does not limit."""
    plan = context.plan
    if plan is None or plan.device != "cuda" or plan.ranks.here < 2:
        return
    try:
        found = os.statvfs(context.root / "dev/shm")
    except OSError as error:
        size, current = 0, f"cannot be looked at: {error.strerror}"
    else:
        size = found.f_bavail * found.f_frsize
        current = f"{format_bytes(size)} are free"
    resize = "`sudo mount -o remount,size=8G /dev/shm`"
    if in_container(context.root):
        resize = (
            "outside, start the container with `--shm-size 8g` (Kubernetes: an `emptyDir` with "
            "`medium: Memory` at /dev/shm)"
        )
    yield Outcome(
        ok=size >= _NCCL_BYTES,
        required=f"{format_bytes(_NCCL_BYTES)} free",
        current=current,
        fix=resize,
        reason=f"NCCL keeps buffers there between {plan.ranks.here} ranks; L2 does not lie there",
    )


def shm_leftovers(context: Context) -> Iterator[Outcome]:
    """Files of /dev/shm by whose names we know what made them, and that nobody has mapped."""
    folder = context.root / "dev/shm"
    found = [] if not folder.is_dir() else _candidates(folder)
    if found:
        used = _mapped(context.root)
        found = [each for each in found if each.name not in used]
    size = sum(each.bytes for each in found)
    largest = sorted(found, key=lambda each: -each.bytes)
    names = " ".join(shlex.quote(f"/dev/shm/{each.name}") for each in largest[:_SHOWN])
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    yield Outcome(
        ok=size < _MATTERS_BYTES,
        required="no memory that nobody uses",
        current=f"{len(found)} files that no process has open take {format_bytes(size)}"
        if found
        else "none",
        fix=f"`rm {names}`{more}" + _UNSEEN * in_container(context.root),
    )


def _candidates(folder: Path) -> list[_Leftover]:
    """Only our own where we are not root: of others we cannot see who has mapped them."""
    found, now, is_root = [], time.time(), os.geteuid() == 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            is_seen = is_root or facts.st_uid == os.geteuid()
            is_old = now - max(facts.st_mtime, facts.st_ctime) > _YOUNG_S
            if stat.S_ISREG(facts.st_mode) and is_seen and is_old and _OURS.match(entry.name):
                found.append(_Leftover(entry.name, facts.st_blocks * 512))
    return found


def _mapped(root: Path) -> set[str]:
    """Names in /dev/shm that a process has mapped, or open."""
    used: set[str] = set()
    for process in (root / "proc").glob("[0-9]*"):
        for line in read_text(process / "maps").splitlines():
            _, slash, name = line.partition("/dev/shm/")
            if slash:
                used.add(name.removesuffix(" (deleted)"))
        try:
            links = list((process / "fd").iterdir())
        except OSError:
            continue
        for link in links:
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("/dev/shm/"):
                used.add(target.removeprefix("/dev/shm/"))
    return used


def sysv_leftovers(context: Context) -> Iterator[Outcome]:
    """Segments that nobody is attached to, of makers that are gone."""
    lines = read_text(context.root / "proc/sysvipc/shm").splitlines()
    if not lines:
        return
    columns = {name: place for place, name in enumerate(lines[0].split())}
    rows = [line.split() for line in lines[1:]]
    try:
        found = [
            _Leftover(row[columns["shmid"]], int(row[columns["size"]]))
            for row in rows
            if row[columns["nattch"]] == "0"
            and not (context.root / "proc" / row[columns["cpid"]]).exists()
        ]
    except (KeyError, IndexError, ValueError):
        return
    size = sum(each.bytes for each in found)
    ids = " ".join(f"-m {each.name}" for each in found[:_SHOWN])
    more = f", and {len(found) - _SHOWN} more (`ipcs -m`)" if len(found) > _SHOWN else ""
    yield Outcome(
        ok=size < _MATTERS_BYTES,
        required="no segment that nobody is attached to",
        current=f"{len(found)} segments of processes that are gone take {format_bytes(size)}"
        if found
        else "none",
        fix=f"`ipcrm {ids}`{more}",
    )


def killed_launchers(context: Context) -> Iterator[Outcome]:
    """Engines, files and changes of the host that nobody is left to clean up after."""
    dead = [each.state.name for each in all_instances() if not each.is_alive]
    parts = [f"what was left by {', '.join(dead[:_SHOWN])}"] if dead else []
    fixes = ["`kvtier ps --clean`"] if dead else []
    try:
        changes = [entry for entry in read_journal(context.root).entries if is_stale(entry)]
    except HostError as error:
        [problem] = error.problems
        yield Outcome(False, "a journal that can be read", problem.what, problem.hint)
        return
    if changes:
        parts.append(f"{len(changes)} changes of this host, such as {changes[0].setting.path}")
        fixes.append(f"`{kvtier_as_root(['tune', '--undo'])}`")
    yield Outcome(
        ok=not parts,
        required="nothing of a launcher that is gone",
        current="; ".join(parts) or "nothing",
        fix=f"{' and '.join(fixes)}; the next `kvtier launch` does it as well",
    )


CHECKS = (
    Check(
        "KVT-D214",
        "memory",
        "/dev/shm",
        Severity.WARNING,
        shm_size,
        needs=Needs.PLAN,
        passes="/dev/shm has 1 GiB free, where several GPUs share the model",
        why="NCCL shares buffers between ranks in /dev/shm, of which docker gives 64 MiB unless "
        "told otherwise; it fails then with a message of a bus error or of no space. kvtier's own "
        "L2 is not there, so /dev/shm need not be as large as L2. The fix makes it larger.",
    ),
    Check(
        "KVT-D215",
        "memory",
        "leftovers in /dev/shm",
        Severity.WARNING,
        shm_leftovers,
        passes="no file of an engine, of torch or of NCCL lies in /dev/shm without a user",
        why="Files in /dev/shm are memory until somebody removes them, and an engine that was "
        "killed does not: after some crashes too little is left for the next start. Listed are "
        "files with names of engines and their libraries that no process has open or mapped, a "
        "minute old at least. kvtier's own L2 leaves nothing. The fix removes them.",
    ),
    Check(
        "KVT-D216",
        "memory",
        "leftovers of System V",
        Severity.WARNING,
        sysv_leftovers,
        passes="no large System V segment is without a user",
        why="Other engines keep their cache in System V shared memory, which stays until it is "
        "removed by its number or the host starts again. kvtier uses none, so that "
        "kernel.shmmax and shmall do not matter to it; what others left is memory that it "
        "cannot have. The fix removes segments whose maker is gone and that nobody is attached "
        "to.",
    ),
    Check(
        "KVT-D217",
        "memory",
        "killed launchers",
        Severity.WARNING,
        killed_launchers,
        passes="no launcher that was killed has left a run folder, or changes of this host",
        why="A launcher that is killed with SIGKILL cannot put back what it changed on the host, "
        "such as hugepages that it reserved, nor remove its sockets. All of it is written down, "
        "so that the next launch cleans up; until then it is nobody's. The fix does it now.",
    ),
)
