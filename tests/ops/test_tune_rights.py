"""Who can change a setting that we may not: root here, or somebody outside."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ops.tuned import FakeKernel, number
from support.mounted import mounted
from support.rights import as_nobody

from kvtier_ops.tune.rights import Obstacle, obstacle

PATH = "/proc/sys/vm/swappiness"
CHANGE = number(PATH, 60, 1)


def found_by_nobody(root: Path) -> Obstacle:
    with as_nobody():
        found = obstacle(CHANGE, root, "sudo kvtier tune p.yaml")
    assert found is not None
    return found


@pytest.mark.parametrize("mark", ["", ".dockerenv"])
def test_root_can_also_in_a_container(home: Path, mark: str) -> None:
    home.chmod(0o755)
    FakeKernel(home).put(PATH, 60).chmod(0o644)
    if mark:
        (home / mark).touch()
    found = found_by_nobody(home)
    assert found.what == f"only root may write {PATH}"
    assert found.hint == f"`sudo kvtier tune p.yaml`, or `echo 1 | sudo tee {PATH}`"


def test_where_it_is_read_only_nobody_in_the_container_can(home: Path) -> None:
    home.chmod(0o755)
    with mounted("tmpfs", "size=1m,mode=755", home / "root") as root:
        FakeKernel(root).put(PATH, 60)
        (root / ".dockerenv").touch()
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        found = found_by_nobody(root)
        assert found.what == f"this docker container may not write {PATH}"
        assert found.hint.startswith("on the host, as root: ")
        assert obstacle(CHANGE, root, "") == found, "nor can root"
