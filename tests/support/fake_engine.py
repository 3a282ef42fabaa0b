"""A whole engine over the fake tiers of fake_tiers.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvtier_engine.config import L3Write, MemoryEviction, SchedulerConfig
from kvtier_engine.core.engine import Engine
from kvtier_engine.core.scheduler import Scheduler
from kvtier_engine.kv.admit import Admission
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.keys import KeyChain, root_key
from kvtier_engine.kv.manager import KvManager
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.policy import make_policy
from kvtier_engine.kv.priority import ByPriority
from kvtier_engine.kv.rates import ComputeRate, PageRates, Rates
from kvtier_engine.kv.save import SaveRules
from kvtier_engine.messages import Generate, Output, SamplingParams
from support.fake_tiers import FakeArena, FakeRanks, FakeStore

PAGE_TOKENS = 4


NAMESPACE = b"n" * 16


def page_keys(prompt: list[int], salt: str = "") -> list[bytes]:
    """Keys of the prompt's full pages."""
    chain = KeyChain(root_key(NAMESPACE, salt), PAGE_TOKENS)
    chain.extend(prompt)
    return chain.keys


@dataclass
class Sizes:
    l1: int = 12
    l2: int = 16  # 0: none
    disk: bool = True
    max_running: int = 4
    max_step_tokens: int = 8
    prefix_reuse: bool = True
    offload_delay: int = 0
    max_context_tokens: int | None = None  # none: what L1 holds
    eos_ids: tuple[int, ...] = ()
    eviction: MemoryEviction = "lru"  # of L1 and L2
    write: L3Write = "write_through"  # so that tests see the disk at work
    admission: Admission | None = None


class FakeRates(Rates):
    """Rates that the test sets."""

    def __init__(self) -> None:
        compute = ComputeRate(PAGE_TOKENS, waits=True)
        super().__init__(compute, page_tokens=PAGE_TOKENS, page_bytes=1)
        self.now = PageRates()

    def pages(self) -> PageRates:
        return self.now


@dataclass
class FakeEngine:
    """Submit requests, step, let the disk answer; answers collect in `answers`."""

    sizes: Sizes = field(default_factory=Sizes)
    arena: FakeArena | None = None
    store: FakeStore | None = None

    def __post_init__(self) -> None:
        sizes = self.sizes
        if sizes.l2 and self.arena is None:
            self.arena = FakeArena(sizes.l2)
        if sizes.disk and self.arena is not None and self.store is None:
            self.store = FakeStore(self.arena)
        self.ranks = FakeRanks(
            PAGE_TOKENS,
            sizes.l1,
            self.arena,
            sizes.offload_delay,
            tokens_max=sizes.max_step_tokens,
            chunks_max=sizes.max_running,
        )
        self.now = 0.0  # the manager's clock, moved by the test
        self.pool = PagePool(sizes.l1, ByPriority(lambda: make_policy(sizes.eviction, sizes.l1)))
        policy = ByPriority(lambda: make_policy(sizes.eviction, sizes.l2))
        self.host = HostTier(self.arena, policy) if self.arena else None  # type: ignore[arg-type]
        self.disk = DiskTier(self.store) if self.store else None  # type: ignore[arg-type]
        self.rates = FakeRates()
        self.manager = KvManager(
            PAGE_TOKENS,
            self.pool,
            self.host,
            prefix_reuse=sizes.prefix_reuse,
            rates=self.rates,
            clock=lambda: self.now,
        )
        if self.disk is not None:
            self.manager.l3.attach(self.disk, SaveRules(sizes.write, sizes.admission))
        config = SchedulerConfig(
            max_context_tokens=sizes.max_context_tokens or sizes.l1 * PAGE_TOKENS,
            max_running=sizes.max_running,
            max_step_tokens=sizes.max_step_tokens,
        )
        self.scheduler = Scheduler(config, self.manager, NAMESPACE, eos_ids=sizes.eos_ids)
        self.engine = Engine(self.scheduler, self.manager, self.ranks)
        self.answers: dict[str, list[int]] = {}
        self.outputs: dict[str, list[Output]] = {}
        self.finished: dict[str, str] = {}

    def submit(
        self, name: str, prompt: list[int], tokens: int, salt: str = "", **fields: Any
    ) -> None:
        """`fields` are those of Generate and of SamplingParams."""
        whose = {field: fields.pop(field) for field in ("tenant", "hints") if field in fields}
        params = SamplingParams(max_tokens=tokens, temperature=0, **fields)
        self.answers[name], self.outputs[name] = [], []
        request = Generate(request_id=name, prompt_ids=prompt, params=params, salt=salt, **whose)
        self.scheduler.add(request)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.step_once()

    def step_once(self) -> bool:
        """False if there was nothing to do."""
        busy, outputs = self.engine.step()
        self.take(outputs)
        self.scheduler.check()
        return busy

    def take(self, outputs: list[Output]) -> None:
        for output in outputs:
            assert output.request_id not in self.finished, "a request ended twice"
            self.answers[output.request_id] += output.token_ids
            self.outputs[output.request_id].append(output)
            if output.finish is not None:
                self.finished[output.request_id] = output.finish

    def run(self, steps_max: int = 2000) -> None:
        """Until nothing is left to do, with a disk that answers at once."""
        for _ in range(steps_max):
            while self.store and self.store.open:
                self.store.end_one()
            busy = self.step_once()
            if not busy:
                self.ranks.settle()
                busy = self.step_once()
                if not busy and not self.scheduler.has_work and self.manager.idle:
                    return
        raise AssertionError("the engine does not come to rest")

    def ask(self, prompt: list[int], tokens: int = 3, salt: str = "", **fields: Any) -> Output:
        """One request from start to end; its first output, which has the cache's share."""
        name = f"ask-{len(self.answers)}"
        self.submit(name, prompt, tokens, salt, **fields)
        self.run()
        return self.outputs[name][0]
