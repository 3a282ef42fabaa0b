"""The section `cluster`: one model over several nodes."""

from __future__ import annotations

from pydantic import Field

from kvtier_ops.profile.fields import AddressField, PathField, RankField
from kvtier_ops.profile.schema.base import Section
from kvtier_ops.profile.schema.server import Secret
from kvtier_ops.units import AUTO


class ClusterSecret(Secret):
    """What nodes prove to one another that they know, when they meet; none: anybody who reaches
    the port of node 0 may speak there."""


class Cluster(Section):
    """Nodes that share one model. The bundled engine runs on one: more can be planned for."""

    nodes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Nodes over which `engine.tensor_parallel` ranks are spread equally.",
        examples=[2],
    )
    node_rank: RankField = Field(
        default=AUTO,
        description="Number of this node, from 0; `auto`: what the environment of Slurm, torchrun "
        "or Kubernetes says. Without one of them `kvtier plan` takes 0, and launch refuses.",
        examples=[1],
    )
    master_address: AddressField = Field(
        default="127.0.0.1",
        description="Address of node 0, at which the others meet.",
        examples=["10.0.0.1"],
    )
    master_port: int = Field(
        default=2732, ge=1, le=65535, description="Port of node 0 for that.", examples=[29500]
    )
    meet_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        description="Seconds in which all nodes must have come to node 0 before any of them "
        "starts its engine.",
        examples=[900],
    )
    shared_directories: tuple[PathField, ...] = Field(
        default=(),
        max_length=64,
        description="Directories that all nodes share, such as the models' on NFS. Before the "
        "start node 0 writes a file into each, and the others must see it. Those of L3 are never "
        "shared.",
        examples=[["/shared/models"]],
    )
    secret: ClusterSecret = ClusterSecret()
