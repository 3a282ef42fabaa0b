"""`kvtier ps|status|logs|stop|restart|reload`: instances that are launched already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.cli.options import AsJson
from kvtier_ops.errors import BadInput, ExitCode, HostError, KvtierError
from kvtier_ops.terminal import Terminal

Which = Annotated[
    str, typer.Argument(metavar="NAME|PROFILE", help="A name, its beginning, or the profile.")
]


def ps(
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Also those whose launcher was killed.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what killed launchers have left.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """List what is launched on this host by this user."""
    from kvtier_ops.instances import Phase, all_instances, report
    from kvtier_ops.instances.leftovers import clean_dead

    terminal = Terminal()
    found = all_instances()
    dead = [each for each in found if each.phase is Phase.DEAD]
    if clean:
        for each in dead:
            terminal.note(f"{each.state.name}: {clean_dead(each) or 'somebody else cleans it up'}")
        _put_host_back(terminal)
        found = [each for each in found if each not in dead]
        dead = []
    shown = found if every else [each for each in found if each not in dead]
    if as_json:
        terminal.data(json.dumps([report.as_json(each) for each in shown], indent=2))
    else:
        terminal.data(report.table(shown))
    if dead and not every:
        terminal.note(f"{len(dead)} dead: `--all` shows them, `--clean` removes what they left")
    return ExitCode.OK


def _put_host_back(terminal: Terminal) -> None:
    """After their engines have gone, which may have used what is given back."""
    from kvtier_ops.launch.host_tuning import put_back_after_killed

    try:
        put_back_after_killed(terminal)
    except HostError as error:
        [problem] = error.problems
        what = f"what killed launchers changed on this host is not put back: {problem.what}"
        terminal.note(f"warning: {what}\nhint: {problem.hint}")


def status(which: Which, as_json: AsJson = False) -> int:
    """Say what one instance does. Exit code 0: ready, 4: it is not now, 3: it does not run."""
    from kvtier_ops.instances import Phase, find_instance, report

    instance = find_instance(which)
    said = json.dumps(report.as_json(instance), indent=2) if as_json else report.status(instance)
    Terminal().data(said)
    match instance.phase:
        case Phase.READY:
            return ExitCode.OK
        case Phase.DEAD:
            return ExitCode.REFUSED
    return ExitCode.WARNINGS


def logs(
    which: Which,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the instance ends.")
    ] = False,
    lines: Annotated[
        int, typer.Option("-n", "--lines", metavar="N", min=0, help="Of the end; 0: none.")
    ] = 100,
) -> int:
    """Show the log of an instance, also of one that has ended."""
    from kvtier_ops.instances import all_instances
    from kvtier_ops.instances.find import find_log
    from kvtier_ops.instances.logs import follow as following
    from kvtier_ops.instances.logs import last_lines

    path = find_log(which)
    terminal = Terminal()

    def is_over() -> bool:
        alive = (each for each in all_instances() if each.is_alive)
        return not any(Path(each.state.log) == path for each in alive)

    last, end = last_lines(path, lines)
    for line in last:
        terminal.data(line)
    for line in following(path, end, is_over) if follow else ():
        terminal.data(line)
    return ExitCode.OK


def stop(
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME|PROFILE...", help="Names, their beginnings, or profiles."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Every instance.")] = False,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            "-t",
            metavar="SECONDS",
            min=0,
            help="What running requests have to end; the profile's `server.drain_s` at most.",
        ),
    ] = None,
) -> int:
    """Drain and end instances, each that runs. Exit code 0: stopped, 3: one did not run."""
    from kvtier_ops.instances import all_instances, find_instance
    from kvtier_ops.instances.stop import stop as stop_one

    if bool(which) == every:
        raise BadInput("say which instance to stop, or `--all`", "`kvtier ps` lists what runs")
    terminal = Terminal()
    found = {each.state.name: each for each in all_instances() if every and each.is_alive}
    errors: list[KvtierError] = []
    for each in which or ():
        try:
            instance = find_instance(each)
            found[instance.state.name] = instance  # once, however often it is named
        except KvtierError as error:
            errors.append(error)
    for name, instance in found.items():
        try:
            stop_one(instance, timeout_s, terminal.note)
        except KvtierError as error:
            errors.append(error)
        else:
            terminal.note(f"stopped {name}")
    for failure in errors:
        terminal.show_error(failure)
    return max((failure.exit_code for failure in errors), default=ExitCode.OK)


def restart(which: Which) -> int:
    """Drain and start the engine again, with the same profile; L2 and L3 stay warm."""
    return _order(which, "restart")


def reload(which: Which) -> int:
    """Read the profile again and change what is served; a mistake in it changes nothing.

    Sizes of tiers change while the engine serves, if the profile has `server.admin_key`;
    for all else the engine is drained and started again.
    """
    return _order(which, "reload")


def _order(which: str, what: str) -> int:
    from kvtier_ops.instances import find_instance
    from kvtier_ops.instances.control import order

    terminal = Terminal()
    terminal.data(order(find_instance(which), what, terminal.note))
    return ExitCode.OK
