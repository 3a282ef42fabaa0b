"""config.json: read from a folder, and asked for one checked field at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kvtier_ops.errors import ModelError
from kvtier_ops.model.unreadable import unreadable

COUNT_MAX = 1 << 31  # of what a field may count; no model comes near
LAYERS_MAX = 10_000
AGAIN = "download the model again"

# What Hugging Face calls most of it -> what some families call it. A family can add to these.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "num_hidden_layers": ("num_layers", "n_layer", "n_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "num_key_value_heads": ("num_kv_heads", "multi_query_group_num"),
    "head_dim": ("kv_channels",),
    "hidden_size": ("n_embd", "d_model"),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "ffn_dim"),
    "vocab_size": ("padded_vocab_size",),
    "max_position_embeddings": ("n_positions", "max_seq_len", "seq_length"),
    "num_experts": ("num_local_experts", "n_routed_experts"),
    "sliding_window_pattern": ("_sliding_window_pattern",),
}

Default = int | bool | str | Callable[["Config"], int] | None


@dataclass(frozen=True)
class Config:
    """A model's own description. `null` and absent are the same: then `defaults` apply.

    `section`: the object inside of config.json that `values` are, such as `text_config.`.
    `spelled`: how errors name a field where the file spells it otherwise (GGUF).
    Every method that returns a value raises ModelError naming file and field.
    """

    source: Path
    values: Mapping[str, Any]
    section: str = ""
    spelled: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Default] = field(default_factory=dict)

    def of(self, names: Mapping[str, tuple[str, ...]], defaults: Mapping[str, Default]) -> Config:
        """The same file, read as a family reads it."""
        return replace(self, names=names, defaults=defaults)

    def named(self, name: str) -> str:
        """How the file spells `name`, if it has it at all."""
        spellings = (*self.names.get(name, ()), name, *_OTHER_NAMES.get(name, ()))
        return next((each for each in spellings if self.values.get(each) is not None), name)

    def value(self, name: str) -> Any:
        """As it stands in the file, or the default; None: neither."""
        found = self.values.get(self.named(name))
        if found is not None:
            return found
        default = self.defaults.get(name)
        return default(self) if callable(default) else default

    def has(self, name: str) -> bool:
        return self.value(name) is not None

    def count(self, name: str, default: int | None = None, *, most: int = COUNT_MAX) -> int:
        """A whole number above 0."""
        found = self._number(name, default, most)
        if found == 0:
            raise self.wrong(name, "is 0")
        return found

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number, 0 allowed."""
        return self._number(name, default, COUNT_MAX)

    def flag(self, name: str, default: bool = False) -> bool:
        found = self.value(name)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise self.wrong(name, f"is neither true nor false: {found!r:.40}")
        return found

    def items(self, name: str, kind: type[str] | type[int], length: int | None = None) -> list[Any]:
        """A list of text or of whole numbers, of `length` if that is given."""
        found = self.value(name)
        if not isinstance(found, list) or not all(
            isinstance(item, kind) and not isinstance(item, bool) for item in found
        ):
            what = "text" if kind is str else "whole numbers"
            raise self.wrong(name, f"is not a list of {what}: {found!r:.40}")
        if length is not None and len(found) != length:
            raise self.wrong(name, f"has {len(found)} entries for {length} layers")
        return found

    def text(self, name: str) -> str:
        found = self.value(name)
        if not isinstance(found, str):
            raise self.wrong(name, "is missing" if found is None else f"is no text: {found!r:.40}")
        return found

    def inner(self, name: str) -> Config:
        """The object that is called `name`."""
        found = self.values.get(name)
        if not isinstance(found, dict):
            raise self.wrong(name, f"is not an object: {found!r:.40}")
        return Config(self.source, found, f"{self.section}{name}.")

    def wrong(self, name: str, what: str) -> ModelError:
        """The error for this field: `what` follows its name."""
        found = self.named(name)
        where = f"{self.section}{self.spelled.get(found, found)}"
        return ModelError(f"`{self.source}`: `{where}` {what}", AGAIN)

    def _number(self, name: str, default: int | None, most: int) -> int:
        found = self.value(name)
        if found is None:
            found = default
        if found is None:
            raise self.wrong(name, "is missing")
        if not isinstance(found, int) or isinstance(found, bool) or found < 0:
            raise self.wrong(name, f"is not a whole number above 0: {found!r:.40}")
        if found > most:
            raise self.wrong(name, f"is larger than any model has: {found!r:.40}")
        return found


def layer_count(config: Config) -> int:
    return config.count("num_hidden_layers", most=LAYERS_MAX)


def read_config(place: Path) -> Config:
    """Of a folder, or of the file alone. Raises ModelError if there is none, or if it is no JSON
    object."""
    path = place / "config.json" if place.is_dir() else place
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = "a Hugging Face folder has config.json, *.safetensors and a tokenizer"
        raise ModelError(f"`{place}` has no config.json", hint) from None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"`{path}` is not JSON", AGAIN) from error
    if not isinstance(values, dict):
        raise ModelError(f"`{path}` is not a JSON object", AGAIN)
    return Config(path, values)


def architecture_of(config: Config) -> str:
    """The first of `architectures`."""
    named = config.values.get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise ModelError(f"`{config.source}` does not name its `architectures`", AGAIN)
    return named[0]
