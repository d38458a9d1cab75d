"""What every error answer of the gateway must be."""

import json
from typing import Any, Protocol


class Response(Protocol):
    """The parts of an HTTP answer that a problem document is judged by."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Any: ...

    @property
    def text(self) -> str: ...


def problem(response: Response, status: int) -> dict[str, Any]:
    """Assert that an answer is a complete problem document with this status, and return the document."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(response.text)
    assert document["status"] == status
    assert document["type"]
    assert document["title"]
    assert document["error"] == document["detail"]
    assert document["error"].strip()
    assert document["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return document
