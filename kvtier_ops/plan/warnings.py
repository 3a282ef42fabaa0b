"""Warnings of the plan. Ids are stable: operators silence and search for them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from kvtier_ops.host import DriveKind
from kvtier_ops.plan import engine_limits, traps
from kvtier_ops.plan.cpus import usable_cpus
from kvtier_ops.plan.types import Plan, Warning_
from kvtier_ops.units import format_bytes

_NOT_DISKS = {
    DriveKind.MEMORY: "is memory: what lies there counts as memory and is gone after a reboot",
    DriveKind.OVERLAY: "is a container's own layer: it is slow and gone with the container",
    DriveKind.NETWORK: "is on a network: reading may be slower than computing",
}


def find_warnings(plan: Plan) -> tuple[Warning_, ...]:
    """What the operator may not have meant, in the order of the profile; first what the engine
    cannot do at all."""
    parts = (
        engine_limits.find(plan),
        _engine(plan),
        _sizes(plan),
        traps.find(plan),
        _admission(plan),
        _disks(plan),
        _server(plan),
    )
    return tuple(warning for part in parts for warning in part)


def _engine(plan: Plan) -> Iterator[Warning_]:
    busy, cpus = plan.threads * plan.ranks.here, usable_cpus(plan.profile, plan.host)
    is_auto = not isinstance(plan.profile.engine.threads, int)
    if busy > cpus:
        yield Warning_(
            "KVT-P004",
            f"{busy} threads share {cpus} CPUs: they wait for one another",
            "set a smaller `engine.tensor_parallel`" if is_auto else "set `engine.threads: auto`",
            "engine.tensor_parallel" if is_auto else "engine.threads",
        )
    if plan.max_context_tokens < plan.model.max_context_tokens and plan.context_reason.startswith(
        "auto: L1"
    ):
        yield Warning_(
            "KVT-P003",
            f"L1 holds {plan.l1.tokens} tokens, less than the model's context of "
            f"{plan.model.max_context_tokens}: longer prompts are refused",
            "give `tiers.l1.size` more memory",
            "tiers.l1.size",
        )


def _sizes(plan: Plan) -> Iterator[Warning_]:
    if plan.l2.pages and plan.l2.pages <= plan.l1.pages:
        yield Warning_(
            "KVT-P001",
            f"L2 ({plan.l2.tokens:,} tokens in {format_bytes(plan.l2.bytes)}) is not larger than "
            f"L1 ({plan.l1.tokens:,} in {format_bytes(plan.l1.bytes)}): it adds little",
            "make `tiers.l2.size` larger than L1",
            "tiers.l2.size",
        )
    if plan.l3.pages and plan.l3.pages <= plan.l2.pages:
        yield Warning_(
            "KVT-P002",
            f"L3 ({plan.l3.tokens:,} tokens in {format_bytes(plan.l3.bytes)}) is not larger than "
            f"L2 ({plan.l2.tokens:,} in {format_bytes(plan.l2.bytes)}): it adds only a warm "
            "restart",
            "make `tiers.l3.size` larger than `tiers.l2.size`",
            "tiers.l3.size",
        )


def _admission(plan: Plan) -> Iterator[Warning_]:
    l3 = plan.profile.tiers.l3
    if l3.admit_tokens and l3.admit_sightings == 1:
        yield Warning_(
            "KVT-P007",
            "`tiers.l3.admit_tokens` does nothing: all pages are written at once",
            "set `tiers.l3.admit_sightings` to 2 or more, or remove `admit_tokens`",
            "tiers.l3.admit_tokens",
        )


def _disks(plan: Plan) -> Iterator[Warning_]:
    for disk in plan.disks:
        if disk.on.drive_kind in _NOT_DISKS:
            yield Warning_(
                "KVT-P006",
                f"`{disk.path}` lies on {disk.on.kind or 'a file system'}, which "
                f"{_NOT_DISKS[disk.on.drive_kind]}",
                "name a directory on a local disk in `tiers.l3.directories`",
                "tiers.l3.directories",
            )


def _server(plan: Plan) -> Iterator[Warning_]:
    host = plan.profile.server.host
    if not _is_local(host) and not plan.profile.server.api_keys:
        yield Warning_(
            "KVT-P005",
            f"`server.host` {host} is open to others, and nothing asks who they are",
            "set `server.api_keys`, put a proxy that authenticates in front, or use 127.0.0.1",
            "server.host",
        )


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
