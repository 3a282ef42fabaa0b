"""Recorded hosts: a host as a file, so that one can plan for a machine one does not sit at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvtier_ops.errors import BadInput, KvtierError
from kvtier_ops.host.json_form import as_json, from_json, wrong
from kvtier_ops.host.types import FileSystem, Host

VERSION = 1
_VERSION_KEY = "kvtier_host"
_FILE_BYTES_MAX = 16 << 20
_NUMBERS = re.compile(r"\[\n\s+([\d,\s]+?)\n\s+\]")  # a list of them is one line


def host_as_text(host: Host) -> str:
    """JSON that `load_host` reads back as an equal host; the same host is the same text."""
    found = {_VERSION_KEY: VERSION, **as_json(host)}
    text = json.dumps(found, indent=2, ensure_ascii=False)
    return _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


def anonymized(host: Host) -> Host:
    """Without the host's name, what is mounted, and paths other than mount points.

    Options with a value go as well: they name users, servers and folders.
    """
    systems = tuple(_anonymous(each) for each in host.file_systems)
    return replace(host, name="", file_systems=systems, directories={})


def _anonymous(system: FileSystem) -> FileSystem:
    kept = tuple(option for option in system.options if "=" not in option)
    return replace(system, device="", options=kept)


def load_host(path: Path) -> Host:
    """Raises BadInput, with `path`, for a file that is not a recorded host."""
    try:
        return _read_host(_read_text(path))
    except KvtierError as error:
        error.problems = tuple(replace(each, place=str(path)) for each in error.problems)
        raise


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it has a null character"
        hint = "name a file that `kvtier host record --output FILE` wrote"
        raise BadInput(f"cannot be read: {reason}", hint) from error
    if len(raw) > _FILE_BYTES_MAX:
        raise wrong("", "is too large for a recorded host")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise wrong("", "is not text") from None


def _read_host(text: str) -> Host:
    try:
        found = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise wrong("", f"is not JSON{where}") from None
    if not isinstance(found, dict) or _VERSION_KEY not in found:
        raise wrong("", f"is not a recorded host: `{_VERSION_KEY}` is missing")
    version = found.pop(_VERSION_KEY)
    if type(version) is not int or version != VERSION:
        hint = f"record it again, or use the kvtier that wrote it: this one reads {VERSION}"
        raise wrong(_VERSION_KEY, "is a version that this kvtier does not read", hint)
    host: Host = from_json(Host, found)
    for place, what in _contradictions(host):
        raise wrong(place, what)
    return host


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON says nothing about which of two equal names counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _contradictions(host: Host) -> Iterator[tuple[str, str]]:
    """(place, what) of facts that cannot be true together."""
    more = "is more than there is in all"
    if not host.memory_total_bytes:
        yield "memory_total_bytes", "is nothing"
    if host.memory_available_bytes > host.memory_total_bytes:
        yield "memory_available_bytes", more
    if not host.cpus:
        yield "cpus", "is nothing"
    yield from _pools(host.hugepages, "hugepages")
    for i, gpu in enumerate(host.gpus):
        if gpu.free_bytes > gpu.total_bytes:
            yield f"gpus[{i}].free_bytes", more
    for i, node in enumerate(host.numa_nodes):
        place = f"numa_nodes[{i}]"
        if node.free_bytes > node.total_bytes:
            yield f"{place}.free_bytes", more
        if node.id in host.node_ids[:i]:
            yield f"{place}.id", "names a node twice"
        if node.distances and len(node.distances) != len(host.numa_nodes):
            yield f"{place}.distances", "is not one for each node"
        yield from _pools(node.hugepages, f"{place}.hugepages")
    yield from _file_systems(host)


def _pools(pools: Any, place: str) -> Iterator[tuple[str, str]]:
    for size, pool in pools.items():
        if not size or pool.free > pool.total:
            yield f"{place}.{size}", "has more free pages than pages, or pages of no size"


def _file_systems(host: Host) -> Iterator[tuple[str, str]]:
    points = [each.mount_point for each in host.file_systems]
    named = [(f"file_systems[{i}]", each) for i, each in enumerate(host.file_systems)]
    named += [(f"directories.{path}.on", each.on) for path, each in host.directories.items()]
    for place, each in named:
        if each.free_bytes > each.total_bytes:
            yield f"{place}.free_bytes", "is more than there is in all"
        if points.count(each.mount_point) > 1:
            yield f"{place}.mount_point", "is mounted twice"
