"""What was changed, by whom, and how to put it back: written before each change is made.

One JSON document, replaced as a whole, so that a reader finds it complete however a writer ended.
An entry says what is intended (`got` is null), then what came of it; an undo that has begun says
where it leads (`back_to`), so that doing it a second time changes nothing more. The kernel's
settings go with a reboot, and so do the entries of an earlier boot; those of another host, with
which this one shares the folder, are not ours to forget.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kvtier_ops.errors import HostError
from kvtier_ops.paths import xdg_home
from kvtier_ops.tune.change import Change, Kind, Setting
from kvtier_ops.tune.owner import Owner

_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One change. `old` and `new` as it was meant, `got` as it became."""

    number: int
    setting: Setting
    old: str
    new: str
    owner: Owner
    when: str
    got: str | None = None
    back_to: str | None = None

    @property
    def line(self) -> str:
        """What putting it back would do."""
        return f"{self.setting.path}: {self.got or self.new} -> {self.old}  ({self.owner.name})"


@dataclass
class Journal:
    """Open entries, oldest first. Only while the lock is held; see `open_journal`."""

    path: Path
    boot: str
    entries: list[Entry] = field(default_factory=list)
    forgotten: int = 0  # entries of an earlier boot: the reboot has put those back

    def add(self, change: Change, owner: Owner) -> Entry:
        """To be called before the change is made. Raises HostError."""
        number = max((entry.number for entry in self.entries), default=0) + 1
        when = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Entry(number, change.setting, change.old, change.new, owner, when)
        self.entries.append(entry)
        self.save()
        return entry

    def update(self, entry: Entry, **changes: Any) -> Entry:
        new = replace(entry, **changes)
        self.entries[self._index(entry)] = new
        self.save()
        return new

    def remove(self, entry: Entry) -> None:
        del self.entries[self._index(entry)]
        self.save()

    def others_on(self, entry: Entry) -> list[Entry]:
        """Entries of the same setting, which want it as it is."""
        return [
            each
            for each in self.entries
            if each.setting == entry.setting and each.number != entry.number
        ]

    def _index(self, entry: Entry) -> int:
        return next(at for at, each in enumerate(self.entries) if each.number == entry.number)

    def save(self) -> None:
        """On disk when it returns. Raises HostError."""
        try:
            if self.entries:
                _replace(self.path, self._text())
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _text(self) -> str:
        entries = [asdict(entry) for entry in self.entries]
        said = {"version": _VERSION, "host": socket.gethostname(), "boot": self.boot}
        return json.dumps({**said, "entries": entries}, indent=1)


def journal_path() -> Path:
    """Of this user; only root changes a host."""
    return xdg_home("XDG_STATE_HOME") / "kvtier" / "tune" / "journal.json"


@contextmanager
def open_journal(
    root: Path = Path("/"), on_wait: Callable[[], None] = lambda: None
) -> Iterator[Journal]:
    """Waits for whoever else tunes, after telling `on_wait`. Raises HostError."""
    path = journal_path()
    try:
        _make(path.parent)
        with ExitStack() as held:
            for lock in (_of_the_host(root), path.with_name("lock")):
                if lock is not None:
                    held.enter_context(_locked(lock, on_wait))
            yield read_journal(root)
    except _Unlockable as error:
        raise _unwritable(path, error.reason) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _Unlockable(error) from error


class _Unlockable(Exception):
    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _of_the_host(root: Path) -> Path | None:
    """Two of root's state folders have two journals, and one host: what one reads, the other must
    not change before it has written."""
    folder = root / "run"
    return folder / "kvtier-tune.lock" if os.access(folder, os.W_OK) else None


@contextmanager
def _locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _Unlockable(error) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def read_journal(root: Path = Path("/")) -> Journal:
    """As it stands; to look, no lock is needed. Raises HostError for one that cannot be read."""
    path = journal_path()
    boot = _boot_id(root)
    try:
        said = json.loads(path.read_bytes())
        if said["version"] != _VERSION:
            raise ValueError(f"it is of version {said['version']}, not {_VERSION}")
        entries = [_entry(each) for each in said["entries"]]
        of = said["boot"]
    except (FileNotFoundError, PermissionError):  # none, or root's, which is not ours to put back
        return Journal(path, boot)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(
            f"the journal `{path}` cannot be read: {error}",
            "look at what it says was changed, put that back by hand, and remove the file",
        ) from error
    if of != boot:
        _refuse_another_hosts(path, str(said.get("host", "")))
        return Journal(path, boot, forgotten=len(entries))
    return Journal(path, boot, entries)


def _refuse_another_hosts(path: Path, host: str) -> None:
    """A home on a network is many hosts': to forget what one has changed would lose it."""
    if host and host != socket.gethostname():
        raise HostError(
            f"the journal `{path}` is of the host `{host}`, not of this one",
            "set XDG_STATE_HOME to a folder of each host's own; if that host is gone or was "
            "rebooted since, remove the file",
        )


def _entry(said: dict[str, Any]) -> Entry:
    setting = Setting(str(said["setting"]["path"]), Kind(said["setting"]["kind"]))
    owner = Owner(**said["owner"])
    return Entry(**{**said, "setting": setting, "owner": owner})


def _boot_id(root: Path) -> str:
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unwritable(path: Path, error: OSError) -> HostError:
    return HostError(
        f"cannot write the journal `{path}`: {error.strerror}; without it nothing is changed",
        "set XDG_STATE_HOME to a folder that you may write to",
    )
