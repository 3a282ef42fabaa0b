"""Why a setting cannot be changed from here, and who can."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.host.container import container_of
from kvtier_ops.host.directories import is_read_only
from kvtier_ops.tune.change import Change


@dataclass(frozen=True)
class Obstacle:
    """`what` is in the way, `hint` the way out."""

    what: str
    hint: str


def obstacle(change: Change, root: Path, again: str) -> Obstacle | None:
    """None if it can be made. `again`: the command that, as root, would make it."""
    file = change.setting.below(root)
    if os.access(file, os.W_OK):
        return None
    by_hand = shell_line(change)
    if os.geteuid() != 0 and not is_read_only(file):
        # Also in a container: root there may do what its /sys and /proc allow.
        return Obstacle(f"only root may write {change.path}", f"`{again}`, or `{by_hand}`")
    inside = container_of(root)
    if inside:
        return Obstacle(
            f"{inside} may not write {change.path}",
            f"on the host, as root: `{by_hand}`",
        )
    return Obstacle(
        f"{change.path} cannot be written, even by root: is /sys mounted read-only?",
        f"where it is not: `{by_hand}`",
    )


def shell_line(change: Change) -> str:
    """As an operator would type it."""
    return f"echo {shlex.quote(change.new)} | sudo tee {shlex.quote(change.path)}"


def kvtier_as_root(arguments: Sequence[str]) -> str:
    """`sudo /where/it/is/kvtier ARGUMENTS`: root's PATH seldom has a virtual environment."""
    program = os.path.abspath(sys.argv[0])
    name = os.path.basename(program)
    return shlex.join(["sudo", program if name == "kvtier" else "kvtier", *arguments])
