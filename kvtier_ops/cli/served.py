"""A word on what looks at a host while it serves the very profile."""

from __future__ import annotations

from pathlib import Path

from kvtier_ops.terminal import Terminal


def note_served(profile: Path, terminal: Terminal) -> None:
    from kvtier_ops.instances import Phase, instance_of
    from kvtier_ops.instances.state import HOST_FILE

    instance = instance_of(profile)
    if instance is None:
        return
    name = instance.state.name
    if instance.phase is Phase.READY and not (instance.run_dir / HOST_FILE).exists():
        terminal.note(
            f"`{name}` serves this profile now: the memory that its engine holds counts as taken, "
            "as its launcher has not written down how much there was"
        )
    elif instance.phase is Phase.READY:
        terminal.note(
            f"`{name}` serves this profile now: what its engine holds is not counted as taken\n"
            f"hint: `kvtier doctor --live {instance.state.url}` looks at what runs"
        )
    else:
        terminal.note(
            f"`{name}` is {instance.phase}: its memory, and what else it holds, counts as taken\n"
            f"hint: look again when `kvtier status {name}` says `ready`"
        )
