"""An operator's commands to the cache: look, warm, pin, end, clear."""

from __future__ import annotations

import logging
from typing import Any

from kvtier_engine.core.ascent import Ascents, Send, leading
from kvtier_engine.core.change import ChangeRefused
from kvtier_engine.core.scheduler import Scheduler
from kvtier_engine.core.tier_changes import TierChange, TierChanges
from kvtier_engine.kv.tenants import TenantsError
from kvtier_engine.messages import (
    Attach,
    Clear,
    Control,
    ControlReply,
    Detach,
    EndSession,
    Figures,
    LookUp,
    Output,
    Pin,
    Prefix,
    Resize,
    Unpin,
    Warm,
)
from kvtier_store import StoreError

log = logging.getLogger(__name__)

Values = dict[str, Any]


class ControlDesk:
    """Takes commands between steps; every command gets one reply, some of them later."""

    def __init__(self, scheduler: Scheduler, changes: TierChanges, send: Send) -> None:
        self._scheduler = scheduler
        self._manager = scheduler.manager
        self._changes = changes
        self._changing = ""  # the request that asked for the change under way
        self._send = send
        self._ascents = Ascents(scheduler, send)

    def take(self, message: Control) -> None:
        """Never raises: a command that fails does so alone."""
        name = message.request_id
        try:
            match message.command:
                case Warm() | Pin():
                    self._ascents.begin(name, message.command)
                case Resize() | Detach() | Attach():
                    self._begin_change(name, message.command)
                case _:
                    self._send(ControlReply(request_id=name, values=self._carry_out(message)))
        except (TenantsError, StoreError, ChangeRefused) as error:
            self._send(ControlReply(request_id=name, refused=str(error)))
        except Exception as error:
            log.exception("control request %s failed", name)
            self._send(ControlReply(request_id=name, failed=repr(error)))

    def go_on(self) -> bool:
        """Looks after commands that take time. True if there is something new to do."""
        has_changed = self._go_on_changing()
        return self._ascents.go_on() or has_changed

    @property
    def is_waiting(self) -> bool:
        """A command that takes time is under way, and no event may tell that it can go on."""
        return bool(self._changes.under_way)

    def _begin_change(self, name: str, change: TierChange) -> None:
        replaced = self._changing if self._changes.under_way else ""
        self._changes.begin(change)
        self._changing = name
        if replaced:
            reason = "another command for the same tier has taken its place"
            self._send(ControlReply(request_id=replaced, refused=reason))

    def _go_on_changing(self) -> bool:
        name = self._changing
        try:
            got_on, values = self._changes.go_on()
        except ChangeRefused as error:
            self._send(ControlReply(request_id=name, refused=str(error)))
            return True
        except Exception as error:
            log.exception("control request %s failed", name)
            self._send(ControlReply(request_id=name, failed=repr(error)))
            return True
        if values is not None:
            self._send(ControlReply(request_id=name, values=values))
        return got_on

    def sift(self, outputs: list[Output]) -> list[Output]:
        """Those for the server; others belong to requests of our own."""
        return self._ascents.sift(outputs)

    def _carry_out(self, message: Control) -> Values:
        match message.command:
            case LookUp(prefix):
                return self._look_up(prefix)
            case Unpin(prefix):
                pins = self._manager.hints.pins
                keys = pins.keys() if prefix is None else self._scheduler.keys(prefix)
                return {"unpinned_pages": pins.remove(keys)}
            case EndSession(session, tenant, salt):
                root = self._scheduler.tenants.root(tenant, salt)
                dropped, waits = self._manager.hints.end_session((root, session))
                return {"dropped_pages": dropped, "waits_for_requests": waits}
            case Clear():
                return self._clear(message.command)
            case Figures():
                return self._figures()
            case _:
                raise AssertionError(f"a command that is not known: {message.command}")

    def _look_up(self, prefix: Prefix) -> Values:
        keys, tiers = self._scheduler.keys(prefix), self._manager.tiers
        there = {
            "l1": [tiers.pool.find(key) is not None for key in keys],
            "l2": [tiers.host is not None and tiers.host.find(key) is not None for key in keys],
            "l3": tiers.on_disk(keys),
        }
        found = leading(map(any, zip(*there.values(), strict=True)))
        size = self._manager.page_tokens
        return {
            "prompt_tokens": len(prefix.token_ids),
            "page_tokens": size,
            "cached_pages": found,
            "cached_tokens": found * size,
            "pinned_pages": sum(map(self._manager.hints.pins.has, keys)),
            "tiers": {
                tier: {"pages": sum(pages[:found]), "tokens": sum(pages[:found]) * size}
                for tier, pages in there.items()
            },
        }

    def _clear(self, command: Clear) -> Values:
        pins, tiers = self._manager.hints.pins, self._manager.tiers
        if command.tenant is not None:
            generation = self._scheduler.tenants.clear(command.tenant)
            pins.remove(pins.keys(command.tenant))
            return {"tenant": command.tenant, "generation": generation}
        if "l3" in command.tiers and self._changes.has_detached_disk:
            raise ChangeRefused(
                "l3 is not attached, and its pages come back with it: attach it, or clear l1 and "
                "l2 alone and its directories with `kvtier store clear`"
            )
        if command.tiers != ["l1"]:
            pins.remove(pins.keys())
        dropped = {tier: tiers.clear(tier) for tier in command.tiers}
        left = {
            "l1": 0,  # what is in use there is unknown from now on
            "l2": tiers.host.held if tiers.host is not None else 0,
            "l3": tiers.saver.in_flight if tiers.saver is not None else 0,
        }
        return {"dropped_pages": dropped, "left_pages": {tier: left[tier] for tier in dropped}}

    def _figures(self) -> Values:
        manager = self._manager
        tiers, hints = manager.tiers, manager.hints
        host, disk = tiers.host, tiers.disk.stats() if tiers.disk is not None else None
        pages = {
            "l1": (tiers.pool.pages, tiers.pool.found),
            "l2": (host.slots, host.held) if host is not None else (0, 0),
            "l3": (disk.capacity_pages, disk.pages) if disk is not None else (0, 0),
        }
        return {
            "page_tokens": manager.page_tokens,
            "tiers": {
                tier: {"capacity_pages": capacity, "cached_pages": cached}
                for tier, (capacity, cached) in pages.items()
            },
            "under_way": self._changes.under_way or None,
            "hints": {
                "sessions": len(hints.sessions),
                "session_pages": hints.sessions.pages,
                "ttl_pages": len(hints.deadlines),
                "pinned_pages": len(hints.pins),
                "pinned_pages_max": hints.pins.pages_max,
                "pages_over": hints.over,
                "dropped_pages": {
                    cause: hints.dropped[cause] for cause in ("end_of_session", "ttl")
                },
            },
        }
