"""Load: many connections that each send one request after the other, and check every answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import httpx


@dataclass
class Report:
    """What a load saw."""

    answered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    answered_at: list[float] = field(default_factory=list)
    refused: list[httpx.Headers] = field(default_factory=list)
    """Headers of the answers that were not taken for one: their requests were sent again."""

    @property
    def failed(self) -> int:
        """Answers that were not 200, and transport errors (status 0)."""
        return sum(number for status, number in self.statuses.items() if status != 200)


class Load:
    """``connections`` callers of ``url``; ``body(n)`` makes the n-th request, ``expected(n)`` is its right answer.

    Use as an async context manager: it runs until the block ends, then lets requests in progress finish.
    """

    def __init__(
        self,
        urls: Callable[[], list[str]],
        body: Callable[[int], Any],
        expected: Callable[[int], Any],
        connections: int = 64,
        retry_statuses: frozenset[int] = frozenset(),
    ) -> None:
        self._urls, self._body, self._expected = urls, body, expected
        self._connections = connections
        self._retry = retry_statuses
        self._numbers = count()
        self._stop = asyncio.Event()
        self.report = Report()

    async def __aenter__(self) -> Self:
        # A client each: many callers in one pool wait for each other, and that would be measured as slow answers.
        self._clients = [httpx.AsyncClient(timeout=60, verify=False) for _ in range(self._connections)]  # noqa: S501 - no TLS here
        self._tasks = [asyncio.create_task(self._call(n)) for n in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        for client in self._clients:
            await client.aclose()

    async def until(self, condition: Callable[[], bool], timeout: float = 60) -> None:
        """Go on until ``condition`` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout:g} s; so far {self.report.statuses}"
            await asyncio.sleep(0.02)

    async def until_more(self, answers: int, timeout: float = 60) -> None:
        """Go on until so many more answers have come."""
        goal = self.report.answered + answers
        await self.until(lambda: self.report.answered >= goal, timeout)

    async def _call(self, caller: int) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            urls = self._urls()
            began = time.monotonic()
            status, answer = await self._send(caller, urls[caller % len(urls)], number)
            while status in self._retry and time.monotonic() - began < 30:
                await asyncio.sleep(0.05)
                status, answer = await self._send(caller, urls[caller % len(urls)], number)
            self.report.answered += 1
            self.report.answered_at.append(time.monotonic())
            self.report.statuses[status] += 1
            self.report.slowest = max(self.report.slowest, time.monotonic() - began)
            if status == 200 and answer != self._expected(number):
                self.report.wrong.append(f"request {number}: {answer!r}")
            elif status != 200:
                self.report.wrong.append(f"request {number}: {status} {answer!r}")

    async def _send(self, caller: int, url: str, number: int) -> tuple[int, Any]:
        try:
            response = await self._clients[caller].post(url, json=self._body(number))
        except httpx.TransportError as error:
            return 0, repr(error)
        if response.status_code in self._retry:
            self.report.refused.append(response.headers)
        return response.status_code, response.json()
