"""`kvtier simulate`. What only it needs is imported when it runs."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvtier_ops.cli.files import check_target, write_whole
from kvtier_ops.cli.instead import HostFile, WhatIf, instead_of
from kvtier_ops.cli.options import AsJson, Overrides
from kvtier_ops.errors import BadInput, ExitCode
from kvtier_ops.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvtier_ops.prepare import Instead
    from kvtier_ops.profile.load import ProfileFile
    from kvtier_ops.simulate.rates import Rates, ToldRates
    from kvtier_ops.simulate.result import Result
    from kvtier_ops.simulate.run import Options
    from kvtier_ops.simulate.setup import Setup
    from kvtier_ops.simulate.trace import TraceOptions

_FROM_PROFILE = ("--kv-bytes-per-token", "--l1", "--l2", "--l3", "--page-tokens")
_BOUNDS = {"--speed": (1e-6, 1e6), "--prefill-tokens-per-s": (1e-3, 1e12)}
_WITHOUT = "Without a profile: "

TracePath = Annotated[
    str, typer.Argument(metavar="TRACE", help="Requests, as .jsonl or .jsonl.gz; `-`: stdin.")
]
ProfileOption = Annotated[
    Path | None, typer.Option("--profile", help="The cache that this profile plans here.")
]
TokenBytes = Annotated[int | None, typer.Option(help=_WITHOUT + "KV of one token, in bytes.")]
L1Size = Annotated[str, typer.Option("--l1", help=_WITHOUT + "L1, such as 16GiB.")]
L2Size = Annotated[str, typer.Option("--l2", help=_WITHOUT + "L2, such as 64GiB.")]
L3Size = Annotated[str, typer.Option("--l3", help=_WITHOUT + "L3, such as 1TB.")]
PageTokens = Annotated[int | None, typer.Option(help=_WITHOUT + "tokens in a page; else 64.")]
Speed = Annotated[float, typer.Option(help="Let requests come so many times as fast.")]
Prefill = Annotated[
    float | None, typer.Option(help="Prompt tokens computed a second, at short prompts.")
]
DiskRead = Annotated[str, typer.Option(help="What L3 reads, such as 6GB/s.")]
DiskWrite = Annotated[str, typer.Option(help="What L3 writes, such as 2GB/s.")]
L2Copy = Annotated[str, typer.Option("--l2-copy", help="What L2 gives to L1, such as 20GB/s.")]
DecodeShare = Annotated[
    str, typer.Option(help="Part of the device's time that answers take, such as 20%.")
]
Sweep = Annotated[str, typer.Option(help="Other sizes: l2=16GiB..512GiB,l3=256GB..8TB.")]
BlockTokens = Annotated[
    int | None, typer.Option(help="Tokens in a block of the trace, if it does not tell.")
]
Requests = Annotated[int | None, typer.Option(help="Only so many of the first ones.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad lines out, and count them.")]
Chart = Annotated[Path | None, typer.Option(help="Also draw it, to this SVG file.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the SVG file if it exists.")]


def simulate(
    trace: TracePath,
    profile: ProfileOption = None,
    overrides: Overrides = None,
    host: HostFile = None,
    what_if: WhatIf = None,
    kv_bytes_per_token: TokenBytes = None,
    l1: L1Size = "",
    l2: L2Size = "",
    l3: L3Size = "",
    page_tokens: PageTokens = None,
    speed: Speed = 1.0,
    prefill_tokens_per_s: Prefill = None,
    disk_read: DiskRead = "",
    disk_write: DiskWrite = "",
    l2_copy: L2Copy = "",
    decode_share: DecodeShare = "",
    sweep: Sweep = "",
    block_tokens: BlockTokens = None,
    requests: Requests = None,
    skip_bad: SkipBad = False,
    chart: Chart = None,
    force: Force = False,
    as_json: AsJson = False,
) -> int:
    """Say what a cache would do with the requests of a trace: hit rates, waits, other sizes.

    Nothing is served or changed. Exit code 2: trace, profile or an option is wrong; 3: the profile
    does not fit this host.
    """
    from kvtier_ops.profile.load import load_profile
    from kvtier_ops.simulate.run import Options
    from kvtier_ops.simulate.sweep import parse_sweep
    from kvtier_ops.simulate.trace import TraceOptions

    for option, number in (
        ("--speed", speed),
        ("--prefill-tokens-per-s", prefill_tokens_per_s),
        ("--block-tokens", block_tokens),
        ("--requests", requests),
    ):
        _check_above_zero(option, number)
    if chart is not None:
        check_target(chart, force=force)
    told = _told_rates(prefill_tokens_per_s, disk_read, disk_write, l2_copy)
    options = Options(speed, _share(decode_share), parse_sweep(sweep) if sweep else {})
    sizes = (kv_bytes_per_token, l1 or None, l2 or None, l3 or None, page_tokens)
    if profile is not None:
        _refuse_both(dict(zip(_FROM_PROFILE, sizes, strict=True)))
        instead = partial(instead_of, host, what_if)
        setup, rates = _planned(load_profile(profile, overrides or []), instead, told)
    else:
        setup, rates = _told(kv_bytes_per_token, (l1, l2, l3), page_tokens, told)
    terminal = Terminal()
    read = TraceOptions(block_tokens, skip_bad, requests)
    result = _run(terminal, (trace, read), setup, rates, options)
    _show(terminal, result, chart, as_json)
    return ExitCode.OK


def _run(
    terminal: Terminal,
    source: tuple[str, TraceOptions],
    setup: Setup,
    rates: Rates | None,
    options: Options,
) -> Result:
    """With progress on a terminal, and none elsewhere: it is over in seconds."""
    from kvtier_ops.simulate.run import simulate as run
    from kvtier_ops.simulate.trace import read_trace

    with terminal.progress() as progress:

        def show(stage: str, done: int, total: int) -> None:
            if terminal.err.is_terminal:
                progress.update(stage, done, total)

        path, read_options = source
        trace = read_trace(path, read_options, partial(show, "reading"))
        return run(trace, setup, rates, options, partial(show, "simulating"))


def _show(terminal: Terminal, result: Result, chart: Path | None, as_json: bool) -> None:
    from kvtier_ops.simulate import report
    from kvtier_ops.simulate.chart import render_svg

    if chart is not None:
        write_whole(chart, render_svg(result))
    text = json.dumps(result.as_json(), indent=2) if as_json else ""
    terminal.data(text or report.render(result, terminal.out.width))


def _told_rates(prefill: float | None, *texts: str) -> ToldRates:
    from kvtier_ops.simulate.rates import ToldRates, parse_rate

    names = ("--disk-read", "--disk-write", "--l2-copy")
    rates = [
        parse_rate(text, name) if text else None for text, name in zip(texts, names, strict=True)
    ]
    return ToldRates(prefill, *rates)


def _planned(
    file: ProfileFile, instead: Callable[[tuple[Path, ...]], Instead], told: ToldRates
) -> tuple[Setup, Rates | None]:
    from kvtier_ops.prepare import prepare_at
    from kvtier_ops.simulate.planned import rates_of, setup_of
    from kvtier_ops.simulate.rates import make_rates

    plan = prepare_at(file, instead(file.profile.tiers.l3.directories)).plan
    setup = setup_of(plan)
    return setup, make_rates(told, setup.work, plan.device, rates_of(plan))


def _told(
    token_bytes: int | None, tiers: tuple[str, str, str], page_tokens: int | None, told: ToldRates
) -> tuple[Setup, Rates | None]:
    from kvtier_ops.simulate.planned import PAGE_TOKENS, ToldSizes, setup_told
    from kvtier_ops.simulate.rates import make_rates

    if token_bytes is None:
        raise BadInput(
            "which cache?",
            "name a profile (`--profile PROFILE`), or say how large all is "
            "(`--kv-bytes-per-token 147456 --l1 16GiB --l2 64GiB --l3 1TB`)",
        )
    page_tokens = PAGE_TOKENS if page_tokens is None else page_tokens
    setup = setup_told(ToldSizes(token_bytes, *tiers, page_tokens))
    return setup, make_rates(told, setup.work, "cuda")


def _refuse_both(given: dict[str, int | str | None]) -> None:
    for option, value in given.items():
        if value is not None:
            raise BadInput(
                f"`{option}` and `--profile` say the same thing",
                "leave one out; `--set tiers.l2.size=64GiB` changes a profile's sizes",
                place=option,
            )


def _check_above_zero(option: str, value: float | None) -> None:
    if value is None:
        return
    if not 0 < value < math.inf:
        raise BadInput(f"`{value:g}` is not a number above 0", place=option)
    low, high = _BOUNDS.get(option, (0, math.inf))
    if not low <= value <= high:
        raise BadInput(f"`{value:g}` is not between {low:g} and {high:g}", place=option)


def _share(text: str) -> float:
    from kvtier_ops.units import Share, parse_amount

    if text.strip() in ("", "0", "0%"):
        return 0.0
    hint = "such as `--decode-share 20%`"
    try:
        amount = parse_amount(text)
    except ValueError as error:
        raise BadInput(str(error), hint, place="--decode-share") from None
    if not isinstance(amount, Share) or amount.percent >= 100:
        raise BadInput(f"write a percentage below 100%, not `{text}`", hint, place="--decode-share")
    return float(amount.percent) / 100
