"""What this node tells the others of itself: enough to find what differs, no secrets."""

from __future__ import annotations

import hashlib
import json
import platform
import secrets
import socket
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kvtier_ops.cluster.wire import Node
from kvtier_ops.errors import Problem
from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.profile.render import shown_data
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.yaml_source import Tree
from kvtier_ops.text import printable

# Of each node: where things lie on it, and which of its addresses it listens on.
OWN_FIELDS = (
    "cluster.node_rank",
    "cluster.secret",
    "model.path",  # the models themselves are compared
    "server.host",
    "server.request_trace",
    "tiers.l3.directories",
)
_PACKAGES = ("kvtier", "torch", "transformers")
_HEAD_BYTES = 4 << 20  # of a GGUF file: its header, or most of it
_FIELDS_SHOWN = 5
_VALUE_SHOWN = 200


def node_of(file: ProfileFile, rank: int, model: Path) -> Node:
    """`model`: where the profile's model lies here."""
    return Node(
        rank=rank,
        host=socket.gethostname()[:255],
        versions=versions(),
        profile=dict(_shared_fields(file.profile, file.tree)),
        model=model_digest(model),
        l3=[str(path) for path in file.profile.tiers.l3.directories],
        mark=secrets.token_hex(16),
    )


def versions() -> dict[str, str]:
    """Of what must be the same where ranks compute together."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def profile_digest(profile: Profile) -> str:
    """Short, to be compared by eye; equal where all nodes' fields are."""
    text = json.dumps(sorted(_shared_fields(profile)))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _shared_fields(profile: Profile, tree: Tree | None = None) -> Iterator[tuple[str, str]]:
    """Every field that all nodes have in common, secrets masked."""
    yield from _flat(shown_data(profile, tree), "")


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if name in OWN_FIELDS:
        return
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else key)
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) > _VALUE_SHOWN:
            text = f"{text[:_VALUE_SHOWN]}... {hashlib.sha256(text.encode()).hexdigest()[:12]}"
        yield name, text


def model_digest(model: Path) -> str:
    """Of its description, and of its weights' names and sizes: to read those takes minutes."""
    digest = hashlib.sha256()
    if model.is_dir():
        for path in sorted(model.glob("*.json")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        for path in sorted(model.glob("*.safetensors")):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    else:
        with model.open("rb") as file:
            digest.update(file.read(_HEAD_BYTES))
        digest.update(str(model.stat().st_size).encode())
    return digest.hexdigest()[:16]


def disagreements(first: Node, other: Node) -> list[Problem]:
    """What keeps `other` from serving together with node 0; one problem for each kind."""
    problems = []
    for name in sorted({*first.versions, *other.versions}):
        here, there = first.versions.get(name, "none"), other.versions.get(name, "none")
        if here != there:
            problems.append(
                Problem(
                    f"node {other.shown} has {name} {there}, node {first.shown} has {here}",
                    f"install the same {name} on both",
                    id="KVT-D704",
                )
            )
    if first.model != other.model:
        problems.append(
            Problem(
                f"the model on node {other.shown} is another ({other.model}) than on node "
                f"{first.shown} ({first.model})",
                "its *.json files, or the names or sizes of its weights differ: copy it again",
                "model.path",
                id="KVT-D704",
            )
        )
    return problems + _profile_disagreements(first, other)


def _profile_disagreements(first: Node, other: Node) -> list[Problem]:
    here, there = first.profile, other.profile
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    if not names:
        return []
    shown = [f"`{name}` is {_value(there, name)}, not {_value(here, name)}" for name in names]
    more = len(shown) - _FIELDS_SHOWN
    tail = f"; and {more} fields more" if more > 0 else ""
    return [
        Problem(
            f"node {other.shown} has another profile than node {first.shown}: "
            f"{'; '.join(shown[:_FIELDS_SHOWN])}{tail}",
            "one profile serves all nodes: copy it from one of them",
            names[0],
            id="KVT-D704",
        )
    ]


def _value(fields: dict[str, str], name: str) -> str:
    return f"`{printable(fields[name])}`" if fields.get(name) else "nothing"


def twice(nodes: Sequence[Node]) -> Problem:
    """Nodes of one rank."""
    hosts = " and ".join(printable(node.host) for node in nodes)
    return Problem(
        f"{hosts} both say that they are node {nodes[0].rank}",
        "start each with a number of its own: `--node-rank N`, or what Slurm, torchrun or "
        "Kubernetes says",
        "cluster.node_rank",
        id="KVT-D703",
    )
