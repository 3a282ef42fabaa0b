"""Copies pages between L1 and this rank's part of the L2 arena: bytes, not numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from kvtier_engine.runner.step import Copy


class HostPages(Protocol):
    """The L2 arena as the copier sees it (kvtier_store.Arena)."""

    @property
    def part_bytes(self) -> int: ...
    @property
    def part_stride(self) -> int: ...
    def part_view(self, part: int) -> memoryview:
        """All slots of one part, writable, without a copy."""


class Copier(Protocol):
    """Moves whole pages. Called by one thread, in the order of the steps."""

    def restore(self, copies: Sequence[Copy]) -> None:
        """L2 -> L1. What is computed after this call sees the restored pages; the slots may
        change once `offload` of the same step has returned."""

    def offload(self, step: int, copies: Sequence[Copy]) -> None:
        """Starts L1 -> L2, after everything computed so far. Ends the step `step`; called for
        every step, with or without copies."""

    def resize(self, slots: int) -> None:
        """Only the first `slots` slots have memory from now on; no copy of others is under way.
        Raises RuntimeError if a device holds on to the others' memory."""

    def offloads_done(self) -> int:
        """The highest step up to which every offload is complete; 0 before the first."""

    def wait(self) -> None:
        """Returns when every offload started so far is complete."""

    def close(self) -> None:
        """Lets go of L2. No other call comes after it."""


def host_slots(arena: HostPages, part: int, page_bytes: int) -> torch.Tensor:
    """[slots, page_bytes] uint8 over the arena's memory: this rank's part of every slot."""
    assert arena.part_bytes == page_bytes, (arena.part_bytes, page_bytes)
    memory = torch.frombuffer(arena.part_view(part), dtype=torch.uint8)
    return memory.view(-1, arena.part_stride)[:, :page_bytes]
