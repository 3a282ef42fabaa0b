"""`kvtier bench ...`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvtier_ops.cli.options import AsJson
from kvtier_ops.errors import BadInput, ExitCode, HostError
from kvtier_ops.terminal import Terminal

if TYPE_CHECKING:
    from kvtier_ops.bench.disk import DiskResult, Rate
    from kvtier_ops.bench.memory import MemoryResult

app = typer.Typer(help="Measure this host, for the plan to go by.", no_args_is_help=True)

SECONDS_MAX = 50.0
MEMORY_SECONDS_MAX = 20.0


@app.callback()
def _root() -> None:
    """More than one measurement belongs here."""


@app.command("disk")
def bench_disk(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where L3 would be.")],
    page: Annotated[str, typer.Option(metavar="SIZE", help="Of a page.")] = "4MiB",
    seconds: Annotated[float, typer.Option(help="To measure for, 50 at most.")] = 18.0,
    as_json: AsJson = False,
) -> int:
    """Measure how fast a disk reads and writes pages, and keep it for `kvtier plan`.

    Exit code 3: the disk is nearly full, or refuses, or the result cannot be kept.
    """
    from kvtier_ops.bench import results
    from kvtier_ops.bench.disk import measure_disk
    from kvtier_ops.host import probe
    from kvtier_ops.plan.measured import disks_file

    if not 0.1 <= seconds <= SECONDS_MAX:
        raise BadInput(f"{seconds:g} seconds are not between 0.1 and 50", place="--seconds")
    terminal, page_bytes = Terminal(), _page_bytes(page)
    results.check_can_keep(disks_file())
    with terminal.progress() as progress:
        result = measure_disk(directory, page_bytes, seconds, progress.update)
    on = probe(directories=[directory.resolve()]).directories[directory.resolve()].on
    shown = json.dumps(results.as_json(result), indent=2) if as_json else _table(result)
    return _told(terminal, shown, partial(results.keep, on, result), as_json=as_json)


@app.command("memory")
def bench_memory(
    seconds: Annotated[float, typer.Option(help="To measure copies for, 20 at most.")] = 8.0,
    as_json: AsJson = False,
) -> int:
    """Measure how fast memory is copied by NUMA node, and keep it for `kvtier plan`.

    Exit code 3: memory is short, or the system refuses, or the result cannot be kept.
    """
    from kvtier_ops.bench import results
    from kvtier_ops.bench.memory import measure_memory
    from kvtier_ops.host import probe
    from kvtier_ops.plan.measured import memory_file

    if not 0.1 <= seconds <= MEMORY_SECONDS_MAX:
        raise BadInput(f"{seconds:g} seconds are not between 0.1 and 20", place="--seconds")
    terminal, host = Terminal(), probe()
    results.check_can_keep(memory_file())
    with terminal.progress() as progress:
        result = measure_memory(host, seconds, progress.update)
    said = results.memory_as_json(result)
    shown = json.dumps(said, indent=2) if as_json else _memory_table(result)
    return _told(terminal, shown, partial(results.keep_memory, host, result), as_json=as_json)


def _told(terminal: Terminal, shown: str, keep: Callable[[], Path], *, as_json: bool) -> int:
    """What took its time to measure is shown though it cannot be kept, and kept though nobody
    reads it. Raises HostError."""
    try:
        kept = keep()
    except HostError:
        terminal.data(shown)
        raise
    terminal.data(shown)
    if not as_json:
        terminal.note(f"kept in {kept}: `kvtier plan` goes by it")
    return ExitCode.OK


def _memory_table(result: MemoryResult) -> str:
    from kvtier_ops.units import format_bytes, format_decimal

    lines = [f"copies between buffers of {format_bytes(result.buffer_bytes)}, bytes copied"]
    lines.append(f"{'CPUs of':<14}{'memory of':<14}{'threads':>8}{'rate':>14}{'+-':>7}")
    for rate in result.copies:
        shown = f"{format_decimal(rate.bytes_per_s)}/s"
        places = f"{f'node {rate.cpu_node}':<14}{f'node {rate.memory_node}':<14}"
        lines.append(f"{places}{rate.threads:>8}{shown:>14}{rate.deviation:>7.0%}")
    lines += ["", "first touch of shared memory"]
    lines.append(f"{'hugepages':<28}{'threads':>8}{'rate':>14}{'+-':>7}")
    for each in result.touches:
        shown = f"{format_decimal(each.bytes_per_s)}/s"
        lines.append(f"{each.hugepages:<28}{each.threads:>8}{shown:>14}{each.deviation:>7.0%}")
    return "\n".join(lines)


def _page_bytes(text: str) -> int:
    from kvtier_ops.units import parse_size

    try:
        size = parse_size(text).bytes
    except ValueError as error:
        raise BadInput(str(error), "such as `--page 4MiB`", place="--page") from None
    if not 4096 <= size <= 1 << 30:
        raise BadInput("a page has 4KiB to 1GiB", "such as `--page 4MiB`", place="--page")
    return size


def _table(result: DiskResult) -> str:
    from kvtier_ops.units import format_bytes

    lines = [f"pages of {format_bytes(result.page_bytes)}"]
    if not result.is_direct:
        lines.append("the file system has no O_DIRECT: the page cache is in these figures")
    lines.append(f"{'':<8}{'in flight':>10}{'rate':>14}{'+-':>7}{'p50':>11}{'p99':>11}")
    for name, rates in (("reads", result.reads), ("writes", result.writes)):
        lines += [_row(name, rate) for rate in rates]
    return "\n".join(lines)


def _row(name: str, rate: Rate) -> str:
    from kvtier_ops.units import format_decimal

    shown = f"{format_decimal(rate.bytes_per_s)}/s"
    return (
        f"{name:<8}{rate.depth:>10}{shown:>14}{rate.deviation:>7.0%}"
        f"{rate.p50_ms:>8.1f} ms{rate.p99_ms:>8.1f} ms"
    )
