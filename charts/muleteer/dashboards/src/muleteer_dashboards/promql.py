"""PromQL that every panel is put together from.

Two rules hold here so that no panel has to think of them. Every selector is limited to the chosen namespaces. Every
gateway exports what it sees of the shared queue and of Redis, so that such a gauge is taken once a namespace
(``once``, a max) and never summed over pods.
"""

NAMESPACE = 'namespace=~"$namespace"'
WINDOW = "$__rate_interval"


def series(metric: str, *matchers: str) -> str:
    """Return a selector of ``metric`` in the chosen namespaces."""
    return f"{metric}{{{', '.join([NAMESPACE, *matchers])}}}"


def rate(metric: str, *matchers: str, window: str = WINDOW) -> str:
    """Return the rate of a counter a second."""
    return f"rate({series(metric, *matchers)}[{window}])"


def increase(metric: str, *matchers: str, window: str = WINDOW) -> str:
    """Return how much a counter has grown in the window."""
    return f"increase({series(metric, *matchers)}[{window}])"


def total(expression: str, *by: str) -> str:
    """Return the sum over everything but the labels ``by``."""
    return f"sum{_by(by)} ({expression})"


def highest(expression: str, *by: str) -> str:
    """Return the maximum over everything but the labels ``by``."""
    return f"max{_by(by)} ({expression})"


def once(expression: str, *labels: str) -> str:
    """Return what each gateway says of one shared thing, once: pods that say the same are one series."""
    return highest(expression, "namespace", *labels)


def per(part: str, whole: str) -> str:
    """Return ``part / whole``; without a whole there is no result instead of NaN."""
    return f"{part} / ({whole} > 0)"


def share(part: str, whole: str) -> str:
    """Return ``part / whole``, where a part that has no series yet is 0."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def of_all(parts: str) -> str:
    """Return each series' share of their sum."""
    return f"{parts} / on () group_left () (sum ({parts}) > 0)"


def quantile(q: float, histogram: str, *matchers: str, by: tuple[str, ...] = (), window: str = WINDOW) -> str:
    """Return a quantile of a histogram."""
    buckets = total(rate(f"{histogram}_bucket", *matchers, window=window), *by, "le")
    return f"histogram_quantile({q:g}, {buckets})"


def mean(histogram: str, *matchers: str, by: tuple[str, ...] = (), window: str = WINDOW) -> str:
    """Return the mean of what a histogram observed."""
    return per(
        total(rate(f"{histogram}_sum", *matchers, window=window), *by),
        total(rate(f"{histogram}_count", *matchers, window=window), *by),
    )


def or_zero(expression: str) -> str:
    """Return the expression, 0 while it has no series."""
    return f"{expression} or vector(0)"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
