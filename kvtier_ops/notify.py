"""What systemd is told of a unit of `Type=notify`: that it is ready, how far it is, that it stops.

Without $NOTIFY_SOCKET nobody listens, and nothing happens. The protocol is sd_notify(3)'s: lines
`NAME=value` in one datagram.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

_ABSTRACT = "@"  # how the environment writes the null byte of an abstract socket


def notify(*lines: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Sends `lines` such as `READY=1`. False if nobody listens, or it did not get there: a service
    that cannot be heard goes on serving."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", _ABSTRACT)):
        return False
    if address.startswith(_ABSTRACT):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendall("\n".join(lines).encode())
    except (OSError, ValueError):
        return False
    return True


def ready(status: str) -> bool:
    """Requests are taken now."""
    return notify("READY=1", f"STATUS={_one_line(status)}")


def starting(status: str, more_s: float) -> bool:
    """The start goes on: it may take `more_s` from now, whatever TimeoutStartSec says."""
    return notify(f"EXTEND_TIMEOUT_USEC={int(more_s * 1e6)}", f"STATUS={_one_line(status)}")


def stopping(status: str) -> bool:
    return notify("STOPPING=1", f"STATUS={_one_line(status)}")


def _one_line(text: str) -> str:
    return " ".join(text.split())
