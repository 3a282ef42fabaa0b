"""Chat messages: checked, and brought to the plain form that chat templates expect."""

from __future__ import annotations

from typing import Any

from kvtier_engine.server.api.parse import shown

CHAT_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {"type": "string", "minLength": 1},
            "content": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["type", "text"],
                            "properties": {
                                "type": {"const": "text"},
                                "text": {"type": "string"},
                            },
                        },
                    },
                ]
            },
        },
    },
}


def plain_messages(value: Any) -> list[dict[str, Any]]:
    """Messages whose content is a string. Raises ValueError with the way out."""
    if not isinstance(value, list) or not value:
        raise ValueError("must be an array of messages, and not empty")
    return [_plain_message(message, place) for place, message in enumerate(value)]


def _plain_message(message: Any, place: int) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ValueError(f"[{place}] must be an object with `role` and `content`")
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise ValueError(f"[{place}].role must be a string such as `user`, not {shown(role)}")
    plain = {name: field for name, field in message.items() if field is not None}
    if "content" in plain:
        plain["content"] = _plain_content(plain["content"], place)
    elif role != "assistant":  # an assistant's message may hold tool calls alone
        raise ValueError(f"[{place}].content is missing")
    return plain


def _plain_content(content: Any, place: int) -> str:
    """A string, or the text parts of a list, each on a line of its own as in vLLM."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(
            f"[{place}].content must be a string or an array of text parts, not {shown(content)}"
        )
    return "\n".join(_text_of(part, f"[{place}].content[{k}]") for k, part in enumerate(content))


def _text_of(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text":
        raise ValueError(
            f"{where} must be of type `text`, not {shown(kind if kind else part)}: "
            "this server takes text only"
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise ValueError(f"{where}.text must be a string, not {shown(text)}")
    return text
