"""Random conversations over the fake tiers: answers are those of an engine without a cache."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.fake_control import AtOnce, FakeControl
from support.fake_engine import FakeEngine, Sizes
from support.fake_tiers import reference_answer
from support.hint_model import HintModel

from kvtier_engine.config import L3Write, MemoryEviction
from kvtier_engine.kv.admit import Admission
from kvtier_engine.kv.host import DiskCopy
from kvtier_engine.kv.keys import root_key
from kvtier_engine.kv.rates import PageRates
from kvtier_engine.messages import Attach, CacheHints, Detach, Priority, Resize
from kvtier_store import Status

LONG = list(range(20))


HINTS = st.builds(
    CacheHints,
    no_store=st.booleans(),
    session=st.sampled_from(["", "a", "b"]),
    end_of_session=st.booleans(),
    ttl_s=st.none() | st.sampled_from([2.0, 8.0]),
    priority=st.sampled_from(Priority),
    pin=st.booleans(),
)


class Cache(RuleBasedStateMachine):
    """Random conversations on tiny tiers, a disk that fails and dawdles, aborts, hints."""

    eviction: MemoryEviction = "lru"
    write: L3Write = "write_through"

    def __init__(self) -> None:
        super().__init__()
        admission = Admission(capacity_pages=4, slot_bytes=1)
        sizes = Sizes(l1=14, l2=12, offload_delay=1, eviction=self.eviction, write=self.write)
        sizes.admission = admission if self.write == "on_evict" else None
        sizes.max_context_tokens = 40
        self.engine = FakeEngine(sizes)
        self.control = FakeControl(self.engine, in_background=AtOnce)
        self.model = HintModel(self.engine)
        for change in (Resize("l1", 10), Resize("l2", 8)):
            assert self.control.change(change).refused is None
        self.prompts: dict[str, tuple[list[int], int]] = {}
        self.aborted: set[str] = set()

    @rule(
        stem=st.sampled_from([[], LONG[:8], LONG[:13], LONG]),
        rest=st.lists(st.integers(0, 3), min_size=1, max_size=9),
        tokens=st.integers(1, 9),
        salt=st.sampled_from(["", "tenant"]),
        hints=st.none() | HINTS,
    )
    def submit(self, stem, rest, tokens, salt, hints):
        name = str(len(self.prompts))
        self.prompts[name] = (stem + rest, tokens)
        self.engine.submit(name, stem + rest, tokens, salt, hints=hints)
        self.model.asked.append((name, salt, stem + rest, hints or CacheHints()))

    @rule(name=st.sampled_from("ab"), salt=st.sampled_from(["", "tenant"]))
    def end_session(self, name, salt):
        self.engine.manager.hints.end_session((root_key(b"n" * 16, salt), name))

    @rule(data=st.data())
    def unpin(self, data):
        pins = self.engine.manager.hints.pins
        if pins:
            pins.remove([data.draw(st.sampled_from(pins.keys()))])

    @rule(steps=st.integers(1, 6))
    def step(self, steps):
        for _ in range(steps):
            self.control.go_on()

    @rule(
        change=st.builds(Resize, st.just("l1"), st.integers(9, 15))
        | st.builds(Resize, st.just("l2"), st.integers(0, 13))
        | st.builds(Resize, st.just("l3"), st.integers(0, 9))
        | st.builds(Detach, st.sampled_from(["l2", "l3"]))
        | st.builds(Attach, st.sampled_from(["l2", "l3"]), st.none() | st.integers(0, 9))
    )
    def change(self, change):
        """Ends some steps later; many are refused."""
        self.model.disk_was_away |= change.tier == "l3"
        self.control.begin(change)

    @rule(answers=st.lists(st.sampled_from([Status.OK] * 5 + [Status.CORRUPT, Status.IO_ERROR])))
    def disk_answers(self, answers):
        assert self.engine.store is not None
        for status in answers:
            self.engine.store.end_one(status)

    @rule(compute=st.sampled_from([None, 1.0, 10.0]), load=st.sampled_from([None, 0.1, 1.0, 10.0]))
    def rates_change(self, compute, load):
        self.engine.rates.now = PageRates(compute, load)

    @rule(data=st.data())
    def abort(self, data):
        names = [n for n in self.prompts if n not in self.engine.finished]
        if names:
            name = data.draw(st.sampled_from(names))
            if self.engine.scheduler.abort(name):
                self.aborted.add(name)

    @rule(data=st.data())
    def disk_evicts(self, data):
        assert self.engine.store is not None
        if self.engine.store.pages:
            key = data.draw(st.sampled_from(sorted(self.engine.store.pages)))
            del self.engine.store.pages[key]

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def time_passes(self, seconds):
        self.engine.now += seconds

    @invariant()
    def books_balance(self):
        self.engine.scheduler.check()
        self.model.check()

    def teardown(self):
        for _ in range(200):
            self.engine.run()
            self.control.go_on()
            self.engine.now += 1
        assert not self.control.changes.under_way, "a change does not end"
        for tier in ("l2", "l3"):
            assert self.control.change(Attach(tier)).failed is None
        assert all(reply.failed is None for reply in self.control.replies)
        self.engine.run()
        self.model.end_everything()
        self.model.check_what_is_left()
        for name, (prompt, tokens) in self.prompts.items():
            expected = reference_answer(prompt, tokens)
            if name in self.aborted:
                expected = expected[: len(self.engine.answers[name])]
            assert self.engine.answers[name] == expected
        assert self.engine.pool.available == self.engine.pool.pages
        assert self.engine.host is not None
        assert self.engine.pool.outside == self.engine.host.outside == 0
        assert self.engine.host is None or self.engine.host.pinned == 0
        assert self.engine.ranks.known_sequences == 0
        self.engine.now += 6  # the disk may be tried again
        self.engine.manager.flush()
        self.engine.run()
        assert self.engine.host is not None
        assert self.engine.store is not None
        for key, page in self.engine.host.pages():
            assert key in self.engine.store.pages or page.disk_copy is DiskCopy.UNWANTED


class CacheWithArc(Cache):
    eviction = "arc"


class CacheThatDemotes(Cache):
    write = "on_evict"


class CacheThatDemotesWithArc(Cache):
    eviction = "arc"
    write = "on_evict"


TestCache = Cache.TestCase
TestCacheWithArc = CacheWithArc.TestCase
TestCacheThatDemotes = CacheThatDemotes.TestCase
TestCacheThatDemotesWithArc = CacheThatDemotesWithArc.TestCase
for machine in (Cache, CacheWithArc, CacheThatDemotes, CacheThatDemotesWithArc):
    machine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
