"""An arena larger than the control group: the kernel's killer, had nobody asked before."""

from __future__ import annotations

import json
from pathlib import Path

from support.memory_group import memory_group
from support.models import engine_config, small_llama
from support.python_process import run_python

MIB = 1 << 20
LIMIT = 700 * MIB

# Joins the group, opens L2, waits until it is populated, and writes to every slot in use.
ENGINE = """
import json, logging, os, sys
from pathlib import Path
from kvtier_engine.config import load_config
from kvtier_engine.core.host_memory import open_arena
from support.engine_process import wait_for

logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
memory = open_arena(load_config(Path(sys.argv[2])), b"n")
arena = memory.arena
wait_for(lambda: arena.populated_bytes == arena.target_bytes, "the slots to be populated")
view, stride = arena.part_view(0), arena.part_stride
for slot in range(memory.slots_in_use):
    view[slot * stride : slot * stride + arena.part_bytes] = b"x" * arena.part_bytes
print(json.dumps([memory.slots_in_use, arena.populated_bytes, arena.target_bytes]))
"""


def test_an_arena_larger_than_the_group_is_cut_to_what_fits(tmp_path: Path) -> None:
    config = engine_config(small_llama(tmp_path / "model"))
    slots = 1500 * MIB // config.cache.page_bytes
    data = config.model_dump(mode="json")
    data["cache"]["l2"]["pages"] = slots
    file = tmp_path / "engine.json"
    file.write_text(json.dumps(data))
    with memory_group(LIMIT) as group:
        ended = run_python(ENGINE, group, file)
    assert ended.returncode == 0, f"-9: killed for its memory\n{ended.stderr}"
    in_use, populated, target = json.loads(ended.stdout)
    assert 300 * MIB < in_use * config.cache.page_bytes < LIMIT
    assert populated == target
    assert f"L2 uses {in_use} of {slots} slots: `tiers.l2.size` asks for 1.4" in ended.stderr
    assert f"/{group.relative_to('/')}/memory." in ended.stderr
