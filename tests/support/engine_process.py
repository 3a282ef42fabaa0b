"""A real engine in processes of its own, as the launcher starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

from kvtier_engine.config import EngineConfig

Value = TypeVar("Value")


def wait_for(condition: Callable[[], Value], what: str, timeout_s: float = 60.0) -> Value:
    """The first true value of `condition`, polled; AssertionError with `what` after a while."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.02)
    return value


def engine_config(model: Path, run_dir: Path, **changes: Any) -> EngineConfig:
    """A small engine for SmolLM2-135M; `changes` are dotted fields, `cache__l1__pages=8`."""
    config: dict[str, Any] = {
        "model": {"path": str(model), "served_name": "smollm2-135m", "dtype": "float32"},
        "parallel": {"threads_per_rank": 2},
        "cache": {
            "geometry": {"layers": 30, "kv_heads": 3, "head_dim": 64, "item_bytes": 4},
            "page_tokens": 64,
            "l1": {"pages": 64},
        },
        "scheduler": {"max_context_tokens": 2048, "max_running": 32, "max_queued": 64},
        "server": {"port": 0, "drain_s": 5},
        "run_dir": str(run_dir),
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = config
        for name in parents:
            section = section.setdefault(name, {})
        section[last] = value
    if config["model"]["dtype"] != "float32":
        config["cache"]["geometry"]["item_bytes"] = 2
    return EngineConfig.model_validate(config)


@dataclass
class EngineProcess:
    """One run of `python -P -m kvtier_engine`."""

    process: subprocess.Popen[bytes]
    log: Path
    run_dir: Path
    url: str = ""
    client: httpx.Client = field(init=False)

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value on /metrics, without the `kvtier_` prefix; 0 if there is none.
        Samples that differ in other labels are added up."""
        text = self.client.get("/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"kvtier_{name}" and labels.items() <= sample.labels.items()
        )

    def wait_idle(self) -> None:
        """Until nothing runs and nothing is on its way to the tiers below. (Unless `write` is
        `write_through`, a page goes to the disk no sooner than L2 needs its slot.)"""
        wait_for(
            lambda: self.metric("requests_running") == 0 and self.metric("offloads_in_flight") == 0,
            "an idle engine",
        )

    def complete(self, prompt: list[int], tokens: int = 16, **fields: Any) -> dict[str, Any]:
        """A greedy completion of token ids."""
        body = {
            "model": "smollm2-135m",
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            **fields,
        }
        response = self.client.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def kill(self) -> None:
        """kill -9, and wait until all of it is gone."""
        children = _descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        wait_for(lambda: not any(map(_is_alive, children)), "the core to go with the server")

    def ranks(self) -> list[int]:
        """Their processes, rank 0, the core's, first."""
        found = {}
        for pid in _descendants(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "kvtier_engine.core.rank" in words:
                found[int(words[words.index("--rank") + 1])] = pid
            elif "kvtier_engine.core" in words:
                found[0] = pid
        return [found[rank] for rank in sorted(found)]

    def stop(self) -> int:
        """SIGTERM, as the launcher sends it; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def start_engine(
    config: EngineConfig, arena_fd: int | None = None, environment: dict[str, str] | None = None
) -> EngineProcess:
    """Starts an engine and waits until it is ready. `arena_fd`: L2's memory, kept by the test;
    `environment`: variables besides the test's own."""
    config.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = json.loads(config.model_dump_json())
    data["cache"]["l2"]["arena_fd"] = arena_fd
    file = config.run_dir / "engine.json"
    file.write_text(json.dumps(data))
    (config.run_dir / "address").unlink(missing_ok=True)
    log = config.run_dir / "engine.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kvtier_engine", "--config", str(file)],
            stderr=output,
            env=os.environ | (environment or {}),
            pass_fds=() if arena_fd is None else (arena_fd,),
        )
    engine = EngineProcess(process, log, config.run_dir)
    try:
        _wait_ready(engine)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return engine


@contextmanager
def running_engine(
    config: EngineConfig, arena_fd: int | None = None, environment: dict[str, str] | None = None
) -> Iterator[EngineProcess]:
    """An engine that is stopped at the end, and killed if it does not stop."""
    engine = start_engine(config, arena_fd, environment)
    try:
        yield engine
        if engine.process.poll() is None:
            assert engine.metric("bookkeeping_errors_total") == 0, engine.log.read_text()
            assert engine.stop() == 0, engine.log.read_text()
    finally:
        engine.client.close()
        if engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()


@contextmanager
def short_run_dir() -> Iterator[Path]:
    """A folder whose path is short enough for sockets in it (107 bytes, unix(7))."""
    with tempfile.TemporaryDirectory(prefix="kvt-") as folder:
        yield Path(folder)


@contextmanager
def arena_memory() -> Iterator[int]:
    """A memfd such as the launcher holds for L2."""
    fd = os.memfd_create("kvtier-test-l2")
    try:
        yield fd
    finally:
        os.close(fd)


def _wait_ready(engine: EngineProcess) -> None:
    def has_address() -> bool:
        assert engine.process.poll() is None, engine.log.read_text()
        return (engine.run_dir / "address").exists()

    wait_for(has_address, "the server to bind")
    address = json.loads((engine.run_dir / "address").read_text())
    engine.url = f"http://{address['host']}:{address['port']}"
    engine.client = httpx.Client(base_url=engine.url, timeout=120)

    def is_ready() -> bool:
        assert engine.process.poll() is None, engine.log.read_text()
        return engine.client.get("/ready").status_code == 200

    wait_for(is_ready, "the engine to be ready", 120)


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_descendants(child)]
    return found


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
