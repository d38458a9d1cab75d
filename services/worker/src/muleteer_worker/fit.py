"""The cost of a model version's batches, learned from them: a robust, forgetting straight-line fit."""

from muleteer.queue.cost import Cost

MEMORY = 0.98
"""Weight that what was known keeps with each batch: about the last fifty count."""
PRIOR_WEIGHT = 10.0
"""Batches that what other workers have learned counts for."""
OUTLIER = 3.0
"""Deviations, in multiples of the usual one, from which a batch counts for less (Huber's weights)."""
USUAL_AT_LEAST = 0.05
"""Relative deviation below which no batch is unusual."""
MOVED_AFTER = 8
"""Batches in a row that take over twice, or under half of what was expected: the cost is another one now."""
RIDGE = 1e-3
"""Pull of the constant towards 0, relative to the weight of all batches. It decides only where batches of one size say
nothing about it; then all their time counts as their rows', which errs on the side of smaller batches."""
SHORTEST = 1e-7


class CostFit:
    """Fits ``seconds = a + b * rows`` to a stream of batches; neither is ever negative.

    Weighted least squares of the relative error (a millisecond is much for a short batch and nothing for a long one),
    with Huber's weights (P. J. Huber, 1964) against batches that were held up, and exponential forgetting.
    """

    __slots__ = ("_cost", "_deviation", "_rr", "_rs", "_s", "_strange", "_w", "_wr")

    _deviation: float
    _strange: int

    def __init__(self, prior: Cost | None = None, prior_rows: int = 64) -> None:
        """``prior``: what is known already, believed at one row and at ``prior_rows``."""
        self._forget()
        self._cost = prior
        if prior is not None:
            for rows in {1, prior_rows}:
                seconds = max(SHORTEST, prior.seconds(rows, rows))
                self._add(rows, seconds, PRIOR_WEIGHT / 2 / seconds**2)

    @property
    def cost(self) -> Cost | None:
        """What is known; None before the first batch."""
        return self._cost

    def observe(self, rows: int, seconds: float) -> None:
        """Take in one batch that succeeded."""
        seconds = max(seconds, SHORTEST)
        expected = seconds if self._cost is None else max(SHORTEST, self._cost.seconds(rows, rows))
        self._strange = self._strange + 1 if not expected / 2 < seconds < expected * 2 else 0
        if self._strange >= MOVED_AFTER:
            self._forget()
            expected = seconds
        off = abs(seconds - expected) / expected
        weight = min(1.0, OUTLIER * self._deviation / off) if off else 1.0
        self._deviation = max(USUAL_AT_LEAST, MEMORY * self._deviation + (1 - MEMORY) * min(off, 10 * self._deviation))
        self._w *= MEMORY
        self._wr *= MEMORY
        self._rr *= MEMORY
        self._s *= MEMORY
        self._rs *= MEMORY
        self._add(rows, seconds, weight / expected**2)
        self._cost = self._solve()

    def _forget(self) -> None:
        self._w = self._wr = self._rr = self._s = self._rs = 0.0
        self._deviation, self._strange = USUAL_AT_LEAST, 0

    def _add(self, rows: int, seconds: float, weight: float) -> None:
        self._w += weight
        self._wr += weight * rows
        self._rr += weight * rows * rows
        self._s += weight * seconds
        self._rs += weight * rows * seconds

    def _solve(self) -> Cost:
        w = self._w * (1 + RIDGE)
        determinant = w * self._rr - self._wr**2
        a = (self._s * self._rr - self._wr * self._rs) / determinant
        b = (w * self._rs - self._wr * self._s) / determinant
        if b < 0:
            return Cost(self._s / self._w, 0.0)
        if a < 0:
            return Cost(0.0, self._rs / self._rr)
        return Cost(a, b)
