"""What a batch of a model version costs: ``seconds = a + b * rows``, as the workers have learned it."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds from a batch's claim to its finish, as a straight line over its rows."""

    batch_seconds: float
    """Of each batch, however small (a)."""
    row_seconds: float
    """Of each row in it (b)."""

    def seconds(self, rows: float, max_rows: int) -> float:
        """Return the seconds that ``rows`` take one worker, in batches of at most ``max_rows``."""
        return math.ceil(rows / max_rows) * self.batch_seconds + rows * self.row_seconds

    def full_row_seconds(self, max_rows: int) -> float:
        """Return the seconds that a row takes of a full batch."""
        return self.row_seconds + self.batch_seconds / max_rows

    def rows_within(self, target_seconds: float, max_rows: int) -> int:
        """Return how many rows a batch may have to take at most ``target_seconds``: 1 to ``max_rows``.

        Where the batch itself takes most of the target, rows may take as long as the batch: fewer would make the target
        no nearer, and each row dearer.
        """
        if self.row_seconds <= 0:
            return max_rows
        room = max(target_seconds - self.batch_seconds, self.batch_seconds)
        return max(1, min(max_rows, int(room / self.row_seconds)))
