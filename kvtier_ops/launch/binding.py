"""Keeps this process, and the engine that it starts, to some NUMA nodes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kvtier_engine.placement import Policy, set_memory_policy
from kvtier_ops.errors import HostError
from kvtier_ops.host import Host
from kvtier_ops.plan import Plan


@dataclass(frozen=True)
class Binding:
    """CPUs to run on, and nodes to take memory from; empty: any. A child inherits both."""

    cpus: tuple[int, ...] = ()
    memory_nodes: tuple[int, ...] = ()

    def apply(self) -> None:
        """For this process and those that it starts. Raises HostError."""
        try:
            if self.cpus:
                os.sched_setaffinity(0, self.cpus)
        except OSError as error:
            hint = "`taskset -pc $$` shows the CPUs that there are; mend `host.cpu_nodes`"
            raise HostError(f"cannot run on these CPUs alone: {error.strerror}", hint) from error
        if self.memory_nodes:
            _bind_memory(self.memory_nodes)

    def describe(self) -> list[str]:
        lines = []
        if self.cpus:
            lines.append(f"CPUs: {', '.join(map(str, self.cpus))} (`host.cpu_nodes`)")
        if self.memory_nodes:
            nodes = ", ".join(map(str, self.memory_nodes))
            lines.append(f"memory: of NUMA nodes {nodes} alone (`host.memory_nodes`)")
        return lines


def binding_of(plan: Plan) -> Binding:
    section = plan.profile.host
    return Binding(_cpus(plan.host, section.cpu_nodes), section.memory_nodes)


def describe_ranks(plan: Plan) -> list[str]:
    """A line for each rank that has a place of its own."""
    return [f"rank {rank}: {each.describe()}" for rank, each in enumerate(plan.placements)]


def _cpus(host: Host, nodes: tuple[int, ...]) -> tuple[int, ...]:
    """Of these nodes, those that this process may use. Raises HostError if it may use none."""
    allowed = os.sched_getaffinity(0)
    named = {cpu for node in host.numa_nodes if node.id in nodes for cpu in node.cpus}
    if nodes and not named & allowed:
        raise HostError(
            f"none of the CPUs of NUMA nodes {', '.join(map(str, nodes))} may be used here",
            "`taskset -pc $$` and `kvtier host show` say which; mend `host.cpu_nodes`",
        )
    return tuple(sorted(named & allowed))


def _bind_memory(nodes: tuple[int, ...]) -> None:
    try:
        set_memory_policy(Policy.BIND, nodes)
    except OSError as error:
        raise HostError(
            f"cannot take memory from NUMA nodes {', '.join(map(str, nodes))} alone: "
            f"{error.strerror}",
            "set `host.memory_nodes: all`; in a container, allow set_mempolicy (CAP_SYS_NICE)",
        ) from error
