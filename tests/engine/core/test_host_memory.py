"""L2's memory on hosts that have too little of something: fewer slots, other pages, a warning."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.captured_host import captured
from support.engine_process import wait_for
from support.models import engine_config, small_llama

from kvtier_engine.config import EngineConfig, L2Config, ParallelConfig
from kvtier_engine.core.arena_fit import Demand
from kvtier_engine.core.host_memory import HostMemory, open_arena, open_host
from kvtier_store import Arena, Backing

MIB = 1 << 20
SLOTS = 4000  # of 24 KiB: 94 MiB
HUGE = "hugepages/hugepages-2048kB"
PLENTY = {"proc/meminfo": "MemAvailable: 99999999 kB\n"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(model: Path) -> EngineConfig:
    return with_l2(engine_config(model), pages=SLOTS)


def with_l2(config: EngineConfig, ranks: int = 1, **fields: Any) -> EngineConfig:
    """Not checked by pydantic: what a field may not be is another test's."""
    l2 = config.cache.l2.model_copy(update=fields)
    cache = config.cache.model_copy(update={"l2": l2})
    parallel = ParallelConfig(tensor_parallel=ranks)
    return config.model_copy(update={"cache": cache, "parallel": parallel})


def available(root: Path, mib: int) -> Path:
    return captured(root, {"proc/meminfo": f"MemAvailable: {mib * 1024} kB\n"})


@pytest.fixture
def opened(caplog: pytest.LogCaptureFixture):
    """Opens and waits until all that is wanted is populated."""
    memories: list[HostMemory] = []
    ours: list[int] = []
    caplog.set_level(logging.WARNING)

    def open_(config: EngineConfig, root: Path) -> HostMemory:
        memory = open_arena(config, b"n", root)
        assert memory is not None
        memories.append(memory)
        if config.cache.l2.arena_fd is None:
            ours.append(memory.fd)
        arena = memory.arena
        wait_for(lambda: arena.populated_bytes == arena.target_bytes, "the slots to be populated")
        return memory

    yield open_
    for memory in memories:
        memory.arena.close()
    for fd in ours:
        os.close(fd)


@pytest.fixture
def fd():
    fd = os.memfd_create("kvtier-test")
    yield fd
    os.close(fd)


def test_with_room_all_slots_are_in_use_and_nothing_is_said(config, tmp_path, opened, caplog):
    memory = opened(config, captured(tmp_path, PLENTY))
    assert memory.slots_in_use == SLOTS
    assert memory.arena.target_bytes == memory.arena.mapped_bytes
    assert caplog.messages == []


def test_less_available_memory_means_fewer_slots(config, tmp_path, opened, caplog):
    """Of 190 MiB, 128 are the host's headroom and 9.4 and 1 are L1's and the weights'."""
    memory = opened(config, available(tmp_path, 190))
    left = 190 * MIB - 128 * MIB - 400 * config.cache.page_bytes
    fitting = left // config.cache.page_bytes
    assert fitting - 250 < memory.slots_in_use < fitting
    assert os.fstat(memory.fd).st_blocks * 512 == memory.arena.target_bytes < left
    [said] = caplog.messages
    assert f"L2 uses {memory.slots_in_use} of {SLOTS} slots: `tiers.l2.size` asks for" in said
    assert "MemAvailable of /proc/meminfo leaves 190 MiB" in said
    assert "make `tiers.l2.size` smaller" in said


def test_the_group_with_the_least_room_decides(config, tmp_path, opened, caplog):
    files = PLENTY | {
        "proc/self/cgroup": "0::/pod/engine\n",
        "sys/fs/cgroup/pod/engine/memory.max": f"{9000 * MIB}\n",
        "sys/fs/cgroup/pod/memory.max": f"{400 * MIB}\n",
        "sys/fs/cgroup/pod/memory.current": f"{250 * MIB}\n",
        "sys/fs/cgroup/pod/memory.stat": f"inactive_file {30 * MIB}\nactive_file {10 * MIB}\n",
    }
    memory = opened(config, captured(tmp_path, files))
    assert memory.slots_in_use == opened(config, available(tmp_path / "same", 190)).slots_in_use
    assert "/sys/fs/cgroup/pod/memory.max leaves" in caplog.messages[0]


def test_memory_that_the_arena_has_already_is_not_asked_for_again(
    config, tmp_path, opened, caplog, fd
):
    config = with_l2(config, pages=SLOTS, arena_fd=fd)
    opened(config, captured(tmp_path, PLENTY)).arena.close()
    memory = opened(config, available(tmp_path, 160))
    assert memory.arena.adopted
    assert memory.slots_in_use == SLOTS
    assert caplog.messages == []


def test_pages_of_an_engine_that_had_more_memory_move_to_the_slots_in_use(config, tmp_path, fd):
    config = with_l2(config, pages=SLOTS, arena_fd=fd)
    whole = open_arena(config, b"n", captured(tmp_path, PLENTY))
    assert whole is not None
    keys = {slot: bytes([slot % 256]) * 16 for slot in (5, 3000, 3999)}
    for slot, key in keys.items():
        whole.arena.part_view(0)[slot * whole.arena.part_stride] = slot % 256
        whole.arena.publish(slot, key)
    whole.arena.close()
    memory = open_arena(config, b"n", captured(tmp_path, PLENTY))
    assert memory is not None
    memory.slots_in_use = 1000
    host = open_host(config, memory)
    assert host is not None
    host.check()
    assert (host.slots, host.capacity, host.adopted, host.held) == (1000, SLOTS, 3, 3)
    for slot, key in keys.items():
        found = host.find(key)
        assert found is not None
        assert found < 1000
        assert memory.arena.part_view(0)[found * memory.arena.part_stride] == slot % 256
    assert host.corrupt == 0
    assert os.fstat(fd).st_blocks * 512 < 30 * MIB
    memory.arena.close()


def test_a_node_without_room_counts_for_the_parts_on_it(config, tmp_path, opened, caplog):
    nodes = "sys/devices/system/node"
    files = PLENTY | {
        f"{nodes}/node0/meminfo": f"Node 0 MemFree: {168 * 1024} kB\n",
        f"{nodes}/node1/meminfo": f"Node 1 MemFree: {9999 * 1024} kB\n",
    }
    root = captured(tmp_path, files)
    half = opened(with_l2(config, ranks=2, pages=SLOTS, numa_nodes=(0, 1)), root)
    assert SLOTS // 2 < half.slots_in_use < SLOTS
    whole = opened(with_l2(config, ranks=2, pages=SLOTS, numa_nodes=(0, 0)), root)
    assert whole.slots_in_use == pytest.approx(half.slots_in_use / 2, abs=90)
    assert "MemFree of /sys/devices/system/node/node0/meminfo leaves 168 MiB" in caplog.messages[0]


def test_without_room_for_a_slot_there_is_no_l2_and_nothing_is_mapped(config, tmp_path, caplog, fd):
    config = with_l2(config, pages=SLOTS, arena_fd=fd)
    assert open_arena(config, b"n", available(tmp_path, 100)) is None
    assert os.fstat(fd).st_size == os.fstat(fd).st_blocks == 0
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "L2: `tiers.l2.size` asks for 96 MiB, and MemAvailable" in caplog.messages[0]
    assert "the engine goes on with L1 alone" in caplog.messages[1]


def test_explicit_huge_pages_fall_back_step_by_step(config, tmp_path, opened, caplog):
    """Decided before any is asked for: the system would answer a touch with SIGBUS."""
    memory = opened(
        with_l2(config, pages=SLOTS, hugepages="1GiB"),
        captured(tmp_path, PLENTY | {f"sys/kernel/mm/{HUGE}/free_hugepages": "47\n"}),
    )
    first, second = caplog.messages[:2]
    assert "L2 with 1GiB hugepages: 2 huge pages of 1024 MiB are needed, and" in first
    assert "L2 with 2MiB hugepages: 48 huge pages of 2 MiB are needed, and" in second
    assert f"/sys/kernel/mm/{HUGE}/free_hugepages has 47 to spare: reserve more" in second
    assert memory.slots_in_use == SLOTS
    name = memory.arena.backing.name.lower()
    assert name in ("transparent", "plain")
    assert memory.gauges()[f'l2_backing{{backing="{name}"}}'] == 1


def test_huge_pages_must_be_on_the_node_that_the_part_is_bound_to(config, tmp_path, opened, caplog):
    files = PLENTY | {
        f"sys/kernel/mm/{HUGE}/free_hugepages": "90\n",
        f"sys/devices/system/node/node0/{HUGE}/free_hugepages": "20\n",
    }
    config = with_l2(config, pages=SLOTS, hugepages="2MiB", numa_nodes=(0,))
    assert opened(config, captured(tmp_path, files)).arena.backing is not Backing.HUGE_2M
    assert "47 huge pages of 2 MiB are needed, and" in caplog.messages[0]
    assert f"node0/{HUGE}/free_hugepages has 20 to spare" in caplog.messages[0]


def test_plain_pages_in_the_place_of_transparent_ones_are_said(
    config, tmp_path, opened, caplog, monkeypatch
):
    """As on a kernel that has none for shared memory."""

    class Plain:
        """The arena, formatted for plain pages."""

        @staticmethod
        def open(fd: int, **fields: Any) -> Arena:
            return Arena.open(fd, **fields | {"backing": Backing.PLAIN})

    monkeypatch.setattr("kvtier_engine.core.host_memory.Arena", Plain)
    memory = opened(config, captured(tmp_path, PLENTY))
    [said] = caplog.messages
    assert "L2 lies in plain pages" in said
    assert "shmem_enabled" in said
    assert memory.gauges()['l2_backing{backing="plain"}'] == 1


def test_a_node_that_is_not_there_is_a_warning_and_the_arena_works(
    config, tmp_path, opened, caplog
):
    config = with_l2(config, ranks=2, pages=SLOTS, numa_nodes=(0, 900))
    memory = opened(config, captured(tmp_path, PLENTY))
    [said] = caplog.messages
    assert "cannot bind part 1 to NUMA node 900" in said
    assert "correct `tiers.l2.numa`" in said
    assert memory.gauges()["l2_numa_bound"] == 0
    memory.arena.publish(7, b"k" * 16)
    assert memory.arena.verify(7)


def test_parts_are_bound_to_the_nodes_of_the_configuration(config, tmp_path, opened, caplog):
    config = with_l2(config, ranks=2, pages=SLOTS, numa_nodes=(0, 0))
    memory = opened(config, captured(tmp_path, PLENTY))
    assert caplog.messages == []
    assert memory.gauges()["l2_numa_bound"] == 1
    lines = Path("/proc/self/numa_maps").read_text().splitlines()
    policies = {int(line.split()[0], 16): line.split()[1] for line in lines}
    for part in (0, 1):
        address = memory.arena.part_address(part)
        assert policies[max(begin for begin in policies if begin <= address)] == "bind:0"


def test_without_nodes_there_is_no_figure_of_them(config, tmp_path, opened):
    assert "l2_numa_bound" not in opened(config, captured(tmp_path, PLENTY)).gauges()


def test_a_limit_of_locked_memory_is_said_where_there_is_a_gpu(config, tmp_path, opened, caplog):
    files = PLENTY | {
        "proc/self/status": "CapEff:\t0000000000000000\n",
        "proc/self/limits": "Max locked memory         8388608      8388608      bytes\n",
    }
    root = captured(tmp_path, files)
    opened(config, root)
    assert caplog.messages == []
    memory = opened(config.model_copy(update={"device": "cuda"}), root)
    [said] = caplog.messages
    assert "`ulimit -l` grants 8 MiB of 96 MiB" in said
    assert memory.slots_in_use == SLOTS, "copies are slower then, but never wrong"


def test_a_failure_to_populate_is_told_once(caplog, config):
    arena: Any = SimpleNamespace(
        prefault_error=None, backing=Backing.TRANSPARENT, target_bytes=8, numa_error=None
    )
    memory = HostMemory(arena, fd=-1, slots_in_use=1, demand=Demand.of(config, "none"))
    memory.look()
    assert memory.gauges()["l2_populating_failed"] == 0
    arena.prefault_error = "cannot populate the arena beyond 5 of 8 bytes"
    for _ in range(3):
        memory.look()
    [said] = caplog.messages
    assert "L2: cannot populate the arena beyond 5 of 8 bytes" in said
    assert memory.gauges()["l2_populating_failed"] == 1
    assert memory.gauges()["l2_target_bytes"] == 8
    arena.prefault_error = None
    memory.look()
    arena.prefault_error = "again"
    memory.look()
    assert len(caplog.messages) == 2


def test_nodes_are_one_for_each_rank(model):
    config = engine_config(model)
    data = config.model_dump(mode="json")
    data["cache"]["l2"] = L2Config(pages=3, numa_nodes=(0, 1)).model_dump(mode="json")
    with pytest.raises(ValueError, match=r"numa_nodes has 2 nodes for 1 ranks"):
        EngineConfig.model_validate(data)


def test_more_slots_are_wanted_later_than_the_host_has_room_for(config, opened, tmp_path):
    memory = opened(config, available(tmp_path, mib=900))
    assert memory.slots_in_use == SLOTS
    memory.arena.release(1000)
    assert memory.why_not(SLOTS) is None
    available(tmp_path, mib=128 + 30)
    reason = memory.why_not(SLOTS)
    assert reason is not None
    assert "free memory, or choose a smaller size" in reason
    assert memory.why_not(2000) is None


def test_huge_pages_that_were_given_back_are_anybody_s(config, opened, tmp_path):
    memory = opened(config, available(tmp_path, mib=900))
    memory.demand = Demand.of(config, "2MiB")
    arena: Any = SimpleNamespace(backing=Backing.HUGE_2M)
    memory.arena, real = arena, memory.arena
    real.release(1000)
    captured(tmp_path, {f"sys/kernel/mm/{HUGE}/free_hugepages": "2\n"})
    assert "free_hugepages leaves room for" in str(memory.why_not(SLOTS))
    captured(tmp_path, {f"sys/kernel/mm/{HUGE}/free_hugepages": "50\n"})
    assert memory.why_not(SLOTS) is None
    memory.arena = real


def test_a_size_holds_the_slots_that_the_plan_counts(config):
    demand = Demand.of(config, "transparent")
    size = demand.bytes(1000)
    assert demand.slots_in(size) >= 1000
    assert demand.bytes(demand.slots_in(size)) <= size
    assert demand.slots_in(demand.bytes(SLOTS)) in (SLOTS, SLOTS + 1)
    assert demand.slots_in(10 * demand.bytes(SLOTS)) == SLOTS + 1
    assert demand.slots_in(1000) == 0
