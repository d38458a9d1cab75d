"""What callers were promised and what they saw, judged against what was done to the system."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from support.chaos.chronicle import LOST_WRITE_SECONDS, Chronicle
from support.chaos.model import MAX_DELIVERIES, all_wrong_in

ENDS = frozenset({"finished", "failed", "canceled"})


@dataclass
class Promise:
    """A job whose URL some caller got."""

    job_id: str
    texts: list[str]
    sent_at: float
    accepted_at: float
    cancel_asked: bool = False
    canceled_at: float | None = None
    """When its cancellation was confirmed."""
    end: dict[str, Any] | None = None
    """Its document when it was first seen ended."""


@dataclass
class Book:
    """Everything that callers saw; ``violations`` is what must stay empty."""

    chronicle: Chronicle
    promises: dict[str, Promise] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    answered: dict[str, str] = field(default_factory=dict)
    """Jobs whose answer somebody waited for, and the version that gave it."""
    lost: list[str] = field(default_factory=list)
    """Promises that appendfsync everysec could not keep."""

    def violate(self, text: str) -> None:
        self.violations.append(text)
        self.chronicle.note(f"VIOLATION: {text}")

    def promise(self, job_id: str, texts: list[str], sent_at: float) -> Promise:
        """Note that a caller was given a job's URL."""
        made = Promise(job_id, texts, sent_at, time.monotonic())
        return self.promises.setdefault(job_id, made)

    def check_predictions(self, who: str, predictions: Any, texts: list[str], version: str) -> None:
        wrong = all_wrong_in(predictions, texts, version)
        if wrong:
            self.violate(f"{who}: wrong answer: {wrong}")
        if any(text.startswith(("kill", "raise")) for text in texts):
            self.violate(f"{who}: a poison input was answered: {predictions!r:.200}")

    def check_failure(self, who: str, kind: str, message: str, texts: list[str], since: float) -> None:
        """Check that a job that was sent at ``since`` had a reason to fail, and that this is the one it gives."""
        poisons = {text.partition("-")[0] for text in texts} & {"raise", "kill"}
        if "raise" in poisons and kind == "ValueError" and "not to my taste" in message:
            return
        if kind != "WorkerLost":
            self.violate(f"{who}: failed with {kind}: {message}")
            return
        possible = self.chronicle.losses(since, time.monotonic(), MAX_DELIVERIES)
        if "kill" not in poisons:
            self.seen["honest jobs that ran out of deliveries"] += 1
            if possible < MAX_DELIVERIES:
                self.violate(f"{who}: lost {MAX_DELIVERIES} times, but faults can have taken it only {possible} times")

    def check_end(self, promise: Promise, document: dict[str, Any]) -> None:
        """Check how a promised job ended, when that is first seen and whenever it is seen again."""
        who, status = f"job {promise.job_id}", document["status"]
        if promise.end is not None:
            if _outcome(document) != _outcome(promise.end) and not self._lost_since(promise):
                self.violate(f"{who} ended twice: {_outcome(promise.end)!r:.300}, then {_outcome(document)!r:.300}")
        elif status == "finished":
            self.check_predictions(who, document["result"]["predictions"], promise.texts, document["version"])
        elif status == "failed":
            error = document["error"]
            self.check_failure(who, error["type"], error["message"], promise.texts, promise.sent_at)
        elif not promise.cancel_asked:
            self.violate(f"{who} is canceled, which nobody asked for")
        if promise.canceled_at is not None and status != "canceled" and not self._lost_since(promise):
            self.violate(f"{who} was confirmed canceled and is {status}")
        promise.end = document

    def check_gone(self, promise: Promise) -> None:
        """Check that a promised job may be unknown: only a Valkey that had not written it yet may forget it."""
        if self.chronicle.may_have_lost(promise.sent_at, promise.accepted_at + LOST_WRITE_SECONDS):
            self.lost.append(promise.job_id)
        else:
            self.violate(f"job {promise.job_id}, accepted, is unknown")

    def _lost_since(self, promise: Promise) -> bool:
        return self.chronicle.may_have_lost(promise.sent_at, time.monotonic())


def _outcome(document: dict[str, Any]) -> dict[str, Any]:
    names = ("status", "version", "result", "error", "ended_at", "deliveries")
    return {name: document[name] for name in names if name in document}
