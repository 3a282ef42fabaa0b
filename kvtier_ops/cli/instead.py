"""`--host`, `--what-if` and `--load`: what to plan for in the place of what is here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.prepare import Instead, host_here
from kvtier_ops.profile.load import ProfileFile

HostFile = Annotated[
    Path | None,
    typer.Option(
        "--host", metavar="FILE", help="Plan for a host that `kvtier host record` wrote down."
    ),
]
WhatIf = Annotated[
    list[str] | None,
    typer.Option(metavar="PARTS", help="Plan for another host: gpu=8xH100-80G,mem=2TiB,model=..."),
]


def instead_of(
    host: Path | None, what_if: list[str] | None, file: ProfileFile, load: str = ""
) -> Instead:
    """Raises BadInput for a file or a text that cannot be read."""
    from kvtier_ops.plan.load import parse_load

    told = parse_load(load) if load else None
    if host is None and not what_if:
        return Instead(load=told)
    from kvtier_ops.host.directories import SUPPOSED, with_directories
    from kvtier_ops.host.record import load_host
    from kvtier_ops.host.what_if import apply_what_if

    directories = file.profile.tiers.l3.directories
    found = host_here(file.path, directories) if host is None else load_host(host)
    found, others = apply_what_if(found, ",".join(what_if)) if what_if else (found, {})
    supposed = any(each.mount_point.is_relative_to(SUPPOSED) for each in found.file_systems)
    if host is not None or supposed:
        found = with_directories(found, directories)
    return Instead(found, others.get("model", ""), told)
