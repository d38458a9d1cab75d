"""What tests of bad input send, and how they read the answers."""

from typing import Any

import httpx

PREDICT = "/v1/models/echo:predict"
MAX_BODY = 1024 * 1024
MAX_INSTANCES = 100
GOOD = {"instances": [{"text": "good"}]}


def post(client: httpx.Client, body: bytes | str, path: str = PREDICT, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=body, headers={"content-type": "application/json"} | names)


def wrong_fields(document: dict[str, Any]) -> set[str]:
    return {error["path"] for error in document["errors"]}
