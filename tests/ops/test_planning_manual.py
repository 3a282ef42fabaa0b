"""Every command of docs/planning.md does what it says, on the files that it names."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def examples() -> list[str]:
    manual = (ROOT / "docs/planning.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", manual, re.DOTALL)
    return [line for line in "".join(blocks).splitlines() if line]


def test_there_are_examples() -> None:
    assert len(examples()) >= 7


@pytest.mark.parametrize("example", examples())
def test_an_example_of_the_manual(example: str, home: Path) -> None:
    words = shlex.split(example)
    assert words[0] == "kvtier"
    command = [sys.executable, "-P", "-m", "kvtier_ops", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""
