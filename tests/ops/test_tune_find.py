"""Which changes a plan wants of a host, and which it does not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ops.builders import GIB, disk
from ops.test_plan_traps import GUIDE, QWEN, SSD, plan, server
from ops.tuned import THP, FakeKernel, more_pages, pool

from kvtier_ops.host import Drive, DriveKind, Host, HugepagePool
from kvtier_ops.instances.state import process_ticks
from kvtier_ops.plan import Plan
from kvtier_ops.tune.change import Change
from kvtier_ops.tune.find import find_changes
from kvtier_ops.tune.journal import Journal, read_journal
from kvtier_ops.tune.owner import Owner

MIB2 = 2 << 20
NEVER = ("always", "never")


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    made = FakeKernel(tmp_path / "root")
    for node in (0, 1):
        made.put(pool(node), 0)
    made.choose(f"{THP}/shmem_enabled", "never")
    made.choose(f"{THP}/enabled", "madvise")
    made.choose("/sys/block/nvme1n1/queue/scheduler", "none")
    return made


def wants(kernel: FakeKernel, of: Plan, journal: Journal | None = None) -> dict[str, Change]:
    return {
        each.path: each
        for each in find_changes(of, journal or read_journal(kernel.root), kernel.root)
    }


def guide(host: Host | None = None, **l2: Any) -> Plan:
    """The guide's command: 400 GiB of L2."""
    l2 = {"size": "400GiB", "hugepages": "2MiB", **l2}
    return plan(host, tiers={"l2": l2, "l3": {"directories": [str(SSD)]}}, engine=GUIDE)


def test_hugepages_of_each_node_with_the_plans_reason(kernel: FakeKernel) -> None:
    made = guide()
    found = wants(kernel, made)
    assert set(found) == {pool(0), pool(1)}
    needs = {need.node: need for need in made.hugepages}
    for node in (0, 1):
        change = found[pool(node)]
        assert (change.old, change.new) == ("0", str(needs[node].pages))
        assert change.is_needed
        assert change.mends == "KVT-P011"
        assert f"takes {needs[node].pages:,} hugepages of 2MiB on node {node}" in change.why
    total = sum(need.pages for need in made.hugepages)
    assert total * MIB2 >= made.l2.bytes


def test_pages_that_are_there_already_are_not_asked_for_again(kernel: FakeKernel) -> None:
    for node in (0, 1):
        kernel.put(pool(node), 110_000)
    assert wants(kernel, guide(server(hugepages=110_000))) == {}


def test_pages_that_another_launch_has_not_come_to_use_are_its_own(kernel: FakeKernel) -> None:
    """Its engine is still loading: they are free, and are not there for two."""
    started = process_ticks(os.getppid())
    assert started is not None
    another = Owner("another", os.getppid(), started)
    pages = {need.node: need.pages for need in guide().hugepages}
    for node in (0, 1):
        kernel.put(pool(node), 110_000)
        kernel.put(pool(node).replace("nr_", "free_"), 110_000)
    kernel.apply([more_pages(pool(0), 0, 110_000)], another)
    found = wants(kernel, guide(server(hugepages=110_000)))
    assert {each: change.added for each, change in found.items()} == {pool(0): pages[0]}
    assert "0 are free" in found[pool(0)].why
    kernel.put(pool(0).replace("nr_", "free_"), 0)  # now it does; 110,000 are as many as it took
    assert wants(kernel, guide(server(hugepages=110_000))) == {}


def test_pages_that_are_in_use_stay_on_top(kernel: FakeKernel) -> None:
    """100 are there and taken by others: so many more, not so many in all."""
    on = server()
    used = {MIB2: HugepagePool(100, 0)}
    on = replace(on, numa_nodes=tuple(replace(node, hugepages=used) for node in on.numa_nodes))
    kernel.put(pool(0), 100)
    kernel.put(pool(1), 100)
    made = guide(on)
    for need in made.hugepages:
        assert wants(kernel, made)[pool(need.node or 0)].new == str(100 + need.pages)


def test_pages_that_may_lie_anywhere_are_shared_out_by_room(kernel: FakeKernel) -> None:
    nodes = server().numa_nodes
    small = replace(nodes[1], total_bytes=64 * GIB)
    made = guide(server(numa_nodes=(nodes[0], small)), size="100GiB", numa="none")
    found = wants(kernel, made)
    shares = [int(found[pool(node)].new) for node in (0, 1)]
    [need] = made.hugepages
    assert sum(shares) == need.pages
    assert shares[0] == pytest.approx(need.pages * 256 / 320, abs=2)


def test_no_more_are_reserved_than_the_cgroup_lets_us_have(kernel: FakeKernel) -> None:
    on = server()
    none = {MIB2: HugepagePool(0, 0, granted=0)}
    on = replace(on, numa_nodes=tuple(replace(node, hugepages=none) for node in on.numa_nodes))
    made = guide(replace(on, hugepages=none))
    assert wants(kernel, made) == {}
    said = next(warning for warning in made.warnings if warning.id == "KVT-P011")
    assert "this cgroup may take 0" in said.what
    assert "hugepages-2Mi" in said.hint
    assert "nr_hugepages" not in said.hint


@pytest.mark.parametrize(
    ("word", "l2", "wanted"),
    [
        ("never", {"hugepages": "transparent"}, {f"{THP}/shmem_enabled": "advise"}),
        ("deny", {"hugepages": "transparent"}, {}),  # an order, not a default
        ("within_size", {"hugepages": "transparent"}, {}),
        ("never", {"hugepages": "none"}, {}),
        ("never", {"hugepages": "transparent", "size": "4GiB"}, {}),
    ],
)
def test_transparent_hugepages(
    kernel: FakeKernel, word: str, l2: dict[str, str], wanted: dict[str, str]
) -> None:
    kernel.choose(f"{THP}/shmem_enabled", word)
    found = wants(kernel, guide(**l2))
    assert {path: change.new for path, change in found.items()} == wanted
    assert not any(change.is_needed for change in found.values())


def test_anonymous_memory_is_asked_for_on_a_cpu_alone(kernel: FakeKernel) -> None:
    kernel.choose(f"{THP}/enabled", "never")
    assert f"{THP}/enabled" not in wants(kernel, guide(hugepages="none"))
    small = replace(QWEN, parameters=10**9, weight_bytes=2 * 10**9)
    on_cpu = plan(None, small, tiers={"l1": {"size": "9GiB"}}, engine={"device": "cpu"})
    assert wants(kernel, on_cpu)[f"{THP}/enabled"].new == "madvise"


@pytest.mark.parametrize(
    ("kind", "now", "wanted"),
    [
        (DriveKind.NVME, "mq-deadline", "none"),
        (DriveKind.NVME, "none", None),
        (DriveKind.SSD, "bfq", "mq-deadline"),
        (DriveKind.SSD, "none", None),
        (DriveKind.HDD, "none", "mq-deadline"),
        (DriveKind.HDD, "bfq", None),
        (DriveKind.VIRTUAL, "mq-deadline", None),
        (DriveKind.VIRTUAL, "none", None),
        (DriveKind.VIRTUAL, "bfq", "mq-deadline"),
    ],
)
def test_schedulers_where_it_helps(
    kernel: FakeKernel, kind: DriveKind, now: str, wanted: str | None
) -> None:
    path = "/sys/block/sdb/queue/scheduler"
    kernel.choose(path, now)
    drive = disk(SSD, kind="xfs", drive_kind=kind, drives=(Drive("sdb", kind),))
    made = guide(server(directories={SSD: drive}), hugepages="none")
    found = wants(kernel, made)
    assert {each: change.new for each, change in found.items()} == (
        {path: wanted} if wanted else {}
    )


def test_a_scheduler_that_the_kernel_does_not_have_is_not_asked_for(kernel: FakeKernel) -> None:
    kernel.choose("/sys/block/nvme1n1/queue/scheduler", "kyber", ("kyber", "bfq"))
    assert wants(kernel, guide(hugepages="none")) == {}


@pytest.mark.parametrize(("now", "wanted"), [(128, "4096"), (1024, None), (8192, None)])
def test_readahead_of_the_disk_that_the_weights_lie_on(
    kernel: FakeKernel, tmp_path: Path, now: int, wanted: str | None
) -> None:
    """A partition has no queue of its own: its disk's is meant."""
    device = os.stat(tmp_path).st_dev
    kernel.put("/sys/devices/x/vdz/queue/read_ahead_kb", now)
    (kernel.root / "sys/devices/x/vdz/vdz1").mkdir()
    link = kernel.root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(kernel.root / "sys/devices/x/vdz/vdz1")
    kernel.put("/sys/block/vdz/queue/read_ahead_kb", now)
    made = replace(guide(hugepages="none"), model=replace(QWEN, path=tmp_path))
    found = wants(kernel, made)
    assert {path: change.new for path, change in found.items()} == (
        {"/sys/block/vdz/queue/read_ahead_kb": wanted} if wanted else {}
    )


def test_what_another_launch_has_changed_is_wanted_as_well(kernel: FakeKernel) -> None:
    """So that it stays when the other ends: `old` is what was before both."""
    made = guide(hugepages="transparent")
    first = list(wants(kernel, made).values())
    kernel.apply(first, Owner("other", 1, 1))
    kernel.choose(f"{THP}/shmem_enabled", "advise")
    [held] = wants(kernel, made).values()
    assert (held.old, held.new) == ("never", "advise")
