"""What a child tells its parent about itself: one JSON line on a pipe whenever it changes, at least each second."""

from dataclasses import asdict, dataclass

import orjson


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """How a child is doing."""

    ready: bool = False
    """Its models are there, so it can claim."""
    reason: str = "starting"
    """Why it is not ready; empty when it is."""
    loop_seconds: float = 0.0
    """Seconds since the claim loop last came round; 0 while a predict call runs."""

    def line(self) -> bytes:
        """Return the status as one line of JSON, short enough for a pipe to take it whole."""
        return orjson.dumps(asdict(self) | {"reason": self.reason[:500]}) + b"\n"


def read_status(line: bytes) -> ChildStatus:
    """Return the status that ``line`` holds."""
    return ChildStatus(**orjson.loads(line))
