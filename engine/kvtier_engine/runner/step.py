"""One step as plain data: what the scheduler decides and every rank executes."""

from __future__ import annotations

import msgspec

from kvtier_engine.messages import SamplingParams, TokenLogprob


class NewSequence(msgspec.Struct, frozen=True, array_like=True):
    """Sent once, in the step that first computes the sequence (not again after preemption)."""

    sequence_id: int
    prompt_ids: list[int]
    params: SamplingParams


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive tokens of one sequence to compute.

    `pages` is the sequence's page table: the L1 page of every page_tokens tokens from
    position 0 to the last token of the chunk.
    """

    sequence_id: int
    start: int  # position of the first token
    token_ids: list[int]
    pages: list[int]
    sample: bool  # draw the next token after the chunk's last one


class Copy(msgspec.Struct, frozen=True, array_like=True):
    """One page between its L1 page and its L2 slot."""

    page: int
    slot: int


class TierSizes(msgspec.Struct, frozen=True, array_like=True):
    """How many L1 pages and L2 slots are used from this step on; those above hold nothing."""

    l1_pages: int
    l2_slots: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`restores` (L2 -> L1) are complete before the chunks are computed; `offloads`
    (L1 -> L2) start after them. Ranks execute steps in order."""

    number: int
    new: list[NewSequence] = []
    restores: list[Copy] = []
    chunks: list[Chunk] = []
    offloads: list[Copy] = []
    drop: list[int] = []  # sequences that will not be seen again
    sizes: TierSizes | None = None  # they have changed


class Sampled(msgspec.Struct, frozen=True, array_like=True):
    sequence_id: int
    token_id: int
    logprob: TokenLogprob | None
