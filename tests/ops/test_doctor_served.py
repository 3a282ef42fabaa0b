"""Plan, doctor and dry run of a profile that is being served: an engine is not in its own way."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ops.builders import GIB, make_host
from ops.launched import Launched, free_port, kvtier, start, write_profile

from kvtier_ops.host import HugepagePool, NumaNode
from kvtier_ops.host.before import host_before
from kvtier_ops.host.record import host_as_text, load_host
from kvtier_ops.instances import Phase, read_state, write_state

MIB = 1 << 20


@pytest.fixture
def profile(home: Path) -> Path:
    path = write_profile(home)
    write(path, home / "pages", free_port())
    return path


def write(path: Path, pages: Path, port: int) -> None:
    path.write_text(
        f"version: 1\nmodel: {{path: {path.parent / 'model'}}}\n"
        "tiers:\n  l1: {size: 4MiB}\n  l2: {size: 8MiB}\n"
        f"  l3: {{directories: [{pages}], size: 64MiB}}\n"
        f"server: {{port: {port}, drain_s: 5}}\n"
    )


@pytest.fixture
def launched(home: Path, profile: Path) -> Iterator[Launched]:
    found = start(home, profile, {"lock": True})
    found.wait_ready()
    yield found
    if not found.ended():
        found.signal()
        assert found.end() == 0, found.err.read_text()


def findings(profile: Path, *only: str) -> list[dict[str, Any]]:
    chosen = [word for each in only for word in ("--only", each)]
    done = kvtier("doctor", str(profile), "--json", *chosen)
    result: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return result


def test_its_own_port_and_lock_are_no_failures(profile: Path, launched: Launched) -> None:
    state = read_state(launched.run_dir)
    assert state is not None
    port, lock = findings(profile, "D501", "D303")[::-1]
    assert (port["ok"], port["current"]) == (
        True, f"this profile's own engine, pid {state.engine_pid}, listens",
    )  # fmt: skip
    start_of_lock = f"in use by this profile's own engine, process {state.engine_pid} ("
    assert (lock["ok"], lock["current"][: len(start_of_lock)]) == (True, start_of_lock)
    assert not [each for each in findings(profile) if each["result"] == "failure"]
    done = kvtier("doctor", str(profile), "--only", "D501")
    assert f"`{state.name}` serves this profile now" in done.stderr
    assert f"hint: `kvtier doctor --live {state.url}`" in done.stderr


def test_what_others_hold_is_a_failure_all_the_same(profile: Path, launched: Launched) -> None:
    """Of a profile that was changed since, or where the engine lost its lock."""
    lock = profile.parent / "pages2/lock"
    lock.parent.mkdir(mode=0o700)
    lock.write_text("process 1 (init) on host here")
    with lock.open() as file, socket.create_server(("127.0.0.1", 0)) as listener:
        fcntl.flock(file, fcntl.LOCK_EX)
        write(profile, lock.parent, listener.getsockname()[1])
        held = findings(profile, "D501", "D303")
        assert [each["ok"] for each in held] == [False, False]
        assert held[0]["current"] == "in use by process 1 (init) on host here"
        done = kvtier("reload", str(profile))
        assert (done.returncode, "KVT-D501" in done.stderr, "KVT-D303" in done.stderr) == (
            3, True, True,
        )  # fmt: skip


def test_it_is_planned_for_the_host_as_its_launcher_found_it(
    profile: Path, launched: Launched
) -> None:
    recorded = launched.run_dir / "host.json"
    host = load_host(recorded)
    assert recorded.stat().st_mode & 0o777 == 0o600
    # Without hugepages: others may reserve some meanwhile, which are not available then.
    other = replace(host, memory_available_bytes=GIB, hugepages={}, numa_nodes=())
    recorded.write_text(host_as_text(other))
    done = kvtier("plan", str(profile), "--json")
    assert "serves this profile now" in done.stderr
    assert json.loads(done.stdout)["memory"][-1]["usable_bytes"] == GIB
    recorded.unlink()  # as of an older launcher
    done = kvtier("plan", str(profile), "--json")
    assert "the memory that its engine holds counts as taken" in done.stderr
    assert json.loads(done.stdout)["memory"][-1]["usable_bytes"] != GIB


def test_what_if_is_of_the_host_as_its_launcher_found_it(profile: Path, launched: Launched) -> None:
    recorded = launched.run_dir / "host.json"
    other = replace(load_host(recorded), memory_available_bytes=GIB, hugepages={}, numa_nodes=())
    recorded.write_text(host_as_text(other))
    done = kvtier("plan", str(profile), "--what-if", "cpus=2", "--json")
    assert json.loads(done.stdout)["memory"][-1]["usable_bytes"] == GIB


def test_only_what_is_ready_counts(profile: Path, launched: Launched) -> None:
    """An engine that starts has not taken its part yet, or not all of it."""
    state = read_state(launched.run_dir)
    assert state is not None
    write_state(launched.run_dir, replace(state, state=Phase.STARTING))
    done = kvtier("doctor", str(profile), "--only", "D501")
    assert (done.returncode, "already in use" in done.stdout) == (3, True)
    assert f"`{state.name}` is starting" in done.stderr
    write_state(launched.run_dir, replace(state, pid=os.getpid()))  # that process is another one
    done = kvtier("doctor", str(profile), "--only", "D501")
    assert (done.returncode, done.stderr) == (3, "")
    write_state(launched.run_dir, state)


def test_a_dry_run_says_that_it_is_served_already(profile: Path, launched: Launched) -> None:
    done = kvtier("launch", "--dry-run", str(profile))
    assert done.returncode == 3
    assert f"is already being served, by `kvtier launch` with pid {launched.process.pid}" in (
        done.stderr
    )
    assert "KVT-D" not in done.stderr
    launched.signal()
    assert launched.end() == 0
    assert kvtier("launch", "--dry-run", str(profile)).returncode == 0


def test_the_host_before_an_engine() -> None:
    """It has taken 6 GiB and 300 of 400 pages of the host, on which another program had 20; 100
    pages were reserved since."""
    size = 2 * MIB
    before = make_host(
        memory_available_bytes=12 * GIB,
        hugepages={size: HugepagePool(300, 280)},
        numa_nodes=(NumaNode(0, hugepages={size: HugepagePool(300, 280)}),),
    )
    now = make_host(
        memory_available_bytes=6 * GIB,
        hugepages={size: HugepagePool(400, 80)},
        numa_nodes=(NumaNode(0, hugepages={size: HugepagePool(400, 80)}),),
        name="renamed",
    )
    found = host_before(before, now)
    assert found.hugepages == {size: HugepagePool(400, 380)}
    assert found.numa_nodes[0].hugepages == {size: HugepagePool(400, 380)}
    assert found.memory_available_bytes == 12 * GIB - 100 * size
    assert found.name == "renamed"
