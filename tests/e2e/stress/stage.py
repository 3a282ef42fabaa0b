"""The engines of one seed, from the first to the last."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import httpx
from e2e.stress.conversations import Conversations
from e2e.stress.counts import Totals, counts_of, unrest
from e2e.stress.crowd import Crowd, Scene
from e2e.stress.disturbances import disturb, figures, tell
from e2e.stress.launcher import Files, Launcher, Sizes, core_of, kill_core, plain_config
from e2e.stress.lives import Ending, Life, drawn, script
from e2e.stress.oracle import Oracle
from support.engine_process import EngineProcess, running_engine, short_run_dir

from kvtier_engine.config import EngineConfig
from kvtier_engine.kv.keys import namespace
from kvtier_engine.model.fingerprint import model_fingerprint
from kvtier_store import DirectorySpec, Store

WAIT_S = 90.0
LOG_LINES = 40
# After kill -9 a record may tell of a page that another one has replaced (docs/disk-format.md).
OVERTAKEN = {"key", "sequence"}


class Stage:
    """Where lives are played; what a Disturbance finds there."""

    def __init__(self, scene: Scene, launcher: Launcher) -> None:
        self.scene = scene
        self.totals, self.conversations = scene.totals, scene.conversations
        self.launcher = launcher
        self.faults = launcher.faults
        self.random = Random(f"{scene.seed} stage")
        self.engine: EngineProcess
        self.lives = 0
        self._crowd: Crowd

    @property
    def config(self) -> EngineConfig:
        config = self.launcher.config
        assert config is not None, "an engine has been started"
        return config

    @property
    def answered(self) -> int:
        return self._crowd.answered

    def play(self, life: Life, *, is_last: bool = False) -> None:
        self.lives += 1
        if life.damaged:
            self.launcher.damage_memory(self.random, life.damaged)
        log_begins = self._log_bytes()
        self.engine = self.launcher.start(life.settings)
        self._crowd = Crowd(self.scene, self.engine.url, self.lives, self.describe)
        try:
            self._go_through(life)
            self._come_to_rest()
            if is_last:
                self._empty_everything()
            self._crowd.resume()
            self._end(life.ending)
        finally:
            self._leave()
        self.totals.end_life()
        self.totals.happened(f"engines {life.ending.value}")
        self._check_log(log_begins)
        if life.ending is Ending.STOP:
            check_disk(self.launcher)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Looks at the clients and at the engine meanwhile."""
        deadline = time.monotonic() + WAIT_S
        while True:
            self._look()
            if condition():
                return
            late = time.monotonic() > deadline
            assert not late, f"waited {WAIT_S:g} s for {what}\n{self.describe(True)}"
            time.sleep(0.05)

    def count(self, name: str) -> float:
        """In this life so far."""
        counts = counts_of(self.engine)
        self.totals.see(counts)
        return counts[name]

    def describe(self, is_stuck: bool) -> str:
        """For whoever has to find out why."""
        lines = [
            f"seed {self.scene.seed}, life {self.lives}, {self.launcher.sizes}",
            f"config: {self.launcher.described()}",
            f"so far: {self.totals.shown()}",
        ]
        try:
            counts = counts_of(self.engine)
            lines += [f"not at rest: {unrest(counts)}", "this engine:"]
            lines += [f"  {name} {value:g}" for name, value in sorted(counts.items())]
        except (httpx.HTTPError, RuntimeError) as error:  # its client may be closed
            lines.append(f"/metrics: {error!r}")
        if is_stuck:
            lines.append(stacks(self.engine))
        return "\n".join([*lines, *self.engine.log.read_text().splitlines()[-LOG_LINES:]])

    def _look(self) -> None:
        assert self._crowd.failure is None, self._crowd.failure
        status = self.engine.process.poll()
        assert status is None, f"the engine ended: {status}\n{self.describe(False)}"

    def _go_through(self, life: Life) -> None:
        for name in life.disturbances:
            disturb(self, name)
        self.until(lambda: self.answered >= life.answers, "answers")
        self.until(lambda: all(map(self.count, life.counts)), f"all of {life.counts}")

    def _come_to_rest(self) -> None:
        """Slot accounting closes when nobody asks."""
        self._crowd.pause()

        def is_at_rest() -> bool:
            counts = counts_of(self.engine)
            self.totals.see(counts)
            return not unrest(counts)

        self.until(is_at_rest, "rest")
        self.totals.happened("times at rest")

    def _empty_everything(self) -> None:
        """Not one page is left anywhere."""
        tell(self.engine, "unpin", {"all": True})
        self.until(lambda: "error" not in tell(self.engine, "clear", {"tier": "all"}), "a clear")
        tiers = figures(self.engine)["tiers"]
        pages = {tier: each["cached_pages"] for tier, each in tiers.items()}
        assert not any(pages.values()), f"pages are left: {pages}\n{self.describe(False)}"

    def _end(self, ending: Ending) -> None:
        """While clients wait for answers."""
        answered = self.answered
        self.until(lambda: self.answered > answered + 5, "clients that ask again")
        self.count("requests_total")
        self._crowd.expect_the_end()
        match ending:
            case Ending.STOP:
                assert self.engine.stop() == 0, self.describe(False)
            case Ending.KILL:
                self.engine.kill()
            case Ending.KILL_CORE:
                kill_core(self.engine)

    def _leave(self) -> None:
        self.faults.clear()
        self._crowd.expect_the_end()
        if self.engine.process.poll() is None:
            self.engine.process.kill()
            self.engine.process.wait()
        self._crowd.join()
        self.engine.client.close()
        assert self._crowd.failure is None, self._crowd.failure

    def _log_bytes(self) -> int:
        log = self.launcher.run_dir / "engine.log"
        return log.stat().st_size if log.exists() else 0

    def _check_log(self, begins: int) -> None:
        log = self.engine.log.read_bytes()[begins:].decode()
        for word in ("Traceback", "please report this"):
            assert word not in log, f"{self.describe(False)}\n\n{log}"


def stacks(engine: EngineProcess) -> str:
    """Of the core, if py-spy is about and may look."""
    spy = Path(sys.executable).with_name("py-spy")
    if not spy.exists():
        return "no stacks: py-spy is not installed"
    command = [str(spy), "dump", "--pid", str(core_of(engine))]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


def check_disk(launcher: Launcher) -> None:
    """Whatever was done to the engines, what they left on disk is whole: bits flipped in what was
    read, never in what was written."""
    config = launcher.config
    assert config is not None
    store = Store.open(
        [DirectorySpec(str(d.path), d.capacity_bytes) for d in config.cache.l3.directories],
        page_bytes=config.cache.page_bytes,
        namespace=namespace(config, model_fingerprint(config.model.path)),
    )
    try:
        report = store.verify()
    finally:
        store.close()
    assert report.bad.keys() <= OVERTAKEN, f"bad pages are on disk: {report.bad}"


def play_seed(seed: int, files: Files, totals: Totals, extra_lives: int) -> None:
    """The script's lives, then some that are drawn."""
    random = Random(f"{seed} lives")
    sizes = Sizes.drawn(random)
    with (
        TemporaryDirectory() as folder,
        short_run_dir() as run_dir,
        running_engine(plain_config(files.model, run_dir / "oracle", sizes)) as oracle,
    ):
        conversations = Conversations(seed, sizes.page_tokens, sizes.context_tokens)
        scene = Scene(seed, conversations, Oracle(oracle), totals)
        launcher = Launcher(files, Path(folder), run_dir, sizes)
        try:
            stage = Stage(scene, launcher)
            lives = [*script(random), *(drawn(random) for _ in range(extra_lives))]
            for life in lives[:-1]:
                stage.play(life)
            stage.play(replace(lives[-1], ending=Ending.STOP), is_last=True)
        finally:
            launcher.close()
