"""The options that name a server, and the client made from them."""

from typing import Annotated

import typer

from muleteer.client import Client

DEFAULT_URL = "http://localhost:8080"

Url = Annotated[str, typer.Option("--url", envvar="MULETEER_URL", help="The server.")]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="MULETEER_API_KEY", help="Key, if the server wants one.")
]


def connect(url: str, api_key: str | None, timeout: float = 60.0) -> Client:
    """Return a client that does not wait for a server that is not there."""
    return Client(url, timeout=timeout, api_key=api_key, reconnect=0)
