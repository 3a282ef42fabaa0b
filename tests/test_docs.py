"""What the documents tell people to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kvtier_ops import cli

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile")]
DOCUMENTS += sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("profiles/*.yaml"))
COMMAND = re.compile(r"(?:^ {4,}|`|#   )(kvtier(?: [a-z][a-z-]*)+)", re.MULTILINE)


def commands() -> set[str]:
    """`kvtier ...` as far as it names commands: options and arguments are cut off."""
    return {found for path in DOCUMENTS for found in COMMAND.findall(path.read_text())}


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_exists(command, capsys):
    assert cli.run([*shlex.split(command)[1:], "--help"]) == 0, capsys.readouterr().err
    assert "Usage: kvtier" in capsys.readouterr().out


def test_there_are_commands_to_check():
    assert {"kvtier plan", "kvtier launch", "kvtier doctor"} <= commands()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_exists(path):
    targets = set(re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(), re.M))
    known = {name for line in targets for name in line.split()}
    for name in re.findall(r"\bmake ([a-z][a-z-]+)(?=[`\s]*(?:#|$|`))", path.read_text(), re.M):
        assert name in known, f"{path.name}: `make {name}`"
