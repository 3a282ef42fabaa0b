"""What is said of a model's file that the operating system does not let us read."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from kvtier_ops.errors import ModelError


def unreadable(path: Path, error: OSError) -> ModelError:
    """`path`: what was to be read; the error may name another."""
    at = error.filename if isinstance(error.filename, str) else str(path)
    hint = "see whether it is still there, and what `dmesg` says of the disk"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = (
            f"uid {os.geteuid()} may not read it: `namei -l {shlex.quote(at)}` shows which folder "
            "or file refuses; `sudo chmod a+rX` on that"
        )
    return ModelError(f"`{at}` cannot be read: {error.strerror}", hint, field="model.path")
