"""One engine after the other: what each has to go through, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

from e2e.stress.disturbances import CHANGED, COMMANDED, DAWDLE, DISTURBANCES, HANGS
from e2e.stress.launcher import drawn_settings

TRAFFIC = tuple(
    f"{what} l{i}" for what in ("evicted_pages_total", "hit_tokens_total") for i in (1, 2, 3)
)


class Ending(Enum):
    STOP = "stopped"
    KILL = "killed"
    KILL_CORE = "core killed"


@dataclass(frozen=True)
class Life:
    """It goes on until all of this has happened."""

    settings: dict[str, Any]
    ending: Ending
    disturbances: Sequence[str] = ()
    counts: Sequence[str] = ()  # that must not be zero when it ends
    answers: int = 120
    damaged: float = 0.0  # share of what L2 holds when it begins


def script(random: Random) -> list[Life]:
    """The lives that every run begins with: every path is taken."""
    settings = [drawn_settings(random) for _ in range(4)]
    for turn, made in enumerate(settings, random.randrange(2)):
        made["cache__l3__write"] = ("on_evict", "write_through")[turn % 2]
    settings[1]["cache__l3__compute_while_loading"] = True
    return [
        Life(settings[0], Ending.KILL, counts=(*TRAFFIC, "preemptions_total")),
        Life(
            settings[1],
            Ending.KILL_CORE,
            ["bits flip", DAWDLE, "reads come short"],
            ["adopted_pages_total l2"],
        ),
        Life(
            settings[2],
            Ending.STOP,
            ["reads fail", HANGS, "writes dawdle", "disk is full", "writes fail"],
            ["corrupt_pages_total l2"],
            damaged=1.0,
        ),
        Life(
            settings[3], Ending.STOP, ["syncs fail", COMMANDED, CHANGED], ["adopted_pages_total l2"]
        ),
    ]


def drawn(random: Random) -> Life:
    """Of a run's later engines."""
    meets = random.random() < 0.8
    disturbances = [name for name in DISTURBANCES if meets or name != DAWDLE]
    return Life(
        drawn_settings(random) | {"cache__l3__compute_while_loading": meets},
        random.choice(list(Ending)),
        random.sample(disturbances, random.randrange(4)),
        answers=random.randrange(10, 300),
        damaged=random.choice([0.0, 0.0, 0.0, 0.5]),
    )
