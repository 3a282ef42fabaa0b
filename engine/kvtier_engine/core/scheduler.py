"""Which tokens are computed next: continuous batching, chunked prefill, preemption.

No torch: a step is plain data (runner/step.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvtier_engine.config import SchedulerConfig
from kvtier_engine.core.sequence import Sequence
from kvtier_engine.kv.keys import KeyChain
from kvtier_engine.kv.manager import KvManager
from kvtier_engine.kv.sequence_pages import Admission, Refusal
from kvtier_engine.kv.tenants import Tenants
from kvtier_engine.messages import CachedTokens, FinishReason, Generate, Output, Prefix
from kvtier_engine.runner.step import Chunk, Copy, NewSequence, Sampled, Step, TierSizes

if TYPE_CHECKING:
    from kvtier_engine.core.request_trace import RequestTrace

LOOK_AHEAD = 16  # requests looked at in a step, besides those that wait for the disk


@dataclass(slots=True)
class Counters:
    """Totals since start."""

    requests: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0  # of requests that were admitted
    computed_tokens: int = 0
    answer_tokens: int = 0
    hit_tokens: list[int] = field(default_factory=lambda: [0, 0, 0])  # prompt: L1, L2, L3


class Scheduler:
    """Owns the queue and the running sequences; asks the manager for pages."""

    def __init__(
        self,
        config: SchedulerConfig,
        manager: KvManager,
        namespace: bytes,
        eos_ids: Collection[int],
        tenants: Tenants | None = None,
    ) -> None:
        """`tenants`: with the generations of their pages; none: of `namespace`, all zero."""
        self.config = config
        self.manager = manager
        self.counters = Counters()
        self.tenants = tenants or Tenants(namespace)
        self.trace: RequestTrace | None = None  # set by its owner
        self._eos_ids = frozenset(eos_ids)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # oldest first
        self._by_request: dict[str, Sequence] = {}
        self._dropped: list[int] = []
        self._next_id = 0
        self._step = 0
        self._sizes: TierSizes | None = None
        self.sizes_step = 0  # the step that told the ranks of them last; 0: none has yet

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running or self._dropped)

    def keys(self, prefix: Prefix) -> list[bytes]:
        """Of its full pages."""
        chain = KeyChain(self.tenants.root(prefix.tenant, prefix.salt), self.manager.page_tokens)
        chain.extend(prefix.token_ids)
        return chain.keys

    def add(self, request: Generate) -> None:
        """Queues a request whose size the server has checked against max_context_tokens."""
        root = self.tenants.root(request.tenant, request.salt)
        seq = Sequence(
            id=self._next_id,
            request=request,
            kv=self.manager.new_sequence(root, request.hints, request.tenant),
            tokens=list(request.prompt_ids),
            record=self.trace.arrived() if self.trace is not None else None,
        )
        self._next_id += 1
        self._by_request[request.request_id] = seq
        self._waiting.append(seq)
        self.counters.requests += 1

    def tell_sizes(self, sizes: TierSizes) -> None:
        """The next step tells the ranks; `sizes_step` says which one that was."""
        self._sizes, self.sizes_step = sizes, 0

    def abort(self, request_id: str) -> bool:
        """Ends a request at once and gives its pages back; False if it has ended already."""
        seq = self._by_request.get(request_id)
        if seq is None:
            return False
        (self._running if seq in self._running else self._waiting).remove(seq)
        self._end(seq)
        return True

    def schedule(self) -> Step | None:
        """The next step; None if nothing can be computed now (the queue may wait for disk)."""
        self._step += 1
        budget = self.config.max_step_tokens
        chunks: list[Chunk] = []
        preempted = False
        for seq in list(self._running):
            if budget == 0:
                break
            if seq not in self._running:
                continue  # preempted for an older one
            tokens = self._tokens_now(seq, budget)
            if not self._make_room(seq, seq.computed + tokens):
                preempted = True
                continue
            if tokens:
                chunks.append(self._chunk(seq, tokens))
            budget -= tokens
        new = [] if preempted else self._admit(chunks, budget)
        return self._seal(chunks, new)

    def finish(self, step: Step, sampled: list[Sampled]) -> list[Output]:
        """Takes in what the step computed; every request that ends does so here or in `abort`."""
        drawn = {sample.sequence_id: sample for sample in sampled}
        outputs = []
        for seq in list(self._running):
            if seq.pending == 0:
                continue
            seq.computed += seq.pending
            self.counters.computed_tokens += seq.pending
            seq.pending = 0
            self.manager.computed(seq.kv, seq.computed)
            if seq.id in drawn:
                outputs.append(self._take(seq, drawn[seq.id]))
        return outputs

    def check(self) -> None:
        """Raises AssertionError if a page is lost, or held by nobody when all is quiet."""
        self.manager.check()
        if not self._running and not self._waiting and self.manager.idle:
            host = self.manager.host
            assert self.manager.pool.held == 0, "pages are held, but nothing runs"
            assert host is None or host.pinned == 0, "slots are pinned, but nothing moves"

    # Parts of schedule.

    def _tokens_now(self, seq: Sequence, budget: int) -> int:
        """How many tokens of the sequence the step computes; 0 while it waits for its pages."""
        seq.computed = self.manager.advance(seq.kv, seq.computed)
        return self.manager.tokens_now(seq.kv, seq.computed, min(seq.to_compute, budget))

    def _make_room(self, seq: Sequence, tokens: int) -> bool:
        """Pages for `seq` up to `tokens`, taken from the youngest if need be. False: it was
        itself the youngest and has gone back to the queue."""
        while not self.manager.grow(seq.kv, tokens):
            youngest = self._running[-1]
            self._preempt(youngest)
            if youngest is seq:
                return False
        return True

    def _preempt(self, seq: Sequence) -> None:
        """Back to the head of the queue. Its full pages are in L1's cache and in L2; what
        comes back from there is not computed again."""
        assert seq.pending == 0, "a sequence in the step cannot be preempted"
        self._running.remove(seq)
        self.manager.release(seq.kv)
        seq.preemptions += 1
        self.counters.preemptions += 1
        self._waiting.appendleft(seq)

    def _admit(self, chunks: list[Chunk], budget: int) -> list[NewSequence]:
        """Fills what is left of the step from the queue, first come first served; a request
        that waits for its pages lets others pass, one that finds L1 full does not."""
        new = []
        ready = 0
        for seq in list(self._waiting):
            if ready == LOOK_AHEAD:
                break
            if seq.kv.lookup is None:
                self.manager.look_up(seq.kv, seq.tokens)
            if not self.manager.is_ready(seq.kv):
                continue
            ready += 1
            if budget == 0 or len(self._running) >= self.config.max_running:
                continue
            admission = self.manager.admit(seq.kv, seq.tokens)
            if admission is Refusal.NO_PAGES:
                break
            if not isinstance(admission, Admission):
                continue
            new += self._start(seq, admission)
            tokens = self._tokens_now(seq, budget)
            if tokens:
                chunks.append(self._chunk(seq, tokens))
            budget -= tokens
        return new

    def _start(self, seq: Sequence, admission: Admission) -> list[NewSequence]:
        self._waiting.remove(seq)
        self._running.append(seq)
        seq.computed = admission.computed
        if seq.introduced:
            return []
        seq.introduced = True
        seq.found = seq.kv.found
        self.counters.prompt_tokens += seq.prompt_tokens
        return [NewSequence(seq.id, seq.request.prompt_ids, seq.request.params)]

    def _chunk(self, seq: Sequence, tokens: int) -> Chunk:
        end = seq.computed + tokens
        seq.pending = tokens
        self.manager.plan_offloads(self._step, seq.kv, seq.tokens, end)
        return Chunk(
            sequence_id=seq.id,
            start=seq.computed,
            token_ids=seq.tokens[seq.computed : end],
            pages=seq.kv.pages[: -(-end // self.manager.page_tokens)],
            sample=end == len(seq.tokens),
        )

    def _seal(self, chunks: list[Chunk], new: list[NewSequence]) -> Step | None:
        restores, offloads = self.manager.take_copies(self._step)
        drop, self._dropped = self._dropped, []
        sizes, self._sizes = self._sizes, None
        if not (new or chunks or restores or offloads or drop or sizes):
            return None
        if sizes:
            self.sizes_step = self._step
        return Step(
            number=self._step,
            new=new,
            restores=[Copy(r.page, r.slot) for r in restores],
            chunks=chunks,
            offloads=[Copy(o.page, o.slot) for o in offloads],
            drop=drop,
            sizes=sizes,
        )

    # Parts of finish.

    def _take(self, seq: Sequence, sample: Sampled) -> Output:
        seq.tokens.append(sample.token_id)
        self.counters.answer_tokens += 1
        finish = self._finish_reason(seq)
        cached = self._count_hits(seq)
        if cached is not None and seq.record is not None:
            seq.record.answered(cached)
        marks = seq.kv.marks
        if finish is not None:
            self._running.remove(seq)
            self._end(seq)
        return Output(
            request_id=seq.request.request_id,
            token_ids=[sample.token_id],
            logprobs=None if sample.logprob is None else [sample.logprob],
            cached=cached,
            pin_refused=marks.pin_refused if marks is not None and cached is not None else None,
            finish=finish,
            stop_token=sample.token_id if finish is FinishReason.STOP else None,
        )

    def _count_hits(self, seq: Sequence) -> CachedTokens | None:
        """What the cache gave the sequence, with its first token; None later."""
        if seq.found is None:
            return None
        cached, seq.found = CachedTokens(*seq.found), None
        for tier, tokens in enumerate((cached.l1, cached.l2, cached.l3)):
            self.counters.hit_tokens[tier] += tokens
        return cached

    def _finish_reason(self, seq: Sequence) -> FinishReason | None:
        params, last = seq.request.params, seq.tokens[-1]
        if seq.answer_tokens >= params.min_tokens:
            if last in params.stop_token_ids:
                return FinishReason.STOP
            if last in self._eos_ids and not params.ignore_eos:
                return FinishReason.STOP
        full = len(seq.tokens) >= self.config.max_context_tokens
        if seq.answer_tokens >= params.max_tokens or full:
            return FinishReason.LENGTH
        return None

    def _end(self, seq: Sequence) -> None:
        del self._by_request[seq.request.request_id]
        if self.trace is not None:
            self.trace.ended(seq)
        self.manager.end(seq.kv)
        if seq.introduced:
            self._dropped.append(seq.id)
