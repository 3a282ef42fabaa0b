"""`kvtier cache ...` against a server that remembers what it was asked."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kvtier_ops import cli

KEY = "key-of-the-admin"
TIERS = {"l1": {"pages": 1, "tokens": 64}, "l2": {"pages": 2, "tokens": 128}}
TIERS["l3"] = TIERS["l2"]
FIGURES = {
    "page_tokens": 64,
    "tiers": {tier: {"capacity_pages": 9, "cached_pages": 5} for tier in TIERS},
    "hints": {
        "pinned_pages": 3,
        "pinned_pages_max": 4,
        "session_pages": 2,
        "sessions": 1,
        "ttl_pages": 7,
    },
    "under_way": None,
}
ANSWERS: dict[str, Any] = {
    "": FIGURES,
    "/lookup": {"cached_tokens": 128, "prompt_tokens": 200, "tiers": TIERS, "pinned_pages": 2},
    "/warm": {"tier": "l2", "pages": 2, "tokens": 128},
    "/pin": {"pinned": True, "reason": None, "pages": 2, "tokens": 128},
    "/unpin": {"unpinned_pages": 2},
    "/end_session": {"dropped_pages": 2, "waits_for_requests": False},
    "/resize": {"tier": "l2", "pages": 2, "bytes": 2 << 20},
    "/detach": {"tier": "l3", "pages": 0, "bytes": 0},
    "/attach": {"tier": "l3", "pages": 1, "bytes": 1 << 20},
    "/clear": {"dropped_pages": {"l1": 5}, "left_pages": {"l1": 0}},
}


@dataclass
class Admin:
    """`status` and `body` replace the usual answers."""

    url: str = ""
    status: int = 200
    body: Any = None
    seen: list[tuple[str, str, Any]] = field(default_factory=list)
    key: str | None = None


@pytest.fixture
def admin() -> Iterator[Admin]:
    state = Admin()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            body = json.loads(self.rfile.read(length)) if length else None
            state.seen.append((self.command, self.path, body))
            state.key = self.headers.get("authorization")
            usual = ANSWERS.get(self.path.removeprefix("/admin/cache"))
            said = json.dumps(state.body if state.body is not None else usual).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Said:
    stdout: str
    stderr: str


class Run:
    """`kvtier cache ...` in this process; checks the exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._patch = patch

    def __call__(self, *arguments: str, code: int = 0, key: str | None = KEY) -> Said:
        if key is None:
            self._patch.delenv("KVTIER_ADMIN_KEY", raising=False)
        else:
            self._patch.setenv("KVTIER_ADMIN_KEY", key)
        self._patch.setattr(sys, "stdin", io.StringIO("from stdin"))
        found = cli.run(["cache", *arguments])
        said = Said(*self._capsys.readouterr())
        assert found == code, said
        assert "kvtier itself failed" not in said.stderr
        return said


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(capsys, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "path", "body", "said"),
    [
        (["stat"], "", None, "3 of at most 4 pages pinned"),
        (["lookup", "Hello"], "/lookup", {"prompt": "Hello"}, "128 of 200 tokens are cached"),
        (["lookup", "-"], "/lookup", {"prompt": "from stdin"}, "l1 64, l2 128, l3 128"),
        (["lookup", "--ids", "1,2"], "/lookup", {"token_ids": [1, 2]}, "2 pages are pinned"),
        (
            ["warm", "x", "--tenant", "a", "--salt", "s"],
            "/warm",
            {"prompt": "x", "tenant": "a", "salt": "s", "tier": "l2"},
            "128 tokens are in l2",
        ),
        (["warm", "x", "--tier", "l1"], "/warm", {"prompt": "x", "tier": "l1"}, "128 tokens"),
        (["pin", "x"], "/pin", {"prompt": "x"}, "128 tokens are pinned"),
        (["unpin", "x"], "/unpin", {"prompt": "x"}, "2 pages were unpinned"),
        (["unpin", "--all"], "/unpin", {"all": True}, "2 pages were unpinned"),
        (["end-session", "s"], "/end_session", {"session": "s"}, "2 pages were dropped"),
        (
            ["resize", "l2", "2MiB"],
            "/resize",
            {"tier": "l2", "size_bytes": 2 << 20},
            "l2 has 2 pages, 2.00 MiB",
        ),
        (["detach", "l3"], "/detach", {"tier": "l3"}, "`kvtier cache attach l3` brings it back"),
        (["attach", "l3"], "/attach", {"tier": "l3"}, "l3 has 1 page, 1.00 MiB"),
        (
            ["attach", "l3", "--size", "1GB"],
            "/attach",
            {"tier": "l3", "size_bytes": 10**9},
            "l3 has 1 page",
        ),
        (["clear", "--tier", "l1"], "/clear", {"tier": "l1"}, "l1: 5 pages dropped"),
        (["clear", "--tenant", "a"], "/clear", {"tier": "all", "tenant": "a"}, "no page of `a`"),
        (["clear", "--tenant", ""], "/clear", {"tier": "all", "tenant": ""}, "without a key"),
    ],
)
def test_each_command(run: Run, admin: Admin, arguments, path, body, said) -> None:
    done = run(*arguments, "--url", admin.url)
    assert said in done.stdout
    method = "GET" if body is None else "POST"
    assert admin.seen == [(method, f"/admin/cache{path}", body)]
    assert admin.key == f"Bearer {KEY}"
    assert json.loads(run(*arguments, "--url", admin.url, "--json").stdout) == ANSWERS[path]


def test_messages_come_from_a_file(run: Run, admin: Admin, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    messages = [{"role": "user", "content": "Hi"}]
    file.write_text(json.dumps(messages))
    run("lookup", "--messages", str(file), "--url", admin.url)
    assert admin.seen[0][2] == {"messages": messages}
    assert "cannot read" in run("lookup", "--messages", str(tmp_path), code=3).stderr
    file.write_text("[")
    assert "is not JSON" in run("lookup", "--messages", str(file), code=2).stderr


def test_a_refused_pin_is_exit_code_3(run: Run, admin: Admin) -> None:
    admin.body = {"pinned": False, "reason": "L2 is full of pins", "pages": 0, "tokens": 0}
    assert "L2 is full of pins" in run("pin", "x", "--url", admin.url, code=3).stdout


def test_a_change_under_way_is_shown(run: Run, admin: Admin) -> None:
    admin.body = {**FIGURES, "under_way": "resize l2"}
    assert "under way: resize l2" in run("stat", "--url", admin.url).stdout


def test_a_session_that_waits_says_so(run: Run, admin: Admin) -> None:
    admin.body = {"dropped_pages": 0, "waits_for_requests": True}
    assert "still run" in run("end-session", "x", "--url", admin.url).stdout


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (401, {"error": {"message": "no"}}, 3, "does not take this key\nhint: `KVTIER_ADMIN_KEY`"),
        (404, {"error": {"message": "no"}}, 3, "has no /admin/cache\nhint: set `server.admin_key`"),
        (400, {"error": {"message": "`salt` is too long"}}, 2, "error: `salt` is too long"),
        (409, {"error": {"message": "the disk is gone"}}, 3, "error: the disk is gone"),
        (503, {"error": {"message": "still loading"}}, 3, "still loading\nhint: try again"),
        (500, {"error": {"message": "oops"}}, 3, "answers 500: oops"),
        (502, ["<html>"], 3, "answers 502"),
        (200, ["not an object"], 3, "answers 200"),
    ],
)
def test_each_answer_that_is_none_has_a_sentence(
    run: Run, admin: Admin, status, body, code, said
) -> None:
    admin.status, admin.body = status, body
    assert said in run("clear", "--tier", "l1", "--url", admin.url, code=code).stderr


def test_mistakes_are_told_before_anything_is_asked(run: Run, admin: Admin) -> None:
    url = ["--url", admin.url]
    assert "no `KVTIER_ADMIN_KEY`" in run("stat", *url, code=2, key=None).stderr
    assert "no `KVTIER_ADMIN_KEY`" in run("stat", *url, code=2, key=" ").stderr
    assert "no key has" in run("stat", *url, code=2, key="a\nb").stderr
    for wrong in (["lookup"], ["lookup", "x", "--ids", "1"]):
        assert "give one of" in run(*wrong, *url, code=2).stderr
    assert "whole numbers" in run("lookup", "--ids", "1,x", *url, code=2).stderr
    assert "the unit is missing" in run("resize", "l2", "64", *url, code=2).stderr
    assert "means nothing here" in run("attach", "l2", "--size", "5%", *url, code=2).stderr
    assert "say what to clear" in run("clear", *url, code=2).stderr
    assert "--all goes with no prompt" in run("unpin", "x", "--all", *url, code=2).stderr
    assert admin.seen == []


def test_a_server_that_is_not_there(run: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert f"nothing listens at {url}" in run("stat", "--url", url, code=3).stderr
    assert "cannot ask" in run("stat", "--url", "http://no.such.host.invalid", code=3).stderr
    for url in ("127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "http://x/v1"):
        assert "is not the address" in run("stat", "--url", url, code=2).stderr
