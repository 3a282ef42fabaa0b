"""The commands `kvtier store ...`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.errors import BadInput, ExitCode
from kvtier_ops.store.clear import clear_store
from kvtier_ops.store.facts import ago, chains, describe, inspect, store_facts
from kvtier_ops.store.scrub import Verified
from kvtier_ops.store.scrub import verify as verify_directory
from kvtier_ops.terminal import Terminal
from kvtier_ops.units import format_bytes, parse_size

app = typer.Typer(help="Look after the page stores on disk.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A directory of L3.")]
Directories = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories of L3.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def stat(directories: Directories, as_json: AsJson = False) -> int:
    """Say what is in a store, whose it is, how old and how healthy.

    Also while an engine uses it. Exit code 4: something is wrong with it.
    """
    terminal, now = Terminal(), time.time()
    all_facts = [store_facts(each, inspect(each), now) for each in directories]
    if as_json:
        terminal.data(json.dumps([facts.as_json() for facts in all_facts], indent=2))
    else:
        terminal.data("\n\n".join(describe(facts, now) for facts in all_facts))
    return ExitCode.WARNINGS if any(facts.problems for facts in all_facts) else ExitCode.OK


@app.command("ls")
def list_chains(
    directory: Directory,
    as_json: AsJson = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="Show the N newest chains.")
    ] = 50,
) -> int:
    """List a store's chains of pages, those written last first."""
    terminal, now = Terminal(), time.time()
    found = chains(inspect(directory).pages)
    shown = found[:limit]
    if as_json:
        terminal.data(json.dumps([chain.as_json() for chain in shown], indent=2))
        return ExitCode.OK
    terminal.data(f"{'HEAD':<34}{'PAGES':>8}{'DEPTH':>8}  WRITTEN")
    for chain in shown:
        cut = " (its beginning is gone)" if chain.is_cut else ""
        when = ago(chain.written_unix_s, now)
        terminal.data(f"{chain.head:<34}{chain.pages:>8}{chain.depth:>8}  {when}{cut}")
    if len(found) > limit:
        terminal.note(f"{len(found) - limit} more; --limit shows them")
    return ExitCode.OK


@app.command()
def verify(
    directories: Directories,
    as_json: AsJson = False,
    rate: Annotated[
        str, typer.Option(metavar="SIZE", help="Read no more than this a second: 200MiB.")
    ] = "",
) -> int:
    """Read every page of a store and compare it with its checksum; bad ones are dropped.

    For a store that no engine uses. Exit code 3: pages were bad or could not be read.
    """
    terminal = Terminal()
    bytes_per_s = _parse_rate(rate)
    with terminal.progress() as progress:
        results = [verify_directory(each, bytes_per_s, progress) for each in directories]
    if as_json:
        terminal.data(json.dumps([result.as_json() for result in results], indent=2))
    else:
        terminal.data("\n".join(_verdict(result) for result in results))
    return ExitCode.OK if all(result.is_sound for result in results) else ExitCode.REFUSED


def _parse_rate(text: str) -> int:
    if not text:
        return 0
    try:
        return max(1, parse_size(text).bytes)
    except ValueError as error:
        raise BadInput(f"--rate: {error}") from error


def _verdict(result: Verified) -> str:
    text = f"{result.directory}: {result.pages} pages, {format_bytes(result.bytes)}: "
    if result.is_sound:
        return text + "all sound"
    found = [f"{count} bad ({cause}), dropped" for cause, count in result.bad.items()]
    if result.unreadable:
        found.append(f"{result.unreadable} could not be read")
    return text + ", ".join(found)


@app.command()
def clear(directory: Directory) -> int:
    """Remove a store's pages, of whatever version or model. Refuses one that is in use.

    Also one with a damaged superblock, if nothing else lies in the directory.
    """
    freed = clear_store(directory)
    Terminal().note(f"cleared {directory}: {format_bytes(freed)}")
    return ExitCode.OK
