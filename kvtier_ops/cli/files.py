"""Files that a command writes where the operator said."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from kvtier_ops.errors import BadInput, HostError


def check_target(path: Path, *, force: bool) -> None:
    """Before work is done for it. Raises BadInput where `path` cannot become a new file, or with
    `force` an old one; HostError where nothing may be written."""
    if path.is_dir():
        raise BadInput(f"`{path}` is a folder", "name a file in it")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder `{path.parent}`", "make it, or name another")
    if os.path.lexists(path) and not force:
        raise BadInput(f"`{path}` exists", "`--force` overwrites it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise HostError(
            f"`{path}` cannot be written: the folder may not be, by uid {os.geteuid()}",
            "name a file in another one, with `-o FILE`",
        )


def write_whole(path: Path, text: str) -> None:
    """All of it or nothing, whenever this process ends; a file that is replaced keeps its mode,
    and a link leads to the new one. Raises HostError."""
    path = path.resolve()
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(scratch, "x", encoding="utf-8") as file:
            file.write(text)
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        raise HostError(f"`{path}` cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()
