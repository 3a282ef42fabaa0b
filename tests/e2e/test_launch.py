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


def test_the_second_start_is_warm_from_disk(quickstart_gguf, run_dir, tmp_path):
    first = Launch(tmp_path, run_dir, quickstart_gguf)
    try:
        cold, cached = ask(first.url())
        assert cached == 0
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
        metrics = httpx.get(f"{url}/metrics").text
        assert re.search(r'kvtier_hit_tokens_total\{tier="l3"\} [1-9]', metrics)
        assert second.interrupt() == 0, second.text
    finally:
        second.process.kill()
        second.process.wait()
