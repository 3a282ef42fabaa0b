"""`--what-if`: a host with other parts, and what is said of parts that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.builders import GIB, caught, make_host
from ops.fake_fleet import HOSTS

from kvtier_ops.errors import BadInput
from kvtier_ops.host import DriveKind, FileSystem, Gpu, Host, HugepagePool, NumaNode
from kvtier_ops.host.directories import with_directories
from kvtier_ops.host.known_gpus import KNOWN_GPUS
from kvtier_ops.host.record import host_as_text, load_host
from kvtier_ops.host.what_if import apply_what_if

TIB = 1 << 40
MIB2 = 2 << 20


def what_if(text: str, host: Host | None = None) -> Host:
    changed, others = apply_what_if(host or make_host(), text)
    assert others == {}
    return changed


def test_a_whole_machine() -> None:
    text = "gpu=8xH100-80G, mem=2TiB,disk=4x3.84TB-nvme,cpus=64,nodes=2,hugepages=2MiB:204800"
    host, others = apply_what_if(make_host(), f"{text},model=/models/x")
    assert others == {"model": "/models/x"}
    assert host.memory_total_bytes == 2 * TIB
    assert host.memory_available_bytes == 2 * TIB * 97 // 100 - 204800 * MIB2
    assert [gpu.numa_node for gpu in host.gpus] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert host.node_ids == (0, 1)
    assert [len(node.cpus) for node in host.numa_nodes] == [32, 32]
    assert [node.total_bytes for node in host.numa_nodes] == [TIB, TIB]
    assert [node.hugepages[MIB2].free for node in host.numa_nodes] == [102400, 102400]
    assert [node.distances for node in host.numa_nodes] == [(10, 21), (21, 10)]
    assert host.hugepages_free(MIB2) == 204800
    assert len(host.file_systems) == 4


def test_the_order_of_the_parts_does_not_count() -> None:
    parts = ["gpu=3xL4-24G", "mem=64GiB", "cpus=7", "nodes=3", "hugepages=1GiB:20"]
    assert what_if(",".join(parts)) == what_if(",".join(reversed(parts)))


def test_what_is_not_named_stays() -> None:
    host = load_host(HOSTS / "server.json")
    changed = what_if("cpus=32", host)
    assert changed.gpus == host.gpus
    assert changed.memory_total_bytes == host.memory_total_bytes
    assert changed.file_systems == host.file_systems
    assert changed.hugepages == host.hugepages


def test_gpus_that_are_known() -> None:
    [gpu] = what_if("gpu=RTX4090-24G").gpus
    assert (gpu.name, gpu.total_bytes) == ("RTX4090-24G", 24 * GIB)
    assert gpu.free_bytes == 24 * GIB * 98 // 100
    assert (gpu.numa_node, gpu.pcie_generation, gpu.pcie_lanes) == (None, 4, 16)
    assert what_if("gpu=2xl4").gpus[1].total_bytes == 24 * GIB * 15 // 16


@pytest.mark.parametrize("known", KNOWN_GPUS, ids=lambda gpu: gpu.name)
def test_every_known_gpu_can_be_named(known: object) -> None:
    name = getattr(known, "name", "")
    assert [gpu.name for gpu in what_if(f"gpu=2x{name}").gpus] == [name, name]


@pytest.mark.parametrize("size", ["48G", "48GiB", "49152MiB"])
def test_gpus_that_are_not_known_have_a_size(size: str) -> None:
    [gpu, _] = what_if(f"gpu=2xFOO-X-{size}").gpus
    assert (gpu.name, gpu.total_bytes) == (f"FOO-X-{size}", 48 * GIB)
    assert gpu.pcie_bytes_per_s is None


def test_no_gpu() -> None:
    assert what_if("gpu=none", make_host(gpus=(Gpu("X", 1, 1),))).gpus == ()


def test_memory_lifts_the_cgroups_limit() -> None:
    host = what_if("mem=100GiB", load_host(HOSTS / "container.json"))
    assert host.cgroup_limit_bytes is None
    assert host.usable_memory_bytes == 97 * GIB
    assert [node.total_bytes for node in host.numa_nodes] == [50 * GIB, 50 * GIB]


def test_cpus_lift_the_quota() -> None:
    container = load_host(HOSTS / "container.json")
    assert what_if("cpus=40", container).usable_cpus == 40
    host = what_if("cpus=5", container)
    assert host.usable_cpus == 5
    assert [node.cpus for node in host.numa_nodes] == [(0, 1, 2), (3, 4)]


def test_hugepages_are_no_longer_available() -> None:
    host = make_host(hugepages={MIB2: HugepagePool(10, 3)})
    changed = what_if("hugepages=2MiB:20", host)
    assert changed.memory_available_bytes == host.memory_available_bytes - 10 * MIB2
    assert changed.hugepages[MIB2] == HugepagePool(20, 20)
    assert what_if("hugepages=2MiB:0", host).memory_available_bytes == 8 * GIB + 10 * MIB2


@pytest.mark.parametrize(
    ("text", "kind", "size"),
    [
        ("disk=2x3.84TB-nvme", DriveKind.NVME, 3_840_000_000_000),
        ("disk=2x1TiB-ssd", DriveKind.SSD, TIB),
        ("disk=2x1TiB-sata", DriveKind.SSD, TIB),
        ("disk=2x18TB-hdd", DriveKind.HDD, 18 * 10**12),
        ("disk=2x1.5TiB-network", DriveKind.NETWORK, TIB * 3 // 2),
    ],
)
def test_disks(text: str, kind: DriveKind, size: int) -> None:
    found = what_if(text).file_systems
    assert [each.drive_kind for each in found] == [kind, kind]
    assert found[0].total_bytes == size
    assert found[0].free_bytes == size * 95 // 100
    assert len({each.device_id for each in found}) == 2


def test_directories_take_the_disks_in_turn() -> None:
    server = load_host(HOSTS / "server.json")
    host = what_if("disk=2x1TB-nvme", server)
    paths = [Path(f"/mnt/kv/{i}") for i in range(3)]
    on = [fact.on for fact in with_directories(host, paths).directories.values()]
    assert [each.device for each in on] == ["disk0", "disk1", "disk0"]
    assert on[0].device_id == on[2].device_id != on[1].device_id
    again = what_if("disk=1x9TB-hdd", host)
    assert len(again.file_systems) == len(server.file_systems) + 1


def test_directories_of_a_recorded_host_lie_on_its_file_systems() -> None:
    server = load_host(HOSTS / "server.json")
    paths = [Path("/mnt/nvme0/a"), Path("/mnt/raid/b"), Path("/mnt/nvme"), Path("/var/kv")]
    found = with_directories(server, paths).directories
    assert [str(found[path].on.mount_point) for path in paths] == [
        "/mnt/nvme0",
        "/mnt/raid",
        "/",
        "/",
    ]
    assert all(not fact.exists and not fact.used_bytes for fact in found.values())


def test_a_recorded_host_without_a_file_system_for_a_directory() -> None:
    error = caught(BadInput, lambda: with_directories(make_host(), [Path("/data")]))
    assert error is not None
    assert "`/data`" in error.problems[0].what
    assert "--what-if" in error.problems[0].hint


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("", "names no part", "`gpu=8xH100-80G`"),
        (",,", "names no part", ""),
        ("8xH100", "`8xH100` is not a name, `=` and a value", "`mem=2TiB`"),
        ("gpus=8xH100", "is not a part of a host: did you mean `gpu`?", "`gpu=8xH100-80G`"),
        ("wheels=4", "`wheels=4` is not a part of a host", "`disk=4x3.84TB-nvme`"),
        ("mem=", "`mem=` has no value", "write it as `mem=2TiB`"),
        ("mem=1TiB,mem=2TiB", "`mem=2TiB` is named twice", ""),
        ("mem=2T", "`2T` is not a unit|is not a unit: write `2TiB`", ""),
        ("mem=lots", "has a size that cannot be read: write a number", "`mem=2TiB`"),
        ("mem=0GiB", "`mem=0GiB` is nothing", ""),
        ("cpus=0", "`cpus=0` is not a number from 1 to 65,536", "`cpus=64`"),
        ("cpus=-4", "is not a number from 1", ""),
        ("cpus=1e3", "is not a number from 1", ""),
        ("nodes=65", "is not a number from 1 to 64", "`nodes=2`"),
        ("nodes=٣", "is not a number from 1 to 64", ""),
        ("hugepages=2MiB", "has no number of pages", "`hugepages=2MiB:204800`"),
        ("hugepages=2MiB:x", "has no number of pages", ""),
        ("hugepages=3MiB:1", "is of no size that hugepages have", ""),
        ("hugepages=2MiB:99999999", "is more memory than is available", ""),
        ("mem=1GiB,hugepages=1GiB:1", "is more memory than is available", ""),
        ("gpu=8xH1000", "is a GPU that is not known: did you mean `H100-80G`?", "gpu=8xH100-80G"),
        ("gpu=0xH100-80G", "is not a number from 1 to 1,024", ""),
        ("gpu=2xFOO", "Others need a size, `NAME-48GiB`", ""),
        ("gpu=2xFOO-1.2.3G", "has a size that cannot be read", ""),
        ("disk=4x3.84TB", "does not end in the kind of disk: nvme, ssd", "disk=4x3.84TB-nvme"),
        ("disk=4x3.84TB-tape", "does not end in the kind of disk", ""),
        ("disk=4x-nvme", "has a size that cannot be read", ""),
        ("disk=9999x1TB-nvme", "is not a number from 1 to 1,024", ""),
        ("x\x1b[2J=1", "`x?[2J=1` is not a part", ""),
    ],
)
def test_mistakes_quote_the_part_and_say_the_right_form(text: str, what: str, hint: str) -> None:
    error = caught(BadInput, lambda: apply_what_if(make_host(), text))
    assert error is not None
    [problem] = error.problems
    assert problem.place == "--what-if"
    assert any(each in problem.what for each in what.split("|"))
    assert hint in problem.hint


ITEMS = st.one_of(
    st.text(max_size=30),
    st.builds(
        lambda key, value: f"{key}={value}",
        st.sampled_from(["gpu", "mem", "disk", "cpus", "nodes", "hugepages", "model"]),
        st.text("0123456789xGTMiB-:.nvmeH", max_size=12),
    ),
    st.sampled_from(
        ["gpu=3xL4", "mem=64GiB", "disk=3x1TB-hdd", "cpus=3", "nodes=5", "hugepages=2MiB:9"]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ITEMS, max_size=4), st.sampled_from(["server", "vm", "container"]))
def test_every_text_is_a_host_or_a_sentence(items: list[str], name: str) -> None:
    host, text = load_host(HOSTS / f"{name}.json"), ",".join(items)
    error = caught(BadInput, lambda: apply_what_if(host, text))
    if error is not None:
        assert error.problems[0].hint
        return
    changed, _ = apply_what_if(host, text)
    assert 0 < changed.memory_available_bytes <= changed.memory_total_bytes
    for node in changed.numa_nodes:
        assert node.free_bytes <= node.total_bytes
    for size, pool in changed.hugepages.items():
        pools = [node.hugepages[size] for node in changed.numa_nodes if size in node.hugepages]
        assert not pools or sum(each.total for each in pools) == pool.total


def test_a_supposed_host_can_be_recorded(home: Path) -> None:
    host = what_if("gpu=8xH100-80G,mem=2TiB,disk=4x3.84TB-nvme,nodes=2")
    (home / "host.json").write_text(host_as_text(host))
    assert load_host(home / "host.json") == host
    assert isinstance(host.file_systems[0], FileSystem)
    assert isinstance(host.numa_nodes[0], NumaNode)
