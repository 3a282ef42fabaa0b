"""A profile as a service, before any format: what it runs, needs, may touch and must not show."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from kvtier_ops import paths
from kvtier_ops.errors import BadInput
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.plan import Plan
from kvtier_ops.prepare import Prepared
from kvtier_ops.profile.extends import read_chain
from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.secrets import looks_secret
from kvtier_ops.profile.written import leaves
from kvtier_ops.profile.yaml_source import parse_yaml, read_source
from kvtier_ops.render.limits import Limits, limits_of
from kvtier_ops.render.profile_text import PATHS
from kvtier_ops.text import printable
from kvtier_ops.units import Size

CACHE_HOME, STATE_HOME, RUNTIME = "/var/cache", "/var/lib", "/run/kvtier"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?")


@dataclass(frozen=True)
class Options:
    """What the command line says besides the profile."""

    command: tuple[str, ...]  # that makes the artefact again
    overrides: tuple[str, ...] = ()
    name: str = ""
    user: str = ""
    image: str = ""
    program: str = ""


@dataclass(frozen=True)
class Place:
    """A file or folder that the service uses, under the name that it has on the host."""

    path: Path
    writable: bool
    what: str
    is_file: bool = False


@dataclass(frozen=True)
class Service:
    """`launch`: the arguments of `kvtier`. `environment`: variables in which the profile means what
    it means here. `secrets`: variables whose values are nobody's business: named, never shown."""

    name: str
    plan: Plan
    options: Options
    profile_path: Path
    launch: tuple[str, ...]
    environment: dict[str, str]
    secrets: tuple[str, ...]
    places: tuple[Place, ...]
    profile_files: tuple[Path, ...]
    limits: Limits
    notes: tuple[str, ...] = field(default=())

    @property
    def profile(self) -> Profile:
        return self.plan.profile

    @property
    def program(self) -> str:
        """Of this installation, unless another was named."""
        return self.options.program or str(Path(sys.executable).parent / "kvtier")

    def head(self, *more: str) -> list[str]:
        """The comment at the top of every artefact."""
        command = printable(shlex.join(self.options.command))
        lines = [
            f"# Made by kvtier {version('kvtier')} from {printable(str(self.profile_path))}",
            "# for " + self.subject + ". Make it again after a change of the profile:",
            "#",
            f"#   {command}",
        ]
        for line in (*more, *self.notes):
            lines += ["#", *(f"# {part}" if part else "#" for part in line.split("\n"))]
        return lines

    @property
    def subject(self) -> str:
        ranks = self.plan.ranks
        nodes = f" on each of {ranks.nodes} nodes" if ranks.nodes > 1 else ""
        counted = f"{ranks.here} rank{'s' * (ranks.here != 1)}"
        return f"{printable(self.plan.served_name)} on {self.plan.device}, {counted}{nodes}"


def service_of(file: ProfileFile, prepared: Prepared, options: Options) -> Service:
    """Raises BadInput for a name or a path that no artefact could hold."""
    plan = prepared.plan
    profile_path = file.path.absolute()
    found = _places(file, plan)
    for path in (profile_path, *(place.path for place in found)):
        if not str(path).isprintable():
            raise BadInput(
                f"`{printable(str(path))}` has characters that cannot be seen",
                "rename it: unit files and mounts cannot hold it",
            )
    variables, secrets = _variables(file)
    pins = _pins(plan)
    launch = ["launch", str(profile_path)]
    for override in (*options.overrides, *pins):
        launch += ["--set", override]
    return Service(
        name=_service_name(options.name, profile_path),
        plan=plan,
        options=options,
        profile_path=profile_path,
        launch=(*launch, "--no-tune"),
        environment=variables,
        secrets=secrets,
        places=found,
        profile_files=_profile_files(file),
        limits=limits_of(plan),
        notes=_notes(pins),
    )


def _service_name(asked: str, profile: Path) -> str:
    """Letters, digits and `-`: it is a file's, a host's and a unit's name, and needs no quotes."""
    if asked:
        if not _NAME.fullmatch(asked):
            raise BadInput(
                f"`{printable(asked)[:60]}` cannot be the name of a service",
                "take up to 52 of a-z, 0-9 and `-`, a letter first",
            )
        return asked
    stem = re.sub(r"[^a-z0-9]+", "-", profile.stem.lower()).strip("-")[:40].strip("-")
    return f"kvtier-{stem}" if stem else "kvtier"


def _pins(plan: Plan) -> tuple[str, ...]:
    """Sizes that kvtier chose by what this host has: within the service's memory limit it would
    choose others."""
    tiers = plan.profile.tiers
    pins = []
    if plan.device == "cpu" and not isinstance(tiers.l1.size, Size):
        pins.append(f"tiers.l1.size={Size(plan.l1.bytes)}")
    if not isinstance(tiers.l2.size, Size):
        pins.append(f"tiers.l2.size={Size(plan.l2.bytes)}")
    return tuple(pins)


def _places(file: ProfileFile, plan: Plan) -> tuple[Place, ...]:
    profile = plan.profile
    found = [Place(disk.path, True, "L3") for disk in plan.disks]
    if profile.model.path in REGISTERED:
        pass  # lies in the cache folder, which every format gives to the service
    elif plan.model.path.suffix == ".gguf":
        # It is converted once, and kept beside the file.
        found.append(Place(plan.model.path.parent, True, "model"))
    else:
        path = plan.model.path
        found.append(Place(path, False, "model", path.is_file()))
    found += [Place(path, True, "shared") for path in profile.cluster.shared_directories]
    if profile.server.request_trace:
        found.append(Place(Path(profile.server.request_trace).parent, True, "request trace"))
    sources = (*profile.server.api_keys, profile.server.admin_key, profile.cluster.secret)
    found += [Place(Path(key.file), False, "key", True) for key in sources if key.file]
    return tuple({place.path: place for place in reversed(found)}.values())[::-1]


def _variables(file: ProfileFile) -> tuple[dict[str, str], tuple[str, ...]]:
    """Those that the profile's text takes from the environment, and secrets that it names."""
    profile = file.profile
    sources = (*profile.server.api_keys, profile.server.admin_key, profile.cluster.secret)
    secrets = {key.env for key in sources if key.env}
    values: dict[str, str] = {}
    for path, leaf in leaves(file.tree.root):
        is_path = bool(PATHS & set(path))
        names = {*leaf.variables, *(_bare_names(leaf.source) if is_path else ())}
        for name in names:
            if looks_secret(name):
                secrets.add(name)
            elif name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
                values[name] = str(paths.xdg_home(name))
            elif name in os.environ:
                values[name] = os.environ[name]
        if is_path and leaf.source.startswith("~"):
            values["HOME"] = os.path.expanduser("~")
    return dict(sorted(values.items())), tuple(sorted(secrets))


def _bare_names(source: str) -> set[str]:
    """Of `$NAME`, which paths take besides `${NAME}`; `$$` is a plain `$`."""
    return set(re.findall(rf"\$({paths.VARIABLE_NAME})", source.replace("$$", "")))


def _profile_files(file: ProfileFile) -> tuple[Path, ...]:
    """The profile, and those that it extends."""
    text = read_source(file.path, str(file.path))
    tree = parse_yaml(text, str(file.path), file.path.absolute().parent)
    names = read_chain(tree, file.path).files
    return tuple(Path(os.path.abspath(name)) for name in names)


def _notes(pins: tuple[str, ...]) -> tuple[str, ...]:
    notes = []
    if pins:
        notes.append(
            "Sizes that the profile leaves to kvtier are written down here, as they came out when\n"
            f"this was made: {', '.join(pins)}."
        )
    return tuple(notes)
