"""`kvtier launch`. What only it needs is imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from kvtier_ops.cli.options import Overrides, ProfilePath
from kvtier_ops.terminal import Terminal


def launch(
    profile: ProfilePath,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, configuration and command; start nothing.")
    ] = False,
) -> int:
    """Serve a profile until Ctrl-C."""
    from kvtier_ops import launch as launching

    return launching.launch(profile, overrides or [], Terminal(), dry_run=dry_run)
