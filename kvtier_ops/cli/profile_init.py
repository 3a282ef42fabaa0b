"""`kvtier profile init`: asks or takes flags, plans, and writes a commented profile."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from kvtier_ops import paths
from kvtier_ops.cli.files import check_target, write_whole
from kvtier_ops.errors import BadInput, ExitCode, KvtierError
from kvtier_ops.host import Host, probe
from kvtier_ops.model.pull import find_model
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.prepare import prepare
from kvtier_ops.profile.draft import Answers, Sizes, Use, draft, page_tokens, render
from kvtier_ops.profile.json_schema import json_schema
from kvtier_ops.profile.load import load_text
from kvtier_ops.terminal import Terminal
from kvtier_ops.units import format_bytes

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000


def init_profile(
    model: Annotated[
        str | None, typer.Option(metavar="PATH|NAME", help="The model to serve.")
    ] = None,
    use: Annotated[Use | None, typer.Option(help="What most requests are.")] = None,
    l3: Annotated[
        list[str] | None,
        typer.Option("--l3", metavar="DIR", help="Folder for pages on disk; one for each disk."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0: any.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of stdout.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the JSON Schema too, for the editor."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
) -> int:
    """Write a profile for this host and a model, with comments and with sizes that fit.

    On a terminal it asks for what the options do not say.
    """
    terminal = Terminal()
    for path in (output, schema):
        if path:
            check_target(path, force=force)
    if output and schema and output.absolute() == schema.absolute():
        raise BadInput("the profile and its schema are two files", "name another for `--schema`")
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    questions = _Questions(terminal) if asks else None
    answers = Answers(
        model=_model(model, questions),
        use=_use(use, questions),
        directories=_directories(l3, questions),
        host=_host(host, questions),
        port=_port(port, questions),
        schema=_schema_name(schema, output),
    )
    text = write_profile(answers, output or Path("profile.yaml"))
    if schema:
        write_whole(schema, json.dumps(json_schema(), indent=2) + "\n")
    if output:
        write_whole(output, text)
        terminal.note(f"wrote {output}; next: `kvtier plan {shlex.quote(str(output))}`")
    else:
        terminal.data(text.rstrip())
    if questions:
        options = {"--output": output, "--schema": schema}
        terminal.note(f"without questions: {repeat(answers, options, force)}")
    return ExitCode.OK


def write_profile(answers: Answers, path: Path) -> str:
    """The text of the profile, which has been planned on this host. Raises KvtierError."""
    prepared = prepare(load_text(draft(answers), path))
    plan, host = prepared.plan, prepared.host
    sizes = Sizes(
        device=plan.device,
        l1_bytes=plan.l1.bytes,
        l2_bytes=plan.l2.bytes,
        l3_bytes=plan.l3.bytes,
        token_bytes=plan.model.kv.token_bytes,
        page_tokens=page_tokens(answers.use, plan.device),
        about=about(host),
    )
    text = render(answers, sizes)
    prepare(load_text(text, path))
    return text


def about(host: Host) -> str:
    """What of the host matters here and stays as it is."""
    names = sorted({gpu.name for gpu in host.gpus})
    count = len(host.gpus)
    gpus = f"{count} GPU{'s' * (count > 1)} ({', '.join(names)})" if names else "no GPU"
    memory = min(host.memory_total_bytes, host.cgroup_limit_bytes or host.memory_total_bytes)
    return f"{host.usable_cpus} CPUs, {format_bytes(memory)} of memory, {gpus}"


class _Questions:
    """Asks on stderr; an answer that is refused is asked for again."""

    def __init__(self, terminal: Terminal) -> None:
        terminal.note(f"this host: {about(probe())}\nEnter takes what stands in brackets.\n")

    def ask(self, text: str, default: str, read: Callable[[str], Any]) -> Any:
        def value(answer: str) -> Any:
            try:
                return read(answer.strip())
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None
            except KvtierError as error:
                raise typer.BadParameter(f"{error}: {error.problems[0].hint}") from None

        return typer.prompt(text, default=default, value_proc=value, err=True)


def _take(given: Any, default: str, question: tuple[_Questions | None, str], read: Any) -> Any:
    """The option, the answer or the default, read in one way."""
    questions, text = question
    if given is None and questions:
        return questions.ask(text, default, read)
    try:
        return read(default if given is None else given)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _model(given: str | None, questions: _Questions | None) -> str:
    known = ", ".join(REGISTERED)
    text = f"Model: a Hugging Face folder, a GGUF file, or {known}"

    def read(answer: str) -> str:
        is_name = answer in REGISTERED
        if questions:  # sooner than after all of them
            find_model(answer if is_name else str(paths.expand(answer, Path.cwd())))
        return answer if is_name else _written(answer)

    return str(_take(given, DEFAULT_MODEL, (questions, text), read))


def _use(given: Use | None, questions: _Questions | None) -> Use:
    text = "Most requests are: chat, documents (long, shared) or mixed"

    def read(answer: str) -> Use:
        if answer not in list(Use):
            raise ValueError(f"write one of {', '.join(Use)}")
        return Use(answer)

    return Use(_take(given, Use.CHAT, (questions, text), read))


def _directories(given: list[str] | None, questions: _Questions | None) -> tuple[str, ...]:
    text = "Folders for pages on disk, one for each disk, or `none`"

    def read(answer: str | list[str]) -> tuple[str, ...]:
        items = shlex.split(answer) if isinstance(answer, str) else answer
        found = tuple(_written(item) for item in items if item != "none")
        if len(set(found)) < len(found):
            raise ValueError("the same folder stands there twice")
        return found

    folders: tuple[str, ...] = _take(given or None, "none", (questions, text), read)
    return folders


def _host(given: str | None, questions: _Questions | None) -> str:
    text = "Address to listen on; 0.0.0.0: every one, for others too"

    def read(answer: str) -> str:
        if not answer or not answer.isprintable() or " " in answer:
            raise ValueError("write an address, such as 127.0.0.1")
        return answer

    return str(_take(given, DEFAULT_HOST, (questions, text), read))


def _port(given: int | None, questions: _Questions | None) -> int:
    def read(answer: str) -> int:
        if not (answer.isascii() and answer.isdecimal() and int(answer[:6]) <= 65535):
            raise ValueError("a port is a whole number from 0 to 65535")
        return int(answer)

    asked = None if given is None else str(given)
    return int(_take(asked, str(DEFAULT_PORT), (questions, "Port; 0: any free one"), read))


def _written(text: str) -> str:
    """A path as the profile has it: absolute, since the profile may lie elsewhere."""
    if not text.isprintable():
        raise ValueError("a path has printable characters alone")
    return paths.abbreviate(paths.expand(text, Path.cwd())).replace("$", "$$")


def _schema_name(schema: Path | None, output: Path | None) -> str:
    """As an editor finds it: from the profile's folder, if that is known."""
    if schema is None:
        return ""
    return os.path.relpath(schema, output.parent) if output else str(schema.absolute())


def repeat(answers: Answers, files: dict[str, Path | None], force: bool) -> str:
    """The command line that needs no questions for the same profile."""
    words = ["kvtier", "profile", "init", "--yes", "--model", answers.model, "--use", answers.use]
    words += [word for path in answers.directories for word in ("--l3", path)]
    words += ["--host", answers.host, "--port", str(answers.port)]
    words += [word for name, path in files.items() if path for word in (name, str(path))]
    return shlex.join(words + ["--force"] * force)
