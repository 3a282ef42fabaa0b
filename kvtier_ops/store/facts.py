"""What a store's directory holds, as facts to print: of the whole, and of its chains."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtier_ops.errors import BadInput
from kvtier_ops.units import format_bytes

if TYPE_CHECKING:
    from kvtier_store import DirectoryInfo, PageInfo

_DAY_S = 24 * 3600
_HEAD = bytes(16)


@dataclass(frozen=True)
class StoreFacts:
    """Bytes are bytes, times are seconds since 1970."""

    directory: str
    problems: list[str]
    is_store: bool
    format_version: int
    in_use_by: str
    namespace: str
    page_bytes: int
    pages: int
    chains: int
    slots: int
    disk_bytes: int
    journal_records: int
    created_unix_s: int
    oldest_page_unix_s: int | None
    newest_page_unix_s: int | None
    written_bytes: int  # of pages, in the directory's whole life
    disk_written_bytes: int
    disk_written_bytes_last_day: int
    hit_bytes: int

    @property
    def write_amplification(self) -> float | None:
        """Bytes written to the disk for each byte of a page."""
        return self.disk_written_bytes / self.written_bytes if self.written_bytes else None

    @property
    def hits_per_written_byte(self) -> float | None:
        return self.hit_bytes / self.disk_written_bytes if self.disk_written_bytes else None

    def as_json(self) -> dict[str, Any]:
        derived = {
            "write_amplification": self.write_amplification,
            "hit_bytes_per_written_byte": self.hits_per_written_byte,
        }
        return asdict(self) | derived


@dataclass(frozen=True)
class Chain:
    """Pages with one head: a prompt's, and those of all that branch off from it."""

    head: str
    pages: int
    depth: int  # of its longest branch
    written_unix_s: int  # the newest of its pages
    is_cut: bool  # its head's parent is gone, so that it cannot hit

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect(directory: Path) -> DirectoryInfo:
    """Raises BadInput if there is no store."""
    from kvtier_store import StoreError
    from kvtier_store import inspect as look

    try:
        info = look(str(directory))
    except StoreError as error:
        raise BadInput(str(error)) from error
    if not info.is_store and not info.version:
        hint = "name a directory of `tiers.l3.directories`"
        if os.path.exists(directory / "superblock"):
            hint += f"; if it is one, `kvtier store clear {shlex.quote(str(directory))}` empties it"
        raise BadInput(f"`{directory}` is not a page store: {info.problems[0]}", hint)
    return info


def store_facts(directory: Path, info: DirectoryInfo, now: float) -> StoreFacts:
    times = [page.written_by_unix_s for page in info.pages]
    last = info.marks[-1].wear if info.marks else None
    return StoreFacts(
        directory=str(directory),
        problems=info.problems,
        is_store=info.is_store,
        format_version=info.version,
        in_use_by=info.holder,
        namespace=info.namespace.hex(),
        page_bytes=info.page_bytes,
        pages=len(info.pages),
        chains=len(chains(info.pages)),
        slots=info.slots,
        disk_bytes=info.allocated_bytes,
        journal_records=info.journal_records,
        created_unix_s=info.created_unix_s,
        oldest_page_unix_s=min(times, default=None),
        newest_page_unix_s=max(times, default=None),
        written_bytes=last.payload_written_bytes if last else 0,
        disk_written_bytes=last.disk_written_bytes if last else 0,
        disk_written_bytes_last_day=_written_since(info, now - _DAY_S),
        hit_bytes=last.hit_bytes if last else 0,
    )


def _written_since(info: DirectoryInfo, begin: float) -> int:
    """By the marks; all of it for a directory that is younger."""
    if not info.marks:
        return 0
    before = [mark for mark in info.marks if mark.unix_s <= begin]
    base = before[-1].wear.disk_written_bytes if before else 0
    return max(0, info.marks[-1].wear.disk_written_bytes - base)


def chains(pages: list[PageInfo]) -> list[Chain]:
    """Those written last come first."""
    by_key = {page.key: page for page in pages}
    place: dict[bytes, tuple[bytes, int]] = {}  # key -> (head, depth)
    members: dict[bytes, list[bytes]] = {}
    for page in pages:
        head = _find_head(page.key, by_key, place)[0]
        members.setdefault(head, []).append(page.key)
    found = [
        Chain(
            head=head.hex(),
            pages=len(keys),
            depth=max(place[key][1] for key in keys),
            written_unix_s=max(by_key[key].written_by_unix_s for key in keys),
            is_cut=by_key[head].parent != _HEAD,
        )
        for head, keys in members.items()
    ]
    return sorted(found, key=lambda chain: -chain.written_unix_s)


def _find_head(
    key: bytes, by_key: dict[bytes, PageInfo], place: dict[bytes, tuple[bytes, int]]
) -> tuple[bytes, int]:
    """Fills in `place` for the page and its ancestors. A hostile journal's circle ends, too."""
    path: list[bytes] = []
    seen: set[bytes] = set()
    while key in by_key and key not in place and key not in seen:
        seen.add(key)
        path.append(key)
        key = by_key[key].parent
    head, depth = place.get(key, (path[-1] if path else key, 0))
    for each in reversed(path):
        depth += 1
        place[each] = (head, depth)
    return place[path[0]] if path else place[key]


def ago(unix_s: int | None, now: float) -> str:
    """`3 hours ago`; `-` for no time at all."""
    if unix_s is None:
        return "-"
    seconds = max(0, int(now - unix_s))
    for unit, length in (("day", _DAY_S), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def describe(facts: StoreFacts, now: float) -> str:
    """A block of lines, 80 columns at most but for paths and problems."""
    created = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(facts.created_unix_s))
    lines = [facts.directory]
    if facts.is_store:
        rows = {
            "format": f"version {facts.format_version}, created {created}",
            "in use by": facts.in_use_by or "nobody",
            "namespace": facts.namespace,
            "pages": f"{facts.pages} of {facts.slots} slots, {format_bytes(facts.page_bytes)}"
            f" each, in {facts.chains} chain{'' if facts.chains == 1 else 's'}",
            "oldest, newest": f"{ago(facts.oldest_page_unix_s, now)},"
            f" {ago(facts.newest_page_unix_s, now)}",
            "on disk": format_bytes(facts.disk_bytes),
            "journal": f"{facts.journal_records} records",
            "written": _written(facts),
            "in 24 hours": format_bytes(facts.disk_written_bytes_last_day),
            "hits": _hits(facts),
        }
        lines += [f"  {name + ':':<16}{text}" for name, text in rows.items()]
    return "\n".join(lines + [f"  problem: {problem}" for problem in facts.problems])


def _written(facts: StoreFacts) -> str:
    if facts.write_amplification is None:
        return "nothing yet"
    return (
        f"{format_bytes(facts.disk_written_bytes)} for {format_bytes(facts.written_bytes)} of pages"
        f" ({facts.write_amplification:.2f} times)"
    )


def _hits(facts: StoreFacts) -> str:
    if facts.hits_per_written_byte is None:
        return "none yet"
    return (
        f"{format_bytes(facts.hit_bytes)},"
        f" {facts.hits_per_written_byte:.2f} bytes for each byte written"
    )
