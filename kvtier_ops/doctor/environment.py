"""Checks of Python, of kvtier's own parts and of torch. None of them imports torch."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from kvtier_ops.doctor.check import Check, Context, Outcome, Severity

PYTHON_MIN = (3, 11)
NATIVE_MODULES = ("kvtier_store._native", "kvtier_engine._kernels")
_IMPORT_S_MAX = 20


def python_version(context: Context) -> Iterator[Outcome]:
    """kvtier uses what Python 3.11 brought."""
    yield Outcome(
        ok=sys.version_info[:2] >= PYTHON_MIN,
        required=f"{PYTHON_MIN[0]}.{PYTHON_MIN[1]} or later",
        current=f"{platform.python_version()} ({sys.executable})",
        fix="install a newer Python and make the virtual environment again",
    )


def native_modules(context: Context) -> Iterator[Outcome]:
    """In a process of its own: a module built for another CPU ends the process it is in."""
    for name in NATIVE_MODULES:
        error = _import_error(name)
        yield Outcome(
            ok=not error,
            required="can be imported",
            current=error or "works",
            fix="`pip install --force-reinstall --no-deps kvtier`, or `make build` in a checkout",
            subject=name.rpartition(".")[2],
        )


def _import_error(name: str) -> str:
    """Why `name` cannot be imported; empty if it can."""
    command = [sys.executable, "-P", "-c", f"import {name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_S_MAX)
    except subprocess.TimeoutExpired:
        return f"took longer than {_IMPORT_S_MAX} s"
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"was killed by signal {-done.returncode}"
    return done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"


def torch_version(context: Context) -> Iterator[Outcome]:
    """The range is the one that kvtier's own package states."""
    from packaging.requirements import Requirement  # a moment that other commands need not wait

    try:
        stated = [Requirement(text) for text in requires("kvtier") or []]
    except PackageNotFoundError:
        return  # run from a source tree: there is no range to hold torch against
    wanted = next((each for each in stated if each.name == "torch"), None)
    if wanted is None:
        return
    try:
        found = version("torch")
    except PackageNotFoundError:
        found = ""
    yield Outcome(
        ok=bool(found) and wanted.specifier.contains(found, prereleases=True),
        required=str(wanted.specifier),
        current=found or "not installed",
        fix=f"`{sys.executable} -m pip install 'torch{wanted.specifier}'`",
    )


CHECKS = (
    Check("KVT-D101", "environment", "Python", Severity.FAILURE, python_version),
    Check("KVT-D102", "environment", "native module", Severity.FAILURE, native_modules),
    Check("KVT-D103", "environment", "torch", Severity.FAILURE, torch_version),
)
