"""Model families: what a folder holds (spec), its weights, and the forward pass.

Nothing here imports torch before a family is asked for, so that spec, gguf and
fingerprint stay light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtier_engine.model.base import CausalModel

# The architecture that config.json names -> the class that computes it. Mistral, Qwen2
# and Qwen3 are Llama with a flag or two: a class of theirs is one line here.
_FAMILIES = {
    "LlamaForCausalLM": "kvtier_engine.model.llama:Llama",
}

ARCHITECTURES = tuple(sorted(_FAMILIES))


def model_class(architecture: str) -> type[CausalModel]:
    """The class that computes `architecture`, which must be one of ARCHITECTURES."""
    module, _, name = _FAMILIES[architecture].partition(":")
    found: type[CausalModel] = getattr(import_module(module), name)
    return found
