"""Errors that clients see, in OpenAI's shape.

ApiError
├── BadRequest        400  the request is wrong
│   └── ContextTooLong     the prompt, or prompt and answer, do not fit
├── Unauthorized      401  no key, or one that is not known
├── ModelNotFound     404
├── Conflict          409  an operator's command that cannot be carried out here and now
├── BodyTooLarge      413
├── TooManyRequests   429  with Retry-After
├── InternalError     500  a fault of ours
└── Unavailable       503  starting, draining or failed; with Retry-After
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error as a client gets it: the message says what to change."""

    status = 500
    type = "internal_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    @property
    def headers(self) -> dict[str, str]:
        return {}

    def body(self) -> dict[str, Any]:
        return error_body(self.message, self.type, self.param, self.code)


class BadRequest(ApiError):
    status = 400
    type = "invalid_request_error"


class ContextTooLong(BadRequest):
    code = "context_length_exceeded"


class Unauthorized(ApiError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class ModelNotFound(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class Conflict(ApiError):
    status = 409
    type = "invalid_request_error"
    code = "refused"


class BodyTooLarge(ApiError):
    status = 413
    type = "invalid_request_error"
    code = "body_too_large"


class InternalError(ApiError):
    pass


class _RetryLater(ApiError):
    """`retry_after_s`: whole seconds after which another try may succeed."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after_s)}


class TooManyRequests(_RetryLater):
    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class Unavailable(_RetryLater):
    status = 503
    type = "service_unavailable"
    code = "not_ready"


def fault() -> InternalError:
    """For a bug of ours: the log has what happened, the client its request id."""
    return InternalError("an internal error; the server's log has it under this X-Request-Id")


def error_body(
    message: str, type: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}
