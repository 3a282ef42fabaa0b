"""One answer being computed: its tokens, how far it is, and its pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtier_engine.core.request_trace import Record
    from kvtier_engine.kv.sequence_pages import SequencePages
    from kvtier_engine.messages import Generate


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens[:computed]` have their KV in L1 while the sequence runs.

    Decoding is the case in which one token, the last one drawn, is not computed yet; a
    prompt being read, and a sequence that comes back from preemption, have more.
    """

    id: int
    request: Generate
    kv: SequencePages
    tokens: list[int]  # prompt, then answer
    computed: int = 0
    introduced: bool = False  # the ranks know it
    found: list[int] | None = None  # cached tokens by tier: from its start to its first token
    preemptions: int = 0
    pending: int = field(default=0)  # tokens in the step being executed
    record: Record | None = None  # for the request trace, if there is one

    @property
    def prompt_tokens(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def answer_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def to_compute(self) -> int:
        return len(self.tokens) - self.computed
