"""Whether this process is in a container, and of which kind: by the files that runtimes leave, by
what they tell the first process, and by the names of control groups."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kvtier_ops.host.sysfs import read_text

_MARKS = (
    ("var/run/secrets/kubernetes.io", "this Kubernetes pod"),
    ("run/.containerenv", "this podman container"),
    (".dockerenv", "this docker container"),
    ("run/.dockerenv", "this docker container"),
)
_GROUP = re.compile(r"docker|kubepods|containerd|libpod|lxc|crio|machine\.slice")
_NAMES = {"lxc": "this LXC container", "systemd-nspawn": "this nspawn container"}


def container_of(root: Path) -> str:
    """In words, such as `this docker container`; empty on a plain host."""
    for mark, words in _MARKS:
        if os.path.exists(root / mark):  # `Path.exists` raises EACCES
            return words
    for entry in read_text(root / "proc/1/environ").split("\0"):
        if entry.startswith("container="):
            return _NAMES.get(entry.partition("=")[2], "this container")
    return "this container" if _GROUP.search(read_text(root / "proc/self/cgroup")) else ""
