"""`kvtier plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvtier_ops.cli.files import check_target, write_whole
from kvtier_ops.cli.instead import HostFile, WhatIf, instead_of
from kvtier_ops.cli.options import NodeRank, Overrides, with_node_rank
from kvtier_ops.cli.served import note_served
from kvtier_ops.errors import BadInput, ExitCode
from kvtier_ops.plan.types import Plan
from kvtier_ops.prepare import prepare_at
from kvtier_ops.profile.load import load_profile
from kvtier_ops.terminal import Terminal

if TYPE_CHECKING:
    from kvtier_ops.plan.target import Target

_SIZED_BY_TARGET = (
    *("tiers.l1.size", "tiers.l1.max_tokens", "tiers.l2.size", "tiers.l3.size"),
    *("engine.max_context_tokens", "engine.max_prompt_tokens"),
)


def plan(
    profile: Annotated[
        Path | None, typer.Argument(metavar="PROFILE", help="The profile, a YAML file.")
    ] = None,
    overrides: Overrides = None,
    node_rank: NodeRank = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of --json, and end.")
    ] = False,
    field: Annotated[
        str, typer.Option("--explain", metavar="FIELD", help="Say where one number comes from.")
    ] = "",
    host: HostFile = None,
    what_if: WhatIf = None,
    target: Annotated[
        str,
        typer.Option(metavar="TEXT", help='What it takes to keep "200 users x 32k tokens".'),
    ] = "",
    load: Annotated[
        str, typer.Option(metavar="TEXT", help='For disk wear: "2 requests/s x 12000 tokens".')
    ] = "",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write it as one HTML page.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the page if it exists.")] = False,
) -> int:
    """Say what this host can hold, and why. Exit code 3: it does not fit."""
    terminal = Terminal()
    if schema:
        from kvtier_ops.plan.json_output import json_schema

        terminal.data(json.dumps(json_schema(), indent=2))
        return ExitCode.OK
    if profile is None:
        raise BadInput("missing argument 'PROFILE'", "`kvtier plan --help` lists what there is")
    _check_together(field=field, target=target, as_json=as_json)
    if html is not None:
        check_target(html, force=force)
    wanted = _target(target)
    sized = [f"{name}=auto" for name in _SIZED_BY_TARGET] if wanted else []
    file = load_profile(profile, [*with_node_rank(overrides, node_rank), *sized])
    instead = instead_of(host, what_if, file, load)
    if host is None:
        note_served(profile, terminal)
    made = prepare_at(file, instead).plan
    terminal.data(_text(made, terminal.out.width, as_json=as_json, field=field, target=wanted))
    if html is not None:
        from kvtier_ops.plan.html import render_html

        write_whole(html, render_html(made))
        terminal.note(f"wrote {html}")
    return ExitCode.OK


def _check_together(*, field: str, target: str, as_json: bool) -> None:
    if field and (target or as_json):
        other = "--target" if target else "--json"
        raise BadInput(f"`--explain` and `{other}` do not go together", "give one of them")


def _target(text: str) -> Target | None:
    if not text:
        return None
    from kvtier_ops.plan.target import parse_target

    return parse_target(text)


def _text(made: Plan, width: int, *, as_json: bool, field: str, target: Target | None) -> str:
    if field:
        from kvtier_ops.plan.explain import explain

        return explain(made, field, width)
    if target is not None:
        from kvtier_ops.plan.target import render_target, target_as_json

        if as_json:
            return json.dumps(target_as_json(made, target), indent=2)
        return render_target(made, target, width)
    if as_json:
        from kvtier_ops.plan.json_output import plan_as_json

        return json.dumps(plan_as_json(made), indent=2)
    from kvtier_ops.plan.report import render_plan

    return render_plan(made, width)
