"""What lies in L3's directories: whose it is, of which format and model, and if it is sound."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.checks.disk import directories
from kvtier_ops.doctor.checks.drives import file_system, look_after
from kvtier_ops.doctor.checks.environment import store_works
from kvtier_ops.doctor.namespace import known_namespace
from kvtier_ops.host.directories import is_read_only
from kvtier_ops.instances.leftovers import engine_processes
from kvtier_ops.store.clear import is_lost_store, may_be_cleared, strange_names
from kvtier_ops.store.slots import FORMAT_VERSION, Superblock, read_superblock, slot_ill
from kvtier_ops.units import UNITS, format_bytes

# What a sample may cost at most; `kvtier store verify` reads everything.
_SAMPLE_PAGES = 32
_SAMPLE_BYTES = 64 * UNITS["MiB"]
_SAMPLE_S = 0.7
_JOURNAL_BYTES_MAX = 32 * UNITS["MiB"]  # above it, listing the pages alone takes too long
# How csrc/store/inspect.cc ends what it says of files that are no fault of a page.
_NOT_OURS, _OPEN_TO_OTHERS = "is none of the store's files", "can be read or written by others"
# A store takes a directory with nothing else in it; see csrc/store/superblock.cc.
_MAY_BE_TAKEN = ("lock", "superblock.new", "lost+found")


def directory_unlocked(context: Context) -> Iterator[Outcome]:
    """The store locks the file `lock` in each of its directories."""
    for path in directories(context):
        holder = lock_holder(path)
        if holder is None:
            continue
        is_own = _is_own(holder, context)
        yield Outcome(
            ok=not holder or is_own,
            required="used by nobody else",
            current=("in use by this profile's own engine, " if is_own else "in use by ") + holder
            if holder
            else "free",
            fix="stop that process, or name another directory in `tiers.l3.directories`",
            subject=f"`{path}`",
        )


def lock_holder(directory: Path) -> str | None:
    """The process that has the store, in words; empty: none has; None: no lock can be seen."""
    try:
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(fd, 512).decode(errors="replace").strip()
        return text or "another process"
    finally:
        os.close(fd)
    return ""


def _is_own(holder: str, context: Context) -> bool:
    """Whether it is a process of the engine that serves this very profile now."""
    words = holder.split()  # csrc/store/owner_lock.cc writes `process 77 (python3) on host ...`
    if context.serving is None or len(words) < 2 or not words[1].isdecimal():
        return False
    return int(words[1]) in engine_processes(context.serving.run_dir)


def content(context: Context) -> Iterator[Outcome]:
    """Empty, or a store of this format. Anything else is refused and not touched."""
    for path in directories(context):
        try:
            names = sorted(os.listdir(path))
        except OSError:
            continue  # KVT-D301 tells
        current, fix = _content(path, names)
        yield Outcome(
            ok=not fix,
            required=f"empty, or a page store of version {FORMAT_VERSION}",
            current=current,
            fix=fix,
            subject=f"`{path}`",
        )


def _content(path: Path, names: list[str]) -> tuple[str, str]:
    """What is there, and what mends it; nothing to mend: the engine takes it."""
    shown, clear = shlex.quote(str(path)), f"`kvtier store clear {shlex.quote(str(path))}`"
    if "superblock" not in names:
        foreign = next((name for name in names if name not in _MAY_BE_TAKEN), "")
        if not foreign:
            return "empty", ""
        if is_lost_store(names):
            return f"no superblock, and it holds `{foreign}`", clear
        fix = f"name another directory, such as `{shown}/kvtier`, in `tiers.l3.directories`"
        return f"no page store, and it holds `{foreign}`", fix
    try:
        found = read_superblock(path)
    except OSError as error:
        fix = _take(path) if error.errno == errno.EACCES else "see what `dmesg` says of the disk"
        return f"its superblock cannot be read: {error.strerror}", fix
    if found is None:
        return "its superblock is damaged, or another program's", _way_out(path, names, clear)
    if found.version != FORMAT_VERSION:
        kind = "an older" if found.version < FORMAT_VERSION else "a newer"
        other = "" if found.version < FORMAT_VERSION else ", or use the kvtier that wrote it"
        return f"a page store of {kind} version, {found.version}", clear + other
    return f"a page store of version {found.version}", ""


def _way_out(path: Path, names: list[str], clear: str) -> str:
    """Of a directory whose superblock cannot be read as one."""
    if strange := strange_names(names):
        return (
            "name another directory; or, if it was a store, move what no store writes "
            f"(`{strange[0]}`) elsewhere, and {clear}"
        )
    if may_be_cleared(path):
        return clear
    shown = shlex.quote(str(path))
    return f"name another directory; or, if it was a store, `rm {shown}/superblock`"


def same_model(context: Context) -> Iterator[Outcome]:
    """By the size of pages, by the namespaces of all directories, and by this profile's own where
    an engine has kept the digest of its weights."""
    stores = {path: found for path in directories(context) if (found := _store(path))}
    if not stores:
        return
    wanted = context.plan.page_bytes if context.plan else None
    ours = known_namespace(context.plan) if context.plan else None
    required = f"pages of {wanted:,} bytes of one model" if wanted else "pages of one model"
    if ours is not None:
        required += f", namespace {_short(ours)}"
    for path, found in stores.items():
        clear = f"`kvtier store clear {shlex.quote(str(path))}`"
        current = f"pages of {found.page_bytes:,} bytes, namespace {_short(found.namespace)}"
        others = [f"`{each}`" for each in stores if stores[each].namespace != found.namespace]
        if ours is not None and found.namespace == ours:
            others, current = [], f"{current}, this model's"
        elif others:
            current += f", not that of {', '.join(others)}"
        is_other = bool(others) or (wanted is not None and found.page_bytes != wanted)
        yield Outcome(
            ok=not is_other and ours in (None, found.namespace),
            required=required,
            current=current,
            fix=f"{clear} gives its pages up; another directory for this profile keeps them",
            subject=f"`{path}`",
            reason=_page_reason(context),
        )


def _short(space: bytes) -> str:
    return space.hex()[:12]


def _page_reason(context: Context) -> str:
    plan = context.plan
    if plan is None:
        return ""
    tokens = plan.profile.tiers.page_tokens
    return f"{tokens} tokens of {format_bytes(plan.token_bytes)} each, `tiers.page_tokens`"


def _store(path: Path) -> Superblock | None:
    """None where there is no store of this format."""
    try:
        found = read_superblock(path)
    except OSError:
        return None
    return found if found is not None and found.version == FORMAT_VERSION else None


def sample(context: Context) -> Iterator[Outcome]:
    """Some pages of each store at rest, compared with their checksums. Nothing is changed."""
    stores = {path: found for path in directories(context) if (found := _store(path))}
    if not stores or not store_works():
        return
    for path, found in stores.items():
        if lock_holder(path) or not _is_listable(path):
            continue  # what a process is writing cannot be judged
        read, total, ills = _sample(path, found, _SAMPLE_S / len(stores))
        if not total and not ills:
            continue
        yield Outcome(
            ok=not ills,
            required="pages as they were written",
            current=f"{read} of {total:,} pages were read, {_count(ills)} bad: {ills[0]}"
            if ills
            else f"{read} of {total:,} pages were read, all sound",
            fix=_mend(context, path, ills),
            subject=f"`{path}`",
        )


def _mend(context: Context, path: Path, ills: list[str]) -> str:
    """`kvtier store verify` mends pages: not modes, and it removes nothing that is not a page."""
    shown, fixes = shlex.quote(str(path)), []
    foreign = [ill for ill in ills if ill.endswith(_NOT_OURS)]
    open_to_others = [ill for ill in ills if ill.endswith(_OPEN_TO_OTHERS)]
    if foreign:
        fixes.append(f"move what is none of the store's files out of {shown}: the store lets it be")
    if open_to_others:
        fixes.append(f"`chmod -R go= {shown}`, as the next engine does")
    if len(ills) > len(foreign) + len(open_to_others):
        fixes.append(
            f"`kvtier store verify {shown}` reads all and drops what is bad; "
            + look_after(file_system(context, path))
        )
    return "; ".join(fixes)


def _count(ills: list[str]) -> str:
    return "1 thing is" if len(ills) == 1 else f"{len(ills)} things are"


def _is_listable(path: Path) -> bool:
    try:
        return (path / "journal").stat().st_size <= _JOURNAL_BYTES_MAX
    except OSError:
        return False


def _sample(path: Path, store: Superblock, seconds: float) -> tuple[int, int, list[str]]:
    """Pages read, pages in all, and what is wrong with them and with the store's files."""
    from kvtier_store import inspect

    deadline = time.monotonic() + seconds
    info = inspect(str(path))
    pages, ills, read = info.pages, list(info.problems), 0
    count = min(len(pages), _SAMPLE_PAGES, max(1, _SAMPLE_BYTES // store.slot_bytes))
    for page in random.sample(pages, count):
        if read and time.monotonic() > deadline:
            break
        try:
            ill = slot_ill(path, store, page)
        except OSError as error:
            ill = f"it cannot be read: {error.strerror}"
        read += 1
        if ill:
            ills.append(f"slot {page.slot}: {ill}")
    return read, len(pages), ills


def state_kept(context: Context) -> Iterator[Outcome]:
    """The store's own files may be written by us."""
    for path in directories(context):
        if not os.path.isdir(path) or is_read_only(path):
            continue  # KVT-D301 tells
        current = _locked_out(path)
        if current or os.path.exists(path / "superblock"):
            yield Outcome(
                ok=not current,
                required="files that can be read and written",
                current=current or "they can",
                fix=_take(path),
                subject=f"`{path}`",
            )


def _locked_out(path: Path) -> str:
    """Why this user may not use the store's files; empty: it may, or there are none."""
    user = os.geteuid()
    if not os.access(path, os.R_OK | os.X_OK):
        return f"uid {user} may not look at what is in it"
    names = [
        f"`{name}`"
        for name in ("lock", "superblock", "journal")
        if os.path.exists(path / name) and not os.access(path / name, os.R_OK | os.W_OK)
    ]
    return f"{', '.join(names)} cannot be, by uid {user}" if names else ""


def _take(path: Path) -> str:
    return f"`sudo chown -R {os.geteuid()} {shlex.quote(str(path))}`"


CHECKS = (
    Check(
        "KVT-D303",
        "disk",
        "lock of",
        Severity.FAILURE,
        directory_unlocked,
        needs=Needs.PROFILE,
        passes="no other process uses the L3 directory",
        why="One store has one owner: two engines in one directory would overwrite each other's "
        "pages. The second one is refused, and serves without L3. The fix stops the other one, or "
        "gives this profile a directory of its own.",
    ),
    Check(
        "KVT-D321",
        "disk",
        "content of",
        Severity.FAILURE,
        content,
        needs=Needs.PROFILE,
        passes="each L3 directory is empty, or a page store of this format",
        why="A store never writes among files of others, and never reads another format than its "
        "own: such a directory is left as it is, and the engine serves without L3, cold after "
        "every restart. The fix empties what kvtier wrote, or names another directory; it never "
        "removes what kvtier did not write.",
    ),
    Check(
        "KVT-D322",
        "disk",
        "pages in",
        Severity.FAILURE,
        same_model,
        needs=Needs.PROFILE,
        passes="the pages in L3 are of this model and size, as far as can be known",
        why="Pages hold the KV of one model with one dtype and one number of tokens a page; their "
        "namespace binds all of it. A directory of another one is refused, never misread, and the "
        "engine serves without L3. Whether weights of the same shape are the same only their "
        "digest tells, which is known when an engine has started with them once. The fix gives "
        "the old pages up, or keeps them beside.",
    ),
    Check(
        "KVT-D323",
        "disk",
        "sample of",
        Severity.WARNING,
        sample,
        needs=Needs.PROFILE,
        passes="up to 32 pages of each store at rest have the checksums they were written with",
        why="A page that is bad on disk is a miss, never a wrong answer; but pages that go bad "
        "say that the disk does, or that somebody copied the files. A few are read, for less "
        "than a second, and nothing is changed. The fix reads them all; a file that is not the "
        "store's is yours to move.",
    ),
    Check(
        "KVT-D324",
        "disk",
        "files of",
        Severity.FAILURE,
        state_kept,
        needs=Needs.PROFILE,
        passes="lock, superblock and journal of a store may be read and written",
        why="A store made by root, or in a container with other user numbers, has files that this "
        "user may not open: the engine then serves without L3. The fix gives them to the user "
        "who launches.",
    ),
)
