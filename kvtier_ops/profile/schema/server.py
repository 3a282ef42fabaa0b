"""The section `server`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from kvtier_engine.config import LogFormat, LogLevel, SecretSource
from kvtier_ops.profile.fields import (
    NameField,
    SecretFileField,
    SizeField,
    TenantField,
    TraceField,
    VariableField,
)
from kvtier_ops.profile.schema.base import Section
from kvtier_ops.units import UNITS, Size


class Secret(Section):
    """Where a secret is. It is never in the profile, in the engine's files or in any output."""

    env: VariableField = Field(
        default="",
        description="Environment variable that has the key when kvtier is launched.",
        examples=["KVTIER_KEY"],
    )
    file: SecretFileField = Field(
        default="",
        description="File that has the key and nothing else.",
        examples=["~/.config/kvtier/key"],
    )

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.env and self.file:
            raise ValueError("give either `env` or `file`: the key is in one place")
        return self

    @property
    def source(self) -> SecretSource | None:
        """For the engine; None if there is no secret."""
        if not self.env and not self.file:
            return None
        return SecretSource(env=self.env or None, file=Path(self.file) if self.file else None)


class AdminKey(Secret):
    """The key of /admin/cache and `kvtier cache`; without one, there is no /admin."""


class ApiKey(Secret):
    """A key that clients send as `Authorization: Bearer KEY`, in `env` or `file`."""

    name: TenantField = Field(
        description="Who it is for; requests share cached pages only with those of the same name.",
        examples=["search"],
    )
    shared_cache: bool = Field(
        default=False,
        description="Share cached pages with all keys that say so, and with nobody else.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.source is None:
            raise ValueError("give `env` or `file`: where the key is")
        return self


def _different(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    names = [key.name for key in keys]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two keys are named `{twice[0]}`")
    return keys


class Server(Section):
    """The HTTP server."""

    host: NameField = Field(
        default="127.0.0.1",
        description="Address to listen on; `0.0.0.0`: every address of this host.",
        examples=["0.0.0.0"],
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port; 0: any free one.", examples=[8080]
    )
    api_keys: Annotated[tuple[ApiKey, ...], AfterValidator(_different)] = Field(
        default=(),
        max_length=256,
        description="Keys, one of which every request must have; none: anybody may ask. /health, "
        "/ready, /metrics and /version need none.",
        examples=[[{"name": "search", "env": "SEARCH_KEY"}]],
    )
    admin_key: AdminKey = AdminKey()
    max_body: SizeField = Field(
        default=Size(16 * UNITS["MiB"]),
        description="Larger requests are answered 413.",
        examples=["64MiB"],
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        le=86400,
        description="Seconds that running requests have to end when kvtier is stopped.",
        examples=[120],
    )
    start_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        description="Seconds without any progress after which a start is given up.",
        examples=[900],
    )
    restart_limit: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="How often an engine that has served and then ends by itself is started again "
        "within `restart_window_s`; after that the launch ends. 0: never.",
        examples=[10],
    )
    restart_window_s: float = Field(
        default=600.0,
        gt=0,
        le=86400,
        description="Seconds over which those restarts are counted.",
        examples=[3600],
    )
    restart_delay_s: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        description="Seconds before the first of those restarts; each further one waits twice as "
        "long, 60 s at most or this if it is more.",
        examples=[5],
    )
    log_level: LogLevel = Field(
        default="info",
        description="What goes to the log; warnings and errors also reach the terminal.",
        examples=["debug"],
    )
    log_format: LogFormat = Field(
        default="text",
        description="How lines of the log are written: for people, or as an object of JSON each.",
        examples=["json"],
    )
    request_trace: TraceField = Field(
        default="",
        description="File to which a line is added for each request: when it came, how many "
        "tokens, and numbers that stand for its pages; no text. `kvtier simulate` reads it.",
        examples=["~/kvtier-requests.jsonl"],
    )
