"""What is done to an engine while clients ask it. Each goes on until it has had an effect."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from e2e.stress.conversations import TENANTS, Conversations
from e2e.stress.counts import Totals
from e2e.stress.launcher import ADMIN_KEY
from support.disk_faults import Faults
from support.engine_process import EngineProcess

from kvtier_engine.config import EngineConfig

HANG_S = 0.4  # or until the others have been answered for a while
COMMANDS = 12
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


class Site(Protocol):
    """A life under way."""

    engine: EngineProcess
    faults: Faults
    random: Random
    totals: Totals
    conversations: Conversations

    @property
    def config(self) -> EngineConfig: ...

    @property
    def answered(self) -> int: ...

    def until(self, condition: Callable[[], object], what: str) -> None: ...

    def count(self, name: str) -> float: ...


DAWDLE = "reads dawdle"  # so much that computing is quicker


@dataclass(frozen=True)
class Fault:
    """Of a kind of calls. `begin` is told how many may meet it."""

    kind: str
    begin: Callable[[Faults, Random, int], None]
    effect: str | None = None  # a counter that must go up


FAULTS = {
    "reads fail": Fault("read", lambda it, _, count: it.fail("read", errno.EIO, count=count)),
    "writes fail": Fault("write", lambda it, _, count: it.fail("write", errno.EIO, count=count)),
    "disk is full": Fault(
        "write", lambda it, _, count: it.fail("write", errno.ENOSPC, count=count)
    ),
    "syncs fail": Fault("sync", lambda it, _, count: it.fail("sync", errno.EIO, count=count)),
    "reads come short": Fault(
        "read", lambda it, _, count: it.fail("read", 0, count=count, shorten=4096)
    ),
    "bits flip": Fault("read", lambda it, _, count: it.flip(count=count), "corrupt_pages_total l3"),
    DAWDLE: Fault(
        "read",
        lambda it, random, _: it.dawdle("read", random.randrange(20, 200)),
        "computed_instead_of_loaded_pages_total",
    ),
    "writes dawdle": Fault(
        "write", lambda it, random, _: it.dawdle("write", random.randrange(20, 200))
    ),
}
HANGS = "disk hangs"
COMMANDED = "commands"
CHANGED = "tiers change"
DISTURBANCES = (*FAULTS, HANGS, COMMANDED, CHANGED)


def disturb(site: Site, name: str) -> None:
    if name == HANGS:
        hang(site)
    elif name == COMMANDED:
        for _ in range(COMMANDS):
            command(site, site.random)
    elif name == CHANGED:
        change_tiers(site)
    else:
        fail(site, name, FAULTS[name])


def fail(site: Site, name: str, fault: Fault) -> None:
    """Until the fault has been met, and has had its effect."""
    before = site.faults.hits(fault.kind)
    effect = site.count(fault.effect) if fault.effect else 0
    while True:
        _meet(site, name, fault)
        if fault.effect is None or site.count(fault.effect) > effect:
            break
    site.faults.clear()
    site.totals.happened(f"calls when {name}", site.faults.hits(fault.kind) - before)


def _meet(site: Site, name: str, fault: Fault) -> None:
    met = site.faults.hits(fault.kind)
    fault.begin(site.faults, site.random, site.random.randrange(1, 8))
    site.until(lambda: site.faults.hits(fault.kind) > met, f"a {fault.kind} when {name}")


def hang(site: Site) -> None:
    """Reads or writes stand still for a while."""
    kind = site.random.choice(["read", "write"])
    site.faults.forget_waiting(kind)
    site.faults.stall(kind)
    site.until(lambda: site.faults.waiting(kind), f"a {kind} to hang")
    deadline, answered = time.monotonic() + HANG_S, site.answered
    site.until(lambda: site.answered >= answered + 8 or time.monotonic() > deadline, "an end of it")
    site.faults.clear()
    site.totals.happened(f"calls when {HANGS}")


def command(site: Site, random: Random) -> None:
    """An operator's, as it comes."""
    choices: list[tuple[str, dict[str, Any]]] = [
        ("clear", {"tier": random.choice(["l1", "l2", "l3", "all"])}),
        ("clear", {"tier": "all", "tenant": random.choice(TENANTS)}),
        ("unpin", {"all": True}),
    ]
    chosen = site.conversations.any_prefix(random)
    if chosen is not None:
        conversation, prompt = chosen
        whose = {"tenant": conversation.tenant}
        if conversation.salt is not None:
            whose["salt"] = conversation.salt
        prefix = {**whose, "token_ids": list(prompt)}
        of_it: list[tuple[str, dict[str, Any]]] = [
            ("lookup", prefix),
            ("warm", {**prefix, "tier": random.choice(["l1", "l2"])}),
            ("pin", prefix),
            ("unpin", prefix),
            ("end_session", {**whose, "session": conversation.name}),
        ]
        choices += 3 * of_it
    path, body = random.choice(choices)
    tell(site.engine, path, body)
    site.totals.happened(f"commands: {path}")


def change_tiers(site: Site) -> None:
    """Each to smaller and larger sizes, away and back; in the end they are as they were."""
    cache = site.config.cache
    least = -(-site.config.scheduler.max_context_tokens // cache.page_tokens)
    disk = sum(directory.capacity_bytes for directory in cache.l3.directories)
    table = 3 * 4096  # of an arena of plain pages and so few slots, at most
    full = {"l1": cache.l1.pages * cache.page_bytes}
    full["l2"] = cache.l2.pages * cache.page_bytes + table
    smaller = {"l1": least * cache.page_bytes, "l2": 4 * cache.page_bytes + table, "l3": disk // 2}
    larger = full | {"l3": disk}
    back = [("attach", {"tier": "l2"}), ("attach", {"tier": "l3"})]
    changes: list[tuple[str, dict[str, Any]]] = [
        ("resize", {"tier": tier, "size_bytes": site.random.randint(smaller[tier], larger[tier])})
        for tier in site.random.sample(list(larger), len(larger))
    ]
    changes += [("detach", {"tier": "l3"}), ("detach", {"tier": "l2"}), *back]
    back += [("resize", {"tier": tier, "size_bytes": size}) for tier, size in larger.items()]
    for path, body in changes:
        tell(site.engine, "unpin", {"all": True})  # a quarter of L2 may be, of a smaller one less
        made = "error" not in tell(site.engine, path, body)
        site.totals.happened(f"changes: {path} {body['tier']} {'made' if made else 'refused'}")
        answered = site.answered
        site.until(lambda least=answered: site.answered > least, "an answer")  # type: ignore[misc]
    for path, body in back:
        tell(site.engine, path, body)
    tiers = figures(site.engine)["tiers"]
    assert tiers["l1"]["capacity_pages"] == cache.l1.pages
    assert tiers["l2"]["capacity_pages"] == cache.l2.pages
    assert tiers["l3"]["capacity_pages"] > 0
    site.totals.happened(CHANGED)


def tell(engine: EngineProcess, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A command's reply; with an `error`, if it cannot be carried out as things are."""
    response = engine.client.post(f"/admin/cache/{path}", json=body, headers=ADMIN)
    assert response.status_code in (200, 409), f"{path} {body}: {response.text}"
    values: dict[str, Any] = response.json()
    return values


def figures(engine: EngineProcess) -> dict[str, Any]:
    response = engine.client.get("/admin/cache", headers=ADMIN)
    assert response.status_code == 200, response.text
    values: dict[str, Any] = response.json()
    return values
