"""Callers that send one request after the other and check every answer, until a file appears.

    python load.py REQUESTS --url URL [--callers 8] [--stop FILE] [--longest SECONDS]

REQUESTS is a JSON file: a list of ``{"path", "body", "answer"}``. Half of the callers keep their connection, as
clients with a pool do; the other half makes one for each request, which is what meets a pod that no longer listens.
Nothing is sent twice: a refused connection is a failed request.

It prints one JSON line a second, and a last one with ``"done": true``; it ends with 1 if a request failed. It runs in
a pod made from the gateway's image, so it needs no more than Python and httpx.
"""

import argparse
import asyncio
import itertools
import json
import math
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

TIMEOUT_SECONDS = 60.0
SHOWN_FAILURES = 20
TOLERANCE = 1e-6
"""Floats of one model differ in their last digits with the batch that they were predicted in."""


def same(answer: Any, expected: Any) -> bool:
    """Tell whether two JSON values are equal, floats within the tolerance."""
    if isinstance(answer, dict) and isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(same(answer[key], expected[key]) for key in answer)
    if isinstance(answer, list) and isinstance(expected, list):
        return len(answer) == len(expected) and all(map(same, answer, expected))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (answer, expected))
    if numbers:
        return math.isclose(answer, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(answer) is type(expected) and bool(answer == expected)


class Callers:
    """The load and what it saw."""

    def __init__(self, url: str, requests: list[dict[str, Any]], stop: Path | None, longest: float) -> None:
        self._url, self._stop = url, stop
        self._requests = itertools.cycle(requests)
        self._deadline = time.monotonic() + longest
        self.answered = 0
        self.failed = 0
        self.failures: list[str] = []
        self.versions: Counter[str] = Counter()
        self.slowest = 0.0

    def report(self, *, done: bool) -> str:
        """Return what was seen so far, as one line."""
        seen = {"answered": self.answered, "failed": self.failed, "failures": self.failures, "versions": self.versions}
        return json.dumps(seen | {"slowest": round(self.slowest, 3), "done": done})

    async def run(self, callers: int) -> None:
        """Send requests until told to stop; those in progress are answered first."""
        tasks = [asyncio.create_task(self._call(keep=number % 2 == 0)) for number in range(callers)]
        while not self._is_over():
            sys.stdout.write(self.report(done=False) + "\n")
            sys.stdout.flush()
            await asyncio.wait(tasks, timeout=1.0)
        await asyncio.gather(*tasks)
        sys.stdout.write(self.report(done=True) + "\n")

    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline or (self._stop is not None and self._stop.exists())

    async def _call(self, *, keep: bool) -> None:
        client = self._client()
        try:
            while not self._is_over():
                await self._ask(client, next(self._requests))
                if not keep:
                    await client.aclose()
                    client = self._client()
        finally:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        # No proxies or certificates from the environment: making such a client takes milliseconds.
        return httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT_SECONDS, trust_env=False, verify=False)  # noqa: S501 - plain HTTP in the cluster

    async def _ask(self, client: httpx.AsyncClient, request: dict[str, Any]) -> None:
        began = time.monotonic()
        problem = ""
        try:
            response = await client.post(request["path"], json=request["body"])
        except httpx.TransportError as error:
            problem = repr(error)
        else:
            self.versions[response.headers.get("Muleteer-Model-Version", "")] += 1
            if response.status_code != 200:
                problem = f"{response.status_code} {response.text[:300]}"
            elif not same(response.json(), request["answer"]):
                problem = f"another answer than expected: {response.text[:300]}"
        self.answered += 1
        self.slowest = max(self.slowest, time.monotonic() - began)
        if problem:
            self.failed += 1
            if len(self.failures) < SHOWN_FAILURES:
                self.failures.append(f"{request['path']} after {time.monotonic() - began:.3f} s: {problem}")


def main() -> int:
    """Run the load; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--stop", type=Path, help="the file that ends the load when it appears")
    parser.add_argument("--longest", type=float, default=900.0, help="seconds after which the load ends in any case")
    options = parser.parse_args()
    requests = json.loads(options.requests.read_text(encoding="utf-8"))
    callers = Callers(options.url, requests, options.stop, options.longest)
    asyncio.run(callers.run(options.callers))
    return 1 if callers.failed else 0


if __name__ == "__main__":
    sys.exit(main())
