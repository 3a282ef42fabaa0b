"""Checks of a profile for several nodes: what one node can say before all of them meet.

`kvtier launch` finds out the rest, when the nodes meet: who is missing, what differs, which
directories are the same place.
"""

from __future__ import annotations

import ipaddress
import os
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.cluster.node import model_digest, profile_digest, versions
from kvtier_ops.cluster.node_rank import find_node_rank
from kvtier_ops.cluster.terms import addresses
from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.errors import BadInput
from kvtier_ops.host import DriveKind, FileSystem
from kvtier_ops.host.mounts import MountTable
from kvtier_ops.profile.schema.cluster import Cluster

Address = tuple[socket.AddressFamily, tuple[str, int]]

RESOLVE_S_MAX, CONNECT_S_MAX = 1.0, 1.0
_LOCAL_DRIVES = (DriveKind.NVME, DriveKind.SSD, DriveKind.HDD, DriveKind.MEMORY, DriveKind.OVERLAY)


def _cluster(context: Context) -> Cluster | None:
    """None where there is one node: then no check here applies."""
    cluster = context.profile.cluster if context.profile else None
    return cluster if cluster is not None and cluster.nodes > 1 else None


def _rank(cluster: Cluster) -> int | None:
    try:
        found = find_node_rank(cluster)
    except BadInput:
        return None
    return found.rank if found.is_known else None


def _resolve(cluster: Cluster) -> tuple[list[Address], str]:
    """Addresses of node 0, or why there are none. A name server that is silent is not waited for:
    the thread that asks it ends by itself, or with this process."""
    answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(addresses(cluster.master_address, cluster.master_port))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=RESOLVE_S_MAX)
    except queue.Empty:
        return [], f"no name server answers within {RESOLVE_S_MAX:g} s"
    if isinstance(answer, OSError):
        return [], f"does not resolve: {answer.strerror or answer}"
    return answer, ""


def master_resolves(context: Context) -> Iterator[Outcome]:
    """Every node finds node 0 by `cluster.master_address`."""
    cluster = _cluster(context)
    if cluster is None:
        return
    resolved, why = _resolve(cluster)
    found = [address[0] for _, address in resolved]
    loop = [
        address for address in found if ipaddress.ip_address(address.partition("%")[0]).is_loopback
    ]
    current = why or ", ".join(found)
    fix = "set `cluster.master_address` to an address of node 0, or to a name that resolves here"
    if loop:
        current += ": every node would find itself there"
        fix = "set `cluster.master_address` to the address at which other nodes reach node 0"
    yield Outcome(
        ok=bool(found) and not loop,
        required="resolves, to an address that other nodes can reach",
        current=current,
        fix=fix,
        subject=f"`{cluster.master_address}`",
    )


def master_port(context: Context) -> Iterator[Outcome]:
    """Node 0 can listen there; the others get an answer, if only that nobody listens yet."""
    cluster = _cluster(context)
    rank = _rank(cluster) if cluster is not None else None
    if cluster is None or rank is None:
        return
    resolved, _ = _resolve(cluster)
    if not resolved:
        return  # the check before this one says so
    ok, current, fix = (_listen if rank == 0 else _connect)(*resolved[0])
    yield Outcome(
        ok=ok,
        required="free on this host, which is node 0" if rank == 0 else "node 0 answers",
        current=current,
        fix=fix,
        subject=f"{cluster.master_address} port {cluster.master_port}",
    )


def _listen(family: socket.AddressFamily, address: tuple[str, int]) -> tuple[bool, str, str]:
    try:
        socket.create_server(address, family=family).close()
    except OSError as error:
        fix = "`cluster.master_address` is that of node 0, and `ss -ltnp` says who has the port"
        return False, error.strerror or str(error), fix
    return True, "can be listened on", ""


def _connect(family: socket.AddressFamily, address: tuple[str, int]) -> tuple[bool, str, str]:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_S_MAX)
        try:
            connection.connect(address)
        except ConnectionRefusedError:
            return True, "answers; nothing listens there before node 0 is launched", ""
        except TimeoutError:
            fix = f"start that machine, and let TCP port {address[1]} through its firewall"
            return False, f"no answer within {CONNECT_S_MAX:g} s", fix
        except OSError as error:
            fix = f"`ip route get {address[0]}` shows the way there"
            return False, error.strerror or str(error), fix
    return True, "something listens there: node 0 waits, or it is another program's", ""


def node_rank(context: Context) -> Iterator[Outcome]:
    """Which node this is, and that the profile agrees with what started it."""
    cluster = _cluster(context)
    if cluster is None:
        return
    fix = "`--node-rank N`, from 0; or start it by Slurm, torchrun or Kubernetes"
    try:
        found = find_node_rank(cluster)
    except BadInput as error:
        problem = error.problems[0]
        ok, current, fix = False, problem.what, problem.hint
    else:
        source = found.source or "the profile or `--set` says so"
        ok, current = found.is_known, f"{found.rank}: {source}"
        if not found.is_known:
            current = "nothing says which"
        elif found.rank >= cluster.nodes:
            ok, fix = False, f"the last node is {cluster.nodes - 1}"
    yield Outcome(ok=ok, required=f"one of 0 to {cluster.nodes - 1}", current=current, fix=fix)


def same_everywhere(context: Context) -> Iterator[Outcome]:
    """One node cannot know what the others have: a line that must be the same on each."""
    cluster = _cluster(context)
    if cluster is None or context.profile is None or context.prepared is None:
        return
    said = ", ".join(f"{name} {found}" for name, found in versions().items())
    try:
        model = model_digest(context.prepared.model.path)
    except OSError as error:
        fix = "let kvtier read the model's files"
        yield Outcome(False, "the same on every node", f"model: {error.strerror}", fix)
        return
    profile = profile_digest(context.profile)
    yield Outcome(
        ok=True,
        required="the same on every node",
        current=f"{said}, profile {profile}, model {model}: launch compares them",
    )


def shared_directories(context: Context) -> Iterator[Outcome]:
    """Shared directories lie on what can be shared; of L3 the plan says that it must not (P016)."""
    cluster = _cluster(context)
    if cluster is None or context.profile is None:
        return
    for directory in cluster.shared_directories:
        yield _shared(directory, context, leads=_rank(cluster) == 0)


def _shared(directory: Path, context: Context, *, leads: bool) -> Outcome:
    mode = os.R_OK | os.X_OK | (os.W_OK if leads else 0)
    required = "on storage that all nodes share; launch writes there on node 0 and looks on others"
    subject = f"`{directory}`"
    if directory in context.silent:
        fix = "see the server and the network"
        return Outcome(False, required, "its file server does not answer", fix, subject)
    is_there = os.path.isdir(directory)
    if not is_there or not os.access(directory, mode):
        state = "cannot be written by node 0" if leads else "cannot be read"
        current = state if is_there else "is not there"
        return Outcome(False, required, current, "mount it, and let kvtier in", subject)
    on = _file_system(directory, context)
    if on is not None and on.drive_kind in _LOCAL_DRIVES:
        fix = "mount the shared storage there, or remove it from `cluster.shared_directories`"
        return Outcome(False, required, f"on {on.kind} of this host alone", fix, subject)
    return Outcome(
        True, required, f"on {on.kind} from {on.device}" if on else "is there", "", subject
    )


def _file_system(directory: Path, context: Context) -> FileSystem | None:
    """What it lies on; None if that cannot be told."""
    known = context.prepared.host.directories.get(directory) if context.prepared else None
    if known is not None:
        return known.on
    try:
        return MountTable(context.root).holding(directory.resolve())
    except (OSError, ValueError):
        return None


CHECKS = (
    Check(
        "KVT-D701",
        "cluster",
        "address of node 0,",
        Severity.FAILURE,
        master_resolves,
        needs=Needs.NODES,
        passes="`cluster.master_address` resolves within a second, and is no loopback address",
        why="All nodes meet at the address of node 0 before they start. A name that only some of "
        "them know, or a loopback address, at which each would find itself, ends in a wait for the "
        "whole deadline. The fix names the address by which the others reach node 0.",
    ),
    Check(
        "KVT-D702",
        "cluster",
        "meeting at",
        Severity.FAILURE,
        master_port,
        needs=Needs.NODES,
        passes="node 0 can listen there; to the others the machine answers, if only that nobody "
        "listens yet",
        why="A firewall that drops packets looks like a node 0 that has not started. Node 0 tries "
        "to listen, the others to connect; that the connection is refused is well, nobody listens "
        "before the launch. The fix opens the port to the nodes.",
    ),
    Check(
        "KVT-D703",
        "cluster",
        "number of this node",
        Severity.FAILURE,
        node_rank,
        needs=Needs.NODES,
        passes="it is known which node this is, and nothing contradicts the profile",
        why="Every node has a number of its own, from the profile, an option or whoever started "
        "it (Slurm, torchrun, Kubernetes). Two with the same one, or one that is too high, cannot "
        "start. The fix says it.",
    ),
    Check(
        "KVT-D704",
        "cluster",
        "versions, profile and model",
        Severity.FAILURE,
        same_everywhere,
        needs=Needs.NODES,
        passes="the model's files can be read; the line that is shown must be the same everywhere",
        why="Nodes with different versions, profiles or weights would compute parts of different "
        "models. One node cannot know of the others: what it shows is to be compared, and launch "
        "compares it when the nodes meet.",
    ),
    Check(
        "KVT-D705",
        "cluster",
        "shared directory",
        Severity.WARNING,
        shared_directories,
        needs=Needs.NODES,
        passes="each of `cluster.shared_directories` is there, on what can be shared",
        why="A folder that looks shared may be an empty mount point of each node's own disk. What "
        "lies on a drive of this host alone is not shared; launch also writes there on node 0 and "
        "looks for it on the others. The fix mounts the storage.",
    ),
)
