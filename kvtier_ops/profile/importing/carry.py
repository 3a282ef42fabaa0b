"""From a start script to a profile: which command is meant, its flags, and what stands around."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kvtier_ops.errors import BadInput
from kvtier_ops.profile.importing import lightllm, sglang, vllm
from kvtier_ops.profile.importing.draft import Draft, Line
from kvtier_ops.profile.importing.flags import Dialect, apply_flags, as_int, model, read_flags
from kvtier_ops.profile.importing.script import Command, Script, parse_script
from kvtier_ops.profile.secrets import looks_secret, masked
from kvtier_ops.units import parse_size


@dataclass(frozen=True)
class Engine:
    """One engine whose commands are understood."""

    dialect: Dialect
    modules: tuple[str, ...]
    program: str  # `vllm serve`: the program's name
    image: str  # of a container, as its name ends
    finish: Callable[[Draft, set[str]], None]
    take_environment: Callable[[Draft, dict[str, str]], None]
    fields: Mapping[str, str]  # environment variable -> field that is a number


def _nothing(draft: Draft, environment: dict[str, str]) -> None:
    """No variables of its own."""


ENGINES: Mapping[str, Engine] = {
    "lightllm": Engine(
        lightllm.DIALECT, lightllm.MODULES, "lightllm", "lightllm", lightllm.finish, _nothing,
        lightllm.ENVIRONMENT_FIELDS,
    ),
    "vllm": Engine(
        vllm.DIALECT, vllm.MODULES, "vllm", "vllm-openai", vllm.finish, vllm.lmcache,
        vllm.ENVIRONMENT_FIELDS,
    ),
    "sglang": Engine(
        sglang.DIALECT, sglang.MODULES, "sglang", "sglang", sglang.finish, sglang.storage_folder,
        sglang.ENVIRONMENT_FIELDS,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Imported:
    """A valid profile, and what became of everything."""

    text: str
    kept: tuple[Line, ...]
    changed: tuple[Line, ...]
    dropped: tuple[Line, ...]


def import_command(name: str, text: str) -> Imported:
    """`name`: of ENGINES. Raises BadInput if there is no command of that engine in `text`."""
    engine, script = ENGINES[name], parse_script(text)
    before, words, environment = _find(name, script)
    draft = Draft()
    _numactl(draft, before)
    given, loose = read_flags(engine.dialect, words)
    if loose and words and loose[0] == words[0] and "$" not in loose[0]:
        model(draft, loose[0], loose.pop(0))  # `vllm serve MODEL`
    apply_flags(engine.dialect, draft, given)
    if loose:  # not shown: it may be a second key
        count = f"{len(loose)} word{'s' * (len(loose) > 1)}"
        draft.drop(count, "that belong to no flag")
    engine.finish(draft, {each.name for each in given})
    _environment(engine, draft, environment)
    _hugepages(draft, script.hugepages)
    _own_directories(draft)
    _volumes(draft, before)
    return Imported(draft.text(name), tuple(draft.kept), tuple(draft.changed), tuple(draft.dropped))


def _find(name: str, script: Script) -> tuple[list[str], list[str], dict[str, str]]:
    """(words before the engine, its arguments, the environment of its command)."""
    for command in script.commands:
        place = _place(ENGINES[name], command)
        if place is not None:
            start, end = place
            environment = {**script.environment, **command.environment}
            environment.update(_container_environment(command.words[:start]))
            return command.words[:start], command.words[end:], environment
    for other, engine in ENGINES.items():
        if any(_place(engine, command) is not None for command in script.commands):
            raise BadInput(
                f"this is a command of {engine.dialect.name}",
                f"`kvtier profile import {other} ...`",
            )
    hint = f"such as `python -m {ENGINES[name].modules[0]} ...`"
    raise BadInput(f"there is no command of {ENGINES[name].dialect.name} in this", hint)


def _place(engine: Engine, command: Command) -> tuple[int, int] | None:
    """Where the engine is named: from that word to its first argument."""
    words = command.words
    for at, word in enumerate(words):
        if word in engine.modules:
            return at, at + 1
        is_program = word.rpartition("/")[2] == engine.program
        if is_program and words[at + 1 : at + 2] == ["serve"]:
            return at, at + 2
    for at, word in enumerate(words):
        if re.fullmatch(rf"(\S*/)?{re.escape(engine.image)}(:\S+)?(@\S+)?", word) and at:
            return at, at + 1
    return None


def _container_environment(words: list[str]) -> dict[str, str]:
    """`-e NAME=VALUE` and `--env NAME=VALUE` of `docker run`."""
    found = {}
    for before, word in itertools.pairwise(["", *words]):
        flag, _, rest = word.partition("=")
        if flag == "--env" and "=" in rest:
            word = rest
        elif word.startswith("-e") and "=" in word and word[2:3].isalpha():
            word = word[2:]
        elif before not in ("-e", "--env") or "=" not in word:
            continue
        name, _, value = word.partition("=")
        found[name] = value
    return found


_NUMACTL = {
    **dict.fromkeys(("cpunodebind", "cpubind", "N"), "host.cpu_nodes"),
    **dict.fromkeys(("membind", "m"), "host.memory_nodes"),
    **dict.fromkeys(("interleave", "i", "localalloc", "l", "preferred", "physcpubind", "C"), ""),
}


def _numactl(draft: Draft, words: list[str]) -> None:
    """Its options end where the program begins that it starts."""
    names = [word.rpartition("/")[2] for word in words]
    rest = words[names.index("numactl") + 1 :] if "numactl" in names else []
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        takes = name in _NUMACTL and name not in ("localalloc", "l")
        if takes and not equals and rest:
            value = rest.pop(0)
        flag = word if equals or not takes else f"{word} {value}"
        field, nodes = _NUMACTL.get(name, ""), value.split(",")
        if not field:
            draft.drop(flag, "L2 lies next to each rank's GPU by itself: see `tiers.l2.numa`")
        elif all(node.isdecimal() for node in nodes):
            draft.change(flag, field, nodes, _why_nodes(name))
        else:
            draft.drop(flag, "is no list of NUMA nodes; `kvtier host show` lists them")


def _why_nodes(name: str) -> str:
    if name in ("membind", "m"):
        return "everything, L2 too, must then fit into these nodes; `kvtier plan` says if it does"
    return "GPUs beside other nodes are reached across sockets; `kvtier plan` says which"


def _environment(engine: Engine, draft: Draft, environment: dict[str, str]) -> None:
    engine.take_environment(draft, environment)
    for name, field in engine.fields.items():
        value = environment.pop(name, None)
        if value is not None:
            number = as_int(value)
            if number is None:
                draft.drop(f"{name}={value}", "is not a whole number")
            else:
                draft.keep(f"{name}={value}", field, number)
    kept = {}
    for name, value in environment.items():
        is_secret = masked(name, value) != value or looks_secret(name)
        shown = f"{name}={masked(name, value)}"
        if is_secret:
            draft.drop(shown, "looks like a secret: leave it in the environment of kvtier")
        elif "$" in value:
            draft.drop(shown, "only the shell knows its value")
        elif _is_for_the_engine(name):
            draft.drop(shown, f"a setting of {engine.dialect.name}")
        else:
            kept[name] = value
    if kept:
        flag = ", ".join(f"{name}={value}" for name, value in kept.items())
        draft.keep(flag, "engine.environment", kept)


def _is_for_the_engine(name: str) -> bool:
    return name.startswith(("LIGHTLLM_", "VLLM_", "SGLANG_", "LMCACHE_", "LIGHTMEM_"))


def _hugepages(draft: Draft, reserved: Mapping[int, int]) -> None:
    """The guide reserves 200,000, which is less than its cache, and does not use them."""
    names = {2048: "2MiB", 1 << 20: "1GiB"}
    for kib, count in sorted(reserved.items()):
        flag = f"nr_hugepages = {count}"
        if kib not in names or not count:
            draft.drop(flag, f"kvtier uses no hugepages of {kib} KiB, or there are none")
            continue
        entry = draft.fields.get("tiers.l2.size")
        needed = -(-parse_size(str(entry.value)).bytes // (kib << 10)) if entry is not None else 0
        size = f"{kib >> 10} MiB" if kib < 1 << 20 else "1 GiB"
        why = f"{count:,} pages of {size} are {count * kib / (1 << 20):.1f} GiB"
        if needed > count:
            why += f", fewer than the {needed:,} that {entry.value if entry else ''} takes"
        why += "; `kvtier plan` says what to reserve"
        draft.change(flag, "tiers.l2.hugepages", names[kib], why)


def _own_directories(draft: Draft) -> None:
    """Of each node: a page store takes its directory for itself."""
    entry, nodes = draft.fields.get("tiers.l3.directories"), draft.fields.get("cluster.nodes")
    rank = draft.fields.get("cluster.node_rank")
    if entry is None or nodes is None or nodes.value == 1 or not isinstance(entry.value, list):
        return
    node = f"node-{rank.value if rank is not None else '${NODE_RANK:-0}'}"
    own = [f"{folder.rstrip('/')}/{node}" for folder in entry.value]
    why = "a folder of this node's own: two nodes cannot share one, on shared storage least of all"
    draft.change(entry.flag, "tiers.l3.directories", own, why)


def _volumes(draft: Draft, before: list[str]) -> None:
    """Paths in a container -> those of the host, by `-v HOST:CONTAINER`."""
    mapped = {}
    for flag, word in itertools.pairwise(before):
        host, colon, rest = word.partition(":")
        if flag in ("-v", "--volume") and colon and host.startswith(("/", "~", ".", "$")):
            mapped[rest.partition(":")[0].rstrip("/")] = host.rstrip("/")
    for name in ("model.path", "tiers.l3.directories"):
        entry = draft.fields.get(name)
        if entry is None or not mapped:
            continue
        paths = entry.value if isinstance(entry.value, list) else [str(entry.value)]
        outside = [_outside(path, mapped) for path in paths]
        if outside != paths:
            value = outside if isinstance(entry.value, list) else outside[0]
            draft.change(entry.flag, name, value, "the path on the host, by the container's volume")


def _outside(path: str, mapped: Mapping[str, str]) -> str:
    for inside, host in mapped.items():
        if path == inside or path.startswith(f"{inside}/"):
            return host + path.removeprefix(inside)
    return path
