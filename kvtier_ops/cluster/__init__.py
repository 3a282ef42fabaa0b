"""Several nodes: which one this is, and how all of them meet before any of them starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvtier_ops.cluster.meet import Meeting, meet
from kvtier_ops.cluster.node import node_of
from kvtier_ops.cluster.node_rank import FoundRank, find_node_rank
from kvtier_ops.cluster.terms import terms_of
from kvtier_ops.errors import BadInput
from kvtier_ops.profile.load import ProfileFile

__all__ = ["FoundRank", "Meeting", "find_node_rank", "meet_all"]


def meet_all(file: ProfileFile, model: Path, say: Callable[[str], None]) -> Meeting:
    """Waits until every node of the profile is there, and agrees on it. `model`: where it lies
    here; `say` is told who comes, and what is waited for.

    Raises ChecksFailed with all reasons why they cannot start together, BadInput where this node's
    number is not known or contradicts what started it.
    """
    found = find_node_rank(file.profile.cluster)
    if not found.is_known:
        raise BadInput(
            f"nothing says which of the {file.profile.cluster.nodes} nodes this is",
            "`--node-rank N`, from 0, or start it by Slurm, torchrun or Kubernetes",
            field="cluster.node_rank",
            id="KVT-D703",
        )
    return meet(node_of(file, found.rank, model), terms_of(file.profile), say)
