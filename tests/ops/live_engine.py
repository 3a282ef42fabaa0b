"""A running engine as it was recorded, with changes; and a server that says the same."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data" / "live"
L3 = "/tmp/kvt-recorded-l3"
# The recording is of 22 requests over more prompts than L2 holds; this makes it a healthy engine.
HEALTHY = {'returned_pages_total{tier="l2"}': 6}


def recorded(changes: Mapping[str, object] = {}, *, name: str = "now") -> str:
    """The text of /metrics with other values; a name that it does not have is added."""
    text = (DATA / f"{name}.txt").read_text()
    for sample, value in {**HEALTHY, **changes}.items():
        line = f"kvtier_{sample} {value}"
        text, count = re.subn(
            rf"^kvtier_{re.escape(sample)} .*$", lambda _, line=line: line, text, flags=re.M
        )
        if not count:
            text += line + "\n"
    return text


def with_config(text: str, **labels: object) -> str:
    """Started otherwise."""
    for name, value in labels.items():
        text, count = re.subn(rf'(config_info{{.*\b{name}=")[^"]*', rf"\g<1>{value}", text)
        assert count == 1, name
    return text


@dataclass
class Engine:
    """`pages`: path -> (status, body); what is not there is a 404. /metrics may be a list, of which
    each request takes the next, and the last one stays."""

    url: str = ""
    metrics: list[str] = field(default_factory=lambda: [recorded()])
    pages: dict[str, tuple[int, str]] = field(
        default_factory=lambda: {"/ready": (200, json.dumps({"status": "ready", "stages": {}}))}
    )
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, str]:
        if path == "/metrics" and self.metrics:
            return 200, self.metrics.pop(0) if len(self.metrics) > 1 else self.metrics[0]
        return self.pages.get(path, (404, "{}"))


@contextmanager
def served(engine: Engine) -> Iterator[Engine]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            engine.asked.append((self.path, self.headers.get("authorization")))
            status, text = engine.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    engine.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield engine
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
