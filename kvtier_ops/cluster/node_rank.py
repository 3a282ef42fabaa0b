"""Which of the nodes this is: what the profile says, or Slurm, torchrun or Kubernetes."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from kvtier_ops.errors import BadInput
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.schema.cluster import Cluster

FIELD = "cluster.node_rank"
_ONE_LAUNCHER = "start one `kvtier launch` on each node: it starts the ranks of its node itself"


@dataclass(frozen=True)
class FoundRank:
    """`source` is empty where the profile says it, or where there is one node alone."""

    rank: int
    source: str = ""
    is_known: bool = True

    def written_into(self, profile: Profile) -> Profile:
        """The profile with what the environment says; as it is where that says nothing."""
        if not self.source or not self.is_known:
            return profile
        cluster = profile.cluster.model_copy(update={"node_rank": self.rank})
        return profile.model_copy(update={"cluster": cluster})


ONE_NODE = FoundRank(0)
UNKNOWN = FoundRank(0, "assumed: nothing says which node this is", is_known=False)


@dataclass(frozen=True)
class Told:
    """What one of the starters says; `nodes` None: it does not say how many there are."""

    rank: int
    nodes: int | None
    source: str


class _Environment:
    """Variables as whole numbers. Raises BadInput for one that is none."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def number(self, name: str) -> int | None:
        text = self._variables.get(name, "").strip()
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= 9):
            raise BadInput(
                f"the environment's `{name}` is `{text[:40]}`, and should be a whole number",
                f"unset it, or set `{FIELD}`",
                field=FIELD,
            )
        return int(text)

    def first(self, *names: str) -> tuple[str, int] | None:
        """The first of these that is set."""
        for name in names:
            if (value := self.number(name)) is not None:
                return name, value
        return None

    def text(self, name: str) -> str:
        return self._variables.get(name, "")


def find_node_rank(
    cluster: Cluster, variables: Mapping[str, str] = os.environ, hostname: str | None = None
) -> FoundRank:
    """Raises BadInput where the environment contradicts the profile or itself."""
    if isinstance(cluster.node_rank, int):
        return FoundRank(cluster.node_rank)
    if cluster.nodes == 1:
        return ONE_NODE
    name = socket.gethostname() if hostname is None else hostname
    told = next(_told(_Environment(variables), name), None)
    if told is None:
        return UNKNOWN
    if told.nodes is not None and told.nodes != cluster.nodes:
        raise BadInput(
            f"the profile says {_nodes(cluster.nodes)}, {told.source} says {_nodes(told.nodes)}",
            f"set `cluster.nodes: {told.nodes}`, or start it on {_nodes(cluster.nodes)}",
            field="cluster.nodes",
        )
    if told.rank >= cluster.nodes:
        raise BadInput(
            f"{told.source} says that this is node {told.rank}; of {cluster.nodes} nodes the last "
            f"is {cluster.nodes - 1}",
            f"set `cluster.nodes`, or `{FIELD}` if that number means something else",
            field=FIELD,
        )
    return FoundRank(told.rank, told.source)


def _told(environment: _Environment, hostname: str) -> Iterator[Told]:
    """What is known of this node, the nearest starter first: torchrun may run inside of a Slurm
    job or a pod, and then it is torchrun that numbers the nodes."""
    asked: tuple[Callable[[], Told | None], ...] = (
        lambda: _torchrun(environment),
        lambda: _slurm(environment),
        lambda: _kubernetes(environment, hostname),
    )
    for ask in asked:
        if (told := ask()) is not None:
            yield told


def _torchrun(environment: _Environment) -> Told | None:
    local = environment.number("LOCAL_RANK")
    if (group := environment.number("GROUP_RANK")) is not None:
        _refuse_further(local, "torchrun", "--nproc-per-node=1", "LOCAL_RANK")
        return Told(group, environment.number("GROUP_WORLD_SIZE"), "torchrun's GROUP_RANK")
    rank, world = environment.number("RANK"), environment.number("WORLD_SIZE")
    if rank is None or world is None:  # RANK alone is anybody's
        return None
    _refuse_further(local, "torchrun", "--nproc-per-node=1", "LOCAL_RANK")
    each = environment.number("LOCAL_WORLD_SIZE") or 1
    return Told(rank // each, -(-world // each), "torchrun's RANK")


def _slurm(environment: _Environment) -> Told | None:
    nodes = environment.first("SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
    count = nodes[1] if nodes else None
    local = environment.number("SLURM_LOCALID")
    if (node := environment.number("SLURM_NODEID")) is not None:
        _refuse_further(local, "Slurm", "--ntasks-per-node=1", "SLURM_LOCALID")
        return Told(node, count, "Slurm's SLURM_NODEID")
    if (task := environment.number("SLURM_PROCID")) is not None:
        _refuse_further(local, "Slurm", "--ntasks-per-node=1", "SLURM_LOCALID")
        return Told(task, count, "Slurm's SLURM_PROCID")
    return None


def _kubernetes(environment: _Environment, hostname: str) -> Told | None:
    index = environment.first("JOB_COMPLETION_INDEX", "LWS_WORKER_INDEX")
    if index is not None:
        nodes = environment.number("LWS_GROUP_SIZE") if index[0].startswith("LWS") else None
        return Told(index[1], nodes, f"Kubernetes' {index[0]}")
    if not environment.text("KUBERNETES_SERVICE_HOST"):
        return None
    name = environment.text("POD_NAME") or hostname.partition(".")[0]
    ordinal = re.fullmatch(r".+-(0|[1-9]\d{0,3})", name, re.ASCII)
    return Told(int(ordinal[1]), None, f"the pod's name, {name}") if ordinal else None


def _refuse_further(local: int | None, who: str, option: str, variable: str) -> None:
    """Only the first of several launchers on one node would have its ports and directories."""
    if local:
        raise BadInput(
            f"{who} runs several tasks on this node ({variable} is {local})",
            f"{_ONE_LAUNCHER}; give {who} `{option}`",
            field=FIELD,
        )


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count != 1)}"
