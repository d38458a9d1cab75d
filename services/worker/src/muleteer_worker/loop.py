"""The claim loop: claim a batch, predict it, finish it and claim the next one in the same round trip."""

import logging
import time
from collections.abc import Callable

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from muleteer.queue.consumer import BatchTiming, Claim, Consumer, Outcome, QueueSpec
from muleteer_worker.batch import Batch
from muleteer_worker.costs import Costs
from muleteer_worker.lease import LeaseKeeper
from muleteer_worker.left_behind import LeftBehind
from muleteer_worker.outage import Outage
from muleteer_worker.resident import Residents
from muleteer_worker.tally import count_given_back, tally
from muleteer_worker.watch import Pulse

logger = logging.getLogger(__name__)

TIDY_SECONDS = 1.0
"""How often expired leases are reaped and the catalog is looked at."""
BELL_SECONDS = 1.0
"""Longest sleep at the bell: a claim every second covers a lost token and jobs that others enqueued."""
LOADING_SECONDS = 0.1
"""Longest sleep while a version loads, so that it serves as soon as it is ready."""

LOOK_SECONDS = 0.1
"""While it has work, how soon after another a look for cold versions' jobs is worth it."""


class ClaimLoop:
    """One process's loop. ``stopping`` turns true when it is to end: the batches in hand are finished first."""

    def __init__(
        self,
        consumer: Consumer,
        residents: Residents,
        left_behind: LeftBehind,
        keeper: LeaseKeeper,
        pulse: Pulse,
        stopping: Callable[[], bool],
    ) -> None:
        self._consumer = consumer
        self._residents = residents
        self._left_behind = left_behind
        self._keeper = keeper
        self._pulse = pulse
        self._stopping = stopping
        self._outage = Outage()
        self._costs = Costs(consumer)
        self._first = 0
        self._claimed_at = self._took_at = 0.0
        """When the claim in hand was taken, by the wall clock and by the one that nobody sets."""
        self._tidy_at = 0.0
        self._claim_in_doubt = False
        self._found_nothing = False
        """The last claim found every queue empty: only the bell is worth waiting for."""
        self._called = False
        """The bell has rung since cold versions were looked after."""
        self._looked_at = 0.0

    def run(self) -> None:
        """Serve until stopping. RedisErrors are outlived; whatever else goes wrong ends the process."""
        claim: Claim | None = None
        while claim is not None or not self._stopping():
            now = self._pulse.turned_at = time.monotonic()
            self._residents.in_hand = claim.queue if claim is not None else ""
            if now >= self._tidy_at or self._residents.load_ended.is_set():
                self._tidy_at = now + TIDY_SECONDS
                self._try(self._tidy)
            elif self._called and self._residents.cold and (claim is None or now >= self._looked_at + LOOK_SECONDS):
                self._called, self._looked_at = False, now
                self._try(self._look_for_demand)
            claim = self._serve(claim) if claim is not None else self._try(self._next)

    def _try(self, step: Callable[[], Claim | None]) -> Claim | None:
        try:
            claim = step()
        except RedisError as error:
            self._outage.suffer(error)
            return None
        self._outage.over()
        return claim

    def _tidy(self) -> None:
        specs = self._residents.specs
        self._residents.tick()
        self._left_behind.look()
        self._found_nothing = self._found_nothing and self._residents.specs is specs
        for spec in self._residents.specs:
            self._costs.begin(spec.name, spec.max_rows)
        self._costs.share()
        # Also of cold versions: there may be no other worker that looks after them.
        count_given_back(self._consumer.reap(self._residents.known_specs))

    def _look_for_demand(self) -> None:
        """Look whether the bell has rung for a version that this process does not hold."""
        self._residents.turn(woken=True)

    def _next(self) -> Claim | None:
        """Return the next claim; None after a while without one."""
        if self._claim_in_doubt:
            # A claim whose answer was lost holds jobs that nobody runs. They need not wait for their leases to end.
            count_given_back(self._consumer.release_own(self._residents.known_specs))
            self._claim_in_doubt = False
        specs = self._rotated()
        if not specs and not self._residents.cold:
            self._residents.load_ended.wait(LOADING_SECONDS)
            return None
        self._claim_in_doubt = True
        if self._found_nothing or not specs:
            return self._note(self._consumer.wait_and_claim(specs, self._patience))
        return self._note(self._consumer.claim(specs))

    def _take(self) -> Claim | None:
        """Return the claim that was asked for with the finish of the last one."""
        return self._note(self._consumer.take())

    def _note(self, claim: Claim | None) -> Claim | None:
        self._claim_in_doubt = False
        self._claimed_at, self._took_at = time.time(), time.monotonic()
        self._found_nothing = claim is None
        self._called = self._called or self._consumer.rung
        return claim

    @property
    def _patience(self) -> float:
        """Longest sleep at the bell, in seconds.

        A token is lost on a worker that does not serve its version yet, so that while one loads the sleep is short. So
        it is among workers under a memory budget, which hold different versions.
        """
        return LOADING_SECONDS if self._residents.loading or self._residents.cold else BELL_SECONDS

    def _rotated(self) -> tuple[QueueSpec, ...]:
        """Return the queues, beginning after the one that began last time: none is always last."""
        specs = self._residents.specs
        if len(specs) < 2:
            return specs
        self._first = (self._first + 1) % len(specs)
        return specs[self._first :] + specs[: self._first]

    def _serve(self, claim: Claim) -> Claim | None:
        """Predict and finish a claim; return the one that came with the finish."""
        numbers = tally(claim.queue)
        if not claim.jobs:
            self._keeper.held = None
            numbers.claimed(claim)
            return None
        self._keeper.held = claim
        self._residents.touch(claim.queue)
        batch = self._predict(claim)
        asked = self._finish(claim, batch)
        self._keeper.held = None
        numbers.claimed(claim)
        numbers.predicted(batch.calls, batch.sample)
        self._found_nothing = False
        return self._try(self._take) if asked else None

    def _predict(self, claim: Claim) -> Batch:
        resident = self._residents.serving[claim.queue]
        loaded, plan = resident.loaded, resident.plan
        if loaded is None:
            raise RuntimeError(f"Version {claim.queue} was claimed but is not loaded.")
        self._pulse.queue, self._pulse.predict_limit = claim.queue, plan.predict_timeout
        batch = Batch(loaded.predict, plan.spec.max_rows, self._pulse)
        batch.run(claim.jobs)
        return batch

    def _finish(self, claim: Claim, batch: Batch) -> bool:
        """Finish a batch for as long as it takes: it may be repeated, because it is fenced by the leases.

        Returns whether the next claim was asked for with it.
        """
        timing = BatchTiming(self._claimed_at, max(self._claimed_at, time.time()), batch.predict_seconds)
        give_up_at = time.monotonic() + self._consumer.lease_seconds
        while True:
            asking = not self._stopping() and not self._claim_in_doubt
            try:
                if asking:
                    self._claim_in_doubt = True
                    report = self._consumer.finish_and_ask(
                        claim, batch.outcomes, timing, self._rotated(), self._patience
                    )
                else:
                    report = self._consumer.finish(claim, batch.outcomes, timing)
            except (RedisConnectionError, RedisTimeoutError) as error:
                self._outage.suffer(error)
            except RedisError as error:
                # The server answers but refuses (memory full, disk full): the leases end, others try the jobs.
                self._outage.suffer(error)
                if time.monotonic() > give_up_at:
                    logger.error("A batch of %d jobs of %s cannot be finished: %s", len(claim.jobs), claim.queue, error)
                    return False
            else:
                self._outage.over()
                seconds = time.monotonic() - self._took_at
                tally(claim.queue).finished(report, seconds)
                if batch.whole:
                    self._costs.observe(claim.queue, batch.rows, seconds)
                self._log_failures(claim, batch.outcomes)
                return asking

    def _log_failures(self, claim: Claim, outcomes: list[Outcome]) -> None:
        failed = {outcome.job_id: outcome for outcome in outcomes if outcome.predictions is None}
        if not failed:
            return
        plan = self._residents.serving[claim.queue].plan
        for job in claim.jobs:
            outcome = failed.get(job.id)
            if outcome is not None:
                logger.warning(
                    "Prediction failed: %s: %s",
                    outcome.error_type,
                    outcome.error_message,
                    extra={
                        "model": plan.model,
                        "version": plan.version,
                        "job_id": job.id,
                        "request_id": job.request_id,
                    },
                )
