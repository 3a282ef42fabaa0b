"""What must have gone when every session has ended and every time to live is over."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtier_engine.kv.keys import KeyChain, root_key
from kvtier_engine.messages import CacheHints
from support.fake_engine import PAGE_TOKENS, FakeEngine

NAMESPACE = b"n" * 16


@dataclass
class HintModel:
    """Remembers who asked for what, and which pages were seen pinned in L2."""

    engine: FakeEngine
    asked: list[tuple[str, str, list[int], CacheHints]] = field(default_factory=list)
    disk_was_away: bool = False  # its pages do not go when their time ends meanwhile
    _kept: set[bytes] = field(default_factory=set)

    def check(self) -> None:
        """After every step."""
        hints, host = self.engine.manager.hints, self.engine.host
        assert host is not None
        hints.sessions.check()
        pinned = set(hints.pins.keys())
        assert len(pinned) <= hints.pins.pages_max
        there = {key for key in pinned if host.find(key) is not None}
        assert self._kept & pinned <= there, "a pinned page left L2"
        self._kept = there

    def end_everything(self) -> None:
        hints = self.engine.manager.hints
        hints.pins.remove(hints.pins.keys())
        for _, salt, _, said in self.asked:
            if said.session:
                hints.end_session((root_key(NAMESPACE, salt), said.session))
        self.engine.now += 1000
        self.engine.run()  # what the disk had refused is offered once more
        for _ in range(20):
            self.engine.engine.settle()
        assert hints.over == 0, "pages wait to be dropped, but nobody holds them"
        assert not hints.deadlines
        assert not hints._running
        assert not hints._late

    def check_what_is_left(self) -> None:
        """After `end_everything`: no page of one session alone, with a time to live, or of
        requests that store nothing, is in any tier."""
        users: dict[bytes, list[CacheHints]] = {}
        for name, salt, prompt, said in self.asked:
            chain = KeyChain(root_key(NAMESPACE, salt), PAGE_TOKENS)
            chain.extend(prompt + self.engine.answers[name])
            for key in chain.keys:
                users.setdefault(key, []).append(said)
        for key, all_said in users.items():
            kept = [said for said in all_said if not said.no_store]
            sessions = {said.session for said in kept}
            is_one_session_s = len(sessions) == 1 and "" not in sessions
            if is_one_session_s or all(said.ttl_s is not None for said in kept):
                tiers = self.engine.manager.tiers
                is_on_disk = self.disk_was_away and tiers.on_disk([key])[0]
                assert tiers.is_nowhere(key) or is_on_disk, all_said
