"""(Profile, Host, ModelFacts) -> Plan. No I/O, nothing changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kvtier_ops.errors import BadInput, PlanDoesNotFit
from kvtier_ops.host import Host
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.plan.answers import Load, Sizes, find_answers
from kvtier_ops.plan.cpus import plan_threads
from kvtier_ops.plan.disk import plan_disk
from kvtier_ops.plan.measured import Measured
from kvtier_ops.plan.memory import plan_memory
from kvtier_ops.plan.placement import plan_placements
from kvtier_ops.plan.places import check_nodes
from kvtier_ops.plan.question import Question, round_up
from kvtier_ops.plan.ranks import plan_ranks
from kvtier_ops.plan.types import Plan, TierPlan
from kvtier_ops.plan.warnings import find_warnings
from kvtier_ops.profile.schema import Profile
from kvtier_ops.units import AUTO, format_bytes


def make_plan(
    profile: Profile,
    host: Host,
    model: ModelFacts,
    measured: Measured | None = None,
    load: Load | None = None,
) -> Plan:
    """Resolves every `auto`, rounds down to pages, and checks that it all fits.

    `host` must know the profile's L3 directories. `measured`: what an earlier run found out;
    `load`: what a day brings. Raises BadInput where profile and model contradict each other,
    PlanDoesNotFit where the host has too little.
    """
    question = Question(profile, host, model, _device(profile, host), plan_ranks(profile, model))
    check_nodes(host, profile.host.cpu_nodes, "host.cpu_nodes")
    cache = plan_memory(question)
    context, context_reason = _context(question, cache.l1)
    threads, threads_reason = plan_threads(question)
    l3, disks = plan_disk(question)
    if l3.pages and not cache.l2.pages:
        raise PlanDoesNotFit(
            f"`{profile.tiers.l2.size}` leaves L2 no page, and L3 needs L2: pages go through it",
            "free memory, give L2 a size, or set `tiers.l3.size: 0GiB`",
            field="tiers.l2.size",
            id="KVT-P203",
        )
    sizes = Sizes(cache.l1, cache.l2, l3, disks, context)
    plan = Plan(
        profile=profile,
        host=host,
        model=model,
        served_name=_served_name(profile),
        device=question.device,
        ranks=question.ranks,
        threads=threads,
        threads_reason=threads_reason,
        max_context_tokens=context,
        context_reason=context_reason,
        max_prompt_tokens=_prompt(profile, context),
        token_bytes=question.token_bytes,
        device_token_bytes=question.device_token_bytes,
        l1=cache.l1,
        l2=cache.l2,
        l3=l3,
        numa_nodes=cache.arena.nodes,
        placements=plan_placements(question),
        arena_parts=question.arena_parts,
        hugepages=cache.arena.hugepages,
        disks=disks,
        memories=cache.memories,
        answers=find_answers(question, sizes, measured or Measured(), load),
        warnings=(),
    )
    return replace(plan, warnings=find_warnings(plan))


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
    return path.stem if path.suffix in (".gguf", ".json") else path.name


def _context(question: Question, l1: TierPlan) -> tuple[int, str]:
    asked, most = question.profile.engine.max_context_tokens, question.model.max_context_tokens
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
        needed = round_up(asked, question.page_tokens) * question.device_token_bytes
        raise PlanDoesNotFit(
            f"{asked} tokens of KV take {format_bytes(needed)}, and L1 holds {l1.tokens}",
            f"the largest that fits is {l1.tokens}; `tiers.l1.size` decides it",
            field="engine.max_context_tokens",
            id="KVT-P205",
        )
    return asked, "as the profile says"


def _prompt(profile: Profile, context: int) -> int:
    """A prompt leaves room for one token of an answer."""
    asked = profile.engine.max_prompt_tokens
    if not isinstance(asked, int):
        return context - 1
    if asked >= context:
        raise BadInput(
            f"{asked} tokens leave no room for an answer in a context of {context}",
            f"the largest is {context - 1}; `engine.max_context_tokens` decides it",
            field="engine.max_prompt_tokens",
        )
    return asked
