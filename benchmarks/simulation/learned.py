"""The cost of a model version as its own workers have learnt it, asked of a running gateway."""

import httpx

from benchmarks.cases import BenchmarkError


def read_cost(url: str, model: str, version: str = "") -> tuple[float, float]:
    """Return (seconds a batch, seconds a row) of a version, by default the one that unnamed requests go to.

    Raises BenchmarkError when the gateway does not answer, or does not know the cost yet.
    """
    address = f"{url.rstrip('/')}/v1/models/{model}"
    try:
        response = httpx.get(address, timeout=10.0)
    except httpx.HTTPError as error:
        raise BenchmarkError(f"{address} does not answer: {error}") from error
    if response.status_code != 200:
        raise BenchmarkError(f"{address} answered {response.status_code}: {response.text[:200]}")
    document = response.json()
    wanted = version or document["default"]
    for status in document["model_version_status"]:
        if status["version"] == wanted:
            cost = status.get("cost") or {}
            if "batch_seconds" not in cost or "row_seconds" not in cost:
                raise BenchmarkError(
                    f"{model} {wanted} has no learnt cost yet: send it some requests, or name the cost"
                )
            return float(cost["batch_seconds"]), float(cost["row_seconds"])
    raise BenchmarkError(f"{address} knows no version {wanted!r}")
