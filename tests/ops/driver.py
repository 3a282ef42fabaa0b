"""`kvtier`, but with tests/ops/fake_engine.py for an engine: `python driver.py ARGUMENTS`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kvtier_ops import cli
from kvtier_ops.launch import engine_process

FAKE = Path(__file__).with_name("fake_engine.py")


def fake_command(config: Path) -> list[str]:
    return [sys.executable, str(FAKE), "--config", str(config), "--parent-pid", str(os.getpid())]


if __name__ == "__main__":
    engine_process.engine_command = fake_command
    cli.main()
