"""Our own kinds of metric count like Prometheus's."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from muleteer.metrics import JobHistogram

BUCKETS = (0.1, 1.0, 10.0)


def test_amounts_observed_together_count_like_amounts_observed_one_by_one() -> None:
    together, apart = CollectorRegistry(), CollectorRegistry()
    amounts = [0.0, 0.1, 0.10001, 1.0, 5.0, 10.0, 11.0, 0.05]
    labelled = JobHistogram("seconds", "Time.", ["queue"], buckets=BUCKETS, registry=together).labels("q")
    one_by_one = Histogram("seconds", "Time.", ["queue"], buckets=BUCKETS, registry=apart).labels("q")
    labelled.observe_all(amounts)
    labelled.observe_all([])
    labelled.observe(2.0)
    for amount in [*amounts, 2.0]:
        one_by_one.observe(amount)

    def lines(registry: CollectorRegistry) -> list[bytes]:
        return [line for line in generate_latest(registry).splitlines() if b"_created" not in line]

    assert lines(together) == lines(apart)
