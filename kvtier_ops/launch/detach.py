"""`kvtier launch --detach`: a launcher in a session of its own, and a parent that shows its start.

The child says everything through a pipe, a line of JSON each: `note`, `data`, `begin`/`stage`/`end`
of progress, `ready`. After `ready` the parent ends and the child has only its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from kvtier_ops.errors import (
    REPORT_URL,
    BadInput,
    ExitCode,
    HostError,
    Interrupted,
    KvtierError,
)
from kvtier_ops.instance import log_path_of
from kvtier_ops.interrupt import was_stopped
from kvtier_ops.launch.serve import Wish, launch
from kvtier_ops.terminal import ProgressDisplay, Terminal


def launch_detached(wish: Wish, terminal: Terminal) -> int:
    """Returns when the profile is served, or could not be: the exit code."""
    if wish.dry_run:
        raise BadInput("`--dry-run` starts nothing that could be detached", "leave one of them out")
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        _child(wish, write_fd)
    os.close(write_fd)
    return _parent(pid, read_fd, terminal)


def _parent(pid: int, read_fd: int, terminal: Terminal) -> int:
    """Shows what the child says. Ctrl-C here stops the child, as it would in its terminal."""
    said = os.fdopen(read_fd, "rb")
    while True:
        try:
            if _show(said, terminal):
                return ExitCode.OK
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            if code >= 0:
                return code
            name = signal.Signals(-code).name
            raise KvtierError(f"the launcher was ended by {name}", "`kvtier logs` may say more")
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _show(said: Iterator[bytes], terminal: Terminal) -> bool:
    """True if the child serves; False if it said no more."""
    with ExitStack() as stack:
        progress: ProgressDisplay | None = None
        for line in said:
            if not line.endswith(b"\n"):  # of a child that was killed
                break
            match json.loads(line):
                case {"note": str(text)}:
                    terminal.note(text)
                case {"data": str(text)}:
                    with contextlib.suppress(HostError, BrokenPipeError):  # it serves all the same
                        terminal.data(text)
                case {"begin": _}:
                    progress = stack.enter_context(terminal.progress())
                case {"stage": str(stage), "done": int(done), "total": int(total)} if progress:
                    progress.update(stage, done, total)
                case {"end": _}:
                    stack.pop_all().close()
                case {"ready": _}:
                    return True
    return False


def _child(wish: Wish, write_fd: int) -> None:
    """Never returns: what follows in the stack is the parent's."""
    code: int = ExitCode.BUG
    terminal = _Reporting(write_fd)
    try:
        os.setsid()
        _redirect(wish.path)

        def on_ready() -> None:
            terminal.say({"ready": True})
            terminal.end()
            os.chdir("/")  # keeps no mount busy

        code = launch(_absolute(wish), terminal, on_ready)
    except BaseException as error:
        code = _explain(error, terminal)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _explain(error: BaseException, terminal: Terminal) -> int:
    """Says why nothing is served; the exit code."""
    if isinstance(error, Interrupted):
        terminal.note(str(error))
        return error.exit_code
    if isinstance(error, KvtierError):
        terminal.show_error(error)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt) or was_stopped():
        terminal.note("interrupted")
        return ExitCode.INTERRUPTED
    traceback.print_exception(error)
    terminal.note(f"error: kvtier itself failed: {type(error).__name__}: {error}")
    terminal.note(f"hint: please report this at {REPORT_URL}")
    return ExitCode.BUG


def _absolute(wish: Wish) -> Wish:
    """The profile is read again from another folder."""
    return replace(wish, path=Path(os.path.abspath(wish.path)), detached=True)


def _redirect(profile: Path) -> None:
    """No terminal: what is printed past us, such as a traceback, goes beside the log.
    Raises HostError."""
    path = log_path_of(profile).with_name("launcher.out")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND  # one that serves may have it open
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        out = os.open(path, flags, 0o600)
    except OSError as error:
        hint = "set XDG_STATE_HOME to a folder that you may write to"
        raise HostError(f"cannot write `{path}`: {error.strerror}", hint) from error
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(null)
    os.close(out)


class _Reporting(Terminal):
    """Says to the parent what a terminal would show; once it has gone, warnings and errors that
    are not the engine's go to launcher.out: some come when the log is closed."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lock = threading.Lock()  # warnings of the engine come from a thread of the log

    def say(self, line: dict[str, Any]) -> None:
        left = json.dumps(line).encode() + b"\n"
        with self._lock:
            try:
                while left and self._fd >= 0:
                    left = left[os.write(self._fd, left) :]
            except OSError:  # the parent was killed: serving goes on
                self._close()

    def end(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def note(self, text: str) -> None:
        if self._fd >= 0:
            self.say({"note": text})
        elif text.startswith(("warning: ", "error: ")):
            print(text, file=sys.stderr, flush=True)

    def data(self, text: str) -> None:
        self.say({"data": text})

    def progress(self) -> ProgressDisplay:
        return _ReportingProgress(self)


class _ReportingProgress(ProgressDisplay):
    def __init__(self, terminal: _Reporting) -> None:
        self._terminal = terminal

    def update(self, stage: str, done: int, total: int) -> None:
        self._terminal.say({"stage": stage, "done": done, "total": total})

    def __enter__(self) -> ProgressDisplay:
        self._terminal.say({"begin": True})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._terminal.say({"end": True})
