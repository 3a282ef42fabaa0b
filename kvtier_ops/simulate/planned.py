"""What a plan, or sizes on the command line, say of the cache to simulate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvtier_ops.errors import BadInput
from kvtier_ops.plan import Plan
from kvtier_ops.simulate.rates import Rates
from kvtier_ops.simulate.setup import DiskSetup, MemorySetup, ModelWork, Setup
from kvtier_ops.units import parse_size


def setup_of(plan: Plan) -> Setup:
    """The cache that the plan describes."""
    tiers, model = plan.profile.tiers, plan.model
    limit = tiers.l3.write_bytes_per_day
    return Setup(
        token_bytes=plan.token_bytes,
        page_tokens=tiers.page_tokens,
        l1=MemorySetup(plan.l1.tokens, tiers.l1.eviction),
        l2=MemorySetup(plan.l2.tokens, tiers.l2.eviction),
        l3=DiskSetup(
            tokens=plan.l3.tokens,
            eviction=tiers.l3.eviction,
            write=tiers.l3.write,
            admission=tiers.l3.admission,
            bytes_per_day=limit.bytes if limit is not None else None,
            drive_writes_per_day=tiers.l3.drive_writes_per_day,
            drive_bytes=plan.answers.wear.drive_bytes if plan.answers.wear else 0,
            sightings=tiers.l3.admit_sightings,
            sightings_tokens=tiers.l3.admit_tokens,
        ),
        work=ModelWork(model.active_parameters, model.query_heads * model.head_dim * model.layers),
        compute_while_loading=tiers.l3.compute_while_loading,
        prefix_reuse=tiers.prefix_reuse,
    )


def rates_of(plan: Plan) -> Rates:
    """What the plan goes by, with the plan's word for how much each figure is worth."""
    rates = plan.answers.rates
    figures = {
        "prefill_tokens_per_s": rates.prefill_tokens_per_s,
        "disk_read_bytes_per_s": rates.disk_read_bytes_per_s,
        "disk_write_bytes_per_s": rates.disk_write_bytes_per_s,
        "l2_bytes_per_s": rates.l2_bytes_per_s,
    }
    known = {name: figure for name, figure in figures.items() if figure is not None}
    return Rates(
        **{name: known[name].value if name in known else math.inf for name in figures},
        sources={name: f"{figure.source}: {figure.reason}" for name, figure in known.items()},
    )


PAGE_TOKENS = 64  # as the profile's default


@dataclass(frozen=True)
class ToldSizes:
    """Sizes as an operator writes them, for a cache without a profile; "": no such tier."""

    kv_bytes_per_token: int
    l1: str = ""
    l2: str = ""
    l3: str = ""
    page_tokens: int = PAGE_TOKENS


def setup_told(sizes: ToldSizes) -> Setup:
    """A cache of these sizes with everything else as a profile has it that does not say it.
    Raises BadInput."""
    if sizes.kv_bytes_per_token <= 0:
        raise BadInput(
            f"{sizes.kv_bytes_per_token} bytes are no KV of a token",
            "`kvtier plan` says how many a model needs, such as 147456",
            place="--kv-bytes-per-token",
        )
    if sizes.page_tokens <= 0:
        raise BadInput("a page has at least a token", "such as 64", place="--page-tokens")
    l1, l2, l3 = (
        _tokens(f"--{name}", text, sizes.kv_bytes_per_token)
        for name, text in (("l1", sizes.l1), ("l2", sizes.l2), ("l3", sizes.l3))
    )
    if l3 and not l2:
        raise BadInput("L3 needs an L2: pages go through it", "give `--l2` a size", place="--l3")
    return Setup(
        token_bytes=sizes.kv_bytes_per_token,
        page_tokens=sizes.page_tokens,
        l1=MemorySetup(l1),
        l2=MemorySetup(l2),
        l3=DiskSetup(l3),
    )


def _tokens(option: str, text: str, token_bytes: int) -> int:
    if not text:
        return 0
    try:
        return parse_size(text).bytes // token_bytes
    except ValueError as error:
        raise BadInput(str(error), f"such as `{option} 64GiB`", place=option) from None
