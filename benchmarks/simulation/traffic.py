"""Traffic: requests a second over time, from a shape or a file, and the arrivals that come of it."""

import csv
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import BenchmarkError

Seconds = NDArray[np.float64]
"""Times or durations, in seconds."""
Shape = Literal["steady", "step", "spike", "diurnal"]
SHAPES: tuple[Shape, ...] = ("steady", "step", "spike", "diurnal")
PIECES = 300
"""Pieces of constant rate that a smooth shape is made of."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests a second, constant from each start to the next and from the last to ``end`` (seconds)."""

    starts: tuple[float, ...]
    rates: tuple[float, ...]
    end: float

    def __post_init__(self) -> None:
        times = [*self.starts, self.end]
        if not self.starts or len(self.starts) != len(self.rates):
            raise BenchmarkError("a trace needs at least one line of second,rate")
        if any(later <= earlier for earlier, later in itertools.pairwise(times)):
            raise BenchmarkError("the seconds of a trace must grow")
        if any(rate < 0 for rate in self.rates):
            raise BenchmarkError("a trace's rates must not be negative")

    def rate_at(self, second: float) -> float:
        """Return the requests a second at a time; 0 outside of the trace."""
        if not self.starts[0] <= second < self.end:
            return 0.0
        return self.rates[int(np.searchsorted(self.starts, second, side="right")) - 1]

    def arrivals(self, rng: np.random.Generator, *, even: bool = False) -> Seconds:
        """Return when requests come, sorted: a Poisson process, or ``even`` distances."""
        parts = []
        for start, stop, rate in zip(self.starts, [*self.starts[1:], self.end], self.rates, strict=True):
            expected = (stop - start) * rate
            if even:
                parts.append(start + np.arange(math.floor(expected)) / max(rate, 1e-12))
            else:
                # A Poisson process with a known count is that many uniform times.
                parts.append(np.sort(rng.uniform(start, stop, rng.poisson(expected))))
        return np.concatenate(parts)


def read_trace(path: Path) -> Trace:
    """Read a CSV file of ``second,rate``, with or without a heading. The last rate holds as long as the one before it.

    Raises BenchmarkError when the file cannot be read as that.
    """
    try:
        rows = [row for row in csv.reader(path.read_text().splitlines()) if row]
        if rows and rows[0][0].strip().lower() == "second":
            rows = rows[1:]
        pairs = [(float(row[0]), float(row[1])) for row in rows]
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, IndexError) as error:
        raise BenchmarkError(f"{path}: every line must be second,rate with two numbers ({error})") from error
    if len(pairs) < 2:
        raise BenchmarkError(f"{path}: a trace needs at least two lines of second,rate")
    starts = tuple(second for second, _ in pairs)
    return Trace(starts, tuple(rate for _, rate in pairs), 2 * starts[-1] - starts[-2])


def make_trace(shape: Shape, rate: float, peak: float, seconds: float) -> Trace:
    """Return a shape between ``rate`` and ``peak`` requests a second.

    steady: ``rate`` all the time. step: ``peak`` from the first quarter on. spike: ``peak`` for a tenth of the time,
    from the first quarter on. diurnal: one wave from ``rate`` up to ``peak`` and down again.
    """
    quarter = seconds / 4
    if shape == "steady":
        return Trace((0.0,), (rate,), seconds)
    if shape == "step":
        return Trace((0.0, quarter), (rate, peak), seconds)
    if shape == "spike":
        return Trace((0.0, quarter, quarter + seconds / 10), (rate, peak, rate), seconds)
    starts = tuple(seconds * n / PIECES for n in range(PIECES))
    middles = ((n + 0.5) / PIECES for n in range(PIECES))
    rates = tuple(rate + (peak - rate) * (1 - math.cos(2 * math.pi * middle)) / 2 for middle in middles)
    return Trace(starts, rates, seconds)
