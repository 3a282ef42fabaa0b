"""The house style, as far as a program can check it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6  # five, and self
OURS = ("kvtier_ops", "kvtier_store", "engine", "csrc", "tests", "benchmarks", "scripts")

# Frameworks read these functions' parameters as their options or dependencies.
PARAMETERS_ALLOWED = (
    "kvtier_ops/cli/",
    "kvtier_ops/cache/commands",
    "engine/kvtier_engine/server/routes",
)


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [Path(line) for line in listed.stdout.splitlines()]
    return [p for p in paths if p.suffix in suffixes and p.parts[0] in OURS and (ROOT / p).exists()]


SOURCES = tracked(".py", ".cc", ".h")
PYTHON = tracked(".py")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_are_short(path):
    lines = len((ROOT / path).read_text().splitlines())
    assert lines <= FILE_LINES_MAX, f"{path} has {lines} lines: which two nouns are in it?"


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_functions_are_short_and_take_few_parameters(path):
    for function in functions(path):
        place = f"{path}:{function.lineno}: {function.name}"
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{place} has {lines} lines"
        arguments = function.args.posonlyargs + function.args.args
        if not str(path).startswith(PARAMETERS_ALLOWED):
            assert len(arguments) <= PARAMETERS_MAX, f"{place} has {len(arguments)} parameters"


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_modules_say_what_they_are(path):
    text = (ROOT / path).read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_is_left_for_later(path):
    if path.name == "test_tidy.py":
        return
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        found = re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b|pytest\.mark\.xfail", line)
        assert not found, f"{path}:{number}: {line.strip()}"


def test_sleeps_wait_for_conditions_only():
    """A sleep in a test belongs into a helper that polls a condition with a deadline."""
    for path in PYTHON:
        if path.parts[0] != "tests":
            continue
        for function in functions(path):
            source = ast.unparse(function)
            if "test_sleeps_wait" in function.name:
                continue
            if re.search(r"\btime\.sleep\((?!0\))", source):
                assert "deadline" in source, f"{path}:{function.lineno}: a sleep with no condition"


def test_every_cpp_test_is_in_a_target():
    lists = [line for path in ROOT.glob("tests/**/CMakeLists.txt") for line in _lines(path)]
    files = [p for p in tracked(".cc") if p.parts[0] == "tests" and p.stem.endswith("_test")]
    assert files, "no C++ test was found"
    for path in files:
        assert any(path.name in line for line in lists), f"{path} is in no target: it never runs"


def test_the_readme_names_files_that_exist():
    for document in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
