"""The server's HTTP side in a thread, with a FakeCore behind it: no model, no child process."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kvtier_engine.config import EngineConfig
from kvtier_engine.server.auth import Keys
from kvtier_engine.server.listener import listen
from kvtier_engine.server.serve import Server
from support.engine_process import wait_for
from support.fake_core import FakeCore

MODEL = "tiny"
CHAT_TEMPLATE = """\
{%- for message in messages %}
{%- if message.role not in ['system', 'user', 'assistant'] %}
{{- raise_exception('the role `' ~ message.role ~ '` is not known') }}{% endif %}
{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' ~ prefix }}{% endif %}"""


def make_tokenizer(folder: Path) -> Path:
    """A byte-level BPE tokenizer of a few hundred tokens, in the form of Hugging Face."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([Path(__file__).read_text()] * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def server_config(model: Path, run_dir: Path, **changes: Any) -> EngineConfig:
    """`changes` are dotted fields, `scheduler__max_queued=1`."""
    config: dict[str, Any] = {
        "model": {"path": str(model), "served_name": MODEL},
        "cache": {
            "geometry": {"layers": 1, "kv_heads": 1, "head_dim": 8},
            "l1": {"pages": 8},
        },
        "scheduler": {"max_context_tokens": 256, "max_running": 4, "max_queued": 60},
        "server": {"port": 0, "drain_s": 20, "max_body_bytes": 1 << 20},
        "run_dir": str(run_dir),
    }
    for path, value in changes.items():
        section, field = path.split("__")
        config[section][field] = value
    return EngineConfig.model_validate(config)


class FakeProcess:
    """Stands for the core's process: ends when told to."""

    def __init__(self) -> None:
        self._end: asyncio.Future[int] | None = None
        self.killed = False

    def begin(self) -> None:
        self._end = asyncio.get_running_loop().create_future()

    async def ended(self) -> int:
        assert self._end is not None
        return await asyncio.shield(self._end)

    def end(self, status: int) -> None:
        """In the event loop's thread."""
        if self._end is not None and not self._end.done():
            self._end.set_result(status)

    def terminate(self) -> None:
        self.end(-15)

    def kill(self) -> None:
        self.killed = True
        self.end(-9)


class ServerThread:
    """A running server. `core` is what it talks to, `exit_status` what its run returned."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.exit_status: int | None = None
        self.process = FakeProcess()
        self._listener = listen(config.server)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(10)
        endpoint = f"ipc://{config.run_dir}/core.sock"
        self.core = FakeCore(endpoint, on_shutdown=lambda: self.end_core(0))

    def interrupt(self) -> None:
        """What a SIGTERM does."""
        self._loop.call_soon_threadsafe(self.server.interrupt)

    def end_core(self, status: int) -> None:
        """The core's process ends."""
        self._loop.call_soon_threadsafe(self.process.end, status)

    def be_ready(self, client: httpx.Client) -> None:
        self.core.be_ready()
        wait_for(lambda: client.get("/ready").status_code == 200, "the server to be ready", 10)

    def join(self) -> int:
        """Waits for the end of the run; what it returned."""
        self._thread.join(30)
        assert self.exit_status is not None, "the server does not end"
        return self.exit_status

    def close(self) -> None:
        if self._thread.is_alive():
            self.interrupt()
            self.interrupt()
        self.join()
        self.core.close()
        self._loop.close()
        self._listener.close()

    def _run(self) -> None:
        self.exit_status = self._loop.run_until_complete(self._serve())

    async def _serve(self) -> int:
        self.process.begin()
        endpoint = f"ipc://{self.config.run_dir}/core.sock"
        keys = Keys.read(self.config.server)
        self.server = Server(self.config, endpoint, self._listener, self.process, keys)  # type: ignore[arg-type]
        self._started.set()
        return await self.server.run()


@contextmanager
def running_server(model: Path, *, ready: bool = True, **changes: Any) -> Iterator[Running]:
    """A server and a client of it."""
    with tempfile.TemporaryDirectory(prefix="kvtier-") as folder:
        thread = ServerThread(server_config(model, Path(folder), **changes))
        with httpx.Client(base_url=thread.url, timeout=20) as client:
            try:
                if ready:
                    thread.be_ready(client)
                yield Running(thread, client)
            finally:
                thread.close()


class Running:
    """What tests hold of a running server."""

    def __init__(self, thread: ServerThread, client: httpx.Client) -> None:
        self.thread = thread
        self.core = thread.core
        self.client = client

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.client.post(path, json=body, headers=headers)

    def metric(self, line_start: str) -> float:
        """The value of the first sample that starts so; 0 if there is none."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"kvtier_{line_start}"):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def wait_idle(self) -> None:
        """Waits until no sequence is in flight."""
        self.wait(lambda: self.metric("requests_in_flight") == 0, "nothing in flight")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_for(condition, what, 10)
