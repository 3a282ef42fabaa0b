"""Fields of OpenAI's and vLLM's API that this server does not have.

To ignore them would give another answer than was asked for, so they are refused, except
with a value that asks for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Harmless = Callable[[Any], bool]


def _off(value: Any) -> bool:
    return value in (False, 0, "", [], {})


def _is(*values: Any) -> Harmless:
    return lambda value: value in values


def _has_type_text(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "text"


_REFUSED: dict[str, Harmless] = {
    "tools": _off,
    "tool_choice": _is("none", "auto"),
    "functions": _off,
    "function_call": _is("none", "auto"),
    "response_format": _has_type_text,
    "structured_outputs": _off,
    "guided_json": _off,
    "guided_regex": _off,
    "guided_choice": _off,
    "guided_grammar": _off,
    "modalities": _is(["text"]),
    "audio": _off,
    "web_search_options": _off,
    "suffix": _off,
    "use_beam_search": _off,
    "length_penalty": _is(1),
    "early_stopping": _off,
    "prompt_logprobs": _off,
    "prompt_embeds": _off,
    "bad_words": _off,
    "allowed_token_ids": _off,
    "logits_processors": _off,
    "truncate_prompt_tokens": _off,
    "spaces_between_special_tokens": _is(True),
    "return_tokens_as_token_ids": _off,
    "chat_template": _off,
    "documents": _off,
    "mm_processor_kwargs": _off,
    # What would change KV without being in the page keys: tokens alone are.
    "multi_modal_data": _off,
    "image_data": _off,
    "video_data": _off,
    "audio_data": _off,
    "input_embeds": _off,
    "lora_request": _off,
    "lora_path": _off,
    "lora_name": _off,
    "adapter_id": _off,
    "prompt_adapter_request": _off,
    "kv_transfer_params": _off,
}


def refuse_unsupported(extra: dict[str, Any]) -> None:
    """Raises ValueError for the first field in `extra` whose absence would be felt."""
    for name, value in extra.items():
        harmless = _REFUSED.get(name)
        if harmless is not None and not harmless(value):
            raise ValueError(f"`{name}` is not supported by this server: leave it out")
