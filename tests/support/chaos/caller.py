"""One caller: sends requests, and holds every answer against what may be answered at all."""

import random
import time
from dataclasses import dataclass
from itertools import count
from typing import Any, Self

import httpx

from support.chaos.arena import ANSWER_SECONDS, API_KEYS, Arena
from support.chaos.book import ENDS, Book, Promise
from support.chaos.model import NAME, TIMEOUT_SECONDS
from support.problems import problem

SLACK_SECONDS = 2 * ANSWER_SECONDS + 6
"""An answer may take so much longer than was to be waited: for late replies, retries of the enqueue, looks at Redis."""
HANG_SECONDS = 120.0


@dataclass(frozen=True)
class Seen:
    """One answer; status 0 for a connection that was lost."""

    status: int
    document: Any
    headers: httpx.Headers
    began: float

    @property
    def job_id(self) -> str:
        """The job that the answer names, empty for none."""
        if "muleteer-job-id" in self.headers:
            return self.headers["muleteer-job-id"]
        if self.status < 400 or not isinstance(self.document, dict):
            return ""
        return str(self.document.get("job_id") or self.document.get("job", "").rpartition("/")[2])

    @property
    def version(self) -> str:
        return self.headers.get("muleteer-model-version", "")


class Caller:
    """A client of its own with its own connections, API key and luck; use as an async context manager."""

    def __init__(self, arena: Arena, book: Book, name: str, number: int, seed: int) -> None:
        self.arena, self.book, self.name = arena, book, name
        self.rng = random.Random(f"{seed} {name} {number}")  # noqa: S311 - chaos, not a secret
        self._who = f"{name}-{number}"
        self._key = API_KEYS[number % len(API_KEYS)]
        self._numbers = count()

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(timeout=HANG_SECONDS, headers={"X-Api-Key": self._key})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def text(self, start: str = "") -> str:
        """Return a text that nobody else sends; one that begins with ``raise`` or ``kill`` is poison."""
        return f"{start}-{self._who}-{next(self._numbers)}" if start else f"{self._who}-{next(self._numbers)}"

    def texts(self, most: int = 3) -> list[str]:
        return [self.text() for _ in range(self.rng.randint(1, most))]

    async def predict(
        self, texts: list[str], waits: float = TIMEOUT_SECONDS, version: str = "", **headers: str
    ) -> Seen:
        """Send a prediction request and return its answer, checked as far as it is the same for all."""
        where = f"/versions/{version}" if version else ""
        body = {"instances": [{"text": text} for text in texts]}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        seen = await self._send("POST", f"/v1/models/{NAME}{where}:predict", waits, json=body, headers=named)
        if seen.status == 404 and version != "3":  # versions 1 and 2 are never taken out of the catalog
            self.book.violate(f"{self._who}: version {version or 'not named'}: {seen.document}")
        if version and seen.version not in ("", version):
            self.book.violate(f"{self._who}: version {seen.version} answered instead of {version}")
        return seen

    def judge(self, seen: Seen, texts: list[str], since: float | None = None) -> Promise | None:
        """Check the answer to a caller who waited, asking since then; return the job's promise if it is one."""
        if seen.status == 200:
            self.book.check_predictions(self._who, seen.document["predictions"], texts, seen.version)
            self.book.answered[seen.job_id] = seen.version
        elif seen.status == 500:
            document = seen.document
            kind = document.get("error_type", "no error_type")
            self.book.check_failure(self._who, kind, document["detail"], texts, since or seen.began)
        elif seen.status in (202, 504) and seen.job_id:
            return self.book.promise(seen.job_id, texts, seen.began)
        return None

    async def look(self, promise: Promise, seconds: float = 2) -> bool:
        """Long-poll a job once; return whether there is nothing more to wait for."""
        seen = await self._send("GET", f"/v1/jobs/{promise.job_id}?wait={seconds:g}", seconds)
        if seen.status == 200 and seen.document["status"] in ENDS:
            self.book.check_end(promise, seen.document)
            return True
        if seen.status == 404:
            self.book.check_gone(promise)
            return True
        return False

    async def cancel(self, promise: Promise) -> None:
        """Ask for a job's cancellation, and note what came of it."""
        promise.cancel_asked = True
        seen = await self._send("DELETE", f"/v1/jobs/{promise.job_id}", 0)
        if seen.status == 200:
            promise.canceled_at = time.monotonic()
            if seen.document["status"] != "canceled":
                self.book.violate(f"job {promise.job_id}: canceled with 200, but shown as {seen.document['status']}")
        elif seen.status == 404:
            self.book.check_gone(promise)

    async def _send(self, method: str, path: str, waits: float, **request: Any) -> Seen:
        gateway = self.rng.randrange(len(self.arena.gateways))
        began = time.monotonic()
        what = f"{self._who} at gateway {gateway}: {method} {path}"
        try:
            response = await self._client.request(method, f"{self.arena.url(gateway)}{path}", **request)
        except httpx.TimeoutException:
            self.book.violate(f"{what}: no answer in {HANG_SECONDS:g} s")
            return Seen(0, None, httpx.Headers(), began)
        except httpx.TransportError as error:
            self.book.seen[f"{self.name} lost connection"] += 1
            if not self.book.chronicle.unreachable(gateway, began, time.monotonic()):
                self.book.violate(f"{what}: {error!r}, but nothing was done to this gateway or its line")
            return Seen(0, None, httpx.Headers(), began)
        ended = time.monotonic()
        self.book.seen[f"{self.name} {method} {response.status_code}"] += 1
        allowed = waits + SLACK_SECONDS + self.book.chronicle.held_up(gateway, began, ended)
        if ended - began > allowed:
            self.book.violate(f"{what}: {response.status_code} after {ended - began:.1f} s instead of {allowed:.1f} s")
        return Seen(response.status_code, self._document(response, what), response.headers, began)

    def _document(self, response: httpx.Response, what: str) -> Any:
        if response.status_code < 400:
            return response.json()
        if response.status_code not in (404, 409, 429, 500, 503, 504):
            self.book.violate(f"{what}: {response.status_code}: {response.text[:300]}")
        try:
            document = problem(response, response.status_code)
        except (AssertionError, ValueError, KeyError) as error:
            self.book.violate(f"{what}: no problem document: {error!r}: {response.text[:300]}")
            return {"detail": response.text}
        if response.status_code == 500 and "error_type" not in document:
            self.book.violate(f"{what}: an error of its own: {document}")
        if response.status_code in (429, 503) and "retry-after" not in response.headers:
            self.book.violate(f"{what}: {response.status_code} without Retry-After: {document['detail']}")
        return document
