"""validate -> find or pull the model -> plan -> preflight -> tune -> start -> wait -> serve."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops import notify
from kvtier_ops.cluster.meet import meet_all
from kvtier_ops.errors import HostError, KvtierError
from kvtier_ops.host.record import host_as_text
from kvtier_ops.instance import log_path_of
from kvtier_ops.interrupt import raise_if_stopped
from kvtier_ops.launch.announce import announcement
from kvtier_ops.launch.binding import binding_of
from kvtier_ops.launch.control_socket import ControlSocket
from kvtier_ops.launch.dry_run import show
from kvtier_ops.launch.engine_log import EngineLog
from kvtier_ops.launch.engine_process import url_of
from kvtier_ops.launch.host_tuning import Tuning, clean_up_after_killed, host_tuned
from kvtier_ops.launch.keeper import Keeper, Means
from kvtier_ops.launch.orders import Orders
from kvtier_ops.launch.preflight import check_forced, preflight
from kvtier_ops.launch.record import Record, new_record
from kvtier_ops.launch.run_dir import RunDir, logout_warning, open_run_dir
from kvtier_ops.launch.served import Served
from kvtier_ops.launch.signals import StopSignals
from kvtier_ops.model.pull import is_complete, pull
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.paths import abbreviate
from kvtier_ops.plan.engine_limits import SPANS_NODES
from kvtier_ops.prepare import Prepared, prepare
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.terminal import Terminal

PULL_S_MAX = 3600.0  # that systemd is to wait for it


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Wish:
    """What is to be launched, and how. `forced`: ids of checks that may fail."""

    path: Path
    overrides: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()
    dry_run: bool = False
    detached: bool = False
    tune: bool = True


def launch(wish: Wish, terminal: Terminal, on_ready: Callable[[], None] = _nothing) -> int:
    """Serves the profile until it is stopped; the exit code. `on_ready` is called once.

    Raises KvtierError.
    """
    check_forced(wish.forced)
    file = load_profile(wish.path, wish.overrides)
    try:
        if wish.dry_run:
            return show(file, prepare(file), wish.forced, terminal, tune=wish.tune)
        run_dir = open_run_dir(wish.path)
        try:
            if run_dir.cleaned:
                terminal.note(run_dir.cleaned)
            if wish.detached and (warning := logout_warning(run_dir.path)):
                terminal.note(warning)
            can_tune = clean_up_after_killed(terminal)
            record = new_record(run_dir, file, wish.overrides, detached=wish.detached)
            _pull_if_missing(file, terminal)
            prepared = prepare(file)
            record.claim(prepared.plan)
            may_tune = wish.tune and can_tune
            with host_tuned(file, terminal, enabled=may_tune, overrides=wish.overrides) as tuning:
                _check(file, prepared, wish, (tuning, terminal))
                if tuning.tune(prepared.plan, terminal.note):
                    prepared = prepare(file)
                served = Served(file, prepared, wish.overrides)
                return _serve(served, wish, (run_dir, record, terminal, tuning), on_ready)
        finally:
            run_dir.close()
    except KvtierError as error:
        error.locate(file.place_of)
        raise


def _pull_if_missing(file: ProfileFile, terminal: Terminal) -> None:
    model = REGISTERED.get(file.profile.model.path)
    if model is not None and not is_complete(model):
        terminal.note(f"pulling {model.name} into {abbreviate(model.folder)}")
        notify.starting(f"pulling {model.name}", PULL_S_MAX)
        with terminal.progress() as progress:
            pull(model, progress.update)


def _check(file: ProfileFile, prepared: Prepared, wish: Wish, own: tuple[Tuning, Terminal]) -> None:
    """Raises ChecksFailed with every check of the doctor that fails for this profile, and that
    tuning does not mend."""
    tuning, terminal = own
    found = preflight(file, prepared, wish.forced, tuning.mends(prepared.plan))
    if file.profile.cluster.nodes > 1:
        found.refuse(but=SPANS_NODES)
        notify.starting("waiting for the other nodes", file.profile.cluster.meet_timeout_s)
        meeting = meet_all(file, prepared.model.path, terminal.note)
        terminal.note(meeting.describe())
    found.refuse()
    for note in found.notes(file.path):
        terminal.note(note)


def _serve(
    served: Served,
    wish: Wish,
    own: tuple[RunDir, Record, Terminal, Tuning],
    on_ready: Callable[[], None],
) -> int:
    run_dir, record, terminal, tuning = own
    plan, server = served.plan, served.profile.server
    control = ControlSocket(run_dir.path)
    try:
        with suppress(OSError):  # whoever plans meanwhile then counts the engine's part as taken
            run_dir.write_host(host_as_text(served.prepared.host))
        log = EngineLog(
            log_path_of(served.file.path), terminal.note, server.log_format, server.log_level
        )
        if run_dir.cleaned:
            log.event("warning", run_dir.cleaned)
        terminal.note(f"starting {plan.served_name} on {plan.device}, {plan.threads} threads")
        with StopSignals() as signals:
            raise_if_stopped()
            binding_of(plan).apply()
            keeper = Keeper(served, Means(run_dir, record, log, signals, control, terminal, tuning))
            orders = Orders(keeper, wish.forced)

            def announce(address: tuple[str, int]) -> None:
                with suppress(HostError, BrokenPipeError):  # whoever reads it may have gone
                    terminal.data(announcement(plan, url_of(*address), record.state))
                on_ready()

            try:
                return keeper.run(announce, orders.obey)
            except KvtierError as error:
                log.event("error", str(error))
                raise
            finally:
                keeper.close()
                log.close()
    finally:
        control.close()
