"""Orders to a launcher: one that does not hear them, and what a reload finds and says."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ops.detached import KEY, SERVER, detach, log_of, nothing_left_running, state_of
from ops.launched import free_port, kvtier, write_profile

from kvtier_ops.cache.client import KEY_VARIABLE
from kvtier_ops.errors import Refused
from kvtier_ops.instances import all_instances, control
from kvtier_ops.launch.sizes import changed_sizes, pages_by_tier
from kvtier_ops.plan import Plan
from kvtier_ops.plan.types import TierPlan


@pytest.fixture
def home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ADMIN_KEY", KEY)
    with nothing_left_running(home):
        yield home


def test_a_launcher_that_is_halted_is_not_waited_for_and_drops_the_order(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator was told that nothing is changed."""
    state = detach(write_profile(home))
    os.kill(state.pid, signal.SIGSTOP)
    for what in ("restart", "reload"):
        with monkeypatch.context() as patch:
            patch.setattr(control, "FIRST_LINE_S", 0.1)
            done = kvtier(what, "small")
        assert done.returncode == 3
        assert f"the launcher of `{state.name}` does not answer within 0.1 s" in done.stderr
        assert f"`kill -CONT {state.pid}`" in done.stderr
    os.kill(state.pid, signal.SIGCONT)
    assert kvtier("restart", "small").returncode == 0
    assert log_of(home).count("told to restart") == 1
    assert "told to reload" not in log_of(home)
    assert kvtier("stop", "small").returncode == 0


def test_a_reload_tells_the_warnings_that_its_changes_bring(home: Path) -> None:
    """A launch of the same profile tells them; those that were told before are not told again."""
    profile = write_profile(home)
    more = f"l2: {{size: 8MiB}}, l3: {{directories: [{home}/l3], size: 64MiB}}}}"
    profile.write_text(profile.read_text().replace("l2: {size: 8MiB}}", more))
    detach(profile)
    in_memory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        text = profile.read_text()
        profile.write_text(text.replace(f"{home}/l3", str(in_memory)))
        moved = kvtier("reload", "small")
        assert (moved.returncode, moved.stderr.count("warning: KVT-P006: plan, ")) == (0, 1)
        profile.write_text(profile.read_text().replace("port: 0", "port: 0, restart_limit: 9"))
        again = kvtier("reload", "small")
        assert (again.returncode, "warning" in again.stderr) == (0, False)
        assert kvtier("stop", "small").returncode == 0
    finally:
        shutil.rmtree(in_memory)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`kvtier cache ...` to the one instance."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)

    def tell(*arguments: str) -> None:
        [instance] = all_instances()
        done = kvtier("cache", *arguments, "--url", instance.state.url)
        assert done.returncode == 0, done.stderr

    return tell


def test_a_reload_sets_sizes_back_that_were_changed_since(
    home: Path, cache: Callable[..., None]
) -> None:
    profile = write_profile(home, SERVER)
    state = detach(profile)
    cache("resize", "l2", "6MiB")
    cache("resize", "l1", "2MiB")
    done = kvtier("reload", "small")
    again = "as the profile says again: the size of"
    assert (done.returncode, done.stdout) == (0, f"{again} l1, l2\n")
    assert "nothing has changed" in kvtier("reload", "small").stdout
    cache("resize", "l2", "4MiB")
    profile.write_text(profile.read_text().replace("l1: {size: 4MiB}", "l1: {size: 3MiB}"))
    assert f"`tiers.l1.size`; {again} l2\n" in kvtier("reload", "small").stdout
    assert state_of(home).engine_pid == state.engine_pid
    assert kvtier("stop", "small").returncode == 0


def test_a_size_that_the_engine_does_not_take_back_is_a_warning(
    home: Path, cache: Callable[..., None]
) -> None:
    """It may have been smaller from the start; and a tier that was detached is attached."""
    profile = write_profile(home, SERVER)
    state = detach(profile, plan={"refuses": "/attach"})
    cache("detach", "l2")
    profile.write_text(profile.read_text().replace("port: 0,", "port: 0, restart_limit: 9,"))
    done = kvtier("reload", "small")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "changed without the engine: `server.restart_limit`\n"
    assert "warning: l2 has not the profile's size: the engine does not resize l2" in done.stderr
    assert state_of(home).engine_pid == state.engine_pid
    assert kvtier("restart", "small").returncode == 0
    assert "nothing has changed" in kvtier("reload", "small").stdout
    assert kvtier("stop", "small").returncode == 0


def test_an_engine_that_does_not_say_its_sizes_is_left_as_it_is(home: Path) -> None:
    detach(write_profile(home, SERVER), plan={"silent": True})
    done = kvtier("reload", "small")
    assert (done.returncode, "nothing has changed" in done.stdout) == (0, True)
    assert "warning: the sizes of the tiers are not known: " in done.stderr
    assert kvtier("stop", "small").returncode == 0


@pytest.mark.parametrize("said", [{}, {"tiers": []}, {"tiers": {"l1": {}}}, {"tiers": {"l1": 3}}])
def test_sizes_of_another_shape_are_not_known(said: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="is not what this kvtier reads"):
        pages_by_tier(said)


def test_a_reload_of_the_host_to_listen_on_replaces_the_engine(home: Path) -> None:
    """The port is our own engine's, on whatever address."""
    profile = write_profile(home, f"server: {{port: {free_port()}, drain_s: 5}}\n")
    first = detach(profile)
    profile.write_text(profile.read_text().replace("server: {", "server: {host: 0.0.0.0, "))
    done = kvtier("reload", "small")
    assert done.returncode == 0, done.stderr
    assert "changed, with another engine: `server.host`" in done.stdout
    assert state_of(home).engine_pid != first.engine_pid
    assert kvtier("stop", "small").returncode == 0


def test_sizes_that_are_another() -> None:
    """Of L3 a few pages fewer are the same; of several directories one may be out of use."""
    l1, l2, l3 = (TierPlan(f"l{n}", "", n << 20, n * 1000, 0, "") for n in (1, 2, 3))
    one = SimpleNamespace(tiers=(l1, l2, l3), disks=("a",))
    two = SimpleNamespace(tiers=(l1, l2, l3), disks=("a", "b"))

    def changed(plan: SimpleNamespace, **pages: int) -> list[str]:
        return list(changed_sizes(cast("Plan", plan), pages))

    assert changed(one, l1=1000, l2=2000, l3=2950) == []
    assert changed(one, l1=999, l2=2001, l3=2000) == ["l1", "l2", "l3"]
    assert changed(two, l1=1000, l2=0, l3=2000) == ["l2"]
    assert changed(two, l3=0) == ["l3"]
    assert changed(two, l3=4000) == ["l3"]
    off = SimpleNamespace(tiers=(l1, replace(l2, pages=0)), disks=())
    assert changed(off, l1=1000, l2=5, l3=0) == []
