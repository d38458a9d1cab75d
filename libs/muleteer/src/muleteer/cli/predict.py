"""``muleteer predict``: instances in, predictions out."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from muleteer.cli.output import hint, print_json, say
from muleteer.cli.server import DEFAULT_URL, ApiKey, Url, connect


def predict(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    instances: Annotated[
        str, typer.Argument(help="JSON: a list of instances, or an object of id -> instance; @FILE or - reads it.")
    ],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    version: Annotated[str | None, typer.Option(help="Ask this version.")] = None,
    alias: Annotated[str | None, typer.Option(help="Ask the version under this alias.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the answer.")] = 60.0,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key gives the same job.")] = None,
    respond_async: Annotated[
        bool, typer.Option("--async", help="Print the job's id at once; `muleteer jobs wait ID` gets the answer.")
    ] = False,
) -> None:
    """Ask a model for predictions and print them as JSON."""
    if version is not None and alias is not None:
        raise typer.BadParameter("give either --version or --alias, not both")
    rows = read_instances(instances)
    with connect(url, api_key, timeout) as client:
        if respond_async:
            job = client.submit(model, rows, version=version, alias=alias, idempotency_key=key)
            say(job.id)
            hint(f"{job.status}; `muleteer jobs wait {job.id}` gets the answer")
        else:
            print_json(client.predict(model, rows, version=version, alias=alias, idempotency_key=key))


def read_instances(text: str) -> list[Any] | dict[str, Any]:
    """Return the instances that an argument gives: JSON itself, ``@FILE`` or ``-`` for standard input.

    A whole request body, ``{"instances": ...}``, is understood too. Raises BadParameter if there are none.
    """
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{text[1:]} cannot be read: {error}") from error
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"the instances are not JSON: {error}") from error
    if isinstance(value, dict) and set(value) == {"instances"}:
        value = value["instances"]
    if not isinstance(value, list | dict):
        raise typer.BadParameter("the instances must be a JSON list, or an object of id -> instance")
    return value
