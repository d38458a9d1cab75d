"""How much comes in a second, from a count that only grows."""

import math

FORGET_SECONDS = 30.0
"""Time constant: what came so long ago counts a third."""


class Traffic:
    """An exponentially weighted average of a count's growth, over the looks at it.

    The average begins with the first growth that is seen, not with nothing.
    """

    __slots__ = ("_at", "_known", "_total", "_weight")

    def __init__(self) -> None:
        self._known: int | None = None
        self._at = 0.0
        self._total = 0.0
        self._weight = 0.0

    @property
    def rate(self) -> float:
        """Growth a second; 0 while none was seen."""
        return self._total / self._weight if self._weight else 0.0

    def see(self, count: int, now: float) -> None:
        """Take the count as of ``now`` (seconds, of a clock that does not jump). One that is smaller begins anew."""
        known, passed = self._known, now - self._at
        self._known, self._at = count, now
        if known is None or count < known or passed <= 0:
            return
        share = 1 - math.exp(-passed / FORGET_SECONDS)
        self._total += share * ((count - known) / passed - self._total)
        self._weight += share * (1 - self._weight)
