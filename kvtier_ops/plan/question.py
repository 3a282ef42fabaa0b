"""What every step of the plan needs to know, and the sizes that follow from it alone."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.host import Host
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.model.kv_shape import KvKind, KvLayers
from kvtier_ops.plan.ranks import Ranks
from kvtier_ops.profile.schema import Profile

BLOCK_BYTES = 4096  # as csrc/store aligns pages on disk and parts in the arena


@dataclass(frozen=True)
class Question:
    """A profile, the host and the model that it is planned for, and what they decide at once."""

    profile: Profile
    host: Host
    model: ModelFacts
    device: str  # `cpu` or `cuda`
    ranks: Ranks

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def page_tokens(self) -> int:
        return self.profile.tiers.page_tokens

    @property
    def token_bytes(self) -> int:
        """KV of one token that this node keeps, once: what L2 and L3 hold."""
        items = sum(_numbers_here(group, self.ranks) for group in self.model.kv.groups)
        return items * self.model.kv.item_bytes

    @property
    def page_bytes(self) -> int:
        return self.token_bytes * self.page_tokens

    @property
    def device_token_bytes(self) -> int:
        """KV of one token in the memory of this node's ranks together: what L1 holds. More than
        `token_bytes` where several ranks keep the same head or latent vector."""
        return self.model.kv.device_token_bytes(self.ranks.total) // self.ranks.nodes

    @property
    def device_page_bytes(self) -> int:
        return self.device_token_bytes * self.page_tokens

    @property
    def arena_parts(self) -> int:
        """Parts of a slot in L2: one for each rank of this node that keeps something of its own."""
        heads = max(group.heads for group in self.model.kv.groups)
        return max(1, min(self.ranks.here, heads * self.ranks.here // self.ranks.total or 1))


def round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _numbers_here(group: KvLayers, ranks: Ranks) -> int:
    """Of one token, on this node, once: of its own heads, or of the whole latent vector."""
    if group.kind is KvKind.LATENT or not group.heads:
        return group.token_numbers
    heads_here = max(1, group.heads * ranks.here // ranks.total)
    return group.token_numbers // group.heads * heads_here
