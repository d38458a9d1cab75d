"""The app that holds the commands, and the program's entry point."""

import sys
from typing import Annotated

import typer

from muleteer import __version__
from muleteer.cli import jobs
from muleteer.cli.check import check
from muleteer.cli.models import models
from muleteer.cli.output import fail
from muleteer.cli.predict import predict
from muleteer.cli.push import push
from muleteer.cli.smoke import smoke
from muleteer.cli.up import up
from muleteer.client import MuleteerAPIError, Unavailable, ValidationFailed
from muleteer.errors import MuleteerError

app = typer.Typer(
    name="muleteer",
    help="Serve machine-learning models, and ask them for predictions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up)
app.command()(predict)
app.add_typer(jobs.app, name="jobs")
app.command()(models)
app.command()(smoke)
app.command()(push)
app.command()(check)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"muleteer {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Serve machine-learning models, and ask them for predictions."""


def main() -> None:
    """Run the command line; an error is one line on standard error and exit code 1 (2 for wrong usage)."""
    try:
        app()
    except MuleteerError as error:
        fail(error.message)
    except MuleteerAPIError as error:
        fail(_one_line(error))
    sys.exit(1)


def _one_line(error: MuleteerAPIError) -> str:
    text = str(error)
    if isinstance(error, ValidationFailed) and error.errors:
        shown = [f"{item.get('path')}: {item.get('message')}" for item in error.errors[:5]]
        more = len(error.errors) - len(shown)
        text = f"{error.title}: " + "; ".join(shown) + (f"; and {more} more" if more else "")
    if isinstance(error, Unavailable) and error.status == 0:
        text += " (start a server with `muleteer up`, or name another with --url)"
    if error.job_id and error.job_id not in text:
        text += f" (job {error.job_id})"
    return text
