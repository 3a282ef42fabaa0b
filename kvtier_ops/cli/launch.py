"""`kvtier launch`. What only it needs is imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from kvtier_ops.cli.options import NodeRank, Overrides, ProfilePath, with_node_rank
from kvtier_ops.terminal import Terminal


def launch(
    profile: ProfilePath,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show plan, checks, configuration and command; start nothing."
        ),
    ] = False,
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", help="Return when it serves; it outlives the terminal."),
    ] = False,
    node_rank: NodeRank = None,
    force: Annotated[
        list[str] | None,
        typer.Option("--force", metavar="ID", help="Launch although this check fails."),
    ] = None,
    no_tune: Annotated[
        bool, typer.Option("--no-tune", help="Leave the host as it is; see `kvtier tune`.")
    ] = False,
) -> int:
    """Serve a profile until Ctrl-C, or with --detach until `kvtier stop`."""
    from kvtier_ops import launch as launching

    changes = with_node_rank(overrides, node_rank)
    wish = launching.Wish(profile, tuple(changes), tuple(force or ()), dry_run, tune=not no_tune)
    if detach:
        return launching.launch_detached(wish, Terminal())
    return launching.launch(wish, Terminal())
