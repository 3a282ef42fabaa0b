"""The section `model`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kvtier_engine.config import Dtype
from kvtier_ops.profile.fields import ModelField, NameField
from kvtier_ops.profile.schema.base import Section


class Model(Section):
    """Which model is served, and under which name."""

    path: ModelField = Field(
        default="smollm2-135m",
        description="A Hugging Face folder, a GGUF file, or the name of a registered model "
        "(see `kvtier model list`). Relative paths start at the profile's folder.",
        examples=["~/models/SmolLM2-135M-Instruct"],
    )
    served_name: NameField = Field(
        default="auto",
        description="The model's name in the API; `auto`: the registered name, or the name of "
        "the folder or file.",
        examples=["smollm2"],
    )
    dtype: Dtype = Field(
        default="bfloat16",
        description="Type of weights, activations and KV. `float32` is exact and takes twice "
        "the memory.",
        examples=["float32"],
    )
    load_workers: int = Field(
        default=2, ge=1, le=64, description="Threads that read weights.", examples=[4]
    )
    tokenizer_mode: Literal["auto", "fast"] = Field(
        default="auto",
        description="Which tokenizer is used. Both mean the fast one, from tokenizer.json; "
        "tokenizers written in Python are not run.",
        examples=["fast"],
    )
