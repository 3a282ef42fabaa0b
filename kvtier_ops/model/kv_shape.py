"""How a model's KV cache is shaped, and how many bytes that makes.

A token leaves, in each layer that attends to everything or to a window, K and V of each kv head
(GQA; MHA has as many kv heads as query heads), or one latent vector for all heads (MLA, the
DeepSeek-V2 paper, section 2.1). A layer with a recurrent state leaves nothing for each token, and
one state for each sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kvtier_engine.config import KvGeometry


class KvKind(StrEnum):
    FULL = "full"  # attends to everything before it
    SLIDING = "sliding"  # attends to the last `window_tokens`
    LATENT = "latent"  # MLA: one vector for all heads
    STATE = "state"  # a state of fixed size instead of KV


@dataclass(frozen=True)
class KvLayers:
    """Layers of one kind. Counts are of numbers, not of bytes."""

    kind: KvKind
    layers: int
    heads: int = 0  # kv heads; LATENT: 1; STATE: 0
    key_dim: int = 0  # of one head; LATENT: latent and rotary part together
    value_dim: int = 0  # of one head; LATENT: 0, V is computed from the latent
    window_tokens: int | None = None  # SLIDING
    state_numbers: int = 0  # STATE: of one layer and one sequence

    @property
    def token_numbers(self) -> int:
        """That one token leaves in all of these layers."""
        return self.layers * self.heads * (self.key_dim + self.value_dim)

    def copies(self, ranks: int) -> int:
        """How often `ranks` tensor-parallel ranks keep each number between them: a kv head is
        kept by several ranks where there are more of them, a latent vector by every one."""
        if self.kind is KvKind.LATENT:
            return ranks
        return max(1, ranks // self.heads) if self.heads else 1


@dataclass(frozen=True)
class KvShape:
    """The KV cache of one model, `item_bytes` to a number.

    States are not quantized with it: a number of theirs takes `state_item_bytes`.
    """

    groups: tuple[KvLayers, ...]
    item_bytes: int
    state_item_bytes: int | None = None  # None: as `item_bytes`

    @property
    def token_bytes(self) -> int:
        """Of one token in a page: every layer that keeps something for each token."""
        return self.item_bytes * sum(group.token_numbers for group in self.groups)

    def device_token_bytes(self, ranks: int) -> int:
        """Of one token in the memory of all ranks together, copies counted."""
        return self.item_bytes * sum(g.token_numbers * g.copies(ranks) for g in self.groups)

    @property
    def state_bytes(self) -> int:
        """Of one sequence, whatever its length."""
        item_bytes = self.item_bytes if self.state_item_bytes is None else self.state_item_bytes
        return item_bytes * sum(group.layers * group.state_numbers for group in self.groups)

    def sequence_bytes(self, tokens: int) -> int:
        """What the model needs to go on after `tokens` tokens: windows hold no more than their
        length, states are there once."""
        kept = sum(
            group.token_numbers * min(tokens, group.window_tokens or tokens)
            for group in self.groups
        )
        return self.item_bytes * kept + self.state_bytes

    @property
    def is_uniform(self) -> bool:
        """True if every layer keeps the same for every token: what the engine's pages hold."""
        [first, *others] = self.groups
        return not others and first.kind is KvKind.FULL and first.key_dim == first.value_dim

    @property
    def geometry(self) -> KvGeometry | None:
        """For the engine; None if its pages cannot hold this shape."""
        if not self.is_uniform:
            return None
        [group] = self.groups
        return KvGeometry(
            layers=group.layers,
            kv_heads=group.heads,
            head_dim=group.key_dim,
            item_bytes=self.item_bytes,
        )


def grouped(layers: Sequence[KvLayers]) -> tuple[KvLayers, ...]:
    """Single layers, in the model's order -> groups of equal ones, in order of appearance."""
    counts: dict[KvLayers, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple(replace(layer, layers=count * layer.layers) for layer, count in counts.items())
