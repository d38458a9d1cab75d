"""Leases that outlast a long predict: a thread renews them while the loop is busy."""

import logging
import threading

from redis.exceptions import RedisError

from muleteer.queue.consumer import Claim, Consumer

logger = logging.getLogger(__name__)

RENEWALS_A_LEASE = 7.5
"""A lease of 15 s is renewed every 2 s: several renewals can fail before it ends."""


class LeaseKeeper(threading.Thread):
    """Renews the claim that is held now. ``consumer`` is this thread's own, on a connection of its own."""

    def __init__(self, consumer: Consumer) -> None:
        super().__init__(name="lease-keeper", daemon=True)
        self.held: Claim | None = None
        """The claim in hand. The loop sets it; a renewal after its finish changes nothing (fencing)."""
        self._consumer = consumer
        self._interval = consumer.lease_seconds / RENEWALS_A_LEASE
        self._stopped = threading.Event()
        self._failing = False

    def run(self) -> None:
        """Renew until stopped."""
        while not self._stopped.wait(self._interval):
            claim = self.held
            if claim is None:
                continue
            try:
                held = self._consumer.renew(claim)
            except RedisError as error:
                # The next round tries again; a lease that ends meanwhile is what leases are for.
                self._log_once(error)
                continue
            self._failing = False
            if held < len(claim.jobs) and self.held is claim:
                logger.debug("%d of %d leases are no longer held", len(claim.jobs) - held, len(claim.jobs))

    def stop(self) -> None:
        """End the thread at its next turn."""
        self._stopped.set()

    def _log_once(self, error: RedisError) -> None:
        if not self._failing:
            logger.warning("Leases cannot be renewed, trying on: %s", error)
        self._failing = True
