"""Something that may take long, beside the core's loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Background(Generic[Value]):
    """Runs `work` in a thread that the process does not wait for at its end: it may hang."""

    def __init__(self, work: Callable[[], Value]) -> None:
        self._work = work
        self._outcome: Value | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Value:
        """What `work` returned, or raises what it raised. To be called when it is done."""
        assert self.is_done
        if self._error is not None:
            raise self._error
        return self._outcome  # type: ignore[return-value]

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except Exception as error:
            self._error = error
