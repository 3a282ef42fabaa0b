"""`kvtier tune --script`, and arguments of `tune` that do not go together; nothing is changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ops.launched import kvtier, write_profile
from ops.rendered import tool
from ops.tuned import FakeKernel, more_pages, number

from kvtier_ops.instance import instance_name
from kvtier_ops.tune.journal import read_journal
from kvtier_ops.tune.owner import operator
from kvtier_ops.tune.script import render_script


@pytest.fixture
def profile(home: Path) -> Path:
    return write_profile(home)


def run(script: Path, *arguments: str) -> str:
    done = subprocess.run(["sh", str(script), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script_does_no_more_a_second_time(tmp_path: Path) -> None:
    """Nor does its undo; what others have added meanwhile stays."""
    pages, script = FakeKernel(tmp_path).put("/nr_hugepages", 10), tmp_path / "s"
    change = more_pages(str(pages), 5, 37)
    script.write_text(render_script([change], "test", str(tmp_path)))
    assert "no hugepages are added" in run(script, "undo")
    assert pages.read_text() == "10\n"
    for _ in range(2):
        said = run(script)
        assert pages.read_text() == "42\n"
    assert "the hugepages are added already" in said
    pages.write_text("50\n")
    for _ in range(2):
        said = run(script, "undo")
        assert pages.read_text() == "18\n"
    assert "no hugepages are added" in said
    run(script)
    assert pages.read_text() == "50\n"
    other = render_script([more_pages(str(pages), 5, 38)], "test", str(tmp_path))
    script.write_text(other)  # which has not been run
    run(script)
    assert pages.read_text() == "83\n"


def test_a_script_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    """Half of its pages would be added twice by the next run."""
    kernel = FakeKernel(tmp_path)
    first, second = kernel.put("/first", 10), kernel.put("/second", 20)
    changes = [more_pages(str(first), 5, 37), more_pages(str(second), 5, 37)]
    text = render_script(changes, "test", str(tmp_path))
    script, call = tmp_path / "s", f"  add {second} "
    assert call in text
    script.write_text(text.replace(call, f"  kill -INT $$; kill -TERM $$\n{call}", 1))
    for _ in range(2):
        run(script)
        assert (first.read_text(), second.read_text()) == ("42\n", "52\n")


def test_a_script_that_cannot_write_puts_back_what_it_did(tmp_path: Path) -> None:
    pages, script = FakeKernel(tmp_path).put("/nr_hugepages", 10), tmp_path / "s"
    changes = [more_pages(str(pages), 5, 37), more_pages(str(tmp_path / "full"), 5, 37)]
    (tmp_path / "full").symlink_to("/dev/full")
    text = render_script(changes, "test", str(tmp_path))
    is_full = (
        f'if [ "$1" = {tmp_path}/full ]; then echo 0; return; fi'  # it reads as zeros for ever
    )
    script.write_text(text.replace("now() {", f"now() {{\n  {is_full}\n#"))
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "only 0 of 32" in done.stderr
    assert pages.read_text() == "10\n"
    assert not list(tmp_path.glob("kvtier-tune-script-*"))


def test_a_script_of_hugepages_is_clean(tmp_path: Path) -> None:
    script = tmp_path / "s"
    changes = [more_pages("/a", 1, 2), number("/b", 3, 4)]
    script.write_text(render_script(changes, "test"))
    subprocess.run([tool("shellcheck", "shellcheck"), str(script)], check=True)


def test_a_dash_is_stdout(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(profile.parent)
    done = kvtier("tune", str(profile), "--script", "-")
    assert done.returncode == 0
    assert done.stdout.startswith("#!/bin/sh\n")
    assert done.stdout.endswith("\nesac\n")
    assert "sh -`" not in done.stderr
    assert not Path("-").exists()


def test_a_dry_run_of_a_script_is_refused(profile: Path) -> None:
    script = profile.with_name("z.sh")
    done = kvtier("tune", str(profile), "--dry-run", "--script", str(script))
    assert done.returncode == 2
    assert "--dry-run: `--script` makes no change in any case" in done.stderr
    assert not script.exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_undo_for_a_profile_that_never_was_is_a_mistake(
    profile: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """One that was tuned for and is gone is not."""
    file = tmp_path / "value"
    file.write_text("1\n")
    owner = operator(instance_name(profile))
    FakeKernel(Path("/")).apply([number(str(file), 1, 2)], owner)
    done = kvtier("tune", "--undo", str(profile.with_name("nofile.yaml")), *more)
    assert done.returncode == 2
    assert "error: there is no profile `" in done.stderr
    profile.unlink()
    gone = kvtier("tune", "--undo", str(profile), *more)
    assert gone.returncode == 0
    assert f"{file}: 2 -> 1" in gone.stdout
    assert len(read_journal().entries) == len(more)
