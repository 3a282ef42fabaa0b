"""CPUs: how fast they may run, and how many of them a container leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.place import in_container, write_fix
from kvtier_ops.host.sysfs import parse_list, read_text

_SLOW_GOVERNORS = ("powersave", "conservative", "userspace")
# Their `powersave` goes by the load; what they prefer is told apart.
_SELF_GOVERNED = ("intel_pstate", "amd-pstate-epp")
_SLOW_PREFERENCES = ("power", "balance_power")
# Beside a GPU's rank: the HTTP server, the scheduler, and what feeds the GPU.
_CPUS_BESIDE_RANKS = 2


def governor(context: Context) -> Iterator[Outcome]:
    """Of all CPUs, the one that slows down most of them."""
    folders = sorted((context.root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    seen: Counter[str] = Counter()
    slow: Counter[str] = Counter()
    files = ""
    for folder in folders:
        name = read_text(folder / "scaling_governor")
        prefers = read_text(folder / "energy_performance_preference")
        is_own = read_text(folder / "scaling_driver") in _SELF_GOVERNED
        shown = f"{name}, prefers {prefers}" if is_own and prefers else name
        if not name:
            continue
        seen[shown] += 1
        if prefers in _SLOW_PREFERENCES if is_own else name in _SLOW_GOVERNORS:
            slow[shown] += 1
            files = "energy_performance_preference" if is_own else "scaling_governor"
    if not seen:
        return  # a virtual machine: its host decides
    common, count = (slow or seen).most_common(1)[0]
    yield Outcome(
        ok=not slow,
        required="one that goes by the load, or `performance`",
        current=f"{count} of {seen.total()} CPUs: `{common}`",
        fix=write_fix(context, "performance", f"/sys/devices/system/cpu/cpu*/cpufreq/{files}"),
        reason=_threads(context),
    )


def _threads(context: Context) -> str:
    plan = context.plan
    if plan is None:
        return "tokens are scheduled, and on a CPU computed, at the clock that it allows"
    if plan.device == "cpu":
        return f"{plan.threads * plan.ranks.here} threads compute at the clock that it allows"
    return "every step of the GPUs waits for the scheduler"


def cpus_allowed(context: Context) -> Iterator[Outcome]:
    """Those of `host.cpu_nodes` that a cpuset leaves."""
    plan = context.plan
    if plan is None or not plan.profile.host.cpu_nodes:
        return
    status = read_text(context.root / "proc/self/status").splitlines()
    listed = next((line for line in status if line.startswith("Cpus_allowed_list:")), "")
    allowed = set(parse_list(listed.partition(":")[2]))
    nodes = plan.profile.host.cpu_nodes
    named = {cpu for node in plan.host.numa_nodes if node.id in nodes for cpu in node.cpus}
    if not named or not allowed:
        return
    wish = ",".join(map(str, sorted(named)))
    yield Outcome(
        ok=bool(named & allowed),
        required=f"some CPUs of NUMA nodes {', '.join(map(str, nodes))}",
        current=f"{len(named & allowed)} of their {len(named)} may be used here",
        fix=f"outside, start the container with `--cpuset-cpus {wish}`, or mend `host.cpu_nodes`"
        if in_container(context.root)
        else "`taskset -pc $$` shows what this shell may use; mend `host.cpu_nodes`",
        reason="`host.cpu_nodes` keeps kvtier to them",
    )


def cpu_quota(context: Context) -> Iterator[Outcome]:
    """What the cgroup grants, against the processes of the engine. Threads of a CPU engine that
    are too many are the plan's own warning, KVT-P004."""
    plan = context.plan
    if plan is None or any(warning.id == "KVT-P004" for warning in plan.warnings):
        return
    host, ranks = plan.host, plan.ranks.here
    on_cpu = plan.device == "cpu"
    needed = plan.threads * ranks if on_cpu else ranks + _CPUS_BESIDE_RANKS
    quota = "" if host.cpu_quota is None else f", a quota of {host.cpu_quota:g} by the cgroup"
    ranked = f"{ranks} rank{'s' * (ranks > 1)}"
    yield Outcome(
        ok=host.usable_cpus >= needed,
        required=f"{needed} CPUs",
        current=f"{host.cpus}{quota}",
        fix=f"outside, start the container with `--cpus {needed}` (Kubernetes: `resources.limits."
        f"cpu: {needed}`), and with a cpuset of as many"
        if in_container(context.root)
        else f"`systemctl set-property UNIT CPUQuota={needed * 100}%`, or a host with more CPUs",
        reason=f"{ranked} of {plan.threads} threads"
        if on_cpu
        else f"{ranked}, the scheduler and the HTTP server, each busy all the time",
    )


CHECKS = (
    Check(
        "KVT-D601",
        "cpu",
        "governor",
        Severity.WARNING,
        governor,
        passes="no CPU is kept at a low clock",
        why="A governor such as `powersave` keeps CPUs at their lowest clock, whatever the load: "
        "prefill on a CPU takes as much longer, and on GPUs the scheduler holds up "
        "every step. Drivers that govern themselves (intel_pstate, amd-pstate) are judged by what "
        "they prefer. The fix asks for the full clock, until the next start of the host.",
    ),
    Check(
        "KVT-D602",
        "cpu",
        "CPUs of `host.cpu_nodes`",
        Severity.FAILURE,
        cpus_allowed,
        needs=Needs.PLAN,
        passes="the cpuset leaves some CPUs of `host.cpu_nodes`",
        why="`host.cpu_nodes` keeps the engine to the CPUs of some NUMA nodes. If a container's "
        "cpuset allows none of them, the launch stops. The fix widens the cpuset, or names other "
        "nodes.",
    ),
    Check(
        "KVT-D603",
        "cpu",
        "CPUs",
        Severity.WARNING,
        cpu_quota,
        needs=Needs.PLAN,
        passes="cpuset and CPU quota leave as many CPUs as the engine keeps busy",
        why="A quota stops all threads of the engine together when it is used up, until its next "
        "period begins, a tenth of a second as a rule: answers stutter although no CPU looks "
        "busy. On a GPU every rank, the scheduler and the HTTP server each take one CPU; on a CPU "
        "it is as many as there are threads. The fix grants them.",
    ),
)
