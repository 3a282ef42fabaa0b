"""The section `cluster`: one model over several nodes."""

from __future__ import annotations

from pydantic import Field

from kvtier_ops.profile.fields import AddressField, RankField
from kvtier_ops.profile.schema.base import Section
from kvtier_ops.units import AUTO


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
        "or Kubernetes says, else 0.",
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
