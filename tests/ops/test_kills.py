"""kill -9 of launcher, engine or both at random moments: the host is as before, the next launch
works and says what it found. `make test-kill` is the long form."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from ops.launched import Launched, start, write_profile
from ops.tuned import pool
from support.engine_process import wait_for

from kvtier_ops.instance import run_dir_of
from kvtier_ops.instances.leftovers import engine_processes

pytestmark = pytest.mark.host  # hugepages, /dev/shm: one at a time
SEED = int(os.environ.get("KVTIER_KILL_SEED", "1"))
START_S_MAX = 1.2  # a launch is ready a little earlier, on an idle machine
READY_S_MAX = 0.2
TUNED = Path(pool(0))
HUGE = "l2: {size: 16MiB, hugepages: 2MiB}"
QUICK = ("--set", "server.restart_delay_s=0.02", "--set", "server.restart_limit=1000")


def processes_of(home: Path) -> list[str]:
    """Whatever has this test's folder on its command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(home) in line and entry.name != str(os.getpid()):
            found.append(f"{entry.name}: {line.decode(errors='replace')}")
    return found


def host_now() -> dict[str, object]:
    """What must be the same afterwards: shared memory, hugepages reserved and in use."""
    found = dict(re.findall(r"HugePages_(\w+): +(\d+)", Path("/proc/meminfo").read_text()))
    return {
        "shm": sorted(path.name for path in Path("/dev/shm").iterdir()),
        "reserved": int(found["Total"]),
        "hugepages": int(found["Total"]) - int(found["Free"]) + int(found["Rsvd"]),
    }


@contextmanager
def reserved(pages: int) -> Iterator[None]:
    """So many more hugepages; skips where they cannot be had."""
    file = Path("/proc/sys/vm/nr_hugepages")
    before = int(file.read_text())
    try:
        file.write_text(str(before + pages))
        if int(file.read_text()) < before + pages:
            pytest.skip("no hugepages to be had")
        yield
    except PermissionError:
        pytest.skip("hugepages cannot be reserved here")
    finally:
        with suppress(PermissionError):
            file.write_text(str(before))


class Kills:
    """One launch after the other, each of which meets its end."""

    def __init__(self, home: Path, random: Random) -> None:
        self.home = home
        self.random = random
        self.profile = write_profile(home)
        if os.access(TUNED, os.W_OK):  # so that each launch reserves hugepages
            text = self.profile.read_text()
            self.profile.write_text(text.replace("l2: {size: 8MiB}", HUGE))
        self.run_dir = run_dir_of(self.profile)
        self.cleaned = 0

    def left(self) -> list[str]:
        """Files of a run folder that a launcher should have removed."""
        if not self.run_dir.exists():
            return []
        return sorted(path.name for path in self.run_dir.iterdir() if path.name != "lock")

    def start(self, **plan: object) -> Launched:
        """What an earlier one has left is cleaned, and said so."""
        left, orphans = self.left(), engine_processes(self.run_dir)
        launched = start(self.home, self.profile, plan, *QUICK)
        if left or orphans:
            launched.wait_text("cleaned up after a launcher that was killed")
            said = launched.err.read_text()
            assert all(name in said for name in left), (left, said)
            assert all(str(pid) in said for pid in orphans), (orphans, said)
            self.cleaned += 1
        return launched

    def settle(self, *, orphan: bool) -> None:
        """Until an engine without a launcher has gone, or is one that stays and listens."""
        listens = self.run_dir / "address"
        wait_for(
            lambda: not engine_processes(self.run_dir) or (orphan and listens.exists()),
            "the engine to go with its launcher",
        )

    def round(self) -> str:
        who = self.random.choice(["launcher", "engine", "both"])
        orphan = self.random.random() < 0.5
        launched = self.start(orphan=orphan)
        is_ready = self.random.random() < 0.5
        moment = self.random.uniform(0, READY_S_MAX if is_ready else START_S_MAX)
        if is_ready:
            launched.wait_ready()
        with pytest.raises(subprocess.TimeoutExpired):
            launched.process.wait(moment)
        victims = [] if who == "launcher" else engine_processes(self.run_dir)
        victims += [] if who == "engine" else [launched.process.pid]
        self.random.shuffle(victims)
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                assert pid != launched.process.pid
        if who == "engine":
            self._stop(launched)
        else:
            assert launched.end() == -signal.SIGKILL
            self.settle(orphan=orphan)
        return f"{who} {moment:.2f} s after {'ready' if is_ready else 'start'}"

    def _stop(self, launched: Launched) -> None:
        """It has begun to start another engine, or to end because of the first one's end."""
        launched.signal(signal.SIGTERM)
        ends = (0, 1, 130, -signal.SIGTERM)  # the last one before Python has come up
        assert launched.end() in ends, launched.err.read_text()
        assert self.left() == []
        assert engine_processes(self.run_dir) == []

    def finish(self) -> None:
        """One that is left alone."""
        launched = self.start()
        launched.wait_ready()
        launched.signal(signal.SIGTERM)
        assert launched.end() == 0
        assert self.left() == []


def play(home: Path, seed: int, rounds: int) -> None:
    before = host_now()
    kills = Kills(home, Random(seed))
    told: list[str] = []
    try:
        for _ in range(rounds):
            told.append(kills.round())
        kills.finish()
        assert processes_of(home) == [], told
    finally:
        for line in processes_of(home):  # of a test that has failed
            os.kill(int(line.partition(":")[0]), signal.SIGKILL)
    assert kills.cleaned > 0, told
    assert host_now() == before, told
    sockets = Path("/proc/net/unix").read_text()
    assert str(home) not in sockets


def test_nothing_is_left_after_kills(home: Path) -> None:
    play(home, SEED, 6)


def test_hugepages_are_free_again(home: Path) -> None:
    """Also if the engine outlives its launcher: the next launch can have them."""
    huge = ("--set", "tiers.l2.hugepages=2MiB")
    with reserved(5):
        before = host_now()
        profile = write_profile(home)
        first = start(home, profile, {"orphan": True, "fill": 8 << 20}, *huge)
        first.wait_ready()
        assert host_now() != before
        first.signal(signal.SIGKILL)
        first.end()
        second = start(home, profile, {"fill": 8 << 20}, *huge)
        second.wait_ready()
        second.signal(signal.SIGTERM)
        assert second.end() == 0
        assert host_now() == before


@pytest.mark.slow
def test_nothing_is_left_after_many_kills(home: Path) -> None:
    play(home, SEED, 50)
