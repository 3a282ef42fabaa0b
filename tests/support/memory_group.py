"""A real control group with a memory limit, on hosts where root may make one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.engine_process import wait_for

MOUNT = Path("/sys/fs/cgroup")


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """The group's folder: who writes a pid into its `cgroup.procs` is limited. Skips the test
    where there can be none."""
    if (MOUNT / "memory/memory.limit_in_bytes").exists():
        parent, limit = MOUNT / "memory", "memory.limit_in_bytes"
    else:
        parent, limit = MOUNT, "memory.max"
        enabled = parent / "cgroup.subtree_control"
        if not enabled.exists() or "memory" not in enabled.read_text().split():
            pytest.skip("no memory controller of control groups is in use here")
    group = parent / f"kvtier-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_bytes))
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield group
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "the group to be empty")
        group.rmdir()
