"""`kvtier plan --json`: the plan as data. Names and units here are a promise; `version` rises if
one changes its meaning. Sizes are exact bytes, rates are per second."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from kvtier_ops.plan.types import Figure, Plan, Source

VERSION = 1

Out = TypeVar("Out", bound="_Out")


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class KvLayersOut(_Out):
    """Layers whose KV is shaped alike."""

    kind: Literal["full", "sliding", "latent", "state"]
    layers: int
    heads: int = Field(description="KV heads; 1 for a latent vector, 0 for a state.")
    key_dim: int
    value_dim: int
    window_tokens: int | None
    state_numbers: int


class ModelOut(_Out):
    name: str
    path: str
    architecture: str
    is_served: bool = Field(description="By the bundled engine; others can be planned for.")
    dtype: str
    parameters: int
    active_parameters: int = Field(description="That one token passes through.")
    weight_bytes: int
    kv_token_bytes: int = Field(description="Of one token, over all ranks and nodes, once.")
    kv_item_bytes: int
    kv_layers: list[KvLayersOut]
    state_bytes: int = Field(description="Of one sequence, whatever its length.")


class ValueOut(_Out):
    value: int
    reason: str


class PageOut(_Out):
    tokens: int
    bytes: int = Field(description="Of this node's part of a page: a slot of L2 and L3.")
    device_bytes: int = Field(description="The same in L1, with the copies that ranks keep.")


class PageAdviceOut(_Out):
    use: str
    page_tokens: int
    reason: str


class TierOut(_Out):
    name: str
    where: str
    bytes: int
    pages: int
    tokens: int
    reason: str


class MemoryItemOut(_Out):
    name: str
    bytes: int
    reason: str


class MemoryOut(_Out):
    """Where one memory goes: `usable_bytes` is the sum of the items and what is left."""

    place: str
    usable_bytes: int
    items: list[MemoryItemOut]
    left_bytes: int


class HugepagesOut(_Out):
    node: int | None = Field(description="None: on any.")
    page_bytes: int
    pages: int
    reserved: int
    free: int
    to_reserve: int = Field(description="What nr_hugepages must be, so that enough are free.")


class DiskOut(_Out):
    path: str
    capacity_bytes: int
    free_bytes: int = Field(description="That L3 may use: beyond the reserve, its files included.")
    file_system: str
    kind: str = Field(description="Of the slowest drive behind it.")
    layers: list[str]
    drives: list[str]


class FigureOut(_Out):
    value: float
    source: Source
    reason: str


class RatesOut(_Out):
    prefill_tokens_per_s: FigureOut = Field(description="At an empty context.")
    prefill_slowdown_per_token: float = Field(
        description="A prompt of n tokens is computed at prefill / (1 + this x n / 2)."
    )
    l2_bytes_per_s: FigureOut
    disk_read_bytes_per_s: FigureOut | None
    disk_write_bytes_per_s: FigureOut | None


class ConversationsOut(_Out):
    """How many sequences of `tokens` tokens each tier holds."""

    tokens: int
    l1: int
    l2: int
    l3: int


class BreakEvenOut(_Out):
    context_tokens: int
    bytes_per_s: float = Field(description="A disk that reads more than this pays.")
    pays: bool


class WearOut(_Out):
    bytes_per_day: int
    reason: str
    drive_bytes: int
    drive_writes_per_day: float
    rated_per_day: float


class WarningOut(_Out):
    id: str
    what: str
    hint: str
    field: str = Field(description="Of the profile; empty if it is about none.")
    forbids_launch: bool


class PlanOut(_Out):
    """A plan that fits. What does not fit is an error, exit code 3."""

    version: int
    model: ModelOut
    device: Literal["cpu", "cuda"]
    tensor_parallel: int
    nodes: int
    ranks_here: int
    threads: ValueOut
    max_context_tokens: ValueOut
    max_prompt_tokens: int
    page: PageOut
    page_advice: list[PageAdviceOut]
    numa_nodes: list[int] = Field(description="Of each rank's part of L2; empty: any.")
    tiers: dict[Literal["l1", "l2", "l3"], TierOut]
    memory: list[MemoryOut] = Field(description="GPU memory, if there is any; host memory last.")
    hugepages: list[HugepagesOut]
    disks: list[DiskOut]
    conversations: list[ConversationsOut]
    rates: RatesOut
    arena_start_s: FigureOut
    break_even: list[BreakEvenOut]
    wear: WearOut | None
    warnings: list[WarningOut]


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """What `--json` prints; agrees with `json_schema`."""
    answers = plan.answers
    return PlanOut(
        version=VERSION,
        model=_model(plan),
        device="cuda" if plan.device == "cuda" else "cpu",
        tensor_parallel=plan.ranks.total,
        nodes=plan.ranks.nodes,
        ranks_here=plan.ranks.here,
        threads=ValueOut(value=plan.threads, reason=plan.threads_reason),
        max_context_tokens=ValueOut(value=plan.max_context_tokens, reason=plan.context_reason),
        max_prompt_tokens=plan.max_prompt_tokens,
        page=_page(plan),
        page_advice=[_copy(PageAdviceOut, each) for each in answers.page_advice],
        numa_nodes=list(plan.numa_nodes),
        tiers={"l1": _copy(TierOut, plan.l1), "l2": _copy(TierOut, plan.l2),
               "l3": _copy(TierOut, plan.l3)},
        memory=_memory(plan),
        hugepages=[_copy(HugepagesOut, need) for need in plan.hugepages],
        disks=_disks(plan),
        conversations=[_copy(ConversationsOut, row) for row in answers.conversations],
        rates=_rates(plan),
        arena_start_s=_figure(answers.arena_s),
        break_even=[_copy(BreakEvenOut, row) for row in answers.break_even],
        wear=None if answers.wear is None else _copy(WearOut, answers.wear),
        warnings=[_copy(WarningOut, warning) for warning in plan.warnings],
    ).model_dump(mode="json")  # fmt: skip


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of what `--json` prints."""
    schema = PlanOut.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _copy(kind: type[Out], source: object) -> Out:
    """Fields of the same names."""
    return kind.model_validate({name: getattr(source, name) for name in kind.model_fields})


def _figure(figure: Figure) -> FigureOut:
    return _copy(FigureOut, figure)


def _model(plan: Plan) -> ModelOut:
    model = plan.model
    return ModelOut(
        name=plan.served_name,
        path=str(model.path),
        architecture=model.architecture,
        is_served=model.is_served,
        dtype=plan.profile.model.dtype,
        parameters=model.parameters,
        active_parameters=model.active_parameters,
        weight_bytes=model.weight_bytes,
        kv_token_bytes=model.kv.token_bytes,
        kv_item_bytes=model.kv.item_bytes,
        kv_layers=[_copy(KvLayersOut, group) for group in model.kv.groups],
        state_bytes=model.kv.state_bytes,
    )


def _page(plan: Plan) -> PageOut:
    tokens = plan.profile.tiers.page_tokens
    return PageOut(
        tokens=tokens, bytes=plan.page_bytes, device_bytes=plan.device_token_bytes * tokens
    )


def _memory(plan: Plan) -> list[MemoryOut]:
    return [
        MemoryOut(
            place=memory.place,
            usable_bytes=memory.usable_bytes,
            items=[_copy(MemoryItemOut, item) for item in memory.items],
            left_bytes=memory.left_bytes,
        )
        for memory in plan.memories
    ]


def _disks(plan: Plan) -> list[DiskOut]:
    return [
        DiskOut(
            path=str(disk.path),
            capacity_bytes=disk.capacity_bytes,
            free_bytes=disk.free_bytes,
            file_system=disk.on.kind,
            kind=disk.on.drive_kind.value,
            layers=list(disk.on.layers),
            drives=[drive.name for drive in disk.on.drives],
        )
        for disk in plan.disks
    ]


def _rates(plan: Plan) -> RatesOut:
    rates = plan.answers.rates
    read, write = rates.disk_read_bytes_per_s, rates.disk_write_bytes_per_s
    return RatesOut(
        prefill_tokens_per_s=_figure(rates.prefill_tokens_per_s),
        prefill_slowdown_per_token=rates.context_slowdown,
        l2_bytes_per_s=_figure(rates.l2_bytes_per_s),
        disk_read_bytes_per_s=None if read is None else _figure(read),
        disk_write_bytes_per_s=None if write is None else _figure(write),
    )
