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

from kvtier_ops.cluster.follow import follow
from kvtier_ops.cluster.lead import Leader
from kvtier_ops.cluster.shared import Marks
from kvtier_ops.cluster.terms import Terms
from kvtier_ops.cluster.wire import Node
from kvtier_ops.errors import ChecksFailed
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
