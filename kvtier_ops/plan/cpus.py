"""CPUs: how many there are for kvtier, and the threads of each rank."""

from __future__ import annotations

from kvtier_ops.host import Host
from kvtier_ops.plan.placement import Placement, plan_placements
from kvtier_ops.plan.question import Question
from kvtier_ops.profile.schema import Profile


def plan_threads(question: Question) -> tuple[int, str]:
    threads, ranks = question.profile.engine.threads, question.ranks.here
    if isinstance(threads, int):
        return threads, "as the profile says"
    shared = f" for {ranks} ranks" if ranks > 1 else ""
    cpus = usable_cpus(question.profile, question.host)
    even = max(1, cpus // ranks)
    placements = plan_placements(question)
    near = min((_near(placements, each) for each in placements), default=even)
    if near < even:
        return near, f"auto: the CPUs of each rank's NUMA node, of {cpus}{shared}"
    return even, f"auto: {cpus} CPUs{shared}"


def _near(placements: tuple[Placement, ...], mine: Placement) -> int:
    """Of the CPUs that a rank keeps to, its share; others may keep to the same ones."""
    together = sum(each.nodes == mine.nodes for each in placements)
    return max(1, len(mine.cpus) // together)


def usable_cpus(profile: Profile, host: Host) -> int:
    """Those of `host.cpu_nodes` alone, if the profile names some and the host knows them."""
    named = profile.host.cpu_nodes
    there = sum(len(node.cpus) for node in host.numa_nodes if node.id in named)
    return min(host.usable_cpus, there) if there else host.usable_cpus
