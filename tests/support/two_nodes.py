"""Two nodes on this machine: network namespaces with host names of their own and a link between.

Needs root. Everything is gone when the context is left, also after a failure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class NetworkNode:
    """`address` is reached from the other one."""

    namespace: str
    host: str
    address: str

    def command(self, words: Sequence[str]) -> list[str]:
        """What runs `words` there, under that host name."""
        inner = ["sh", "-c", 'hostname "$0" && exec "$@"', self.host, *words]
        return ["ip", "netns", "exec", self.namespace, "unshare", "--uts", *inner]

    def start(
        self, words: Sequence[str], folder: Path, **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(words),
            env={**os.environ, **environment},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def two_nodes() -> Iterator[tuple[NetworkNode, NetworkNode]]:
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("needs root, ip (iproute2) and unshare (util-linux)")
    tag = f"kvt{os.getpid() % 100000}"
    nodes = tuple(
        NetworkNode(f"{tag}{letter}", f"node-{letter}", f"198.18.7.{number}")
        for number, letter in enumerate("ab", 1)
    )
    try:
        for node in nodes:
            try:
                _ip("netns", "add", node.namespace)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        first, second = nodes
        ends = (f"{tag}x", f"{tag}y")
        _ip("link", "add", ends[0], "netns", first.namespace, "type", "veth",
            "peer", "name", ends[1], "netns", second.namespace)  # fmt: skip
        for node, end in zip(nodes, ends, strict=True):
            inside = ("-n", node.namespace)
            _ip(*inside, "addr", "add", f"{node.address}/24", "dev", end)
            _ip(*inside, "link", "set", end, "up")
            _ip(*inside, "link", "set", "lo", "up")
        yield first, second
    finally:
        for node in nodes:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", node.namespace)
