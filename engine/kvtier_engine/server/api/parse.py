"""From a request's bytes to its model, or to a BadRequest that names field, value and remedy."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kvtier_engine.server.errors import BadRequest

SHOWN_CHARS_MAX = 80  # of a value in an error message
SHOWN_ERRORS_MAX = 5

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], raw: bytes) -> Model:
    """Reads JSON strictly: no type is turned into another, numbers are finite."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise _bad_request(error) from error


def _bad_request(error: ValidationError) -> BadRequest:
    errors = error.errors(include_url=False)
    first = errors[0]
    if first["type"] == "json_invalid":
        reason = first["ctx"]["error"]  # ends with "at line L column C"
        return BadRequest(f"the body is not valid JSON: {reason}", code="invalid_json")
    sentences = [_sentence(each) for each in errors[:SHOWN_ERRORS_MAX]]
    if len(errors) > SHOWN_ERRORS_MAX:
        sentences.append(f"and {len(errors) - SHOWN_ERRORS_MAX} more")
    return BadRequest("; ".join(sentences), param=_place(first) or None)


def _place(error: ErrorDetails) -> str:
    """`messages[0].content` for a location, as clients write it."""
    place = ""
    for step in error["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
    return place


def _sentence(error: ErrorDetails) -> str:
    place = _place(error)
    if error["type"] == "missing":
        return f"`{place}` is missing"
    if error["type"] == "extra_forbidden":
        return f"`{place}` is not a field of this API: leave it out"
    if error["type"] == "value_error":  # from our own validators: a sentence with the way out
        message = str(error["ctx"]["error"])
        if message.startswith("["):  # inside the value: `messages[0].role`
            inner, _, message = message.partition(" ")
            place += inner
        return f"`{place}` {message}" if place else message
    if not place:
        return f"the body must be a JSON object, not {shown(error['input'])}"
    message = error["msg"].removeprefix("Input ")
    return f"`{place}` {message}, not {shown(error['input'])}"


def shown(value: Any) -> str:
    """A client's value as JSON, cut to a length that fits a message."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}..."
