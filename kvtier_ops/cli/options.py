"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProfilePath = Annotated[Path, typer.Argument(metavar="PROFILE", help="The profile, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override a field, such as tiers.l2.size=4GiB."
    ),
]
NodeRank = Annotated[
    int | None,
    typer.Option(
        "--node-rank", metavar="N", min=0, help="Number of this node, as cluster.node_rank."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def with_node_rank(overrides: list[str] | None, node_rank: int | None) -> list[str]:
    """The overrides, and what `--node-rank` says."""
    given = [] if node_rank is None else [f"cluster.node_rank={node_rank}"]
    return [*(overrides or []), *given]
