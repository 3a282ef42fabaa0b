"""Checks of the address to listen on, and of the keys."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity


def port_free(context: Context) -> Iterator[Outcome]:
    """Binds the address for a moment, as the server will."""
    if context.profile is None:
        return
    host, port = context.profile.server.host, context.profile.server.port
    subject, required = f"{host}:{port}", "can be listened on"
    own = context.serving
    if own is not None and own.state.has_address(host, port):
        pid = own.state.engine_pid
        yield Outcome(
            True, required, f"this profile's own engine, pid {pid}, listens", subject=subject
        )
        return
    fix, error = "", ""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as problem:
        error, fix = (problem.strerror or str(problem)).lower(), _fix(problem, port)
    yield Outcome(not error, required, error or "free", fix, subject)


def _fix(error: OSError, port: int) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "set `server.host` to an address of this host (`ip addr`), or to 0.0.0.0 for all"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            "set a `server.port` of 1024 or more, or `sudo sysctl "
            f"net.ipv4.ip_unprivileged_port_start={port}`"
        )
    return (
        f"`ss -ltnp 'sport = :{port}'` shows who uses it; stop that, or set another `server.port`"
        " (0: any free one)"
    )


def secrets(context: Context) -> Iterator[Outcome]:
    """Reads every key, as the server will; says nothing of what it reads."""
    if context.profile is None:
        return
    server = context.profile.server
    sources = [(f"`server.api_keys` {key.name}", key.source) for key in server.api_keys]
    sources.append(("`server.admin_key`", server.admin_key.source))
    for subject, source in sources:
        if source is None:
            continue
        try:
            source.read()
            error = ""
        except ValueError as problem:
            error = str(problem)
        fix = "set the variable or write the file, with one key and nothing else"
        yield Outcome(not error, "can be read", error or "there", fix, subject)


CHECKS = (
    Check(
        "KVT-D501",
        "server",
        "address",
        Severity.FAILURE,
        port_free,
        needs=Needs.PROFILE,
        passes="the address can be listened on",
        why="The server listens on one address, and another process that has it is found out "
        "only after the model has been loaded. The address is bound for a moment, as the server "
        "would. The fix shows who has it; `server.port: 0` takes any that is free.",
    ),
    Check(
        "KVT-D502",
        "server",
        "key",
        Severity.FAILURE,
        secrets,
        needs=Needs.PROFILE,
        passes="each key of `server.api_keys` and `server.admin_key` can be read",
        why="Keys are in variables or files, never in the profile, so that a shell without them "
        "starts a server that nobody can use: kvtier refuses that. Each is read, and nothing of "
        "it is shown. The fix sets the variable, or writes the file.",
    ),
)
