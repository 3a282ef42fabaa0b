"""Where the server stands between its start and its end."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from kvtier_engine.messages import Progress
from kvtier_engine.server.errors import Unavailable

RETRY_STARTING_S = 5
RETRY_DRAINING_S = 10


class Status(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Lifecycle:
    """Goes starting -> ready -> draining, or to failed from anywhere; never back."""

    def __init__(self) -> None:
        self.status = Status.STARTING
        self.error: str | None = None
        self._stages: dict[str, Progress] = {}

    def progress(self, progress: Progress) -> None:
        """Takes note of a stage of the start."""
        self._stages[progress.stage] = progress

    def ready(self) -> None:
        if self.status is Status.STARTING:
            self.status = Status.READY

    def drain(self) -> None:
        if self.status is not Status.FAILED:
            self.status = Status.DRAINING

    def fail(self, error: str) -> None:
        """`error`: a sentence for operators and clients."""
        self.status = Status.FAILED
        self.error = self.error or error

    def gate(self) -> None:
        """Lets a request for the model pass, or raises Unavailable."""
        match self.status:
            case Status.STARTING:
                raise Unavailable(
                    "the model is still loading: GET /ready says how far it is", RETRY_STARTING_S
                )
            case Status.DRAINING:
                raise Unavailable(
                    "the server is shutting down and takes no new requests", RETRY_DRAINING_S
                )
            case Status.FAILED:
                raise Unavailable(f"the engine has failed: {self.error}", RETRY_DRAINING_S)

    def report(self) -> dict[str, Any]:
        """The body of /ready."""
        stages = {
            name: {"done": stage.done, "total": stage.total} for name, stage in self._stages.items()
        }
        report: dict[str, Any] = {"status": self.status, "stages": stages}
        if self.error is not None:
            report["error"] = self.error
        return report
