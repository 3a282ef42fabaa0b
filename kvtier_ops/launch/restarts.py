"""How often, and after which pause, an engine that ended by itself is started again."""

from __future__ import annotations

from collections import deque

from kvtier_ops.profile.schema.server import Server

DELAY_S_MAX = 60.0


class Restarts:
    """A limit within a window of time, and a pause that doubles: systemd's StartLimitBurst,
    StartLimitIntervalSec and RestartSec with RestartSteps."""

    def __init__(self, server: Server) -> None:
        self.limit = server.restart_limit
        self.window_s = server.restart_window_s
        self._first_s = server.restart_delay_s
        self._at: deque[float] = deque()

    def delay(self, now: float) -> float | None:
        """The pause before the restart that is due at `now`, in seconds; None: there have been
        too many. `now` only grows."""
        while self._at and self._at[0] <= now - self.window_s:
            self._at.popleft()
        if len(self._at) >= self.limit:
            return None
        self._at.append(now)
        doubled = self._first_s * 2.0 ** (len(self._at) - 1)
        return min(doubled, max(DELAY_S_MAX, self._first_s))

    def take_over(self, earlier: Restarts) -> None:
        """Counts on from another's restarts, by the limits of this one."""
        self._at = earlier._at
