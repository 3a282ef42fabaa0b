"""The commands `kvtier cache ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kvtier_ops.cache.client import KEY_VARIABLE, ask
from kvtier_ops.errors import BadInput, ExitCode, HostError
from kvtier_ops.terminal import Terminal
from kvtier_ops.units import format_bytes, parse_size

app = typer.Typer(
    help=f"Look after the cache of a running server. The key is in ${KEY_VARIABLE}.",
    no_args_is_help=True,
)

TIERS = ("l1", "l2", "l3")

Url = Annotated[str, typer.Option("--url", metavar="URL", help="The server.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")]
Tenant = Annotated[
    str, typer.Option("--tenant", metavar="NAME", help="Name of the API key; none: no key.")
]
Salt = Annotated[str, typer.Option("--salt", metavar="SALT", help="The requests' cache_salt.")]
Text = Annotated[
    str, typer.Argument(metavar="[PROMPT]", help="The prompt's beginning; `-`: from stdin.")
]
Ids = Annotated[str, typer.Option("--ids", metavar="1,2,3", help="Token ids, instead of text.")]
Messages = Annotated[
    Path | None,
    typer.Option("--messages", metavar="FILE", help="A JSON array of chat messages, instead."),
]
DEFAULT_URL = "http://127.0.0.1:8000"


@app.command()
def stat(url: Url = DEFAULT_URL, as_json: AsJson = False) -> int:
    """Say how full each tier is, and what hints hold."""
    said = ask(url, "")
    lines = [f"{'TIER':<6}{'PAGES':>10}{'OF':>10}"]
    for tier in TIERS:
        figures = said["tiers"][tier]
        lines.append(f"{tier:<6}{figures['cached_pages']:>10}{figures['capacity_pages']:>10}")
    if said["under_way"]:
        lines.append(f"under way: {said['under_way']}")
    hints = said["hints"]
    lines.append(
        f"{said['page_tokens']} tokens a page; {hints['pinned_pages']} of at most "
        f"{hints['pinned_pages_max']} pages pinned, {hints['session_pages']} of "
        f"{hints['sessions']} sessions alone, {hints['ttl_pages']} with a time to live"
    )
    return _show(said, "\n".join(lines), as_json)


@app.command()
def lookup(
    prompt: Text = "",
    ids: Ids = "",
    messages: Messages = None,
    tenant: Tenant = "",
    salt: Salt = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Say how much of a prompt's beginning is cached, and in which tiers."""
    said = ask(url, "/lookup", {**_prefix(prompt, ids, messages), **_whose(tenant, salt)})
    tiers = ", ".join(f"{tier} {said['tiers'][tier]['tokens']}" for tier in TIERS)
    text = f"{said['cached_tokens']} of {said['prompt_tokens']} tokens are cached: {tiers}"
    if said["pinned_pages"]:
        text += f"; {said['pinned_pages']} pages are pinned"
    return _show(said, text, as_json)


@app.command()
def warm(
    prompt: Text = "",
    ids: Ids = "",
    messages: Messages = None,
    tier: Annotated[str, typer.Option("--tier", metavar="l1|l2", help="How far up.")] = "l2",
    tenant: Tenant = "",
    salt: Salt = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Bring what is cached of a prompt's beginning up from disk."""
    body = {**_prefix(prompt, ids, messages), **_whose(tenant, salt), "tier": tier}
    said = ask(url, "/warm", body)
    return _show(said, f"{said['tokens']} tokens are in {said['tier']}", as_json)


@app.command()
def pin(
    prompt: Text = "",
    ids: Ids = "",
    messages: Messages = None,
    tenant: Tenant = "",
    salt: Salt = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Keep what is cached of a prompt's beginning in L2 and L3. Exit code 3: it was refused."""
    said = ask(url, "/pin", {**_prefix(prompt, ids, messages), **_whose(tenant, salt)})
    text = f"{said['tokens']} tokens are pinned" if said["pinned"] else f"refused: {said['reason']}"
    _show(said, text, as_json)
    return ExitCode.OK if said["pinned"] else ExitCode.REFUSED


@app.command()
def unpin(
    prompt: Text = "",
    ids: Ids = "",
    messages: Messages = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything, whoever's it is.")] = False,
    tenant: Tenant = "",
    salt: Salt = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Take pins back."""
    if everything:
        if prompt or ids or messages:
            raise BadInput("--all goes with no prompt")
        body: dict[str, Any] = {"all": True}
    else:
        body = {**_prefix(prompt, ids, messages), **_whose(tenant, salt)}
    said = ask(url, "/unpin", body)
    return _show(said, f"{said['unpinned_pages']} pages were unpinned", as_json)


@app.command("end-session")
def end_session(
    session: Annotated[str, typer.Argument(help="The name that its requests had.")],
    tenant: Tenant = "",
    salt: Salt = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Drop the pages that a session alone has used."""
    said = ask(url, "/end_session", {"session": session, **_whose(tenant, salt)})
    text = f"{said['dropped_pages']} pages were dropped"
    if said["waits_for_requests"]:
        text = "the session ends with its requests that still run"
    return _show(said, text, as_json)


@app.command()
def clear(
    tier: Annotated[str, typer.Option("--tier", metavar="l1|l2|l3|all", help="Which tier.")] = "",
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", metavar="NAME", help="This tenant alone; '': no key."),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Empty tiers, or make the pages of one tenant unreachable for ever."""
    if not tier and tenant is None:
        raise BadInput("say what to clear", "`--tier all`, `--tier l3` or `--tenant NAME`")
    body = {"tier": tier or "all", **({} if tenant is None else {"tenant": tenant})}
    said = ask(url, "/clear", body)
    if tenant is not None:
        whose = f"`{tenant}`" if tenant else "requests without a key"
        text = f"no page of {whose} can be found any more; they leave the tiers as they age"
    else:
        parts = [
            f"{name}: {pages} pages dropped, {said['left_pages'][name]} in use left"
            for name, pages in said["dropped_pages"].items()
        ]
        text = "\n".join(parts)
    return _show(said, text, as_json)


@app.command()
def resize(
    tier: Annotated[str, typer.Argument(metavar="l1|l2|l3", help="Which tier.")],
    size: Annotated[str, typer.Argument(metavar="SIZE", help="Such as 64GiB.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Make a tier smaller or larger while it serves; the profile keeps its size."""
    said = ask(url, "/resize", {"tier": tier, "size_bytes": _bytes(size)})
    return _show(said, _tier_now(said), as_json)


@app.command()
def detach(
    tier: Annotated[str, typer.Argument(metavar="l2|l3", help="Which tier.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Use a tier no more: its memory, or its directories, are given back."""
    said = ask(url, "/detach", {"tier": tier})
    return _show(said, f"{tier} is detached; `kvtier cache attach {tier}` brings it back", as_json)


@app.command()
def attach(
    tier: Annotated[str, typer.Argument(metavar="l2|l3", help="Which tier.")],
    size: Annotated[
        str, typer.Option("--size", metavar="SIZE", help="Such as 64GiB; none: as it was.")
    ] = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> int:
    """Use a tier again that was detached, or that could not be used at the start."""
    body = {"tier": tier, **({"size_bytes": _bytes(size)} if size else {})}
    said = ask(url, "/attach", body)
    return _show(said, _tier_now(said), as_json)


def _bytes(size: str) -> int:
    """Raises BadInput."""
    try:
        return parse_size(size).bytes
    except ValueError as error:
        raise BadInput(str(error)) from None


def _tier_now(said: dict[str, Any]) -> str:
    pages = "page" if said["pages"] == 1 else "pages"
    return f"{said['tier']} has {said['pages']} {pages}, {format_bytes(said['bytes'])}"


def _prefix(prompt: str, ids: str, messages: Path | None) -> dict[str, Any]:
    if sum(map(bool, (prompt, ids, messages))) != 1:
        raise BadInput("give one of PROMPT, --ids and --messages", 'such as "You are a helpful"')
    if ids:
        try:
            return {"token_ids": [int(each) for each in ids.split(",")]}
        except ValueError:
            raise BadInput(f"--ids takes whole numbers and commas, not `{ids[:40]}`") from None
    if messages is not None:
        try:
            return {"messages": json.loads(messages.read_bytes())}
        except OSError as error:
            raise HostError(f"cannot read `{messages}`: {error.strerror}") from error
        except ValueError as error:
            raise BadInput(f"`{messages}` is not JSON: {error}") from error
    return {"prompt": sys.stdin.read() if prompt == "-" else prompt}


def _whose(tenant: str, salt: str) -> dict[str, str]:
    return {name: said for name, said in (("tenant", tenant), ("salt", salt)) if said}


def _show(said: dict[str, Any], text: str, as_json: bool) -> int:
    Terminal().data(json.dumps(said, indent=2) if as_json else text)
    return ExitCode.OK
