"""Checks of whether it serves, of who waits, and of who is sent away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kvtier_ops.doctor.check import Outcome, Severity
from kvtier_ops.doctor.live.check import Live, LiveCheck, counted
from kvtier_ops.text import shortened

L1_ROOM_MIN = 0.3  # of its pages: with less, more requests at a time would only be put back
SHOWN_CHARS_MAX = 300
_PROBES = ("/ready", "/health")  # whose 503 is an answer


def ready(live: Live) -> Iterator[Outcome]:
    """Before it is ready, and while it drains, every request is answered 503. A start that does not
    get on, or a drain that does not end, is in the engine's log."""
    status = shortened(str(live.ready.get("status", "no status")), SHOWN_CHARS_MAX)
    current = "ready" if live.is_ready else status
    if error := live.ready.get("error"):
        current += f": {shortened(str(error), SHOWN_CHARS_MAX)}"
    fix = {
        "starting": "wait: `GET /ready` says how far it is",
        "draining": "it ends; start it again with `kvtier launch`",
    }.get(status, "see the engine's log, and launch it again")
    if live.is_ready and (change := live.admin.get("under_way")):
        current += f"; under way: {shortened(str(change), SHOWN_CHARS_MAX)}"
    yield Outcome(live.is_ready, "`GET /ready` answers 200", current, fix)


def queue(live: Live) -> Iterator[Outcome]:
    """With as many waiting as running, a request waits for as long as it is computed."""
    span = live.span
    running, waiting = span.gauge("requests_running"), span.gauge("requests_waiting")
    if running is None or waiting is None:
        return
    slots, places = live.setting("max_running"), live.setting("max_queued")
    most = slots if slots is not None else max(1.0, running)
    current = f"{counted(waiting)} requests wait, {counted(running)} run"
    if slots is not None and places is not None:
        current += f", of at most {places} and {slots}"
    yield Outcome(
        ok=waiting < most,
        required=f"fewer than {counted(most)} wait, as many as can run: else waiting takes longer "
        "than computing",
        current=current,
        fix=_more_at_a_time(live),
    )


def _more_at_a_time(live: Live) -> str:
    held = live.span.gauge("pages_held", tier="l1")
    pages = live.span.gauge("pages_capacity", tier="l1")
    if held is not None and pages and held <= (1 - L1_ROOM_MIN) * pages:
        return (
            f"L1 has room ({held / pages:.0%} is in use): raise `engine.max_running`; or start a "
            "second engine"
        )
    return "start a second engine, or make `tiers.l1.size` larger and raise `engine.max_running`"


def sent_away(live: Live) -> Iterator[Outcome]:
    """429: the queue was full. Clients that do not try again see an error. The fix lets more
    requests run at a time, or spreads them over more engines."""
    span = live.span
    count = span.added("http_requests_total", status="429")
    yield Outcome(
        ok=not count,
        required="none: the queue has places for all who come",
        current=f"{counted(count)} requests answered 429 {span.name}",
        fix=f"{_more_at_a_time(live)}; a longer queue (`engine.max_queued`) only makes them wait",
    )


def failed(live: Live) -> Iterator[Outcome]:
    """500 and above are faults of the engine, but for 503 while it starts or ends."""
    span = live.span
    faults: Counter[str] = Counter()
    for sample in span.now.of("http_requests_total"):
        code, endpoint = sample.labels.get("status", ""), sample.labels.get("endpoint", "")
        if code.startswith("5") and endpoint not in _PROBES:
            faults[code] += int(span.added("http_requests_total", **sample.labels))
    unready = faults.pop("503", 0)
    faults = +faults  # those that have grown
    shown = ", ".join(f"{counted(n)} x {code}" for code, n in sorted(faults.items())) or "none"
    if unready:
        shown += f" ({counted(unready)} x 503: it was not ready)"
    yield Outcome(
        ok=not faults,
        required="no request fails by a fault of the engine",
        current=f"{shown} {span.name}",
        fix="see the engine's log; `kvtier doctor bundle` collects what a report needs",
    )


CHECKS = (
    LiveCheck(
        "KVT-L101",
        "serving",
        "readiness",
        Severity.FAILURE,
        ready,
        passes="`GET /ready` answers 200",
    ),
    LiveCheck(
        "KVT-L102",
        "serving",
        "queue",
        Severity.WARNING,
        queue,
        passes="fewer requests wait than can run",
    ),
    LiveCheck(
        "KVT-L103",
        "serving",
        "requests sent away",
        Severity.WARNING,
        sent_away,
        passes="no request was answered 429",
    ),
    LiveCheck(
        "KVT-L104",
        "serving",
        "failed requests",
        Severity.FAILURE,
        failed,
        passes="no request was answered 500 or above; a 503 is told, and is no failure",
    ),
)
