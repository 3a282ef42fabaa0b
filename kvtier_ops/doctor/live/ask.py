"""Asks a running engine: /ready, /metrics, and /admin/cache where there is a key."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from typing import Any

from kvtier_ops.cache.client import KEY_VARIABLE, ask, connect
from kvtier_ops.doctor.live.samples import Scrape, Span, read_scrape
from kvtier_ops.errors import KvtierError, Refused

TIMEOUT_S = 10.0
BODY_BYTES_MAX = 16 << 20
_CHUNK_BYTES = 1 << 16


def fetch(url: str, path: str) -> tuple[int, bytes]:
    """Status and body of a GET. Raises BadInput for what is no address, Refused without answer."""
    connection = connect(url, TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, _whole(url, response)
    except ConnectionRefusedError:
        raise Refused(
            f"nothing listens at {url}", "start `kvtier launch`, or name another address"
        ) from None
    except TimeoutError:
        raise Refused(
            f"{url} did not answer within {TIMEOUT_S:g} s",
            "see the engine's log: the server may hang, or a firewall may drop packets",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise Refused(
            f"cannot ask {url}: {error or type(error).__name__}",
            "see whether name, port and scheme (http or https) are right",
        ) from None
    finally:
        connection.close()


def _whole(url: str, response: http.client.HTTPResponse) -> bytes:
    """All of the body, within limits of size and time."""
    deadline = time.monotonic() + TIMEOUT_S
    parts: list[bytes] = []
    size = 0
    while part := response.read(_CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > BODY_BYTES_MAX or time.monotonic() > deadline:
            raise Refused(
                f"{url} answers without an end", "name the address that `kvtier launch` shows"
            )
    return b"".join(parts)


def scrape(url: str) -> Scrape:
    """Raises BadInput or Refused."""
    status, body = fetch(url, "/metrics")
    if status != 200:
        raise Refused(
            f"{url}/metrics answers {status}",
            "name the address that `kvtier launch` shows, not that of a proxy or of another server",
        )
    return read_scrape(url, body.decode(errors="replace"))


def observe(url: str, interval_s: float, wait: Callable[[float], None] = time.sleep) -> Span:
    """Two scrapes so far apart; with 0, one. An engine that has been started anew between them
    is taken as from its start."""
    first = scrape(url)
    if interval_s <= 0:
        return Span(first)
    begin = time.monotonic()
    wait(interval_s)
    second = scrape(url)
    took_s = time.monotonic() - begin
    if (second.get("requests_total") or 0) < (first.get("requests_total") or 0):
        return Span(second)
    return Span(second, first, took_s)


def ask_ready(url: str) -> tuple[bool, dict[str, Any]]:
    """What GET /ready says. Raises BadInput or Refused."""
    status, body = fetch(url, "/ready")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    return status == 200, said if isinstance(said, dict) else {}


def ask_admin(url: str) -> tuple[dict[str, Any], str]:
    """What GET /admin/cache says, or nothing and why not. A key is not needed."""
    if not os.environ.get(KEY_VARIABLE, "").strip():
        return {}, f"the environment has no `{KEY_VARIABLE}`"
    try:
        return ask(url, "", timeout_s=TIMEOUT_S), ""
    except KvtierError as error:
        return {}, str(error)
