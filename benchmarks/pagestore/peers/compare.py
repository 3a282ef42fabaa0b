"""kvtier beside other stores of pages: what they put, get, cost, and still have when reopened."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from harness import drop_page_cache, table

from pagestore.peers.adapter import Setting
from pagestore.peers.process import Peer, PeerFailed, PeerProcess, interpreter
from pagestore.scope import Scope
from pagestore.turn import MIB, Contest, Turn, bar

OURS = "kvtier"
LIGHTMEM = "LightMem"
BUFFER_BYTES = 256 * MIB
BUFFERS_MAX = 64
REOPENED = 32  # pages that are looked for after reopening

HEADER = (
    "page",
    "store",
    "durable put GB/s",
    "kvtier's ÷ it",
    "single get GB/s",
    "kvtier's ÷ it",
    "p50 / p99 ms",
    "concurrent get GB/s",
    "CPU s/GiB put / get",
    "there after reopening",
)


class Match:
    """The stores that take part, with pages of one size."""

    def __init__(self, processes: Sequence[PeerProcess], page_bytes: int, scope: Scope) -> None:
        self.processes = {each.peer.name: each for each in processes}
        self.page_bytes, self.rounds = page_bytes, scope.rounds
        self.count = scope.count(page_bytes)
        self._written = dict.fromkeys(self.processes, 0)
        self._random = random.Random(page_bytes)
        self.puts = Contest({name: partial(self._put, name) for name in self.processes})
        self.singles = Contest({name: partial(self._single, name) for name in self.processes})
        self.concurrents = Contest(
            {name: partial(self._concurrent, name) for name in self.processes}
        )
        self.reopened: dict[str, str] = {}

    def run(self) -> None:
        for process in self.processes.values():
            process.warm_up()
        for number in range(self.rounds):
            for contest in (self.puts, self.singles, self.concurrents):
                contest.round(number)

    def _put(self, name: str) -> Turn:
        first = self._written[name]
        self._written[name] += self.count
        return self.processes[name].turn("put", range(first, first + self.count))

    def _single(self, name: str) -> Turn:
        return self._get(name, "single", max(16, self.count // 2))

    def _concurrent(self, name: str) -> Turn:
        return self._get(name, "concurrent", self.count)

    def _get(self, name: str, how: str, count: int) -> Turn:
        drop_page_cache()
        return self.processes[name].turn(how, self.some_pages(name, count))

    def some_pages(self, name: str, count: int) -> list[int]:
        """Of the last round: those before may have been evicted."""
        written = self._written[name]
        return self._random.sample(range(written - self.count, written), min(count, self.count))


def run(scope: Scope) -> str:
    peers = list(_find_peers(scope))
    rows, notes = [], []
    for page_bytes in scope.page_sizes:
        with tempfile.TemporaryDirectory(dir=scope.folder) as folder:
            match, failures = _play(peers, Path(folder), page_bytes, scope)
        rows += [_row(match, name) for name in match.processes]
        notes += failures
        peers = [peer for peer in peers if peer.name in match.processes]
    missing = {name for name, *_ in _OTHERS} - {peer.name for peer in peers}
    notes += [f"Left out: {name}, which is not below --peers." for name in sorted(missing)]
    return "\n".join([table(HEADER, rows), "", *notes])


_OTHERS = (
    ("LMCache 0.5.6, local disk", "lmcache_disk", "lmcache"),
    ("vLLM 0.32.0, fs tier", "vllm_fs", "vllm"),
    (LIGHTMEM, "lightmem", "lightmem"),
)


def _find_peers(scope: Scope) -> Iterator[Peer]:
    yield Peer(OURS, "kvtier_store", Path(sys.executable))
    yield Peer("O_DIRECT file a page", "files", Path(sys.executable))
    for name, module, folder in _OTHERS:
        if scope.peers and (python := interpreter(scope.peers, folder)):
            yield Peer(name, module, python)


def _play(
    peers: Sequence[Peer], folder: Path, page_bytes: int, scope: Scope
) -> tuple[Match, list[str]]:
    slots = min(BUFFERS_MAX, BUFFER_BYTES // page_bytes)
    pages = scope.count(page_bytes) + slots  # full after the first round, as a cache mostly is
    settings = {peer: Setting(folder / peer.module, page_bytes, slots, pages) for peer in peers}
    with ExitStack() as stack:
        processes, failures = [], []
        for peer, setting in settings.items():
            try:
                processes.append(stack.enter_context(_running(peer, setting)))
            except PeerFailed as failure:
                failures.append(f"Left out: {failure}")
        failures += [
            f"{page_bytes // MIB} MiB: {each.peer.name} was given no huge pages."
            for each in processes
            if not each.has_huge_pages
        ]
        match = Match(processes, page_bytes, scope)
        match.run()
        for process in processes:
            process.close()
    drop_page_cache()
    for process in processes:
        peer = process.peer
        numbers = match.some_pages(peer.name, REOPENED)
        with _running(peer, settings[peer]) as again:
            found = again.turn("present", numbers).payload_bytes // page_bytes
            again.close()
        match.reopened[peer.name] = f"{found} of {len(numbers)}"
    return match, failures


@contextmanager
def _running(peer: Peer, setting: Setting) -> Iterator[PeerProcess]:
    process = PeerProcess(peer, setting)
    try:
        yield process
    finally:
        process.kill()


def _row(match: Match, name: str) -> list[str]:
    puts, singles = match.puts, match.singles
    put = puts.ratio(OURS, name, lambda turn: turn.gb_per_s)
    single = singles.ratio(OURS, name, lambda turn: turn.gb_per_s)
    put_least, single_least = (2.0, 1.5) if name == LIGHTMEM else (1.0, 1.0)
    return [
        f"{match.page_bytes // MIB} MiB",
        name,
        f"{puts.rate(name):.2f}",
        "" if name == OURS else bar(put, put_least, at_least=True),
        f"{singles.rate(name):.2f}",
        "" if name == OURS else bar(single, single_least, at_least=True),
        f"{singles.p50(name):.2f} / {singles.p99(name):.2f}",
        f"{match.concurrents.rate(name):.2f}",
        f"{puts.cpu(name):.2f} / {singles.cpu(name):.2f}",
        match.reopened[name],
    ]
