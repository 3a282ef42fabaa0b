"""Warnings of the plan. Ids are stable: operators silence and search for them."""

from __future__ import annotations

from kvtier_ops.host import Host
from kvtier_ops.plan.types import Plan, Warning_
from kvtier_ops.units import format_bytes

_LOCAL = ("127.0.0.1", "::1", "localhost")
_NOT_DISKS = {
    "tmpfs": "is memory: what lies there counts as memory and is gone after a reboot",
    "ramfs": "is memory: what lies there counts as memory and is gone after a reboot",
    "overlay": "is a container's own layer: it is slow and gone with the container",
    "nfs": "is a network file system: reading may be slower than computing",
    "nfs4": "is a network file system: reading may be slower than computing",
    "cifs": "is a network file system: reading may be slower than computing",
}


def find_warnings(plan: Plan, host: Host) -> tuple[Warning_, ...]:
    """What the operator may not have meant, in the order of the profile."""
    parts = (_engine(plan, host), _sizes(plan), _admission(plan), _disks(plan), _server(plan))
    return tuple(warning for part in parts for warning in part)


def _engine(plan: Plan, host: Host) -> list[Warning_]:
    found = []
    busy = plan.threads * plan.profile.engine.tensor_parallel
    if busy > host.usable_cpus:
        found.append(
            Warning_(
                "KVT-P004",
                f"{busy} threads share {host.usable_cpus} CPUs: they wait for one another",
                "set `engine.threads: auto`",
            )
        )
    if plan.max_context_tokens < plan.model.max_context_tokens and plan.context_reason.startswith(
        "auto: L1"
    ):
        found.append(
            Warning_(
                "KVT-P003",
                f"L1 holds {plan.l1.tokens} tokens, less than the model's context of "
                f"{plan.model.max_context_tokens}: longer prompts are refused",
                "give `tiers.l1.size` more memory",
            )
        )
    return found


def _sizes(plan: Plan) -> list[Warning_]:
    found = []
    if plan.l2.pages and plan.l2.pages <= plan.l1.pages:
        found.append(
            Warning_(
                "KVT-P001",
                f"L2 ({format_bytes(plan.l2.bytes)}) is not larger than L1 "
                f"({format_bytes(plan.l1.bytes)}): it adds little",
                "make `tiers.l2.size` larger than `tiers.l1.size`",
            )
        )
    if plan.l3.pages and plan.l3.pages <= plan.l2.pages:
        found.append(
            Warning_(
                "KVT-P002",
                f"L3 ({format_bytes(plan.l3.bytes)}) is not larger than L2 "
                f"({format_bytes(plan.l2.bytes)}): it adds only a warm restart",
                "make `tiers.l3.size` larger than `tiers.l2.size`",
            )
        )
    return found


def _admission(plan: Plan) -> list[Warning_]:
    l3 = plan.profile.tiers.l3
    if not l3.admit_tokens or l3.admit_sightings > 1:
        return []
    return [
        Warning_(
            "KVT-P007",
            "`tiers.l3.admit_tokens` does nothing: all pages are written at once",
            "set `tiers.l3.admit_sightings` to 2 or more, or remove `admit_tokens`",
        )
    ]


def _disks(plan: Plan) -> list[Warning_]:
    return [
        Warning_(
            "KVT-P006",
            f"`{disk.path}` lies on {disk.file_system}, which {_NOT_DISKS[disk.file_system]}",
            "name a directory on a local disk in `tiers.l3.directories`",
        )
        for disk in plan.disks
        if disk.file_system in _NOT_DISKS
    ]


def _server(plan: Plan) -> list[Warning_]:
    host = plan.profile.server.host
    if host in _LOCAL or plan.profile.server.api_keys:
        return []
    return [
        Warning_(
            "KVT-P005",
            f"`server.host` {host} is open to others, and nothing asks who they are",
            "set `server.api_keys`, put a proxy that authenticates in front, or use 127.0.0.1",
        )
    ]
