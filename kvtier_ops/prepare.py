"""From a valid profile to a plan on a host: the steps that plan, doctor and launch share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvtier_ops.cluster.node_rank import find_node_rank
from kvtier_ops.errors import BadInput, KvtierError, ModelError
from kvtier_ops.host import Host, probe
from kvtier_ops.host.before import host_before
from kvtier_ops.host.mounts import MountTable
from kvtier_ops.instance import state_dir_of
from kvtier_ops.instances import serving
from kvtier_ops.instances.state import HOST_FILE
from kvtier_ops.model.facts import ModelFacts, read_model
from kvtier_ops.model.pull import find_model
from kvtier_ops.plan import Plan, make_plan
from kvtier_ops.plan.answers import Load
from kvtier_ops.plan.measured import read_measured
from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.profile.schema import Profile


@dataclass(frozen=True)
class Prepared:
    host: Host
    model: ModelFacts
    plan: Plan


@dataclass(frozen=True)
class Instead:
    """What to plan for, in the place of what is here."""

    host: Host | None = None
    model: str = ""
    load: Load | None = None


HERE = Instead()


def prepare(file: ProfileFile, instead: Instead = HERE) -> Prepared:
    """Probes, reads the model, plans; changes nothing. Raises BadInput or Refused."""
    profile = _with_model(file.profile, instead.model)
    # Of another host the environment says nothing.
    variables = os.environ if instead.host is None else {}
    here = find_node_rank(profile.cluster, variables)
    profile = here.written_into(profile)
    _check_answers(profile.model.path)
    path = find_model(profile.model.path)
    model = read_model(path, profile.model.dtype, profile.tiers.kv_dtype)
    directories = profile.tiers.l3.directories
    if instead.host is not None:
        host, measured = instead.host, None
    else:
        host = host_here(file.path, directories)
        measured = read_measured(state_dir_of(file.path))
    plan = make_plan(profile, host, model, measured, instead.load)
    source = here.source if instead.host is None else ""
    ranks = replace(plan.ranks, node_rank_from=source)
    return Prepared(host, model, replace(plan, ranks=ranks))


def host_here(profile: Path, directories: Sequence[Path]) -> Host:
    """This host. Where it serves this very profile now, as the launcher found it: an engine is not
    in the way of itself. Raises HostError."""
    host, instance = probe(directories=directories), serving(profile)
    if instance is None:
        return host
    from kvtier_ops.host.record import load_host

    try:
        return host_before(load_host(instance.run_dir / HOST_FILE), host)
    except BadInput:  # an older launcher writes none
        return host


def _check_answers(model: str) -> None:
    """Raises ModelError for a model on a server that says nothing: a look at it would not end."""
    if not MountTable().answers(Path(model)):
        raise ModelError(
            f"cannot look at `{model}`: its file server does not answer",
            "see the server and the network, or copy the model to a local disk",
            field="model.path",
        )


def _with_model(profile: Profile, path: str) -> Profile:
    """The profile with another model, which has its own name."""
    if not path:
        return profile
    model = profile.model.model_copy(update={"path": path, "served_name": "auto"})
    return profile.model_copy(update={"model": model})


def prepare_at(file: ProfileFile, instead: Instead = HERE) -> Prepared:
    """`prepare`, with the place in the profile in every error."""
    try:
        return prepare(file, instead)
    except KvtierError as error:
        error.locate(file.place_of)
        raise
