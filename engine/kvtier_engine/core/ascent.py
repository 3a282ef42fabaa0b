"""Pages brought up on an operator's command: from disk to L2, and on to L1."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from kvtier_engine.core.scheduler import Scheduler
from kvtier_engine.kv.prefetch import Lookup
from kvtier_engine.messages import (
    CacheHints,
    ControlReply,
    Generate,
    Output,
    Pin,
    SamplingParams,
    Warm,
)

log = logging.getLogger(__name__)

OWN = "control-"  # how the ids of our own requests begin; no id of the server's does

Send = Callable[[ControlReply], None]


@dataclass(slots=True, eq=False)
class _Ascent:
    request_id: str
    command: Warm | Pin
    keys: list[bytes]
    found: int = -1  # leading pages in L1 or L2 when last looked
    lookup: Lookup | None = None


class Ascents:
    """To L2, a prefix climbs as one that a request waits for. To L1, a request of our own holds
    what was found: it restores those pages in a step, and computes the one token after them."""

    def __init__(self, scheduler: Scheduler, send: Send) -> None:
        self._scheduler = scheduler
        self._manager = scheduler.manager
        self._send = send
        self._reading: list[_Ascent] = []
        self._restoring: dict[str, _Ascent] = {}  # by the id of our request

    def begin(self, request_id: str, command: Warm | Pin) -> None:
        """A reply is sent when it is done."""
        host = self._manager.host
        keys = self._scheduler.keys(command.prefix)
        if host is not None and host.slots:  # or reading the end would push the beginning out
            keys = keys[: max(1, host.slots * 3 // 4)]
        self._reading.append(_Ascent(request_id, command, keys))

    def go_on(self) -> bool:
        """Looks after what was begun. True if the scheduler has something new to do."""
        has_added = False
        for ascent in list(self._reading):
            try:
                while ascent in self._reading and self._is_ready(ascent):
                    has_added |= self._look_again(ascent)
            except Exception as error:
                log.exception("control request %s failed", ascent.request_id)
                self._reading = [each for each in self._reading if each is not ascent]
                if ascent.lookup is not None and self._manager.prefetcher is not None:
                    self._manager.prefetcher.end(ascent.lookup)
                self._send(ControlReply(request_id=ascent.request_id, failed=repr(error)))
        return has_added

    def sift(self, outputs: list[Output]) -> list[Output]:
        """Takes the outputs of our own requests out."""
        if not self._restoring:
            return outputs
        for output in outputs:
            if output.finish is not None and output.request_id in self._restoring:
                self._reply(self._restoring.pop(output.request_id))
        return [output for output in outputs if not output.request_id.startswith(OWN)]

    def _is_ready(self, ascent: _Ascent) -> bool:
        prefetcher = self._manager.prefetcher
        if prefetcher is None or ascent.lookup is None:
            return True
        return prefetcher.is_over(ascent.lookup)

    def _look_again(self, ascent: _Ascent) -> bool:
        """Nothing is being read. As long as each look finds more, there is another: waiting
        requests may pin half of L2 only, and so may this. True if a request of ours now brings
        the pages to L1."""
        manager = self._manager
        before, ascent.found = ascent.found, self._leading_up(ascent)
        if ascent.lookup is not None and manager.prefetcher is not None:
            manager.prefetcher.end(ascent.lookup)
            ascent.lookup = None
        if before < ascent.found < len(ascent.keys):
            ascent.lookup = manager.tiers.read_up(ascent.keys, ascent.found)
            return False
        self._reading.remove(ascent)
        if not self._has_to_be_restored(ascent):
            self._reply(ascent)
            return False
        prefix = ascent.command.prefix
        request = Generate(
            request_id=OWN + ascent.request_id,
            prompt_ids=[*prefix.token_ids[: ascent.found * manager.page_tokens], 0],
            params=SamplingParams(max_tokens=1, temperature=0, ignore_eos=True),
            tenant=prefix.tenant,
            salt=prefix.salt,
            hints=CacheHints(pin=True) if isinstance(ascent.command, Pin) else None,
        )
        self._restoring[request.request_id] = ascent
        self._scheduler.add(request)
        return True

    def _has_to_be_restored(self, ascent: _Ascent) -> bool:
        """Pages have to pass through L1: they are wanted there, or are there alone and cannot
        come to L2 on another way."""
        tiers, keys = self._manager.tiers, ascent.keys[: ascent.found]
        match ascent.command:
            case Warm(tier="l1"):
                return any(tiers.pool.find(key) is None for key in keys)
            case Pin(prefix):
                if self._manager.hints.pins.add(keys, prefix.tenant) is not None:
                    return False
                return any(tiers.host is None or tiers.host.find(key) is None for key in keys)
        return False

    def _reply(self, ascent: _Ascent) -> None:
        size, pins = self._manager.page_tokens, self._manager.hints.pins
        values: dict[str, Any]
        if isinstance(ascent.command, Pin):
            keys = ascent.keys[: ascent.found]
            reason = pins.add(keys, ascent.command.prefix.tenant)
            pages = len(keys) if reason is None else 0
            values = {"pinned": reason is None, "reason": reason}
        else:
            tier = ascent.command.tier
            pages = self._leading_up(ascent) if tier == "l2" else self._leading_in_l1(ascent)
            values = {"tier": tier}
        values |= {"pages": pages, "tokens": pages * size}
        self._send(ControlReply(request_id=ascent.request_id, values=values))

    def _leading_up(self, ascent: _Ascent) -> int:
        tiers = self._manager.tiers
        return leading(
            tiers.pool.find(key) is not None
            or (tiers.host is not None and tiers.host.find(key) is not None)
            for key in ascent.keys
        )

    def _leading_in_l1(self, ascent: _Ascent) -> int:
        return leading(self._manager.pool.find(key) is not None for key in ascent.keys)


def leading(there: Iterable[bool]) -> int:
    """How many are true before the first that is not."""
    return sum(1 for _ in takewhile(bool, there))
