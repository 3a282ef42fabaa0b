"""What the engine's processes say to one another (msgspec, over ZeroMQ).

server -> core: Generate, Abort, Control, Shutdown.
core -> server: Outputs, ControlReply, Stats, Progress, Failed.
core -> ranks:  Step (see runner/step.py).     Each socket carries one tagged union.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec


class FinishReason(StrEnum):
    """How a request ended. Every request ends exactly once, set in one place."""

    STOP = "stop"  # end-of-sequence token, stop id or stop string
    LENGTH = "length"  # max_tokens or the context limit
    ABORTED = "aborted"  # the client went away
    FAILED = "failed"  # a fault of ours; the error says which


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are drawn. Validated at the HTTP border; ranges as in OpenAI's and vLLM's API."""

    max_tokens: int
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # over prompt and answer, multiplicative (CTRL paper)
    presence_penalty: float = 0.0  # over the answer
    frequency_penalty: float = 0.0  # over the answer
    seed: int | None = None  # the draw at position p depends on (seed, p) alone
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    logprobs: int | None = None  # None: none; k: the chosen token's and the k most likely
    logit_bias: dict[int, float] = {}


class Priority(StrEnum):
    """In which order pages leave a tier that is full: low ones first, high ones last."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class CacheHints(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of its pages. It changes what is kept, never what is right."""

    no_store: bool = False  # what it computes is kept nowhere, and what it finds is not touched
    session: str = ""  # the conversation that it is a turn of; none: of none
    end_of_session: bool = False  # pages that the session alone has used go when it ends
    ttl_s: float | None = None  # its pages go so long after their last use
    priority: Priority = Priority.NORMAL
    pin: bool = False  # the prompt's pages stay in L2 and L3 until they are unpinned


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Compute one answer. `n` answers are n of these with one prompt."""

    request_id: str
    prompt_ids: list[int]
    params: SamplingParams
    salt: str = ""  # requests share pages only with those of the same salt and tenant
    tenant: str = ""  # name of the API key, if its pages are its own
    hints: CacheHints | None = None


class Abort(msgspec.Struct, frozen=True, tag=True):
    request_ids: list[str]


class Prefix(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a prompt, and whose."""

    token_ids: list[int]
    tenant: str = ""
    salt: str = ""


class LookUp(msgspec.Struct, frozen=True, tag=True):
    """In which tiers are the prefix's pages?"""

    prefix: Prefix


class Warm(msgspec.Struct, frozen=True, tag=True):
    """Bring what is known of the prefix up to this tier."""

    prefix: Prefix
    tier: Literal["l1", "l2"]


class Pin(msgspec.Struct, frozen=True, tag=True):
    """Bring what is known of the prefix to L2, and keep it there and in L3."""

    prefix: Prefix


class Unpin(msgspec.Struct, frozen=True, tag=True):
    prefix: Prefix | None  # None: all that is pinned


class EndSession(msgspec.Struct, frozen=True, tag=True):
    """As `CacheHints.end_of_session`, without a request."""

    session: str
    tenant: str = ""
    salt: str = ""


class Clear(msgspec.Struct, frozen=True, tag=True):
    """Drop the pages of tiers, or make those of one tenant unreachable for ever."""

    tiers: list[Literal["l1", "l2", "l3"]]
    tenant: str | None = None


class Figures(msgspec.Struct, frozen=True, tag=True):
    """How full is each tier?"""


class Resize(msgspec.Struct, frozen=True, tag=True):
    """Make a tier smaller or larger, until the engine ends."""

    tier: Literal["l1", "l2", "l3"]
    size_bytes: int


class Detach(msgspec.Struct, frozen=True, tag=True):
    """Use a tier no more, and give its memory, or its directories, back."""

    tier: Literal["l2", "l3"]


class Attach(msgspec.Struct, frozen=True, tag=True):
    """Use a tier (again): of the size that it had last, if none is given."""

    tier: Literal["l2", "l3"]
    size_bytes: int | None = None


Command = LookUp | Warm | Pin | Unpin | EndSession | Clear | Figures | Resize | Detach | Attach


class Control(msgspec.Struct, frozen=True, tag=True):
    """An operator's command; answered by exactly one ControlReply."""

    request_id: str
    command: Command


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Finish nothing more; flush the tiers and exit 0."""


ToCore = Generate | Abort | Control | Shutdown


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    token_id: int
    logprob: float  # natural logarithm, of the distribution before temperature and penalties
    top: list[tuple[int, float]]  # the most likely tokens, best first


class CachedTokens(msgspec.Struct, frozen=True, array_like=True):
    """Prompt tokens that were not computed, by the tier in which their pages were found."""

    l1: int = 0
    l2: int = 0
    l3: int = 0

    @property
    def total(self) -> int:
        return self.l1 + self.l2 + self.l3


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What one step added to one request."""

    request_id: str
    token_ids: list[int] = []
    logprobs: list[TokenLogprob] | None = None
    cached: CachedTokens | None = None  # with the first output of a request
    pin_refused: str | None = None  # with the first output: why its pages are not pinned
    finish: FinishReason | None = None
    stop_token: int | None = None  # the id that ended the answer; it is in token_ids
    error: str | None = None  # with FAILED: what went wrong, for the client


class Outputs(msgspec.Struct, frozen=True, tag=True):
    outputs: list[Output]


class ControlReply(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`values` are JSON, for the operator; at most one of the other two is set."""

    request_id: str
    values: dict[str, Any] = {}
    refused: str | None = None  # why it cannot be done here and now
    failed: str | None = None  # a fault of ours


class Stats(msgspec.Struct, frozen=True, tag=True):
    """Sent every second and after idle: totals since start and gauges, by metric name
    without the `kvtier_` prefix; labels are in the name as in Prometheus
    (`hit_tokens_total{tier="l2"}`)."""

    counters: dict[str, float]
    gauges: dict[str, float]


class Progress(msgspec.Struct, frozen=True, tag=True):
    """A stage of the start: `model`, `l1`, `l2`, `l3`, `warmup`. Ready when `ready` is set."""

    stage: str
    done: int
    total: int  # bytes, pages or steps: only the share matters
    ready: bool = False


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The core cannot go on; it exits after saying this."""

    error: str
    hint: str = ""


ToServer = Outputs | ControlReply | Stats | Progress | Failed
