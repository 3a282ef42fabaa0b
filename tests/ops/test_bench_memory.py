"""`kvtier bench memory`: bytes are moved, on the nodes that it says, and the plan goes by it."""

from __future__ import annotations

import json
import mmap
import os
import re
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ops.builders import GIB, make_host
from ops.test_plan import MODEL, profile

from kvtier_engine.memory_policy import bind_range
from kvtier_ops import cli
from kvtier_ops.bench import memory as bench
from kvtier_ops.bench import results
from kvtier_ops.bench.memory import CopyRate, MemoryResult, TouchRate, measure_memory
from kvtier_ops.errors import HostError, Refused
from kvtier_ops.host import Host, NumaNode, probe
from kvtier_ops.host.numa import caches_bytes, room_on
from kvtier_ops.plan import make_plan
from kvtier_ops.plan.measured import memory_file, memory_key, read_measured
from kvtier_ops.plan.types import Source

Capture = pytest.CaptureFixture[str]
MIB = 1 << 20
PIECE = 64 << 10


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(bench, "BUFFER_BYTES_MIN", 4 * MIB)
    monkeypatch.setattr(bench, "CACHES", 0)
    monkeypatch.setattr(bench, "TOUCH_BYTES", MIB)


def quiet(stage: str, done: int, total: int) -> None:
    assert 0 < done <= total


def host_of(*nodes: NumaNode, **changes: Any) -> Host:
    changes = {"memory_available_bytes": 8 * GIB, "cpus": 2, **changes}
    return make_host(numa_nodes=nodes, cpu_model="A CPU", **changes)


def two_nodes() -> Host:
    """Two nodes, each with a CPU of this machine; the kernel's own are not asked."""
    cpus = sorted(os.sched_getaffinity(0))
    return host_of(NumaNode(0, cpus=(cpus[0],)), NumaNode(1, cpus=(cpus[-1], 4095)))


class Bound:
    """In the place of mbind: remembers what was bound where."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ranges: list[tuple[int, int, int]] = []
        monkeypatch.setattr(bench, "bind_range", lambda *given: self.ranges.append(given))

    def node_of(self, address: int) -> int:
        """Of the mapping that was made there last: addresses are used again."""
        return next(
            node for begin, size, node in reversed(self.ranges) if begin <= address < begin + size
        )


class Copies:
    """Around memcpy: counts bytes, and by whom and where."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bound: Bound | None = None) -> None:
        self.bytes: Counter[tuple[frozenset[int], int, int]] = Counter()
        self.threads: set[int] = set()
        real = bench._libc.memcpy

        def memcpy(to: int, at: int, size: int) -> None:
            real(to, at, size)
            nodes = (bound.node_of(to), bound.node_of(at)) if bound else (0, 0)
            self.bytes[(frozenset(os.sched_getaffinity(0)), *nodes)] += size
            self.threads.add(threading.get_ident())

        class Libc:
            madvise = bench._libc.madvise

        Libc.memcpy = staticmethod(memcpy)  # type: ignore[attr-defined]
        monkeypatch.setattr(bench, "_libc", Libc)


def test_every_pair_of_nodes_copies_from_its_cpu_in_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound = Bound(monkeypatch)
    copies = Copies(monkeypatch, bound)
    stages: Counter[str] = Counter()
    host = two_nodes()
    before = os.sched_getaffinity(0)
    result = measure_memory(host, 0.2, lambda stage, done, total: stages.update([stage]))
    assert os.sched_getaffinity(0) == before
    assert [(r.cpu_node, r.memory_node, r.threads) for r in result.copies] == [
        (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1)
    ]  # fmt: skip
    first, last = (frozenset([node.cpus[0]]) for node in host.numa_nodes)
    expected = {(cpu, node, node) for cpu in (first, last) for node in (0, 1)}
    assert set(copies.bytes) == expected
    assert all(moved >= PIECE for moved in copies.bytes.values())
    assert stages == {"first touch": 6, "copies": 4}
    assert threading.get_ident() not in copies.threads


def test_what_is_said_to_be_copied_was_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = Copies(monkeypatch)
    result = measure_memory(host_of(), 0.3, quiet)
    alone, together = result.copies
    assert (alone.threads, together.threads) == (1, min(2, len(os.sched_getaffinity(0))))
    for rate in result.copies:
        assert rate.bytes_per_s > 0
    assert sum(copies.bytes.values()) >= 3 * PIECE


def test_a_copy_that_was_interrupted_does_not_count() -> None:
    """Of five slices of 1 s: copies take 10 ms, but for one that waited for the CPU."""
    copied = [(second + at / 10, 0.01) for second in (0, 1, 3, 4) for at in range(1, 10)]
    copied[5] = (0.6, 0.4)
    rates = bench._thread_rates(copied, 5.0)
    assert rates == [PIECE / 0.01] * 5, "and a slice without any is as all of them"
    slow = [*copied[:9], (1.1, 0.02), (1.2, 0.02)]
    assert bench._thread_rates(slow, 5.0)[1] == PIECE / 0.02


def test_copies_carry_the_bytes_over_and_reach_all_of_the_buffer() -> None:
    size = 16 * PIECE
    with (
        bench._memory(size, mmap.MAP_PRIVATE, None, "none") as source,
        bench._memory(size, mmap.MAP_SHARED, None, "none") as target,
    ):
        source._map.write(os.urandom(size))
        cpus = sorted(os.sched_getaffinity(0))[:2]
        bench._copy(source, target, cpus, 0.05)
        assert source._map[:size] == target._map[:size]


@pytest.mark.skipif(not Path("/sys/devices/system/node/node0").exists(), reason="no NUMA here")
def test_memory_is_of_the_node_that_it_was_bound_to() -> None:
    with bench._memory(2 * MIB, mmap.MAP_SHARED, 0, "none") as memory:
        bench._populate(memory, sorted(os.sched_getaffinity(0))[:1])
        maps = Path("/proc/self/numa_maps").read_text()
        line = re.search(rf"^0*{memory.address:x} (.*)$", maps, re.MULTILINE)
        assert line is not None
        assert line[1].startswith("bind:0")
        assert f"N0={2 * MIB // 4096}" in line[1], "all of it is there"
    with pytest.raises(OSError, match="Invalid argument"):
        bind_range(mmap.PAGESIZE, mmap.PAGESIZE, 1023)


def test_nothing_is_left_mapped() -> None:
    def shared() -> int:
        return Path("/proc/self/maps").read_text().count("/dev/zero (deleted)")

    before = shared()
    measure_memory(host_of(), 0.1, quiet)
    assert shared() == before


def test_a_host_that_tells_of_no_nodes_is_one() -> None:
    result = measure_memory(host_of(cpus=1), 0.1, quiet)
    assert [(r.cpu_node, r.memory_node, r.threads) for r in result.copies] == [(0, 0, 1)]


def test_memory_that_is_short_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"this host has 100 MiB .* and measuring takes 520 MiB"):
        measure_memory(host_of(memory_available_bytes=100 * MIB), 0.1, quiet)
    limited = host_of(cgroup_limit_bytes=GIB, cgroup_used_bytes=GIB)
    with pytest.raises(Refused, match="this host has 0 B"):
        measure_memory(limited, 0.1, quiet)
    for node, free_kb in ((0, 8 << 20), (1, 200 << 10)):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "meminfo").write_text(
            f"Node {node} MemTotal: 9999999 kB\nNode {node} MemFree: {free_kb} kB\n"
            f"Node {node} Inactive(file): 102400 kB\n"
        )
    with pytest.raises(Refused, match="NUMA node 1 has 300 MiB"):
        measure_memory(two_nodes(), 0.1, quiet, tmp_path)
    assert room_on(tmp_path, 1) == 300 * MIB
    assert room_on(tmp_path, 7) is None


def test_a_buffer_is_larger_than_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu, shared in ((0, "0-1"), (1, "0-1"), (2, "2")):
        for index, (level, size) in enumerate(((1, "32K"), (3, "20480K"))):
            folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
            folder.mkdir(parents=True)
            (folder / "level").write_text(f"{level}\n")
            (folder / "size").write_text(f"{size}\n")
            (folder / "shared_cpu_list").write_text(f"{shared if level == 3 else cpu}\n")
    assert caches_bytes(tmp_path, (0, 1)) == 20 * MIB
    assert caches_bytes(tmp_path, (0, 1, 2)) == 40 * MIB
    assert caches_bytes(tmp_path, (9,)) == 0
    monkeypatch.setattr(bench, "CACHES", 2)
    assert bench._buffer_bytes([bench._Node(0, (0, 1)), bench._Node(1, (2,))], tmp_path) == 40 * MIB


def test_a_system_that_refuses_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*given: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(bench, "bind_range", refuses)
    with pytest.raises(HostError, match="cannot measure memory: Operation not permitted"):
        measure_memory(two_nodes(), 0.1, quiet)
    threads = threading.active_count()
    monkeypatch.setattr(bench, "_touch", refuses)
    with pytest.raises(HostError, match="Operation not permitted"):
        measure_memory(host_of(), 0.1, quiet)
    assert threading.active_count() == threads


@pytest.mark.timeout(20)
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_threads_that_began_do_not_wait_for_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    real, started = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        if started:
            raise error
        real(thread)
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    cpu = min(os.sched_getaffinity(0))
    wanted = OSError if isinstance(error, RuntimeError) else KeyboardInterrupt
    with pytest.raises(wanted):
        bench._Workers([cpu, cpu]).run(lambda number: None)
    assert not started[0].is_alive()


def test_an_old_kernel_is_touched_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench._advise

    def knows_no_populate(address: int, size: int, advice: int, **more: Any) -> None:
        if advice == bench._POPULATE_WRITE:
            raise OSError(22, "Invalid argument")
        real(address, size, advice, **more)

    monkeypatch.setattr(bench, "_advise", knows_no_populate)
    with bench._memory(4 * PIECE, mmap.MAP_SHARED, None, "none") as memory:
        bench._populate(memory, sorted(os.sched_getaffinity(0))[:1])
        assert memory._map[:] == b"\1" * 4 * PIECE


def measured(copy: tuple[float, float], far: float = 1e9) -> MemoryResult:
    """Two nodes with two threads each."""
    copies = [
        CopyRate(cpu, memory, threads, rate if cpu == memory else far, 0.1)
        for memory in (0, 1)
        for cpu in (0, 1)
        for threads, rate in zip((1, 2), copy, strict=True)
    ]
    touches = [TouchRate("transparent", 1, 2e9, 0.1), TouchRate("transparent", 2, 3e9, 0.1)]
    return MemoryResult(GIB, tuple(copies), tuple(touches))


def test_the_plan_goes_by_it(home: Path) -> None:
    nodes = (NumaNode(0, 1, 1, (0, 1)), NumaNode(1, 1, 1, (2, 3)))
    host = make_host(cpu_model="A CPU", numa_nodes=nodes)
    results.keep_memory(host, measured((5e9, 8e9)))
    found = read_measured(home)
    assert set(found.memories) == {memory_key(host)}
    rates = make_plan(profile(l2="1GiB"), host, MODEL, found).answers.rates
    assert (rates.l2_bytes_per_s.value, rates.l2_bytes_per_s.source) == (5e9, Source.MEASURED)
    assert "memcpy of 1 thread, `kvtier bench memory`, 20" in rates.l2_bytes_per_s.reason
    assert rates.arena_bytes_per_s.value == 6e9, "four threads of 2, and two nodes of 3 GB/s"
    assert rates.arena_bytes_per_s.source is Source.MEASURED
    several = found.memories[memory_key(host)].copy
    assert [several.of(threads) for threads in (1, 2, 3, 4, 9)] == [5e9, 10e9, 15e9, 16e9, 16e9]


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_model": "Another"},
        {"numa_nodes": (NumaNode(0, 1, 1, (0, 1, 2, 3)),)},
        {"cpus": 3},
        {"cpu_quota": 2.0},
    ],
)
def test_another_host_is_not_gone_by(home: Path, changes: dict[str, Any]) -> None:
    nodes = (NumaNode(0, 1, 1, (0, 1)), NumaNode(1, 1, 1, (2, 3)))
    host = make_host(cpu_model="A CPU", numa_nodes=nodes)
    results.keep_memory(host, measured((5e9, 8e9)))
    other = replace(host, **changes)
    rates = make_plan(profile(l2="1GiB"), other, MODEL, read_measured(home)).answers.rates
    assert rates.l2_bytes_per_s.source is Source.ASSUMED
    assert rates.arena_bytes_per_s.source is Source.ASSUMED


def test_hugepages_of_the_pool_were_not_measured(home: Path) -> None:
    host = make_host(cpu_model="A CPU")
    results.keep_memory(host, MemoryResult(GIB, (CopyRate(0, 0, 1, 5e9, 0),), ()))
    rates = make_plan(profile(l2="1GiB"), host, MODEL, read_measured(home)).answers.rates
    assert rates.l2_bytes_per_s.source is Source.MEASURED
    assert rates.arena_bytes_per_s.source is Source.ASSUMED


@pytest.mark.parametrize(
    "text",
    ["", "[", '{"x": 5}', '{"x": {"copy": 1}}', '{"x": {"copy": {"thread_bytes_per_s": 1}}}',
     '{"x": {"copy": {"thread_bytes_per_s": -1, "all_bytes_per_s": 1}}}'],
)  # fmt: skip
def test_a_damaged_result_is_none(home: Path, text: str) -> None:
    memory_file().parent.mkdir(parents=True)
    memory_file().write_text(text)
    assert read_measured(home).memories == {}


def test_damaged_first_touches_are_left_out(home: Path) -> None:
    memory_file().parent.mkdir(parents=True)
    copy = {"thread_bytes_per_s": 1e9, "all_bytes_per_s": 2e9}
    for touches in (5, [], {"transparent": 7}):
        memory_file().write_text(json.dumps({"x": {"copy": copy, "first_touch": touches}}))
        assert read_measured(home).memories["x"].first_touch == {}


def test_the_command(home: Path, capfd: Capture) -> None:
    assert cli.run(["bench", "memory", "--seconds", "0.2"]) == 0
    out, err = capfd.readouterr()
    assert "node 0" in out
    assert "transparent" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "copies: 100%" in err
    assert "`kvtier plan` goes by it" in err
    assert set(json.loads(memory_file().read_text())) == {memory_key(probe())}
    assert cli.run(["bench", "memory", "--seconds", "0.2", "--json"]) == 0
    made = json.loads(capfd.readouterr().out)
    assert set(made) == {"buffer_bytes", "copies", "first_touches"}


@pytest.mark.parametrize("seconds", ["0", "21", "nan"])
def test_mistakes(capfd: Capture, seconds: str) -> None:
    assert cli.run(["bench", "memory", "--seconds", seconds]) == 2
    assert "are not between 0.1 and 20" in capfd.readouterr().err
