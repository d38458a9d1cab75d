"""What a service counts, read from its /metrics as Prometheus would read it."""

from prometheus_client.parser import text_string_to_metric_families

from support.services import Service


def counted(service: Service, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples of this exact name that carry these labels."""
    families = text_string_to_metric_families(service.metrics())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if sample.labels.items() >= labels.items())
