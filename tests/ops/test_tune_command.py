"""`kvtier tune` on this machine: what it prints, changes and puts back; as root and as nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.launched import write_profile
from ops.rendered import tool
from ops.tuned import THP, FakeKernel, more_pages, pool

from kvtier_ops import cli
from kvtier_ops.instance import instance_name
from kvtier_ops.instances.state import own_ticks
from kvtier_ops.tune.change import Change, Kind, Setting
from kvtier_ops.tune.journal import journal_path, read_journal
from kvtier_ops.tune.owner import Owner, operator
from kvtier_ops.tune.script import render_script

REAL = Path(pool(0))
Capture = pytest.CaptureFixture[str]
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.access(REAL, os.W_OK), reason="needs root and hugepages"
    ),
]
PAGES = 8  # of 2 MiB: an arena's table and its slots


def reserved() -> int:
    return int(REAL.read_text())


@pytest.fixture
def before() -> Iterator[int]:
    """None that others have reserved and do not use; the machine has so many as before afterwards,
    whatever a test did."""
    found = reserved()
    REAL.write_text("0")
    yield reserved()
    REAL.write_text(str(found))


@pytest.fixture
def profile(home: Path) -> Path:
    path = write_profile(home)
    text = path.read_text().replace("l2: {size: 8MiB}", "l2: {size: 16MiB, hugepages: 2MiB}")
    path.write_text(text)
    return path


def test_dry_run_shows_and_changes_nothing(profile: Path, before: int, capsys: Capture) -> None:
    assert cli.run(["tune", str(profile), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"{REAL}\n          {before} -> {before + PAGES}" in out
    assert "takes 8 hugepages of 2MiB" in out
    assert reserved() == before
    assert not journal_path().exists()


def test_tune_then_undo(profile: Path, before: int, capsys: Capture) -> None:
    assert cli.run(["tune", str(profile)]) == 0
    assert reserved() == before + PAGES
    assert f"changed   {REAL}: {before} -> {before + PAGES}" in capsys.readouterr().out
    assert cli.run(["plan", str(profile)]) in (0, 4)
    assert "KVT-P011" not in capsys.readouterr().out  # what the plan missed is there
    assert cli.run(["tune", str(profile)]) == 0
    assert "nothing to change" in capsys.readouterr().out
    assert cli.run(["tune", "--undo", "--dry-run"]) == 0
    assert f"{before + PAGES} -> {before}" in capsys.readouterr().out
    assert reserved() == before + PAGES
    assert cli.run(["tune", "--undo"]) == 0
    assert f"{REAL}: {before + PAGES} -> {before}" in capsys.readouterr().out
    assert reserved() == before
    assert cli.run(["tune", "--undo"]) == 0
    assert "nothing to put back" in capsys.readouterr().out


def reserve_and_be_killed(before: int) -> None:
    gone = Owner("gone", os.getpid(), own_ticks() + 1)
    [result] = FakeKernel(Path("/")).apply([more_pages(str(REAL), before, before + PAGES)], gone)
    assert result.ok


def test_pages_that_a_killed_launcher_left_are_not_counted_on(
    profile: Path, before: int, capsys: Capture
) -> None:
    """They are put back first, so that as many are missing as without them."""
    reserve_and_be_killed(before)
    for command in (["tune", str(profile), "--dry-run"], ["launch", str(profile), "--dry-run"]):
        assert cli.run(command) == 0
        err = capsys.readouterr().err
        assert "a killed launcher has left changes, which are put back first" in err
        assert f"  {REAL}: {before + PAGES} -> {before}  (gone)" in err
    assert cli.run(["tune", str(profile)]) == 0
    assert "put back what a killed launcher changed" in capsys.readouterr().err
    assert reserved() == before + PAGES
    assert [entry.owner for entry in read_journal().entries] == [operator(instance_name(profile))]
    assert cli.run(["tune", "--undo"]) == 0
    assert reserved() == before


def test_undo_for_one_profile_leaves_the_others(
    profile: Path, before: int, capsys: Capture
) -> None:
    """Two services on one host: each puts back its own when it stops."""
    other = profile.with_name("other.yaml")
    other.write_text(profile.read_text().replace("16MiB", "48MiB"))
    assert cli.run(["tune", str(profile)]) == 0
    assert cli.run(["tune", str(other)]) == 0
    both = reserved()
    assert both > before + PAGES
    assert cli.run(["tune", "--undo", str(other)]) == 0
    assert reserved() == before + PAGES
    assert cli.run(["tune", "--undo", str(other)]) == 0
    assert "nothing to put back" in capsys.readouterr().out
    assert cli.run(["tune", "--undo", str(profile)]) == 0
    assert reserved() == before
    assert read_journal().entries == []


def test_undo_while_the_pages_are_used(profile: Path, before: int, capsys: Capture) -> None:
    """The kernel lends them until they are let go; then they are gone."""
    import mmap

    assert cli.run(["tune", str(profile)]) == 0
    fd = os.memfd_create("test", os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    os.ftruncate(fd, PAGES << 21)
    memory = mmap.mmap(fd, PAGES << 21)
    memory[:: 1 << 21] = b"x" * PAGES
    assert cli.run(["tune", "--undo"]) == 0
    memory.close()
    os.close(fd)
    assert reserved() == before


def test_the_script_does_and_undoes_the_same(
    profile: Path, before: int, tmp_path: Path, capsys: Capture
) -> None:
    script = tmp_path / "tune me.sh"
    assert cli.run(["tune", str(profile), "--script", str(script)]) == 0
    assert reserved() == before
    assert os.access(script, os.X_OK)
    subprocess.run(["sh", str(script)], check=True)
    assert reserved() == before + PAGES
    subprocess.run([str(script), "undo"], check=True)
    assert reserved() == before
    assert subprocess.run([str(script), "other"], check=False).returncode == 2
    assert cli.run(["tune", str(profile), "--script", str(script)]) == 2
    assert "`--force` overwrites it" in capsys.readouterr().err


def test_the_script_puts_words_back_unless_somebody_changed_them(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    file = kernel.put("/a file", "always [never] advise")
    change = Change(Setting(str(file), Kind.CHOICE), "never", "advise", "why\x1b[2J", "KVT-D203")
    script = tmp_path / "s"
    script.write_text(render_script([change], "test"))
    assert "\x1b" not in script.read_text()
    subprocess.run(["sh", str(script)], check=True)
    assert file.read_text() == "advise\n"
    subprocess.run(["sh", str(script), "undo"], check=True)
    assert file.read_text() == "never\n"
    file.write_text("always\n")
    subprocess.run(["sh", str(script)], check=True)
    assert file.read_text() == "always\n"


def test_a_script_that_finds_too_few_pages_leaves_none(tmp_path: Path) -> None:
    """The second node has 15: what it got, and what the first one got, is given back."""
    kernel = FakeKernel(tmp_path)
    first, second = kernel.put("/node0", 3), kernel.put("/node1", 10)
    sed = kernel.put("/bin/sed", "#!/bin/sh")
    sed.write_text('#!/bin/sh\nread -r n <"$3"\n[ "$n" -le 15 ] || n=15\necho "$n"\n')
    sed.chmod(0o755)
    script = tmp_path / "s"
    changes = [more_pages(str(first), 3, 11), more_pages(str(second), 10, 18)]
    script.write_text(render_script(changes, "test"))
    path = {**os.environ, "PATH": f"{sed.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", str(script)], env=path, capture_output=True, text=True)
    assert (done.returncode, "only 15 of 18, put back" in done.stderr) == (1, True)
    assert (first.read_text(), second.read_text()) == ("3\n", "10\n")


def test_the_script_is_clean(profile: Path, tmp_path: Path) -> None:
    script = tmp_path / "tune.sh"
    assert cli.run(["tune", str(profile), "--script", str(script)]) == 0
    subprocess.run([tool("shellcheck", "shellcheck"), str(script)], check=True)


def as_nobody(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A user who may read everything, since Python may lie in root's home, and write nothing."""
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534)
    reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads]
    command += [sys.executable, "-P", "-m", "kvtier_ops", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_root_it_says_how(profile: Path, home: Path, before: int) -> None:
    done = as_nobody(home, "tune", str(profile))
    assert done.returncode == 3, done.stderr
    assert f"FAILED    {REAL}" in done.stdout
    shown = " ".join(done.stdout.split())
    if not Path("/.dockerenv").exists():
        assert "only root may write" in shown
        assert f"tune {profile}`" in shown
    assert f"echo {before + PAGES} | sudo tee {REAL}" in shown
    assert "Traceback" not in done.stderr
    assert reserved() == before


def test_without_root_undo_says_whose_changes_it_puts_back(home: Path) -> None:
    """`sudo kvtier tune`, then `kvtier tune --undo`: there are two journals."""
    for arguments in (["--undo"], ["--undo", "--dry-run"]):
        done = as_nobody(home, "tune", *arguments)
        assert (done.returncode, done.stdout) == (0, "nothing to put back\n")
        assert "what root has changed: `sudo " in done.stderr


def test_a_read_only_sys_is_a_containers(profile: Path, before: int) -> None:
    """As in a container: root may not write there, and is told who can."""
    script = (
        "mount --bind /sys /sys && mount -o remount,ro,bind /sys && "
        f"exec {sys.executable} -P -m kvtier_ops tune {profile}"
    )
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    shown = " ".join(done.stdout.split())
    assert f"echo {before + PAGES} | sudo tee {REAL}" in shown
    assert ("on the host, as root" in shown) or ("even by root" in shown)
    assert "Traceback" not in done.stderr
    assert reserved() == before


def test_without_root_what_only_helps_is_a_warning(home: Path) -> None:
    """Nothing to change, or a hint: no failure in either case."""
    profile = write_profile(home)
    profile.write_text(profile.read_text().replace("8MiB", "8200MiB"))
    shared = Path(f"{THP}/shmem_enabled").read_text()
    done = as_nobody(home, "tune", str(profile))
    assert done.returncode == (4 if "[never]" in shared else 0), done.stdout + done.stderr
    assert ("not done" in done.stdout) == ("[never]" in shared)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["tune"], "missing argument `PROFILE`"),
        (["tune", "--undo", "--set", "a=b"], "`--undo` goes by the journal"),
        (["tune", "none.yaml"], "none.yaml"),
        (["tune", "small.yaml", "--script", "/none/x"], "there is no folder `/none`"),
    ],
)
def test_wrong_arguments(
    profile: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, arguments: list[str], what: str
) -> None:
    monkeypatch.chdir(profile.parent)
    assert cli.run(arguments) == 2
    assert what in capsys.readouterr().err


def test_interrupted_while_it_reserves(
    profile: Path, before: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write = Setting.write

    def interrupt(self: Setting, root: Path, value: str) -> None:
        write(self, root, value)
        if int(value) > before:
            raise KeyboardInterrupt

    monkeypatch.setattr(Setting, "write", interrupt)
    assert cli.run(["tune", str(profile)]) == 130
    assert reserved() == before
    assert read_journal().entries == []
