"""Programs of a few lines, each in a Python of its own, that use what the tests use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent


def command(program: str, *arguments: str | Path) -> list[str]:
    """`program` finds the tests' helpers, and its arguments from sys.argv[1] on."""
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{program}"
    return [sys.executable, "-P", "-c", code, *map(str, arguments)]


def run_python(
    program: str, *arguments: str | Path, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Fails if the program does not end; how it ended is the caller's to look at."""
    return subprocess.run(
        command(program, *arguments), capture_output=True, text=True, timeout=timeout_s
    )
