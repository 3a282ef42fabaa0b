"""Output: data to stdout, everything else to stderr; progress that also reads well in a file."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from kvtier_ops.errors import KvtierError

_STYLES = {"error:": "bold red", "warning:": "bold yellow", "hint:": "bold cyan"}
_PLAIN_STEP_PERCENT = 25
_COLUMNS = 80


def _width() -> int | None:
    """Of a terminal that says it has no columns; None: rich finds out."""
    return _COLUMNS if os.environ.get("COLUMNS", "") == "0" else None


class Terminal:
    """Both streams. rich decides about colour: NO_COLOR, TERM=dumb and pipes have none."""

    def __init__(self) -> None:
        self.out = Console(file=sys.stdout, highlight=False, soft_wrap=True, width=_width())
        self.err = Console(file=sys.stderr, highlight=False, soft_wrap=True, width=_width())

    def show_error(self, error: KvtierError) -> None:
        self.note(error.render())

    def note(self, text: str) -> None:
        """Lines to stderr; `error:`, `warning:` and `hint:` at the start of a line stand out."""
        for line in text.split("\n"):
            word = line.split(" ", 1)[0]
            shown = Text(line)
            if word in _STYLES:
                shown.stylize(_STYLES[word], 0, len(word))
            self.err.print(shown)

    def data(self, text: str) -> None:
        """To stdout, exactly: no colour, no wrapping."""
        self.out.print(text, markup=False)

    def progress(self) -> ProgressDisplay:
        live = self.err.is_terminal and not self.err.is_dumb_terminal
        return _Bars(self.err) if live else _Lines(self)


class ProgressDisplay(ABC):
    """Stages that go from nothing to all, one after another or side by side."""

    @abstractmethod
    def update(self, stage: str, done: int, total: int) -> None:
        """`done` of `total`, in whatever unit; the first call of a stage shows it."""

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class _Bars(ProgressDisplay):
    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("  {task.description:<18}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def update(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage)
        if total <= 0:  # nothing to do is done
            done, total = 1, 1
        self._progress.update(self._tasks[stage], completed=min(done, total), total=total)

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


class _Lines(ProgressDisplay):
    """For files and pipes: a line at the start of a stage, at each quarter and at its end."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._shown: dict[str, int] = {}

    def update(self, stage: str, done: int, total: int) -> None:
        percent = 100 * min(done, total) // total if total else 100
        step = percent // _PLAIN_STEP_PERCENT * _PLAIN_STEP_PERCENT
        if step > self._shown.get(stage, -1):
            self._shown[stage] = step
            self._terminal.note(f"  {stage}: {step}%")
