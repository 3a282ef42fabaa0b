"""`python serve_fake.py --config FILE --behaviour B`: the engine's own main, a FakeCore below."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kvtier_engine import __main__ as engine
from kvtier_engine.config import EngineConfig
from kvtier_engine.server.core_process import CoreProcess

FAKE_CORE = Path(__file__).with_name("fake_core.py")


def main() -> int:
    *arguments, _, behaviour = sys.argv[1:]

    def start(config: EngineConfig, file: Path, endpoint: str) -> CoreProcess:
        options = ["--socket", endpoint, "--parent-pid", str(os.getpid())]
        command = [sys.executable, str(FAKE_CORE), *options, "--behaviour", behaviour]
        return CoreProcess(command)

    CoreProcess.start = start  # type: ignore[method-assign, assignment]
    return engine.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
