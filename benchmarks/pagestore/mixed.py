"""Single gets while puts run at full rate, against fio's reads beside fio's own writes."""

from __future__ import annotations

import time

from harness import median, table

from pagestore import fio
from pagestore.scope import Scope
from pagestore.slots import Slots
from pagestore.traffic import Traffic
from pagestore.turn import MIB, Contest, Turn, bar, measured

PUTS_IN_FLIGHT = 8  # more than the store writes at once: its queue is never empty

HEADER = (
    "page",
    "writes at once",
    "fio read GB/s",
    "kvtier read GB/s",
    "fio write GB/s",
    "kvtier write GB/s",
    "fio p50 / p99 ms",
    "kvtier p50 / p99 ms",
    "p99 ratio (≤ 2)",
)


class Beside:
    """Turns of reads at depth 1, with the rate of the writes beside them."""

    def __init__(self, slots: Slots, seconds: float) -> None:
        self.slots, self.seconds = slots, seconds
        self.written: dict[str, list[float]] = {"fio": [], "kvtier": []}

    def fio(self) -> Turn:
        slots = self.slots
        reads, writes = fio.run_beside(
            slots.job("randread", seconds=self.seconds),
            slots.job("write", seconds=self.seconds, depth=slots.client.write_depth),
        )
        self.written["fio"].append(writes.gb_per_s)
        return reads

    def kvtier(self) -> Turn:
        client, turn = self.slots.client, Turn()
        traffic = Traffic(client.store, client.buffers(1 + PUTS_IN_FLIGHT))
        with measured(turn):
            written = self._drive(traffic, turn)
        traffic.drain()
        client.store.flush()
        self.written["kvtier"].append(written / turn.seconds / 1e9)
        return turn

    def _drive(self, traffic: Traffic, turn: Turn) -> int:
        """One get after another, through the first buffer; the payload bytes of the puts."""
        client, written = self.slots.client, 0
        end = time.perf_counter() + self.seconds
        for buffer in range(1, traffic.buffers):
            traffic.put(buffer, client.new_key())
        traffic.get(0, client.recent_key())
        while time.perf_counter() < end:
            for ended in traffic.wait():
                if ended.buffer:
                    written += client.page_bytes
                    traffic.put(ended.buffer, client.new_key())
                    continue
                turn.latencies_s.append(ended.latency_s)
                turn.payload_bytes += client.page_bytes
                traffic.get(0, client.recent_key())
        return written


def run(scope: Scope) -> str:
    rows = []
    for page_bytes in scope.page_sizes:
        with Slots.made(page_bytes, scope) as slots:
            beside = Beside(slots, scope.mixed_s)
            contest = Contest({"fio": beside.fio, "kvtier": beside.kvtier}).run(scope.rounds)
            rows.append(_row(slots, beside, contest))
    return table(HEADER, rows)


def _row(slots: Slots, beside: Beside, contest: Contest) -> list[str]:
    return [
        f"{slots.page_bytes // MIB} MiB",
        str(slots.client.write_depth),
        f"{contest.rate('fio'):.2f}",
        f"{contest.rate('kvtier'):.2f}",
        f"{median(beside.written['fio']):.2f}",
        f"{median(beside.written['kvtier']):.2f}",
        f"{contest.p50('fio'):.2f} / {contest.p99('fio'):.2f}",
        f"{contest.p50('kvtier'):.2f} / {contest.p99('kvtier'):.2f}",
        bar(contest.p99("kvtier") / contest.p99("fio"), 2.0, at_least=False),
    ]
