"""All nodes meet at node 0 before any of them starts: who is there, and do they agree?

    node 0                                 node r
    listens                                connects, again and again until the deadline
    challenge: how long it still waits ->
                                        <- hello: who it is, versions, profile, model
    look: everybody's marks            ->  looks into its directories
                                        <- seen
    verdict: who came, what is wrong   ->  starts, or says why not

Whatever is wrong is said on every node that came. A node that goes away before the verdict may come
again. Nobody waits longer than `cluster.meet_timeout_s` for the others to come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.cluster.follow import follow
from kvtier_ops.cluster.lead import Leader
from kvtier_ops.cluster.node import node_of
from kvtier_ops.cluster.node_rank import find_node_rank
from kvtier_ops.cluster.shared import Marks
from kvtier_ops.cluster.terms import Terms, terms_of
from kvtier_ops.cluster.wire import Node
from kvtier_ops.errors import BadInput, ChecksFailed
from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.text import printable


@dataclass(frozen=True)
class Meeting:
    """Who met, each as `1 (host-b)`, in the order of ranks."""

    nodes: tuple[str, ...]
    took_s: float

    def describe(self) -> str:
        return (
            f"{len(self.nodes)} nodes met in {self.took_s:.1f} s and agree: {', '.join(self.nodes)}"
        )


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


def meet(node: Node, terms: Terms, say: Callable[[str], None]) -> Meeting:
    """Returns when all nodes are there and agree. `say` is told what happens meanwhile.

    Raises ChecksFailed with every reason why they cannot start together.
    """
    began = time.monotonic()
    leads = node.rank == 0
    with Marks(terms.directories, node.mark, leads=leads) as marks:
        verdict = (
            Leader(node, terms, marks, say).run() if leads else follow(node, terms, marks, say)
        )
    if verdict.problems:
        raise ChecksFailed([each.problem() for each in verdict.problems])
    return Meeting(tuple(map(printable, verdict.nodes)), time.monotonic() - began)
