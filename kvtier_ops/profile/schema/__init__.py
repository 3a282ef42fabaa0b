"""The profile: everything an operator may write, with default, bounds, meaning and example.

This is the one home of those facts: docs/profile.md, the JSON Schema, the error messages
and the plan read them from here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kvtier_ops.profile.fields import ExtendsField
from kvtier_ops.profile.schema.base import Section
from kvtier_ops.profile.schema.cluster import Cluster
from kvtier_ops.profile.schema.engine import Engine
from kvtier_ops.profile.schema.host import HostSection
from kvtier_ops.profile.schema.model import Model
from kvtier_ops.profile.schema.server import Server
from kvtier_ops.profile.schema.tiers import Tiers

VERSION = 1


def _version(value: object) -> object:
    if value not in (str(VERSION), VERSION):
        raise ValueError(f"this kvtier reads profiles of version {VERSION}")
    return VERSION


class Profile(Section):
    """What an operator wants served, and with which cache."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(
        description="Version of the profile's format; every profile states it.", examples=[1]
    )
    extends: ExtendsField = Field(
        default="",
        exclude=True,
        description="A profile whose fields this one takes where it has none of its own: sections "
        "field by field, lists and single values as a whole. The other may extend a third; it "
        "needs no `version`, and its relative paths start at its own folder.",
        examples=["base.yaml"],
    )
    model: Model = Model()
    engine: Engine = Engine()
    tiers: Tiers = Tiers()
    server: Server = Server()
    cluster: Cluster = Cluster()
    host: HostSection = HostSection()


__all__ = ["VERSION", "Profile", "Section"]
