"""All checks of a running engine, over an interval."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from kvtier_ops.doctor.check import Finding
from kvtier_ops.doctor.live.ask import ask_admin, ask_ready, observe
from kvtier_ops.doctor.live.check import Live, run_live
from kvtier_ops.doctor.live.registry import LIVE_CHECKS
from kvtier_ops.doctor.select import ALL, Selection
from kvtier_ops.errors import BadInput
from kvtier_ops.profile.schema import Profile

INTERVAL_S = 5.0
INTERVAL_S_MAX = 3600.0


def examine_live(
    url: str,
    profile: Profile | None,
    interval_s: float = INTERVAL_S,
    selection: Selection = ALL,
) -> list[Finding]:
    """Asks twice; changes nothing. Raises BadInput, or Refused where no engine of ours answers."""
    if not 0 <= interval_s <= INTERVAL_S_MAX:
        raise BadInput(
            f"{interval_s:g} seconds are not between 0 and {INTERVAL_S_MAX:g}",
            "0 looks at everything since the engine's start",
            place="--interval",
        )
    checks = [each for each in LIVE_CHECKS if selection.has(each.id)]
    if not checks:
        raise BadInput(
            "with `--live`, none of these checks is made: they look at the host",
            "`kvtier doctor PROFILE --only ...`, without `--live`",
        )
    url = url.rstrip("/")
    is_ready, ready = ask_ready(url)
    span = observe(url, interval_s)
    admin, _ = ask_admin(url)
    live = Live(
        span, is_ready=is_ready, ready=ready, admin=admin, profile=profile, version=_version()
    )
    return list(run_live(checks, live))


def _version() -> str:
    try:
        return version("kvtier")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return ""
