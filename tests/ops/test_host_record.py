"""Recorded hosts: what was written is what is read, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.builders import caught, disk, make_host
from ops.fake_fleet import FLEET, HOSTS

from kvtier_ops import cli
from kvtier_ops.errors import BadInput
from kvtier_ops.host import (
    Drive,
    DriveKind,
    FileSystem,
    Gpu,
    Host,
    HugepagePool,
    NumaNode,
    probe,
)
from kvtier_ops.host.record import anonymized, host_as_text, load_host
from kvtier_ops.host.report import render_host

RECORDED = sorted(HOSTS.glob("*.json"))


@pytest.mark.parametrize("name", FLEET)
def test_the_recorded_hosts_are_what_the_probe_makes_of_them(name: str, tmp_path: Path) -> None:
    built = FLEET[name](tmp_path)
    assert load_host(HOSTS / f"{name}.json") == built
    assert (HOSTS / f"{name}.json").read_text() == host_as_text(built)


def test_every_recorded_host_is_built() -> None:
    assert [path.stem for path in RECORDED] == sorted(FLEET)


def test_the_fleet_reads_well() -> None:
    server = load_host(HOSTS / "server.json")
    assert server.node_ids == (0, 1)
    assert [node.distances for node in server.numa_nodes] == [(10, 21), (21, 10)]
    assert server.hugepages_free(2 << 20) == 200_000
    assert [gpu.numa_node for gpu in server.gpus] == [0, 0, 0, 0, 1, 1, 1, 1]
    kinds = {str(each.mount_point): each.layers for each in server.file_systems}
    assert kinds["/mnt/raid"] == ("raid0",)
    container = load_host(HOSTS / "container.json")
    assert container.usable_memory_bytes == 63 << 30
    assert container.usable_cpus == 16
    assert load_host(HOSTS / "vm.json").numa_nodes == ()
    assert load_host(HOSTS / "laptop.json").file_systems[0].layers == ("lvm", "luks", "partition")


SIZES = st.integers(0, (1 << 63) - 1)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
PATHS = TEXTS.map(lambda text: Path("/" + text.lstrip("/")))
NODES = st.none() | st.integers(0, 7)
POOLS = st.dictionaries(
    st.integers(1, 1 << 40),
    st.tuples(SIZES, SIZES).map(lambda pair: HugepagePool(max(pair), min(pair))),
    max_size=3,
)
DRIVES = st.builds(Drive, TEXTS, st.sampled_from(DriveKind), SIZES, TEXTS, NODES)
FILE_SYSTEMS = st.builds(
    lambda point, room, **others: FileSystem(
        mount_point=point, total_bytes=max(room), free_bytes=min(room), **others
    ),
    PATHS,
    st.tuples(SIZES, SIZES),
    kind=TEXTS,
    device=TEXTS,
    device_id=SIZES,
    drive_kind=st.sampled_from(DriveKind),
    drives=st.lists(DRIVES, max_size=3).map(tuple),
    layers=st.lists(TEXTS, max_size=3).map(tuple),
    options=st.lists(TEXTS, max_size=3).map(tuple),
)
GPUS = st.builds(
    lambda name, room, node, link: Gpu(name, max(room), min(room), node, *link),
    TEXTS,
    st.tuples(SIZES, SIZES),
    NODES,
    st.just((None, None)) | st.tuples(st.integers(1, 6), st.integers(1, 16)),
)


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    memory = draw(st.tuples(st.integers(1, 1 << 62), SIZES))
    ids = draw(st.lists(st.integers(0, 99), unique=True, max_size=3))
    nodes = tuple(
        NumaNode(
            id=node,
            total_bytes=100,
            free_bytes=draw(st.integers(0, 100)),
            cpus=tuple(draw(st.lists(st.integers(0, 999), max_size=4))),
            distances=tuple(range(len(ids))) if draw(st.booleans()) else (),
            hugepages=draw(POOLS),
        )
        for node in ids
    )
    systems = draw(st.lists(FILE_SYSTEMS, max_size=3, unique_by=lambda each: each.mount_point))
    used = draw(st.lists(PATHS, max_size=2))
    return Host(
        memory_total_bytes=memory[0],
        memory_available_bytes=min(memory),
        cgroup_limit_bytes=draw(st.none() | SIZES),
        cgroup_used_bytes=draw(SIZES),
        cpus=draw(st.integers(1, 1000)),
        cpu_quota=draw(st.none() | st.floats(0, 1000)),
        hugepages=draw(POOLS),
        numa_nodes=nodes,
        gpus=tuple(draw(st.lists(GPUS, max_size=3))),
        file_systems=tuple(systems),
        directories={path: disk(path, mount_point=Path("/")) for path in used if not systems},
        name=draw(TEXTS),
        cpu_model=draw(TEXTS),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(hosts())
def test_what_was_recorded_is_read(home: Path, host: Host) -> None:
    path = home / "host.json"
    path.write_text(host_as_text(host), encoding="utf-8")
    assert load_host(path) == host
    assert host_as_text(load_host(path)) == path.read_text(encoding="utf-8")
    shown = render_host(host)
    assert all(char.isprintable() or char == "\n" for char in shown)


def test_this_host_can_be_recorded(home: Path) -> None:
    host = probe(everything=True)
    (home / "host.json").write_text(host_as_text(host))
    assert load_host(home / "host.json") == host
    assert "/" in [str(each.mount_point) for each in host.file_systems]


def changed(place: str, value: Any, name: str = "server") -> str:
    """A recorded host with another value at `gpus.0.name`; `...`: removed."""
    found = json.loads((HOSTS / f"{name}.json").read_text())
    *way, last = place.split(".")
    at = found
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("place", "value", "what", "hint"),
    [
        ("kvtier_host", 2, "kvtier_host is a version that", "this one reads 1"),
        ("kvtier_host", True, "kvtier_host is a version that", ""),
        ("kvtier_host", ..., "`kvtier_host` is missing", "kvtier host record"),
        ("cpus", ..., "cpus is missing", ""),
        ("cpus", "8", "cpus is not a whole number", ""),
        ("cpus", True, "cpus is not a whole number", ""),
        ("cpus", 8.0, "cpus is not a whole number", ""),
        ("cpus", 0, "cpus is nothing", ""),
        ("cpus", 1 << 63, "cpus is negative, or larger", ""),
        ("cpu_quota", "x", "cpu_quota is not a number", ""),
        ("cpu_quota", -1, "cpu_quota is negative", ""),
        ("memory_total_bytes", -1, "memory_total_bytes is negative", ""),
        ("memory_total_bytes", 0, "memory_total_bytes is nothing", ""),
        ("memory_available_bytes", 1 << 50, "is more than there is in all", ""),
        ("gpus", {}, "gpus is not a list", ""),
        ("gpus.1", [], "gpus[1] is not an object", ""),
        ("gpus.1.name", 3, "gpus[1].name is not a text", ""),
        ("gpus.1.name", "a\0", "gpus[1].name is a text that no host has", ""),
        ("gpus.1.name", "\ud800", "gpus[1].name is a text that no host has", ""),
        ("gpus.1.nmae", "x", "gpus[1].nmae is not a field", "did you mean `name`?"),
        ("gpus.1.free_bytes", 1 << 50, "gpus[1].free_bytes is more than", ""),
        ("numa_nodes.1.id", 0, "numa_nodes[1].id names a node twice", ""),
        ("numa_nodes.1.distances", [10], "numa_nodes[1].distances is not one for each", ""),
        ("numa_nodes.1.cpus.3", None, "numa_nodes[1].cpus[3] is not a whole number", ""),
        ("hugepages.x", {"total": 1, "free": 1}, "hugepages.x is not named by a whole", ""),
        ("hugepages.02", {"total": 1, "free": 1}, "hugepages.02 is not named by a whole", ""),
        ("hugepages.2097152.free", 200_001, "hugepages.2097152 has more free pages", ""),
        ("file_systems.0.drive_kind", "floppy", "drive_kind is `floppy`", "one of nvme, ssd"),
        ("file_systems.0.mount_point", "x", "mount_point is not an absolute path: `x`", ""),
        ("file_systems.0.mount_point", "/mnt/raid", "mount_point is mounted twice", ""),
        ("file_systems.0.free_bytes", 1 << 50, "file_systems[0].free_bytes is more", ""),
        ("surprise\x1b[2J", 1, "surprise?[2J is not a field", ""),
    ],
)
def test_mistakes_name_file_and_place(
    home: Path, place: str, value: Any, what: str, hint: str
) -> None:
    path = home / "host.json"
    path.write_text(changed(place, value))
    error = caught(BadInput, lambda: load_host(path))
    assert error is not None
    [problem] = error.problems
    assert problem.place == str(path)
    assert what in problem.what
    assert hint in problem.hint
    assert problem.hint


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"", "is not JSON, line 1"),
        (b"{", "is not JSON, line 1"),
        (b"[1]", "is not a recorded host"),
        (b"null", "is not a recorded host"),
        (b"\xff\xfe", "is not text"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"kvtier_host": 1, "kvtier_host": 1}', "is not JSON"),
        (b'{"kvtier_host": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"kvtier_host": NaN}', "is a version"),
        (b" " * ((16 << 20) + 1), "is too large"),
    ],
)
def test_files_that_are_no_recorded_host(home: Path, raw: bytes, what: str) -> None:
    (home / "host.json").write_bytes(raw)
    error = caught(BadInput, lambda: load_host(home / "host.json"))
    assert error is not None
    assert what in error.problems[0].what


@pytest.mark.parametrize("name", ["missing.json", "", "a\0b"])
def test_files_that_cannot_be_read(home: Path, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_host(home / name)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(RECORDED), st.data())
def test_no_change_to_a_recorded_host_makes_a_traceback(
    home: Path, recorded: Path, data: st.DataObject
) -> None:
    found = json.loads(recorded.read_text())
    at, last = found, data.draw(st.sampled_from(sorted(found)))
    while isinstance(at[last], dict | list) and at[last] and data.draw(st.booleans()):
        at = at[last]
        keys = sorted(at) if isinstance(at, dict) else range(len(at))
        last = data.draw(st.sampled_from(keys))
    at[last] = data.draw(JUNK)
    path = home / "host.json"
    path.write_text(json.dumps(found))
    error = caught(BadInput, lambda: load_host(path))
    if error is None:
        assert render_host(load_host(path))
    else:
        assert error.problems[0].place == str(path)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_damage_to_the_bytes_makes_a_traceback(home: Path, data: st.DataObject) -> None:
    raw = bytearray((HOSTS / "laptop.json").read_bytes())
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 40)))
    raw[start:end] = data.draw(st.binary(max_size=8))
    (home / "host.json").write_bytes(raw)
    caught(BadInput, lambda: load_host(home / "host.json"))


def test_anonymized_names_nobody() -> None:
    host = replace(
        load_host(HOSTS / "cluster-node.json"),
        directories={Path("/home/alice/kv"): disk(Path("/home/alice/kv"))},
    )
    text = host_as_text(anonymized(host))
    for secret in ("node-0", "10.0.0.5", "alice", "/dev/nvme"):
        assert secret in host_as_text(host) or secret == "/dev/nvme"
        assert secret not in text
    assert '"/models"' in text
    assert '"NVIDIA A100-SXM4-80GB"' in text


def test_an_older_file_may_lack_what_has_a_default(home: Path) -> None:
    (home / "host.json").write_text(changed("cpu_model", ...))
    assert load_host(home / "host.json").cpu_model == ""


def test_the_command_records_and_shows(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(home / "host.json")
    assert cli.run(["host", "record", "--output", path]) == 0
    assert cli.run(["host", "show", path]) == 0
    assert capfd.readouterr().out.startswith("host ")
    assert cli.run(["host", "record", "--output", path]) == 2
    assert "`--force` overwrites it" in capfd.readouterr().err
    assert cli.run(["host", "record", "--output", path, "--force"]) == 0
    assert [each.name for each in home.iterdir() if each.name.startswith(".host")] == []
    assert cli.run(["host", "show"]) == 0


def test_the_command_prints_what_it_would_write(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["host", "record", "--anonymize"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["kvtier_host"], found["name"]) == (1, "")


def test_a_file_that_is_none_is_told_without_a_traceback(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "x.json").write_text("{}")
    assert cli.run(["host", "show", str(home / "x.json")]) == 2
    assert capfd.readouterr().err.startswith(f"error: {home}/x.json: the file is not a recorded")


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_tables_fit_a_terminal(path: Path) -> None:
    shown = render_host(load_host(path))
    assert max(map(len, shown.splitlines())) <= 80
    assert shown == "\n".join(line.rstrip() for line in shown.splitlines())


def test_a_table_says_what_is_not_known() -> None:
    host = make_host(gpus=(Gpu("X", 10, 5),), numa_nodes=(NumaNode(3),))
    assert "-" in render_host(host)


def test_planning_needs_no_probe_of_everything() -> None:
    """`kvtier host --help` starts without what the commands need."""
    code = "import sys, kvtier_ops.cli.entry; sys.exit('kvtier_ops.host.record' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
