"""Whose change it is: a launcher's, which ends with it, or the operator's, which stays."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kvtier_ops.instances.state import own_ticks, process_ticks

OPERATOR_NAME = "kvtier tune"


@dataclass(frozen=True)
class Owner:
    """`pid` 0: nobody's process; a pid alone is given again to others, with its start it is not."""

    name: str
    pid: int = 0
    started: int = 0  # in clock ticks since boot

    @property
    def is_operator(self) -> bool:
        return self.pid == 0

    @property
    def is_alive(self) -> bool:
        return self.pid != 0 and process_ticks(self.pid) == self.started


def operator(instance: str) -> Owner:
    """Of `kvtier tune` for one profile, so that it can be put back alone."""
    return Owner(f"{OPERATOR_NAME} ({instance})")


def this_process(name: str) -> Owner:
    return Owner(name, os.getpid(), own_ticks())
