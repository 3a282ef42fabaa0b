"""Where each rank runs and takes its memory from: next to its GPU, or its share of the nodes."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_engine.config import RankPlacement
from kvtier_ops.host import NumaNode
from kvtier_ops.plan.question import Question


@dataclass(frozen=True)
class Placement:
    """Of one rank. Several memory nodes are taken in turn (interleaved), one is preferred."""

    nodes: tuple[int, ...]  # on whose CPUs it runs
    cpus: tuple[int, ...]
    memory_nodes: tuple[int, ...]  # none: as the launcher has it
    reason: str

    def config(self) -> RankPlacement:
        return RankPlacement(
            cpus=self.cpus, memory_nodes=self.memory_nodes, interleave=len(self.memory_nodes) > 1
        )

    def describe(self) -> str:
        nodes = ", ".join(map(str, self.nodes))
        text = f"CPUs of NUMA node{'s' * (len(self.nodes) > 1)} {nodes}"
        if len(self.memory_nodes) > 1:
            text += f", memory of {', '.join(map(str, self.memory_nodes))} in turn"
        elif self.memory_nodes:
            text += f", memory of {self.memory_nodes[0]} first"
        return f"{text} ({self.reason})"


def plan_placements(question: Question) -> tuple[Placement, ...]:
    """By rank; none where there is one node only, or it is not known which is near."""
    section = question.profile.host
    named = section.cpu_nodes
    nodes = [n for n in question.host.numa_nodes if n.cpus and (not named or n.id in named)]
    if section.bind_ranks == "none" or len(question.host.numa_nodes) < 2 or not nodes:
        return ()
    by_rank = _shared_out(nodes, question.ranks.here) if question.on_cpu else _near(question, nodes)
    bound = section.memory_nodes
    return tuple(
        Placement(
            nodes=tuple(node.id for node in near),
            cpus=tuple(cpu for node in near for cpu in node.cpus),
            memory_nodes=_memory(near, bound),
            reason=reason,
        )
        for near, reason in by_rank
    )


def _near(question: Question, nodes: list[NumaNode]) -> list[tuple[list[NumaNode], str]]:
    """The node of each rank's GPU. None if one is not known, or not ours."""
    found = []
    by_id = {node.id: node for node in nodes}
    for rank, gpu in enumerate(question.host.gpus[: question.ranks.here]):
        if gpu.numa_node is None or gpu.numa_node not in by_id:
            return []
        found.append(([by_id[gpu.numa_node]], f"next to GPU {rank}"))
    return found


def _shared_out(nodes: list[NumaNode], ranks: int) -> list[tuple[list[NumaNode], str]]:
    """Ranks in equal groups on the nodes, or nodes in equal groups under the ranks; else each
    rank is on all of them."""
    count = len(nodes)
    if ranks >= count and ranks % count == 0:
        return [([nodes[rank * count // ranks]], "ranks shared out") for rank in range(ranks)]
    if count % ranks == 0:
        each = count // ranks
        return [(nodes[r * each : (r + 1) * each], "its share of the nodes") for r in range(ranks)]
    return [(nodes, "ranks and nodes do not divide") for _ in range(ranks)]


def _memory(near: list[NumaNode], bound: tuple[int, ...]) -> tuple[int, ...]:
    """`host.memory_nodes` is a limit: a preference for one node could pass it when that is full,
    so that the launcher's own limit is left to hold."""
    if bound:
        return ()
    return tuple(node.id for node in near)
