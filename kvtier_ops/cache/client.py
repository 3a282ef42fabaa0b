"""Asks /admin/cache of a running server."""

from __future__ import annotations

import http.client
import json
import os
from typing import Any
from urllib.parse import urlsplit

from kvtier_ops.errors import BadInput, Refused

KEY_VARIABLE = "KVTIER_ADMIN_KEY"
TIMEOUT_S = 600.0  # bringing a long prefix up from a slow disk takes a while
SHOWN_CHARS_MAX = 300


def ask(
    url: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    key: str = "",
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """GET, or POST of `body`, below /admin/cache, with the environment's key if there is no
    other. Raises BadInput or Refused."""
    key = key or os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise BadInput(
            f"the environment has no `{KEY_VARIABLE}`",
            "set it to the key that the profile names in `server.admin_key`",
        )
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection = connect(url, timeout_s)
    method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
    try:
        connection.request(method, f"/admin/cache{path}", content, headers)
        response = connection.getresponse()
        status, raw = response.status, response.read()
    except ConnectionRefusedError:
        raise Refused(
            f"nothing listens at {url}", "start `kvtier launch`, or name another `--url`"
        ) from None
    except TimeoutError:
        raise Refused(
            f"{url} did not answer within {timeout_s:g} s", "see the engine's log"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"cannot ask {url}: {error or type(error).__name__}", "see `--url`") from None
    except ValueError:
        raise BadInput(
            f"`{KEY_VARIABLE}` has characters that no key has", "it is one word of ASCII"
        ) from None
    finally:
        connection.close()
    return _answer(url, status, raw)


def connect(url: str, timeout_s: float) -> http.client.HTTPConnection:
    """To a server; nothing is sent yet. Raises BadInput for what is no address."""
    wrong = BadInput(f"`{url}` is not the address of a server", "write `http://127.0.0.1:8000`")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if not host or parts.path.strip("/"):
        raise wrong
    if parts.username or parts.password:  # which would be shown wherever the address is
        raise BadInput(
            "an address has no user and no password here",
            f"write `{parts.scheme}://{host}...`; the key of /admin is in `{KEY_VARIABLE}`",
        )
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout_s)
    raise wrong


def _answer(url: str, status: int, raw: bytes) -> dict[str, Any]:
    said = _json(raw)
    if status == 200 and said is not None:
        return said
    message = _message(said) or raw.decode(errors="replace")[:SHOWN_CHARS_MAX]
    match status:
        case 400 | 413 | 422:
            raise BadInput(message)
        case 401:
            raise Refused(
                f"{url} does not take this key",
                f"`{KEY_VARIABLE}` must be the key that the profile names in `server.admin_key`",
            )
        case 404:
            raise Refused(
                f"{url} has no /admin/cache",
                "set `server.admin_key` in its profile and launch it again",
            )
        case 409:
            raise Refused(message)
        case 503:
            raise Refused(message, "try again when `/ready` says so")
    raise Refused(f"{url} answers {status}: {message}", "see the engine's log")


def _json(raw: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(raw)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _message(said: dict[str, Any] | None) -> str:
    error = said.get("error") if said is not None else None
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else ""
