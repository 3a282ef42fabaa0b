"""What the README promises: `kvtier launch profiles/quickstart.yaml`, twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from openai import OpenAI
from support.engine_process import wait_for

from kvtier_ops.instances import Instance, State, read_state
from kvtier_ops.instances.leftovers import clean_dead, engine_processes

ROOT = Path(__file__).resolve().parent.parent.parent
LONG = "Summarise this in one sentence. " + "The page table maps virtual pages to frames. " * 30


class Launch:
    """`kvtier launch` of the quickstart profile, on any free port, with its cache in `cache`."""

    def __init__(self, cache: Path, run_dir: Path, model: Path) -> None:
        self.output = run_dir / "launch.log"
        environment = dict(os.environ, XDG_CACHE_HOME=str(cache), XDG_RUNTIME_DIR=str(run_dir))
        command = [sys.executable, "-P", "-m", "kvtier_ops", "launch"]
        command += [str(ROOT / "profiles" / "quickstart.yaml")]
        for change in ("server.port=0", f"model.path={model}", "model.served_name=smollm2-135m"):
            command += ["--set", change]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def url(self) -> str:
        def endpoint() -> re.Match[str] | None:
            assert self.process.poll() is None, self.text
            return re.search(r"at (http://\S+)/v1", self.text)

        found = wait_for(endpoint, "the endpoint to be printed", 120)
        assert found is not None
        return found[1]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)


def ask(url: str) -> tuple[str, int]:
    with OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model="smollm2-135m",
            messages=[{"role": "user", "content": LONG}],
            temperature=0,
            max_tokens=12,
        )
    assert answer.usage is not None
    details = answer.usage.prompt_tokens_details
    assert details is not None
    return answer.choices[0].message.content or "", details.cached_tokens or 0


def metric(url: str, name: str) -> float:
    """0 for one that is not there."""
    text = httpx.get(f"{url}/metrics").text
    found = re.search(rf"^kvtier_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def folder_of(run_dir: Path) -> Path:
    return next((run_dir / "kvtier").iterdir())


def state_of(run_dir: Path) -> State:
    state = read_state(folder_of(run_dir))
    assert state is not None
    return state


def kill_engine(run_dir: Path) -> None:
    """kill -9, and until another one is ready."""
    pid = state_of(run_dir).engine_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: state_of(run_dir).restarts == 1 and state_of(run_dir).state == "ready",
        "another engine",
        120,
    )


def test_restarts_are_warm_and_kills_leave_nothing(quickstart_gguf, run_dir, tmp_path):
    """An engine killed: L2 is warm. Another launch: L3 is. Its launcher killed: nothing is left."""
    shared = sorted(path.name for path in Path("/dev/shm").iterdir())
    first = Launch(tmp_path, run_dir, quickstart_gguf)
    try:
        url = first.url()
        cold, cached = ask(url)
        assert cached == 0
        wait_for(lambda: metric(url, "offloads_in_flight") == 0, "L2 to have the pages")
        kill_engine(run_dir)
        assert state_of(run_dir).url == url
        warm, cached = ask(url)
        assert warm == cold
        assert metric(url, 'hit_tokens_total{tier="l2"}') == cached >= 256
        assert first.interrupt() == 0, first.text
    finally:
        first.process.kill()
        first.process.wait()
    second = Launch(tmp_path, run_dir, quickstart_gguf)
    try:
        url = second.url()
        warm, cached = ask(url)
        assert warm == cold
        assert cached >= 256
        assert metric(url, 'hit_tokens_total{tier="l3"}') > 0
        state = state_of(run_dir)
    finally:
        second.process.kill()
        second.process.wait()
    folder = folder_of(run_dir)
    wait_for(lambda: not engine_processes(folder), "the engine to go with its launcher")
    cleaned = clean_dead(Instance(folder, state))
    assert f"a launcher that was killed (pid {second.process.pid})" in cleaned
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert sorted(path.name for path in Path("/dev/shm").iterdir()) == shared
