"""Output: data to stdout, everything else to stderr; progress that also reads well in a file."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, cast

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

from kvtier_ops.errors import HostError, KvtierError

_STYLES = {"error:": "bold red", "warning:": "bold yellow", "hint:": "bold cyan"}
_PLAIN_STEP_PERCENT = 25
_COLUMNS = 80


def _width() -> int | None:
    """Of a terminal that says it has no columns; None: rich finds out."""
    return _COLUMNS if os.environ.get("COLUMNS", "") == "0" else None


class _Forgiving:
    """stderr, which whoever reads it may leave, as `head` does, or a logger that is started again:
    what cannot be written any more is dropped, and is no reason to end."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file = file if file is not None else open(os.devnull, "w")  # noqa: SIM115

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """rich's own ends the process, with exit code 1."""
        raise  # rich calls it while it handles the BrokenPipeError


class Terminal:
    """Both streams. rich decides about colour: NO_COLOR, TERM=dumb and pipes have none."""

    def __init__(self) -> None:
        self.out = _Console(file=sys.stdout, highlight=False, soft_wrap=True, width=_width())
        err = cast("IO[str]", _Forgiving(sys.stderr))
        self.err = _Console(file=err, highlight=False, soft_wrap=True, width=_width())

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
        """To stdout, exactly: no colour, no wrapping. Raises BrokenPipeError if nobody reads it
        any more, HostError if it cannot be written; from then on nothing is."""
        try:
            self.out.print(text, markup=False)
        except OSError as error:
            self.give_up_stdout()
            if isinstance(error, BrokenPipeError):
                raise
            hint = "free space there, or write it elsewhere"
            raise HostError(f"cannot write to stdout: {error.strerror}", hint) from error

    def give_up_stdout(self) -> None:
        """What it still holds would be written once more at the exit, and fail again."""
        self.out.quiet = True
        null = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError):
            os.dup2(null, self.out.file.fileno())
        os.close(null)

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
