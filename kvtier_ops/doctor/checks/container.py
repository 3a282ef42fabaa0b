"""What a container takes with it when it goes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.checks.drives import file_system
from kvtier_ops.doctor.place import in_container
from kvtier_ops.host import DriveKind
from kvtier_ops.paths import xdg_home


def state_survives(context: Context) -> Iterator[Outcome]:
    """The state folder, in a container: cleared tenants and measured rates are in it."""
    if not in_container(context.root):
        return
    folder = xdg_home("XDG_STATE_HOME") / "kvtier"
    on = file_system(context, folder)
    if on is None:
        return
    is_gone = on.drive_kind in (DriveKind.OVERLAY, DriveKind.MEMORY)
    volume = shlex.quote(str(folder))
    yield Outcome(
        ok=not is_gone,
        required="on a volume, if L3 is on one",
        current=f"`{folder}` is on {on.kind or 'a file system'} ({on.drive_kind})",
        fix=f"outside, start the container with `-v kvtier-state:{volume}`, or set "
        "XDG_STATE_HOME to a folder on a volume",
        reason="`kvtier cache clear --tenant` is remembered there, beside what was measured",
    )


CHECKS = (
    Check(
        "KVT-D901",
        "container",
        "state folder",
        Severity.WARNING,
        state_survives,
        needs=Needs.PROFILE,
        passes="in a container, the state folder is on a volume",
        why="What was cleared of a tenant is remembered in the state folder. If L3 is on a volume "
        "and the state is not, a new container finds the old pages again, of tenants that were "
        "cleared as well, and the plan forgets what was measured. The fix keeps the folder on a "
        "volume.",
    ),
)
