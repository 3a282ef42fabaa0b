"""`kvtier store verify`: every page of a directory at rest is read and compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtier_ops.errors import HostError, Refused
from kvtier_ops.store.facts import inspect

if TYPE_CHECKING:
    from kvtier_ops.terminal import ProgressDisplay
    from kvtier_store import ScrubReport


@dataclass(frozen=True)
class Verified:
    directory: str
    pages: int  # read and compared
    bytes: int
    bad: dict[str, int]  # by cause; dropped
    unreadable: int  # the disk failed
    problems: list[str]

    @property
    def is_sound(self) -> bool:
        return not self.bad and not self.unreadable

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"is_sound": self.is_sound}


def verify(directory: Path, bytes_per_s: int, progress: ProgressDisplay) -> Verified:
    """Bad pages are dropped, as a read of them would. Raises BadInput if there is no store,
    Refused if it is in use or of another format version, HostError if it cannot be opened."""
    from kvtier_store import DirectorySpec, Store, StoreError, StoreOptions

    info = inspect(directory)
    if info.holder:
        raise Refused(f"`{directory}` is in use by {info.holder}", "stop that process first")
    if not info.is_store:
        raise Refused(f"`{directory}` cannot be verified: {info.problems[0]}")
    spec = DirectorySpec(str(directory), info.fitting_capacity_bytes)
    try:
        store = Store.open(
            [spec],
            page_bytes=info.page_bytes,
            namespace=info.namespace,
            options=StoreOptions(reserve_bytes=0),
        )
    except StoreError as error:
        raise HostError(str(error)) from error

    def show(report: ScrubReport) -> None:
        done = report.pages + report.unreadable
        progress.update(directory.name, min(done, report.pages_total), report.pages_total)

    try:
        report = store.verify(show, bytes_per_s)
    finally:
        store.close()
    return Verified(
        directory=str(directory),
        pages=report.pages,
        bytes=report.bytes,
        bad=report.bad,
        unreadable=report.unreadable + report.skipped,
        problems=info.problems,
    )
