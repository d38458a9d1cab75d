"""The callers of every kind, each sending one request after the other until told to stop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from support.chaos.arena import Arena
from support.chaos.book import Book, Promise
from support.chaos.caller import Caller, Seen

PAUSE_SECONDS = 0.06
"""Longest pause between two requests of a caller: the load is to leave room for what is being tested."""
PATIENCE_SECONDS = 90.0
BULK_ROWS = (100, 300)

Request = Callable[[Caller], Awaitable[None]]


@dataclass
class Keyed:
    """What an idempotency key stands for."""

    texts: list[str]
    job_id: str = ""
    """The job that answers named; empty as long as none came."""


@dataclass
class Callers:
    """All callers of one arena."""

    arena: Arena
    book: Book
    seed: int
    keys: dict[str, Keyed] = field(default_factory=dict)
    """Keys that were answered."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Let everyone call for the length of a block; then wait for the answers to what was sent."""
        kinds: list[tuple[str, int, Request]] = [
            ("sync", 6, self._sync),
            ("wait", 2, self._wait),
            ("async", 3, self._async),
            ("keyed", 3, self._keyed),
            ("cancel", 2, self._cancel),
            ("bulk", 1, self._bulk),
        ]
        async with asyncio.TaskGroup() as group:
            for name, number, request in kinds:
                for n in range(number):
                    group.create_task(self._repeat(Caller(self.arena, self.book, name, n, self.seed), request))
            try:
                yield
            finally:
                self._stop.set()

    async def poison(self, start: str, number: int) -> None:
        """Send an input that makes the model raise or kills its process, until it is known how it ended."""
        async with Caller(self.arena, self.book, start, number, self.seed) as caller:
            await self._insist(caller, [caller.text(start)])

    async def _repeat(self, caller: Caller, request: Request) -> None:
        async with caller:
            while not self._stop.is_set():
                await request(caller)
                await asyncio.sleep(caller.rng.uniform(0, PAUSE_SECONDS))

    async def _sync(self, caller: Caller) -> None:
        version = caller.rng.choices(["", "1", "2", "3"], [8, 1, 1, 1])[0]
        texts = caller.texts()
        caller.judge(await caller.predict(texts, version=version), texts)

    async def _wait(self, caller: Caller) -> None:
        texts = caller.texts()
        promise = caller.judge(await caller.predict(texts, 1, Prefer="wait=1"), texts)
        if promise is not None:
            await self._follow(caller, promise)

    async def _async(self, caller: Caller) -> None:
        promise = await self._submit(caller, caller.texts())
        if promise is not None:
            await self._follow(caller, promise)

    async def _bulk(self, caller: Caller) -> None:
        promise = await self._submit(caller, [caller.text() for _ in range(caller.rng.randint(*BULK_ROWS))])
        if promise is not None:
            await self._follow(caller, promise)

    async def _cancel(self, caller: Caller) -> None:
        promise = await self._submit(caller, caller.texts())
        if promise is not None:
            await asyncio.sleep(caller.rng.choice([0, 0, 0.005, 0.05]))
            await caller.cancel(promise)

    async def _keyed(self, caller: Caller) -> None:
        await self._insist(caller, caller.texts())

    async def _submit(self, caller: Caller, texts: list[str]) -> Promise | None:
        seen = await caller.predict(texts, 0, Prefer="respond-async")
        return self.book.promise(seen.job_id, texts, seen.began) if seen.status == 202 else None

    async def _follow(self, caller: Caller, promise: Promise) -> None:
        """Poll a job's URL until it has ended; what has not when all stop is looked at in the end."""
        while not self._stop.is_set() and not await caller.look(promise):  # noqa: ASYNC110 - a poll is what it is
            await asyncio.sleep(caller.rng.uniform(0, PAUSE_SECONDS))

    async def _insist(self, caller: Caller, texts: list[str]) -> None:
        """Send a request under an idempotency key again and again until its outcome is known: always the same job."""
        key, keyed = caller.text("key"), Keyed(texts)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_SECONDS
        began: float | None = None
        while loop.time() < give_up_at:
            seen = await caller.predict(texts, Idempotency_Key=key)
            began = began or seen.began
            self._same_job(key, keyed, seen, began)
            caller.judge(seen, texts, since=began)
            if seen.status in (200, 500):
                self.keys[key] = keyed
                return
            await asyncio.sleep(0.1)
        self.book.violate(f"key {key}: no outcome in {PATIENCE_SECONDS:g} s")

    def _same_job(self, key: str, keyed: Keyed, seen: Seen, since: float) -> None:
        another = seen.job_id and keyed.job_id not in ("", seen.job_id)
        if another and not self.book.chronicle.may_have_lost(since, seen.began + 1):
            self.book.violate(f"key {key} stands for job {keyed.job_id} and for {seen.job_id}")
        keyed.job_id = seen.job_id or keyed.job_id

    async def ask_keys_again(self, most: int) -> None:
        """Send some requests again whose outcome is known: the same job answers."""
        async with Caller(self.arena, self.book, "again", 0, self.seed) as caller:
            for key in caller.rng.sample(sorted(self.keys), min(most, len(self.keys))):
                keyed = self.keys[key]
                seen = await caller.predict(keyed.texts, Idempotency_Key=key)
                caller.judge(seen, keyed.texts, since=self.book.chronicle.began_at)
                if seen.status not in (200, 500):
                    self.book.violate(f"key {key}, answered before, is answered {seen.status} {seen.document}")
                self._same_job(key, keyed, seen, self.book.chronicle.began_at)
