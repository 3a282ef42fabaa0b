"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.errors import BadInput

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


def check_url(live: str | None) -> None:
    """Raises BadInput for `--live ""`, which a variable that is not set leaves."""
    if live is not None and not live.strip():
        raise BadInput(
            "needs a URL, and this is empty",
            "name the address that `kvtier launch` shows; is a variable not set?",
            place="--live",
        )


def with_node_rank(overrides: list[str] | None, node_rank: int | None) -> list[str]:
    """The overrides, and what `--node-rank` says."""
    given = [] if node_rank is None else [f"cluster.node_rank={node_rank}"]
    return [*(overrides or []), *given]
