"""Checks of Python, of kvtier's own parts and of torch. None of them imports torch."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Outcome, Severity

PYTHON_MIN = (3, 11)
NATIVE_MODULES = ("kvtier_store._native", "kvtier_engine._kernels")
_IMPORT_S_MAX = 20
_NOT_STARTED = "cannot be started"
_PERMIT = f"let this user run it: `namei -l $(readlink -f {sys.executable})` shows what refuses"
_REINSTALL = "`pip install --force-reinstall --no-deps kvtier`, or `make build` in a checkout"
_GLIBC = re.compile(rb"GLIBC_(\d{1,3})\.(\d{1,3})(?![\d.])")


def python_version(context: Context) -> Iterator[Outcome]:
    """kvtier uses what Python 3.11 brought."""
    yield Outcome(
        ok=sys.version_info[:2] >= PYTHON_MIN,
        required=f"{PYTHON_MIN[0]}.{PYTHON_MIN[1]} or later",
        current=f"{platform.python_version()} ({sys.executable})",
        fix="install a newer Python and make the virtual environment again",
    )


def native_modules(context: Context) -> Iterator[Outcome]:
    """In processes of their own, side by side: a module built for another CPU ends the process
    it is in."""
    for name, error in import_errors(NATIVE_MODULES).items():
        yield Outcome(
            ok=not error,
            required="can be imported",
            current=error or "works",
            fix=_PERMIT if _NOT_STARTED in error else _REINSTALL,
            subject=name.rpartition(".")[2],
        )


def store_works() -> bool:
    """True if this process may import the page store: a bad build would end it."""
    return not import_errors(NATIVE_MODULES).get(NATIVE_MODULES[0], "")


@functools.cache
def import_errors(names: tuple[str, ...]) -> dict[str, str]:
    """Why each module cannot be imported; empty if it can."""
    try:
        started = {name: _start_import(name) for name in names}
    except OSError as error:  # `launch` starts the engine with this Python as well
        return dict.fromkeys(names, f"{sys.executable} {_NOT_STARTED}: {error.strerror}")
    deadline = time.monotonic() + _IMPORT_S_MAX
    return {name: _import_error(process, deadline) for name, process in started.items()}


def _start_import(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"import {name}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _import_error(process: subprocess.Popen[str], deadline: float) -> str:
    """Why the module cannot be imported; empty if it can."""
    try:
        _, said = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"took longer than {_IMPORT_S_MAX} s"
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        return f"was killed by signal {-process.returncode}"
    return said.strip().rpartition("\n")[2] or f"exit status {process.returncode}"


def wheel_abi(context: Context) -> Iterator[Outcome]:
    """Reads the files' names and bytes; nothing is imported."""
    for name in NATIVE_MODULES:
        files = _files_of(name)
        module = name.rpartition(".")[2]
        wanted = {module + suffix for suffix in EXTENSION_SUFFIXES}
        ours = [path for path in files if path.name in wanted]
        required = f"built for this Python ({EXTENSION_SUFFIXES[0].strip('.')})"
        if not ours:
            there = ", ".join(f"`{path.name}`" for path in files) or "no such file"
            yield Outcome(False, required, there, _REINSTALL, module)
            continue
        needed, here = glibc_needed(ours[0]), glibc_here()
        too_old = any(here) and needed > here
        yield Outcome(
            ok=not too_old,
            required=f"glibc {_dotted(needed)} or later" if too_old else required,
            current=f"`{ours[0].name}`" + (f"; this host has glibc {_dotted(here)}" * too_old),
            fix="build it here: `pip install --no-binary kvtier kvtier`, or `make build`",
            subject=module,
        )


def _files_of(name: str) -> list[Path]:
    """Files that are some build of the module, wherever its package lies."""
    package, _, module = name.partition(".")
    spec = importlib.util.find_spec(package)  # of a package at the top: it is not imported
    places = list(spec.submodule_search_locations or ()) if spec else []
    return sorted({path for place in places for path in Path(place).glob(f"{module}.*so")})


def glibc_needed(path: Path) -> tuple[int, int]:
    """The newest glibc whose symbols the file names; (0, 0) if it names none."""
    found = _GLIBC.findall(path.read_bytes())
    return max(((int(major), int(minor)) for major, minor in found), default=(0, 0))


def glibc_here() -> tuple[int, int]:
    """(0, 0) where the C library is another."""
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return 0, 0
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _dotted(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"


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
    Check(
        "KVT-D101",
        "environment",
        "Python",
        Severity.FAILURE,
        python_version,
        passes="Python is 3.11 or later",
        why="kvtier uses what Python 3.11 brought, and an older one fails at some import, maybe "
        "hours after the start. The fix is a virtual environment made with a newer Python.",
    ),
    Check(
        "KVT-D102",
        "environment",
        "native module",
        Severity.FAILURE,
        native_modules,
        passes="each native module can be imported, in a process of its own",
        why="The page store, the arena and the CPU kernels are native code. A build for another "
        "CPU ends the process that imports it, without a word, and the engine would die at its "
        "start. Each is imported in a process of its own, so that only that one dies. The fix "
        "installs the wheel again, or builds it here.",
    ),
    Check(
        "KVT-D103",
        "environment",
        "torch",
        Severity.FAILURE,
        torch_version,
        passes="torch is installed, in the range that kvtier's package states",
        why="kvtier is tested with a range of torch versions; others lack calls that the engine "
        "makes, or count memory differently. The fix installs a version of the range into the "
        "environment that kvtier runs in.",
    ),
    Check(
        "KVT-D104",
        "environment",
        "build of",
        Severity.FAILURE,
        wheel_abi,
        passes="the files of the native modules are built for this Python, machine and glibc",
        why="A native module fits one version of Python, one kind of machine, and a glibc that is "
        "not older than the one it was built with. Copying a virtual environment to another host, "
        "or upgrading Python below it, breaks that, and imports then end in a long message of the "
        "linker. The fix installs or builds the module for what is here.",
    ),
)
