"""``muleteer models``: what a server serves, and the state of each version."""

from typing import Annotated

import typer

from muleteer.cli.output import print_table, say
from muleteer.cli.server import DEFAULT_URL, ApiKey, Url, connect
from muleteer.client import ModelDetails


def models(
    name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List the models with the state of each version, and why a version failed."""
    with connect(url, api_key) as client:
        names = [name] if name is not None else [model.name for model in client.models()]
        rows = [row for model in names for row in describe(client.model(model))]
    if rows:
        print_table(["MODEL", "VERSION", "STATE", "WORKERS", "TRAFFIC", "ALIASES", "ROUTE", "REASON"], rows)
    else:
        say("The server has no models.")


def describe(model: ModelDetails) -> list[list[str]]:
    """Return one row for each version of a model."""
    shares = sum(model.traffic.values())
    rows = []
    for version in model.versions:
        share = model.traffic.get(version.version, 0.0)
        aliases = [alias for alias, target in model.aliases.items() if target == version.version]
        reason = ": ".join(part for part in (version.status.error_code, version.status.error_message) if part)
        rows.append(
            [
                model.name,
                version.version,
                version.state,
                str(version.workers),
                f"{share / shares:.0%}" if share else "-",
                ", ".join(aliases) or "-",
                model.route or "-",
                reason if version.state == "FAILED" else "",
            ]
        )
    return rows
