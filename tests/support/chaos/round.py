"""One round of chaos: a system, its callers, a schedule of faults, and at the end what must hold."""

import asyncio
from pathlib import Path
from typing import Literal

from support.chaos.arena import Arena
from support.chaos.book import Book
from support.chaos.callers import Callers
from support.chaos.chronicle import Chronicle
from support.chaos.faults import Faults
from support.chaos.invariants import check_all, watch_ledger
from support.chaos.plan import plan

Appendfsync = Literal["always", "everysec"]


async def run_round(folder: Path, appendfsync: Appendfsync, seed: int, seconds: float) -> Book:
    """Run a schedule of this many seconds and return what was seen: nothing must be among its violations."""
    chronicle = Chronicle(appendfsync)
    book = Book(chronicle)
    try:
        async with Arena(folder, appendfsync) as arena:
            chronicle.note("the system is ready")
            callers = Callers(arena, book, seed)
            watching = asyncio.create_task(watch_ledger(arena, book))
            try:
                async with callers.calling():
                    await Faults(arena, callers, chronicle).run(plan(seed, seconds))
                    chronicle.note("all faults are undone")
                    await arena.wait_ready()
                    chronicle.note("the system is ready again")
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            if not watching.cancelled():
                watching.result()
            await check_all(arena, callers, book, seed)
            chronicle.note("checked")
    except BaseException as error:
        error.add_note(report(book, seed, seconds))
        raise
    return book


def report(book: Book, seed: int, seconds: float) -> str:
    """Return all that is needed to see what happened, and to run it again."""
    again = f"make chaos SEED={seed} SECONDS={seconds:g} APPENDFSYNC={book.chronicle.appendfsync}"
    return "\n".join(
        [
            f"seed {seed}, appendfsync {book.chronicle.appendfsync}: {len(book.violations)} things did not hold",
            f"to run it again: {again}",
            *book.violations[:40],
            "",
            "the schedule so far:",
            *book.chronicle.lines,
            "",
            "callers saw: " + ", ".join(f"{name}: {number}" for name, number in sorted(book.seen.items())),
        ]
    )
