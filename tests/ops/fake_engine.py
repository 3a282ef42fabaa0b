"""An engine that only behaves like one: address file, /ready, signals, chosen deaths.

Started by driver.py in the place of `python -m kvtier_engine`. `FAKE_ENGINE` holds JSON:
  steps      polls of /ready until it answers 200 (default 1)
  hang       never becomes ready, and reports nothing new
  die        exit status at start, after writing `say` to stderr
  die_ready  exit status at the first poll after ready
  stubborn   ignores the first SIGTERM or SIGINT, ends at the second
  deaf       ignores them all
  say        lines for stderr
  end        exit status after SIGTERM (default 0)
  fill       writes so many bytes into the memory of L2
  touched    bytes of L2's 8 MiB that are populated when it is ready (default: all)
  orphan     outlives its launcher
  lock       takes the locks of L3, as a store does
  full       answers 409 to a tier's new size; `refuses`: to one path below /admin/cache
  silent     does not say what its tiers have
  lives      list of such plans, of the first engine of a launch, the second, ...; the last one
             is that of all that follow
"""

from __future__ import annotations

import argparse
import fcntl
import json
import mmap
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

from kvtier_engine.process import die_with_parent

PAGE_BYTES, TABLE_BYTES = 16 << 10, 2 << 20  # of the model that write_profile makes
PLAN: dict[str, Any] = json.loads(os.environ.get("FAKE_ENGINE", "{}"))


class Handler(BaseHTTPRequestHandler):
    polls = 0
    sizes: ClassVar[dict[str, int]] = {}  # pages of each tier

    def do_GET(self) -> None:
        if self.path == "/admin/cache":
            if PLAN.get("silent"):
                self._answer(503, "{}")
                return
            tiers = {tier: {"capacity_pages": pages} for tier, pages in Handler.sizes.items()}
            self._answer(200, json.dumps({"tiers": tiers}))
            return
        Handler.polls += 1
        steps = PLAN.get("steps", 1)
        is_ready = Handler.polls > steps and not PLAN.get("hang")
        if is_ready and "die_ready" in PLAN:
            threading.Timer(0.3, lambda: os._exit(PLAN["die_ready"])).start()
        done = 1 if PLAN.get("hang") else min(Handler.polls, steps)
        stages = {"model": {"done": done, "total": steps}, "l2": {"done": done, "total": steps}}
        if "touched" in PLAN:
            stages["l2"] = {"done": PLAN["touched"], "total": 8 << 20}
        body = json.dumps({"status": "ready" if is_ready else "starting", "stages": stages})
        self._answer(200 if is_ready else 503, body)

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ.get('ADMIN_KEY')}":
            self._answer(401, "{}")
        elif PLAN.get("full") or self.path.endswith(PLAN.get("refuses", " ")):
            self._answer(409, '{"error": {"message": "there is no room"}}')
        else:
            print(f"2026-01-01T00:00:00.000 INFO fake: {self.path} {said}", file=sys.stderr)
            self._resize(said["tier"], said.get("size_bytes", 0))

    def _resize(self, tier: str, size_bytes: int) -> None:
        """The arena's table takes a block of its own."""
        held = size_bytes - (TABLE_BYTES if tier == "l2" else 0)
        pages = Handler.sizes[tier] = max(0, held) // PAGE_BYTES
        self._answer(200, json.dumps({"tier": tier, "pages": pages, "bytes": size_bytes}))

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    arguments = parser.parse_args()
    assert arguments.parent_pid == os.getppid()
    config = json.loads(arguments.config.read_text())
    run_dir = Path(config["run_dir"])
    _live(run_dir)
    if not PLAN.get("orphan"):
        die_with_parent(arguments.parent_pid)
    print("2026-01-01T00:00:00.000 INFO fake: started", file=sys.stderr, flush=True)
    for line in PLAN.get("say", []):
        print(line, file=sys.stderr, flush=True)
    if "die" in PLAN:
        sys.exit(PLAN["die"])
    if PLAN.get("lock"):
        for directory in config["cache"]["l3"]["directories"]:
            _lock(Path(directory["path"]) / "lock")
    fd = config["cache"]["l2"]["arena_fd"]
    if "fill" in PLAN:
        os.ftruncate(fd, PLAN["fill"])
        memory = mmap.mmap(fd, PLAN["fill"])
        memory.write(bytes(PLAN["fill"]))
    Handler.sizes = {tier: config["cache"][tier]["pages"] for tier in ("l1", "l2")}
    seen = {
        "arena": os.readlink(f"/proc/self/fd/{fd}"),
        "arena_id": os.fstat(fd).st_ino,
        "pid": os.getpid(),
    }
    _write(run_dir / "seen.json", json.dumps(seen))
    serve(run_dir, config["server"]["port"])


def _lock(path: Path) -> None:
    """Held until this process ends."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(fd, f"process {os.getpid()} (python3) on host here".encode())


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)


def _live(run_dir: Path) -> None:
    """Counts the engines of this launch, and takes this one's plan."""
    count = run_dir / "lives"
    life = int(count.read_text()) if count.exists() else 0
    count.write_text(str(life + 1))
    lives = PLAN.get("lives")
    if lives:
        PLAN.update(lives[min(life, len(lives) - 1)])


def serve(run_dir: Path, port: int) -> None:
    server = HTTPServer(("127.0.0.1", port), Handler)
    stops = 0

    def on_terminate(number: int, frame: object) -> None:
        nonlocal stops
        stops += 1
        print(f"2026-01-01T00:00:00.000 INFO fake: stop {stops}", file=sys.stderr, flush=True)
        if PLAN.get("deaf") or (PLAN.get("stubborn") and stops < 2):
            return
        (run_dir / "address").unlink(missing_ok=True)
        os._exit(PLAN.get("end", 0))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_terminate)
    _write(run_dir / "address", json.dumps({"host": "127.0.0.1", "port": server.server_port}))
    server.serve_forever(0.05)


if __name__ == "__main__":
    main()
