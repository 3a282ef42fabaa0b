"""What `kvtier launch` is to its engine: owner of L2's memory, who starts it again."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from e2e.stress.conversations import TENANTS
from support.disk_faults import Faults, faulty
from support.engine_process import EngineProcess, engine_config, start_engine, wait_for

from kvtier_engine.config import EngineConfig
from kvtier_store import Arena

GEOMETRY = {"layers": 3, "kv_heads": 2, "head_dim": 32, "item_bytes": 4}
MODEL = "smollm2-135m"  # the name that engine_config gives it
KEYS = {tenant: f"key-of-{tenant}" for tenant in TENANTS}
ADMIN_KEY = "key-of-the-admin"
L3_FIXED_BYTES = 240_000  # of a directory, without its slots
L3_SLOT_EXTRA = 4096 + 256


@dataclass(frozen=True)
class Sizes:
    """What stays the same for all engines that share L2 and L3."""

    page_tokens: int
    context_tokens: int
    l1_pages: int
    l2_pages: int
    l3_pages: int

    @classmethod
    def drawn(cls, random: Random) -> Sizes:
        page_tokens, most = random.choice([(8, 16), (16, 12)])
        return cls(
            page_tokens=page_tokens,
            context_tokens=most * page_tokens,
            l1_pages=most + random.randrange(1, 4),
            l2_pages=random.randrange(10, 21),
            l3_pages=random.randrange(20, 41),
        )


def drawn_settings(random: Random) -> dict[str, Any]:
    """What another engine may do in another way."""
    return {
        "cache__l1__eviction": random.choice(["lru", "arc"]),
        "cache__l2__eviction": random.choice(["lru", "arc"]),
        "cache__l3__eviction": random.choice(["lru", "keep_reused"]),
        "cache__l3__write": random.choice(["on_evict", "write_through"]),
        "cache__l3__admission": random.choice(["all", "auto"]),
        "scheduler__max_step_tokens": random.choice([24, 48, 160]),
        "scheduler__max_running": random.choice([3, 8]),
        "parallel__threads_per_rank": random.choice([1, 2]),
    }


def plain_config(model: Path, run_dir: Path, sizes: Sizes, **changes: Any) -> EngineConfig:
    """Nothing but L1, which holds one request, and nothing is used twice."""
    return engine_config(
        model,
        run_dir,
        **{
            "cache__geometry": GEOMETRY,
            "cache__page_tokens": sizes.page_tokens,
            "cache__prefix_reuse": False,
            "cache__l1__pages": sizes.context_tokens // sizes.page_tokens + 1,
            "scheduler__max_context_tokens": sizes.context_tokens,
            "scheduler__max_running": 1,
            "scheduler__max_step_tokens": sizes.context_tokens,
            "parallel__threads_per_rank": 1,
        }
        | changes,
    )


@dataclass(frozen=True)
class Files:
    """What was made for all engines."""

    model: Path
    shim: Path


class Launcher:
    """Of one engine after the other, on a disk that can be made to fail."""

    def __init__(self, files: Files, folder: Path, run_dir: Path, sizes: Sizes) -> None:
        self.model = files.model
        self.folder = folder
        self.run_dir = run_dir
        self.sizes = sizes
        self.disk = folder / "l3"
        self._environment = faulty(files.shim, folder / "rules", self.disk)
        self.faults = Faults(self._environment)
        secrets = {f"{tenant.upper()}_KEY": key for tenant, key in KEYS.items()}
        self._environment |= secrets | {"ADMIN_KEY": ADMIN_KEY}
        self._memory = os.memfd_create("kvtier-stress-l2")
        self.config: EngineConfig | None = None

    def close(self) -> None:
        os.close(self._memory)

    def start(self, settings: dict[str, Any]) -> EngineProcess:
        self.config = self.configured(settings)
        return start_engine(self.config, self._memory, self._environment)

    def configured(self, settings: dict[str, Any]) -> EngineConfig:
        sizes = self.sizes
        page_bytes = 2 * 4 * 3 * 2 * 32 * sizes.page_tokens
        capacity = L3_FIXED_BYTES + sizes.l3_pages * (page_bytes + L3_SLOT_EXTRA)
        changes = {
            "cache__prefix_reuse": True,
            "cache__l1__pages": sizes.l1_pages,
            "cache__l2__pages": sizes.l2_pages,
            "cache__l2__hugepages": "none",  # a slot more or less would be lost in a huge page
            "cache__l3__directories": [{"path": str(self.disk), "capacity_bytes": capacity}],
            "state_dir": str(self.folder / "state"),
            "server__api_keys": [
                {"name": tenant, "secret": {"env": f"{tenant.upper()}_KEY"}} for tenant in KEYS
            ],
            "server__admin_key": {"env": "ADMIN_KEY"},
        }
        return plain_config(self.model, self.run_dir, sizes, **changes | settings)

    def damage_memory(self, random: Random, share: float) -> None:
        """One bit in each of so many of L2's slots, while no engine runs."""
        arena = Arena.attach(self._memory)
        memory = arena.part_view(0)
        for slot in random.sample(range(arena.slots), int(share * arena.slots)):
            memory[slot * arena.part_stride + random.randrange(arena.part_bytes)] ^= 0x10
        memory.release()
        arena.close()

    def described(self) -> str:
        assert self.config is not None
        return json.dumps(json.loads(self.config.model_dump_json())["cache"])


def kill_core(engine: EngineProcess) -> None:
    """kill -9 of the core alone: the server says so and ends, which a launcher sees."""
    core = core_of(engine)
    os.kill(core, signal.SIGKILL)
    assert engine.process.wait(timeout=60) == 1, engine.log.read_text()
    wait_for(lambda: not Path(f"/proc/{core}").exists(), "the core to be gone")


def core_of(engine: EngineProcess) -> int:
    [core] = [
        int(child)
        for task in Path(f"/proc/{engine.process.pid}/task").glob("*/children")
        for child in task.read_text().split()
        if b"kvtier_engine.core" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return core
