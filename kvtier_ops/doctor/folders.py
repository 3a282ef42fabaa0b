"""Whether this user can write a folder, or make it, and what mends it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from kvtier_ops.host.directories import is_read_only, nearest_folder


def usable(path: Path, other: str, take: str = "chown") -> tuple[str, str]:
    """What is so, and what mends it; nothing to mend: it can be written or made. `other`: the way
    out that leaves the folder alone; `take`: how it is given to this user."""
    nearest, user = nearest_folder(path), os.geteuid()
    shown, above = shlex.quote(str(path)), shlex.quote(str(nearest))
    make = f"sudo mkdir -p {shown} && sudo {take} {user} {shown}"
    if not os.path.isdir(nearest):
        return f"`{nearest}` is not a directory", other
    if is_read_only(nearest):
        return (
            f"`{nearest}` lies on a file system mounted read-only",
            "see why in `dmesg` (errors of the disk do that), then `sudo mount -o remount,rw "
            f"$(findmnt -nT {above} -o TARGET)`, or {other}",
        )
    if nearest != path and not os.access(nearest, os.X_OK):
        fix = f"`sudo chmod a+x {above} && {make}`, or {other}"
        return f"`{nearest}` cannot be entered by uid {user}", fix
    if not os.access(nearest, os.W_OK | os.X_OK):
        if nearest == path and path.stat().st_uid == user:
            make = f"chmod u+rwx {shown}"
        return f"`{nearest}` cannot be written by uid {user}", f"`{make}`, or {other}"
    return "can be written" if nearest == path else "can be made", ""
