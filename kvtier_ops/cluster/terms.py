"""Where and how long nodes meet, from the profile."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.cluster.shared import Directories
from kvtier_ops.errors import BadInput
from kvtier_ops.profile.schema import Profile


@dataclass(frozen=True)
class Terms:
    """`secret` is empty where none is shared."""

    nodes: int
    address: str
    port: int
    timeout_s: float
    directories: Directories
    secret: bytes = b""

    @property
    def place(self) -> str:
        """`10.0.0.1:2732`, and an IPv6 address in brackets."""
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{shown}:{self.port}"


def terms_of(profile: Profile) -> Terms:
    """Raises BadInput for a secret that cannot be read."""
    cluster = profile.cluster
    return Terms(
        nodes=cluster.nodes,
        address=cluster.master_address,
        port=cluster.master_port,
        timeout_s=cluster.meet_timeout_s,
        directories=Directories(profile.tiers.l3.directories, cluster.shared_directories),
        secret=_secret(profile),
    )


def _secret(profile: Profile) -> bytes:
    source = profile.cluster.secret
    if source.env:
        text = os.environ.get(source.env, "").strip()
        where = f"the environment has no `{source.env}`, or an empty one"
    elif source.file:
        where = f"`{source.file}` is empty"
        try:
            text = Path(source.file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            where, text = f"`{source.file}` cannot be read: {reason}", ""
    else:
        return b""
    if not text:
        raise BadInput(
            f"the secret of this cluster is not there: {where}",
            "give every node the same, or remove `cluster.secret`",
            field="cluster.secret",
        )
    return text.encode()


def addresses(name: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Of a host's name, in the order in which they are tried. Raises OSError."""
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    unique: dict[tuple[socket.AddressFamily, tuple[str, int]], None] = {}
    for family, _, _, _, address in found:
        unique[family, address] = None  # type: ignore[index]
    return list(unique)
