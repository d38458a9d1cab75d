"""What is measured: the models, the four ways to serve them, and the figures they are held to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".muleteer"
MODELS = STATE / "models"

IN_PROCESS = "in-process, 1 process"
IN_PROCESS_2 = "in-process, 2 processes"
STOCK_RQ = "stock RQ"
MULETEER = "Muleteer"
WAYS = (IN_PROCESS, IN_PROCESS_2, STOCK_RQ, MULETEER)

CONNECTIONS = 64
MOST_ADDED_MILLISECONDS = 0.5
"""Of p50 at one connection, over the in-process endpoint."""
MOST_COMMANDS = 20.0
"""Redis commands a request at ``CONNECTIONS``, those inside Lua counted."""
MOST_READS = 0.2
"""The Redis server's reads a request at ``CONNECTIONS``: round trips, but for what is pipelined."""


class BenchmarkError(Exception):
    """A figure cannot be had; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Case:
    """One model, the ways that serve it, and what Muleteer is held to with it."""

    name: str
    title: str
    model: str
    route: str
    least_ratios: Mapping[str, float] = field(default_factory=dict)
    """Of requests/s, over other ways."""
    most_cpu: Mapping[str, float] = field(default_factory=dict)
    """CPU milliseconds of each part for a request at ``CONNECTIONS``."""
    ways: tuple[str, ...] = WAYS
    repository: Path = MODELS

    @property
    def folder(self) -> Path:
        """The version folder."""
        return self.repository / self.model / "1"


TEXT = Case(
    "text",
    "TF-IDF + logistic regression (movie-sentiment 1)",
    "movie-sentiment",
    "/predict",
    {IN_PROCESS: 3.0, IN_PROCESS_2: 2.0, STOCK_RQ: 12.0},
)
FOREST = Case(
    "forest",
    "Random forest of 100 trees (ride-duration 1)",
    "ride-duration",
    "/rides/predict",
    {IN_PROCESS: 12.0, IN_PROCESS_2: 7.0, STOCK_RQ: 18.0},
)
NO_OP = Case(
    "noop",
    "No-op: what serving itself costs",
    "noop",
    "/noop",
    most_cpu={"gateway": 0.090, "worker": 0.025, "valkey": 0.050},
    ways=(MULETEER,),
    repository=ROOT / "benchmarks" / "peers" / "models",
)
CASES = (TEXT, FOREST, NO_OP)
