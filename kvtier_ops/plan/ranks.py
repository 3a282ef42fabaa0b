"""Tensor-parallel ranks: how many there are, where, and whether they can share the model."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.errors import BadInput
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.model.kv_shape import KvKind
from kvtier_ops.profile.schema import Profile


@dataclass(frozen=True)
class Ranks:
    """Tensor-parallel ranks: of the whole cluster, and of this node."""

    total: int
    nodes: int = 1
    node_rank: int = 0
    node_rank_from: str = ""  # what said so; empty: the profile, or that there is one node

    @property
    def here(self) -> int:
        return self.total // self.nodes


def plan_ranks(profile: Profile, model: ModelFacts) -> Ranks:
    """Raises BadInput where ranks cannot share the model, or nodes the ranks, equally."""
    total, nodes = profile.engine.tensor_parallel, profile.cluster.nodes
    if total % nodes:
        raise BadInput(
            f"{total} ranks cannot be spread over {nodes} nodes equally",
            f"set `engine.tensor_parallel` to a multiple of {nodes}",
            field="cluster.nodes",
        )
    rank = profile.cluster.node_rank
    node_rank = rank if isinstance(rank, int) else 0
    if node_rank >= nodes:
        raise BadInput(
            f"there is no node {node_rank} of {nodes}: they are numbered from 0",
            f"the last is {nodes - 1}",
            field="cluster.node_rank",
        )
    ranks = Ranks(total, nodes, node_rank)
    for group in model.kv.groups:
        if group.kind is not KvKind.LATENT and group.heads:
            _check_heads(total, group.heads)
            _check_nodes(ranks, group.heads)
    return ranks


def _check_heads(ranks: int, heads: int) -> None:
    """Every rank has as many kv heads as the others, or every head as many ranks."""
    if heads % ranks and ranks % heads:
        fitting = [n for n in range(1, heads + 1) if heads % n == 0]
        shown = ", ".join(map(str, [*fitting, 2 * heads, 4 * heads]))
        raise BadInput(
            f"{ranks} ranks cannot share {heads} kv heads equally",
            f"this model takes {shown} and other multiples of {heads}",
            field="engine.tensor_parallel",
        )


def _check_nodes(ranks: Ranks, heads: int) -> None:
    """No kv head is kept by ranks of two nodes beside others of its node."""
    copies = max(1, ranks.total // heads)
    if ranks.here % copies and copies % ranks.here:
        raise BadInput(
            f"{ranks.here} ranks of a node cannot share {heads} kv heads with other nodes equally: "
            f"each head is kept by {copies} ranks",
            f"set `engine.tensor_parallel` to a multiple of {heads * ranks.nodes} or a divisor of "
            f"{heads}",
            field="engine.tensor_parallel",
        )
