"""From a valid profile to a plan on this host: the steps that plan, doctor and launch share."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.errors import KvtierError
from kvtier_ops.host import Host, probe
from kvtier_ops.model.facts import ModelFacts, read_model
from kvtier_ops.model.pull import find_model
from kvtier_ops.plan import Plan, make_plan
from kvtier_ops.profile.load import ProfileFile


@dataclass(frozen=True)
class Prepared:
    host: Host
    model: ModelFacts
    plan: Plan


def prepare(file: ProfileFile) -> Prepared:
    """Probes, reads the model, plans; changes nothing. Raises BadInput or Refused."""
    profile = file.profile
    model = read_model(find_model(profile.model.path), profile.model.dtype, profile.tiers.kv_dtype)
    host = probe(directories=profile.tiers.l3.directories)
    return Prepared(host, model, make_plan(profile, host, model))


def prepare_at(file: ProfileFile) -> Prepared:
    """`prepare`, with the place in the profile in every error."""
    try:
        return prepare(file)
    except KvtierError as error:
        error.locate(file.place_of)
        raise
