"""What can be planned for and the bundled engine does not do: `kvtier launch` refuses it."""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.model.facts import SERVED
from kvtier_ops.model.kv_shape import KvKind
from kvtier_ops.plan.types import Plan, Warning_

ENGINE_LIMITS = "KVT-P1"  # how the ids of these warnings begin
SPANS_NODES = "KVT-P103"


def find(plan: Plan) -> Iterator[Warning_]:
    """Warnings KVT-P1xx."""
    model, profile, ranks = plan.model, plan.profile, plan.ranks
    if not model.is_served:
        yield _forbidden(
            "KVT-P101",
            f"the bundled engine does not serve {model.architecture}: this plan is for another",
            f"it serves {', '.join(sorted(SERVED))}",
            "model.path",
        )
    if model.is_guess:
        yield Warning_(
            "KVT-P024",
            f"kvtier does not know {model.architecture}: it is planned as its fields alone tell, "
            "with K and V of each kv head in every layer",
            "compare the layers in the table with the model's description",
            "model.path",
        )
    heads = min(
        (g.heads for g in model.kv.groups if g.kind is not KvKind.LATENT and g.heads), default=0
    )
    if ranks.total > 1 and any(group.kind is KvKind.LATENT for group in model.kv.groups):
        yield _forbidden(
            "KVT-P102",
            f"every rank keeps the whole latent vector: L1 of {ranks.total} ranks holds as many "
            "tokens as one rank's; the bundled engine does not do it",
            "take data parallelism where the engine has it",
            "engine.tensor_parallel",
        )
    if heads and ranks.total > heads:
        yield _forbidden(
            "KVT-P102",
            f"{ranks.total} ranks are more than the model's {heads} kv heads: each head is kept "
            f"{ranks.total // heads} times, and L1 holds as many fewer tokens; the bundled engine "
            "does not do it",
            f"set `engine.tensor_parallel` to {heads} or less",
            "engine.tensor_parallel",
        )
    if ranks.nodes > 1:
        yield _forbidden(
            SPANS_NODES,
            f"the bundled engine runs on one node, not on {ranks.nodes}",
            "set `cluster.nodes: 1`; the sizes here are those of one of the nodes",
            "cluster.nodes",
        )
    kv_dtype = profile.tiers.kv_dtype
    if kv_dtype not in ("auto", profile.model.dtype):
        yield _forbidden(
            "KVT-P104",
            f"the bundled engine keeps KV as {profile.model.dtype}, not as {kv_dtype}",
            "set `tiers.kv_dtype: auto`",
            "tiers.kv_dtype",
        )
    if isinstance(profile.engine.graph_max_batch, int):
        yield Warning_(
            "KVT-P022",
            "`engine.graph_max_batch` does nothing: the bundled engine captures no CUDA graphs",
            "remove it",
            "engine.graph_max_batch",
        )


def _forbidden(id: str, what: str, hint: str, field: str) -> Warning_:
    return Warning_(id, what, hint, field, forbids_launch=True)
