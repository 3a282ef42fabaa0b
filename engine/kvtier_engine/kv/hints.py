"""What requests say of their pages, carried out: no_store, sessions, time to live, priority, pin.

Hints change what is kept, never what is right: a page that goes is a miss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from kvtier_engine.kv.deadlines import Deadlines
from kvtier_engine.kv.disk import Saved, SaveOutcome
from kvtier_engine.kv.pins import Pins
from kvtier_engine.kv.priority import ByPriority, highest
from kvtier_engine.kv.sessions import Sessions
from kvtier_engine.kv.tiers import Tiers
from kvtier_engine.messages import CacheHints, Priority

RETRIES = 64  # pages over their time that are tried again in one step

SessionId = tuple[bytes, str]  # the root of tenant and salt, and the name that the client gave


@dataclass(slots=True, eq=False)
class Marks:
    """A request's hints, and what came of them."""

    hints: CacheHints
    tenant: str
    session: SessionId | None
    pinned: Sequence[bytes] = ()
    pin_refused: str | None = None
    was_admitted: bool = False
    has_offloaded: bool = False  # its pinned pages that were in L1 alone


class Hints:
    """Told by the manager of every use; drops what is over when nobody holds it any more."""

    def __init__(self, tiers: Tiers, clock: Callable[[], float], *, reuse: bool = True) -> None:
        self.sessions = Sessions()
        self.deadlines = Deadlines()
        self.pins = Pins(tiers, reuse=reuse)
        self.dropped: Counter[str] = Counter()  # pages, by cause
        self._tiers = tiers
        self._clock = clock
        self._running: Counter[SessionId] = Counter()  # requests that have not ended
        self._ending: set[SessionId] = set()  # when the last of those does
        # Pages to drop as soon as they are free: of an ended session, or (None) over their time.
        self._over: dict[bytes, SessionId | None] = {}
        self._late: dict[bytes, Priority] = {}  # of pages on their way to L2
        policies = (tiers.pool.policy, tiers.host.policy if tiers.host else None)
        self._policies = [policy for policy in policies if isinstance(policy, ByPriority)]

    # A request, from its arrival to its end.

    def begin(self, root: bytes, hints: CacheHints | None, tenant: str) -> Marks | None:
        """A request has arrived. None if it says nothing."""
        if hints is None:
            return None
        session = (root, hints.session) if hints.session else None
        if session is not None:
            self._running[session] += 1
            self._ending.discard(session)  # it goes on after all
        return Marks(hints, tenant, session)

    def admitted(self, marks: Marks | None, prompt: Sequence[bytes]) -> None:
        """A request begins to run; `prompt` are the keys of its full pages. What it found it holds,
        so that these uses need not be noted before it lets go of them."""
        if marks is None or marks.was_admitted:
            return
        marks.was_admitted = True
        if marks.hints.pin:
            marks.pin_refused = self.pins.add(prompt, marks.tenant)
            marks.pinned = () if marks.pin_refused else prompt

    def first_offload(self, marks: Marks | None, published: int) -> int:
        """The first page that has to be looked at for offloading: a pinned prompt's pages that
        are in L1 alone go down once more."""
        if marks is None or not marks.pinned or marks.has_offloaded:
            return published
        marks.has_offloaded = True
        return 0

    def is_new(self, marks: Marks | None, key: bytes) -> bool:
        """A request has computed a page and is about to publish it: True if `stored` has to be
        called when it has, since the page was in no tier."""
        return marks is not None and self._tiers.is_nowhere(key)

    def stored(self, marks: Marks | None, key: bytes) -> None:
        """The request was the first to compute this page, which is now in L1."""
        assert marks is not None, "is_new said so"
        if marks.session is not None:
            self.sessions.computed(marks.session, key)
        for policy in self._policies:
            if key in policy:
                policy.set_priority(key, marks.hints.priority)

    def released(self, marks: Marks | None, keys: Sequence[bytes]) -> None:
        """A request lets go of its pages: it ended, or will come back."""
        self._used(marks, keys)

    def ended(self, marks: Marks | None, keys: Sequence[bytes]) -> None:
        """A request has come to its end, with `keys` computed or found."""
        if marks is None:
            return
        never = set(marks.pinned) - set(keys) if marks.pinned else ()
        self.pins.remove(key for key in never if self._tiers.is_nowhere(key))
        session = marks.session
        if session is None:
            return
        self._running[session] -= 1
        if marks.hints.end_of_session:
            self._ending.add(session)
        if not self._running[session]:
            del self._running[session]
            if session in self._ending:
                self.end_session(session)

    def end_session(self, session: SessionId) -> tuple[int, bool]:
        """Drops the pages that are the session's own. Returns how many went, and whether the rest
        waits for requests of the session that run."""
        if self._running[session]:
            self._ending.add(session)
            return 0, True
        del self._running[session]
        self._ending.discard(session)
        return self._drop(self.sessions.end(session), session), False

    # Around the step.

    def saved(self, saved: Saved) -> None:
        """A page has been written to disk."""
        if saved.outcome is SaveOutcome.STORED:
            self.pins.on_disk([saved.key])

    def tick(self) -> None:
        """Drops what is over by now. Called often; never waits."""
        if self.deadlines:
            self._drop(self.deadlines.due(self._clock()), None)
        for key in list(islice(self._over, RETRIES)):
            self._drop([key], self._over.pop(key))
        if self._late:
            for key in [key for key in self._late if not self._tiers.is_moving(key)]:
                self._raise(key, self._late.pop(key))

    @property
    def over(self) -> int:
        """Pages to be dropped that somebody still holds."""
        return len(self._over)

    # Parts of the above.

    def _used(self, marks: Marks | None, keys: Sequence[bytes]) -> None:
        """Pages were found or stored. A request that stores nothing leaves no trace."""
        if marks is None:
            if self.sessions.pages or self.deadlines or self._over:
                self._forgive(None, keys)
                self.sessions.used(None, keys)
        elif marks.hints.no_store:
            return
        else:
            self._forgive(marks.session, keys)
            self.sessions.used(marks.session, keys)
            if marks.hints.ttl_s is not None:
                at = self._clock() + marks.hints.ttl_s
                for key in keys:
                    self.deadlines.set(key, at)
        wanted = marks.hints.priority if marks is not None else Priority.NORMAL
        if wanted is not Priority.NORMAL or any(each.has_priorities for each in self._policies):
            for key in reversed(keys):
                self._raise(key, wanted)
                if self._tiers.is_moving(key):
                    self._late[key] = wanted

    def _forgive(self, session: SessionId | None, keys: Iterable[bytes]) -> None:
        """Whatever was to end these pages, they are used again. Those of a session that has ended
        and begins anew are its own as before."""
        for key in keys:
            ended = self._over.pop(key, None)
            if ended is not None and ended == session:
                self.sessions.computed(ended, key)
            self.deadlines.cancel(key)

    def _raise(self, key: bytes, wanted: Priority) -> None:
        """A page has the highest priority of its uses, in every tier. One that has just come to
        a tier is of normal priority there: the other tier knows better."""
        here = [policy for policy in self._policies if key in policy]
        said = [policy.priority(key) for policy in here]
        before = next((each for each in said if each is not Priority.NORMAL), Priority.NORMAL)
        for policy in here:
            policy.set_priority(key, highest(before, wanted))

    def _drop(self, keys: Iterable[bytes], session: SessionId | None) -> int:
        """Drops pages from every tier, or notes them for later. Returns how many went. `session`:
        whose end this is; None: the end of their time."""
        gone = []
        for key in keys:
            if self.pins.has(key) or self._tiers.is_in_use(key):
                self._over[key] = session
                continue
            gone.append(key)
        self._tiers.drop(gone)
        self.dropped["ttl" if session is None else "end_of_session"] += len(gone)
        return len(gone)
