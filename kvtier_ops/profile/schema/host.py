"""The section `host`: what kvtier leaves to others, and where it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kvtier_ops.profile.fields import AmountField, NodesField
from kvtier_ops.profile.schema.base import Section
from kvtier_ops.units import AUTO


class HostSection(Section):
    """What is left to the rest of the host, and the NUMA nodes that kvtier keeps to."""

    reserve: AmountField = Field(
        default=AUTO,
        description="Host memory that is left to the system and its page cache. A percentage is of "
        "the memory that kvtier may use; `auto`: 5%, and 256MiB at least.",
        examples=["32GiB"],
    )
    memory_nodes: NodesField = Field(
        default=(),
        description="NUMA nodes whose memory alone is used, as `numactl --membind` would have it; "
        "`all`: no limit. What is planned must fit into these nodes.",
        examples=[[0, 1]],
    )
    cpu_nodes: NodesField = Field(
        default=(),
        description="NUMA nodes on whose CPUs alone kvtier runs, as `numactl --cpunodebind` would "
        "have it; `all`: no limit.",
        examples=[[0]],
    )
    bind_ranks: Literal["auto", "none"] = Field(
        default="auto",
        description="`auto`: on a host with several NUMA nodes, each rank keeps to the CPUs and "
        "takes the memory of the node next to its GPU; without GPUs the ranks share the nodes, "
        "and a rank that spans several takes their memory in turn. `none`: the system decides.",
        examples=["none"],
    )
