"""Checks of memory and disk against the plan."""

from __future__ import annotations

import fcntl
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Outcome, Severity
from kvtier_ops.errors import BadInput, ModelError, Refused
from kvtier_ops.host import nearest_folder
from kvtier_ops.units import UNITS, format_bytes

_DIRECT_BLOCK_BYTES = 4096
# Below this the page tables of a small-paged arena do not matter.
_THP_MATTERS_BYTES = 8 * UNITS["GiB"]


def plan_fits(context: Context) -> Iterator[Outcome]:
    """Weights, work and all tiers of the plan against memory and disk."""
    if isinstance(context.refusal, Refused):
        for problem in context.refusal.problems:
            subject = f"{problem.id}: " if problem.id else ""
            subject += f"`{problem.field}` " if problem.field else ""
            yield Outcome(
                False, "memory and disk for the plan", subject + problem.what, problem.hint
            )
    elif context.prepared:
        for memory in context.prepared.plan.memories:
            needed = memory.usable_bytes - memory.left_bytes
            yield Outcome(
                ok=True,
                required=f"{format_bytes(needed)} of {memory.place} by the plan",
                current=f"{format_bytes(memory.usable_bytes)} can be used",
            )


def profile_suits(context: Context) -> Iterator[Outcome]:
    """What the profile says of ranks, nodes and tiers, against the model and the host."""
    if isinstance(context.refusal, BadInput) and not isinstance(context.refusal, ModelError):
        for problem in context.refusal.problems:
            subject = f"`{problem.field}` " if problem.field else ""
            yield Outcome(False, "fields that agree", subject + problem.what, problem.hint)
    elif context.prepared:
        yield Outcome(True, "fields that agree", "they agree")


def cgroup_memory(context: Context) -> Iterator[Outcome]:
    """A container's limit kills, where a full host would only be slow."""
    if context.prepared is None or context.prepared.host.cgroup_limit_bytes is None:
        return
    host, plan = context.prepared.host, context.prepared.plan
    assert host.cgroup_limit_bytes is not None
    memory = plan.memories[-1]
    needed = memory.usable_bytes - memory.left_bytes
    granted = max(0, host.cgroup_limit_bytes - host.cgroup_used_bytes)
    yield Outcome(
        ok=granted >= needed,
        required=f"{format_bytes(needed)} below the cgroup's limit, for the plan",
        current=f"{format_bytes(granted)} of {format_bytes(host.cgroup_limit_bytes)} is left",
        fix="raise the container's memory limit, or make `tiers.l2.size` smaller",
    )


def transparent_hugepages(context: Context) -> Iterator[Outcome]:
    """A large arena in pages of 4 KiB makes every copy slower."""
    plan = context.prepared.plan if context.prepared else None
    if plan is None or plan.l2.bytes < _THP_MATTERS_BYTES:
        return
    if plan.profile.tiers.l2.hugepages != "transparent":
        return
    path = context.root / "sys/kernel/mm/transparent_hugepage/shmem_enabled"
    try:
        text = path.read_text()
    except OSError:
        return
    chosen = text.partition("[")[2].partition("]")[0]
    yield Outcome(
        ok=chosen in ("always", "within_size", "advise", "force"),
        required=f"`advise` or `always`, for an L2 of {format_bytes(plan.l2.bytes)}",
        current=f"`{chosen}`",
        fix="`echo advise | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled`",
    )


def _directories(context: Context) -> tuple[Path, ...]:
    """L3's directories, or none if the profile turns L3 off."""
    if context.profile is None or (context.prepared and not context.prepared.plan.disks):
        return ()
    return context.profile.tiers.l3.directories


def directory_usable(context: Context) -> Iterator[Outcome]:
    """Exists and can be written, or can be made."""
    for path in _directories(context):
        nearest = nearest_folder(path)
        user = (
            f"sudo mkdir -p {shlex.quote(str(path))} && sudo chown $USER {shlex.quote(str(path))}"
        )
        fix = f"`{user}`, or name another directory in `tiers.l3.directories`"
        if not nearest.is_dir():
            current = f"`{nearest}` is not a directory"
        elif not os.access(nearest, os.W_OK | os.X_OK):
            current = f"`{nearest}` cannot be written by uid {os.geteuid()}"
        elif os.statvfs(nearest).f_flag & os.ST_RDONLY:
            current = f"`{nearest}` lies on a file system mounted read-only"
        else:
            current = "can be written" if nearest == path else "can be made"
        ok = current in ("can be written", "can be made")
        yield Outcome(ok, "can be written, or made", current, fix, f"`{path}`")


def directory_private(context: Context) -> Iterator[Outcome]:
    """Pages hold what users wrote: nobody else should read or change them."""
    for path in _directories(context):
        if not path.is_dir():
            continue
        found = path.stat()
        mode = stat.S_IMODE(found.st_mode)
        is_ours = found.st_uid == os.geteuid()
        yield Outcome(
            ok=is_ours and not mode & 0o077,
            required=f"0700, owned by uid {os.geteuid()}: pages hold what users wrote",
            current=f"{mode:04o}, owned by uid {found.st_uid}",
            fix=f"`chmod 700 {shlex.quote(str(path))}`"
            if is_ours
            else f"`sudo chown $USER {shlex.quote(str(path))}`",
            subject=f"`{path}`",
        )


def directory_unlocked(context: Context) -> Iterator[Outcome]:
    """The store locks the file `lock` in each of its directories."""
    for path in _directories(context):
        lock = path / "lock"
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = ""
        except BlockingIOError:
            text = os.read(fd, 512).decode(errors="replace").strip()
            holder = f"in use by {text or 'another process'}"
        finally:
            os.close(fd)
        yield Outcome(
            ok=not holder,
            required="used by nobody else",
            current=holder or "free",
            fix="stop that process, or name another directory in `tiers.l3.directories`",
            subject=f"`{path}`",
        )


def direct_io(context: Context) -> Iterator[Outcome]:
    """Without O_DIRECT, L3 competes with everybody for the page cache."""
    for path in _directories(context):
        nearest = nearest_folder(path)
        if not os.access(nearest, os.W_OK | os.X_OK) or not nearest.is_dir():
            continue
        error = _direct_error(nearest)
        yield Outcome(
            ok=not error,
            required="files can be opened with O_DIRECT",
            current=error or "works",
            fix="name a directory on ext4 or XFS in `tiers.l3.directories`",
            subject=f"`{path}`",
        )


def _direct_error(folder: Path) -> str:
    """Tries on a file without a name, which the kernel removes in any case."""
    for flags in (os.O_TMPFILE, os.O_TMPFILE | os.O_DIRECT):
        try:
            os.close(os.open(folder, os.O_RDWR | flags, 0o600))
        except OSError as error:
            if not flags & os.O_DIRECT:
                return ""  # no unnamed files here: nothing can be said without writing
            return f"the file system refuses it: {error.strerror}"
    return ""


CHECKS = (
    Check("KVT-D201", "memory", "the plan fits", Severity.FAILURE, plan_fits),
    Check("KVT-D202", "memory", "cgroup limit", Severity.FAILURE, cgroup_memory),
    Check("KVT-D203", "memory", "transparent hugepages", Severity.WARNING, transparent_hugepages),
    Check("KVT-D204", "memory", "profile, model and host", Severity.FAILURE, profile_suits),
    Check("KVT-D301", "disk", "L3 directory", Severity.FAILURE, directory_usable),
    Check("KVT-D302", "disk", "mode of", Severity.WARNING, directory_private),
    Check("KVT-D303", "disk", "lock of", Severity.FAILURE, directory_unlocked),
    Check("KVT-D304", "disk", "direct I/O in", Severity.WARNING, direct_io),
)
