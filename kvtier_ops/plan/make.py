"""(Profile, Host, ModelFacts) -> Plan. No I/O, nothing changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kvtier_ops.errors import BadInput, PlanDoesNotFit
from kvtier_ops.host import Host
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.plan.disk import plan_disk
from kvtier_ops.plan.memory import check_ranks, plan_memory, round_up
from kvtier_ops.plan.numa import plan_numa
from kvtier_ops.plan.types import Plan, TierPlan
from kvtier_ops.plan.warnings import find_warnings
from kvtier_ops.profile.schema import Profile
from kvtier_ops.units import AUTO, format_bytes


def make_plan(profile: Profile, host: Host, model: ModelFacts) -> Plan:
    """Resolves every `auto`, rounds down to pages, and checks that it all fits.

    `host` must know the profile's L3 directories. Raises BadInput where profile and model
    contradict each other, PlanDoesNotFit where the host has too little.
    """
    check_ranks(profile, model)
    device = _device(profile, host)
    cache = plan_memory(profile, host, model, device)
    numa_nodes = plan_numa(profile, host, device)
    context, context_reason = _context(profile, model, cache.l1)
    threads, threads_reason = _threads(profile, host)
    page_bytes = model.kv.token_bytes * profile.tiers.page_tokens
    l3, disks = plan_disk(profile, host, page_bytes)
    if l3.pages and not cache.l2.pages:
        raise PlanDoesNotFit(
            f"`{profile.tiers.l2.size}` leaves L2 no page, and L3 needs L2: pages go through it",
            "free memory, give L2 a size, or set `tiers.l3.size: 0GiB`",
            field="tiers.l2.size",
        )
    plan = Plan(
        profile=profile,
        model=model,
        served_name=_served_name(profile),
        device=device,
        threads=threads,
        threads_reason=threads_reason,
        max_context_tokens=context,
        context_reason=context_reason,
        l1=cache.l1,
        l2=_with_nodes(cache.l2, numa_nodes),
        l3=l3,
        numa_nodes=numa_nodes,
        disks=disks,
        memories=cache.memories,
        warnings=(),
    )
    return replace(plan, warnings=find_warnings(plan, host))


def _with_nodes(l2: TierPlan, nodes: tuple[int, ...]) -> TierPlan:
    if not l2.pages or not nodes:
        return l2
    return replace(l2, reason=f"{l2.reason}; NUMA nodes {', '.join(map(str, nodes))}, by rank")


def _device(profile: Profile, host: Host) -> str:
    if profile.engine.device != "auto":
        return profile.engine.device
    return "cuda" if host.gpus else "cpu"


def _served_name(profile: Profile) -> str:
    if profile.model.served_name != AUTO.value:
        return profile.model.served_name
    if profile.model.path in REGISTERED:
        return profile.model.path
    path = Path(profile.model.path)
    return path.stem if path.suffix == ".gguf" else path.name


def _threads(profile: Profile, host: Host) -> tuple[int, str]:
    threads, ranks = profile.engine.threads, profile.engine.tensor_parallel
    if isinstance(threads, int):
        return threads, "as the profile says"
    shared = f" for {ranks} ranks" if ranks > 1 else ""
    return max(1, host.usable_cpus // ranks), f"auto: {host.usable_cpus} CPUs{shared}"


def _context(profile: Profile, model: ModelFacts, l1: TierPlan) -> tuple[int, str]:
    asked, most = profile.engine.max_context_tokens, model.max_context_tokens
    if not isinstance(asked, int):
        if l1.tokens < most:
            return l1.tokens, f"auto: L1 holds {l1.tokens}, the model could take {most}"
        return most, "auto: what the model was trained for"
    if asked > most:
        raise BadInput(
            f"{asked} tokens are more than the {most} that the model was trained for",
            f"the largest is {most}",
            field="engine.max_context_tokens",
        )
    if asked > l1.tokens:
        page = profile.tiers.page_tokens
        needed = round_up(asked, page) * model.kv.token_bytes
        raise PlanDoesNotFit(
            f"{asked} tokens of KV take {format_bytes(needed)}, and L1 holds {l1.tokens}",
            f"the largest that fits is {l1.tokens}; `tiers.l1.size` decides it",
            field="engine.max_context_tokens",
        )
    return asked, "as the profile says"
