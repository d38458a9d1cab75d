"""Send every example's requests to a running system, each in four ways, and show request and answer side by side."""

import argparse
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

EXAMPLES = Path(__file__).resolve().parent
WAIT_SECONDS = 10
LONGEST_CELL = 400


class DemoError(Exception):
    """An answer is not what a working system gives; the message is one line."""


@dataclass(frozen=True, slots=True)
class Request:
    """One sample request of a ``requests.json``."""

    name: str
    method: str
    path: str
    body: Any


@dataclass(frozen=True, slots=True)
class Row:
    """What one row of the table shows."""

    way: str
    request: str
    answer: str
    milliseconds: float


def read_requests(example: Path) -> list[Request]:
    """Return the sample requests of an example."""
    return [Request(**item) for item in json.loads((example / "requests.json").read_text(encoding="utf-8"))]


def send(client: httpx.Client, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    """Send a request and return its answer. Raises DemoError when there is none, or one that is not 2xx."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        response = client.request(method, path, json=body, headers=named)
    except httpx.HTTPError as error:
        raise DemoError(f"{method} {client.base_url.join(path)} got no answer: {error}") from error
    if not response.is_success:
        raise DemoError(f"{method} {response.url} was answered {response.status_code}: {response.text[:LONGEST_CELL]}")
    return response


def plain(client: httpx.Client, request: Request) -> tuple[str, Any]:
    """Send the tutorial's own request to the plain route and wait for the answer."""
    return "", send(client, request.method, request.path, request.body).json()


def asynchronous(client: httpx.Client, request: Request) -> tuple[str, Any]:
    """Send a request that is answered at once with a job, then fetch the job."""
    accepted = send(client, request.method, request.path, request.body, Prefer="respond-async")
    location = accepted.headers.get("location")
    if accepted.status_code != 202 or not location:
        raise DemoError(f"{accepted.url} with Prefer: respond-async was answered {accepted.status_code}, not 202")
    job = send(client, "GET", f"{location}?wait={WAIT_SECONDS}").json()
    if job.get("status") != "finished":
        raise DemoError(f"{location} is {job.get('status')} after {WAIT_SECONDS} s: {job.get('error')}")
    return f"\nPrefer: respond-async\nGET {location}?wait={WAIT_SECONDS}", job["result"]


def keyed(client: httpx.Client, request: Request) -> tuple[str, Any]:
    """Send a request twice with one idempotency key, which must be one job."""
    key = uuid.uuid4().hex
    answers = [send(client, request.method, request.path, request.body, Idempotency_Key=key) for _ in range(2)]
    jobs = {answer.headers.get("muleteer-job-id") for answer in answers}
    if None in jobs or len(jobs) != 1 or answers[0].json() != answers[1].json():
        raise DemoError(f"{request.path} sent twice with Idempotency-Key {key} was not one job: {jobs}")
    return f"\nIdempotency-Key: {key}\n(twice: one job, {jobs.pop()})", answers[1].json()


WAYS: tuple[tuple[str, bool, Callable[[httpx.Client, Request], tuple[str, Any]]], ...] = (
    ("plain route", True, plain),
    ("/v1", False, plain),
    ("async", False, asynchronous),
    ("keyed", True, keyed),
)
"""Name of a way to ask, whether it takes the plain route, and how it is done."""


def ask(client: httpx.Client, example: Path) -> Iterator[Row]:
    """Send an example's requests in every way. Raises DemoError that names the model and the way."""
    requests = read_requests(example)
    plain_request = next(request for request in requests if not request.path.startswith("/v1/"))
    v1_request = next(request for request in requests if request.path.startswith("/v1/"))
    for way, takes_route, perform in WAYS:
        request = plain_request if takes_route else v1_request
        started = time.perf_counter()
        try:
            more, answer = perform(client, request)
        except (DemoError, ValueError) as error:  # ValueError: a body that is not JSON
            raise DemoError(f"{example.name}, {way}: {error}") from error
        milliseconds = (time.perf_counter() - started) * 1000.0
        yield Row(way, f"{request.method} {request.path}\n{compact(request.body)}{more}", compact(answer), milliseconds)


def compact(value: Any) -> str:
    """Return a value as JSON, cut where it becomes too long to look at."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]} ..."


def show(console: Console, model: str, rows: list[Row]) -> None:
    """Print one model's requests and answers."""
    table = Table(title=model, title_justify="left", title_style="bold", show_lines=True, expand=True)
    table.add_column("way", no_wrap=True)
    table.add_column("request", ratio=3, overflow="fold")
    table.add_column("answer", ratio=2, overflow="fold")
    table.add_column("ms", justify="right", no_wrap=True)
    for row in rows:
        # Text, not str: square brackets in JSON are not markup.
        table.add_row(row.way, Text(row.request), Text(row.answer), f"{row.milliseconds:.1f}")
    console.print(table)


def main() -> None:
    """Ask all examples; end with 1 and one line when an answer is not 2xx."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://localhost:8080", help="where the gateway listens")
    url = parser.parse_args().url
    # Answers wider than a pipe's 80 columns would be folded beyond reading.
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        with httpx.Client(base_url=url, timeout=60.0) as client:
            for file in sorted(EXAMPLES.glob("*/requests.json")):
                show(console, file.parent.name, list(ask(client, file.parent)))
    except (DemoError, httpx.InvalidURL) as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
