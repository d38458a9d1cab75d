"""Request metrics, with their label children looked up once."""

from functools import lru_cache

from prometheus_client import Counter, Histogram

from muleteer.metrics import REQUEST_DURATION, REQUESTS
from muleteer_gateway.served import ServedVersion


@lru_cache(maxsize=4096)
def _children(model: str, version: str, mode: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(model, version, mode, str(status)), REQUEST_DURATION.labels(model, version, mode)


def count_request(served: ServedVersion | None, mode: str, status: int, seconds: float) -> None:
    """Count one prediction request; one that names no known model counts under an empty model."""
    model, version = (served.model, served.version) if served is not None else ("", "")
    counter, histogram = _children(model, version, mode, status)
    counter.inc()
    histogram.observe(seconds)
