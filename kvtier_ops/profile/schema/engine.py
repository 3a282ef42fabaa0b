"""The section `engine`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kvtier_ops.profile.fields import CountField, EnvironmentField
from kvtier_ops.profile.schema.base import Section
from kvtier_ops.units import AUTO


class Engine(Section):
    """How the model is computed."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where the model is computed; `auto`: the GPU if there is one.",
        examples=["cpu"],
    )
    attention: Literal["auto", "native", "torch", "flashinfer"] = Field(
        default="auto",
        description="The attention kernel; `auto`: the quickest that this device has.",
        examples=["torch"],
    )
    tensor_parallel: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Ranks that share the model; must divide its kv heads. On GPUs one rank "
        "is one GPU.",
        examples=[2],
    )
    threads: CountField = Field(
        default=AUTO,
        description="CPU threads of each rank; `auto`: the CPUs that kvtier may use, divided "
        "by the ranks.",
        examples=[8],
    )
    max_context_tokens: CountField = Field(
        default=AUTO,
        description="Prompt and answer together, at most; `auto`: what the model was trained "
        "for, or what L1 holds if that is less.",
        examples=[8192],
    )
    max_running: int = Field(
        default=64, ge=1, le=4096, description="Sequences computed at the same time.", examples=[16]
    )
    max_queued: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Requests that may wait; later ones are answered 429.",
        examples=[1000],
    )
    max_step_tokens: int = Field(
        default=512,
        ge=16,
        le=65536,
        description="Tokens computed in one step. More: long prompts end sooner; less: "
        "running answers stutter less while a long prompt is computed.",
        examples=[2048],
    )
    max_prompt_tokens: CountField = Field(
        default=AUTO,
        description="The prompt of one request, at most; longer ones are answered 400. `auto`: as "
        "long as the context admits.",
        examples=[32768],
    )
    gpu_memory_fraction: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Part of each GPU's free memory that weights, work and L1 share. The rest is "
        "for CUDA itself, its libraries, and fragmentation.",
        examples=[0.88],
    )
    graph_max_batch: CountField = Field(
        default=AUTO,
        description="The largest batch whose decode step is captured as a CUDA graph. The bundled "
        "engine captures none: a number is kept for other engines, and the plan says so.",
        examples=[256],
    )
    environment: EnvironmentField = Field(
        default={},
        description="Environment variables for the engine's processes, besides those that kvtier "
        "was started with. Secrets do not belong here: see `server.api_keys`.",
        examples=[{"NCCL_DEBUG": "WARN"}],
    )
