"""`kvtier profile import`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvtier_ops.errors import BadInput, ExitCode
from kvtier_ops.terminal import Terminal
from kvtier_ops.text import report_width, wrapped

if TYPE_CHECKING:
    from kvtier_ops.profile.importing import Imported

_BYTES_MAX = 1 << 20


def import_profile(
    engine: Annotated[str, typer.Argument(help="lightllm, vllm or sglang.")],
    command: Annotated[
        str, typer.Argument(help="The command line, in quotes; `-`: read it from stdin.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option("--file", metavar="SCRIPT", help="Read it from a start script.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the profile here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print profile and report as JSON.")
    ] = False,
) -> int:
    """Turn another engine's start command into a profile, and say what was not carried over.

    Nothing is run. The profile goes to stdout or FILE, the report to stderr.
    """
    from kvtier_ops.cli.files import check_target, write_whole
    from kvtier_ops.profile.importing import ENGINES, import_command

    if engine not in ENGINES:
        known = ", ".join(ENGINES)
        raise BadInput(f"kvtier knows no commands of `{engine[:40]}`", f"it knows {known}")
    if output is not None:
        check_target(output, force=force)
    made = import_command(engine, _text(command, file))
    terminal = Terminal()
    if as_json:
        terminal.data(json.dumps(asdict(made), indent=2))
    elif output is None:
        terminal.data(made.text.rstrip())
    if output is not None:
        write_whole(output, made.text)
    if not as_json:
        terminal.note(_report(made, terminal.err.width))
        if output is not None:
            terminal.note(f"wrote {output}; next: `kvtier plan {output}`")
    return ExitCode.OK


def _text(command: str, file: Path | None) -> str:
    if bool(command) == (file is not None):
        raise BadInput(
            "give one command line, or `--file SCRIPT`",
            'such as `kvtier profile import vllm "vllm serve /models/M --max-model-len 8192"`',
        )
    try:
        if file is None:
            return _stdin() if command == "-" else command
        with file.open("rb") as script:
            return script.read(_BYTES_MAX).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        what = f"cannot read `{file or 'stdin'}`: {reason}"
        raise BadInput(what, "name a start script") from None


def _stdin() -> str:
    if sys.stdin is None:
        raise BadInput("standard input is closed", "give the command line, or `--file SCRIPT`")
    return sys.stdin.read(_BYTES_MAX)


def _report(made: Imported, width: int) -> str:
    """Every flag, and what became of it; no line is longer than the terminal but for long words."""
    width = report_width(width)
    parts = []
    for title, lines in (
        ("carried over", made.kept),
        ("carried over with a change", made.changed),
        ("not carried over", made.dropped),
    ):
        shown = [title]
        for line in lines:
            shown += [*_hanging("  ", line.flag, width), *_hanging("      ", line.what, width)]
        if lines:
            parts.append("\n".join(shown))
    return "\n\n".join(parts)


def _hanging(pad: str, text: str, width: int) -> list[str]:
    """What a shell's line holds besides letters, such as newlines, is space here."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return wrapped(pad, plain, width, hang=len(pad) + 2)
