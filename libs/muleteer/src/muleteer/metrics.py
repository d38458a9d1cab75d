"""Every Prometheus metric Muleteer exports, as constants: seconds and bytes, one place to read them all.

Gateway and worker each export their own registry, so that neither shows the other's empty families. In a worker
pod several processes write the same families through prometheus-client's multiprocess files: a process must set
``PROMETHEUS_MULTIPROC_DIR`` before it imports this module.
"""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class Figures(Collector):
    """Metrics that somebody else counts: shown as last told, and left away while nobody tells them."""

    def __init__(self, gauges: Mapping[str, str], counters: Mapping[str, str], registry: CollectorRegistry) -> None:
        self._families: list[tuple[type[GaugeMetricFamily | CounterMetricFamily], str, str]] = []
        self._families += [(GaugeMetricFamily, name, text) for name, text in gauges.items()]
        self._families += [(CounterMetricFamily, name, text) for name, text in counters.items()]
        self._values: Mapping[str, float] = {}
        registry.register(self)

    def show(self, values: Mapping[str, float]) -> None:
        """Show these values, by metric name, and no others."""
        self._values = values

    def collect(self) -> Iterable[Metric]:
        """Return the families that have a value."""
        values = self._values
        return [kind(name, text, value=values[name]) for kind, name, text in self._families if name in values]


class LabelledFigures(Collector):
    """A counter with labels that somebody else counts: shown as last told."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._values: Mapping[tuple[str, ...], float] = {}
        registry.register(self)

    def show(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Show these values, by label values, and no others."""
        self._values = values

    def collect(self) -> Iterable[Metric]:
        """Return the family."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return [family]


class JobHistogram(Histogram):
    """A histogram of something that every job of a batch has: one write a bucket instead of two a job.

    In a worker each write goes to memory that its pod's processes share, and costs a microsecond.
    """

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe several amounts, as ``observe`` would one after another."""
        if amounts:
            self._sum.inc(sum(amounts))
        for bucket, count in Counts(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[bucket].inc(count)


GATEWAY = CollectorRegistry()
WORKER = CollectorRegistry()

LATENCY_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
VALUE_BUCKETS = (
    -1000, -100, -10, -1, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1,
    2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000, 1_000_000,
)  # fmt: skip
"""Probabilities in tenths; beyond them what models count and price."""

# Gateway

REQUESTS = Counter(
    "muleteer_requests_total",
    "Prediction requests answered, by model, version, mode (sync, wait, async) and HTTP status.",
    ["model", "version", "mode", "status"],
    registry=GATEWAY,
)
REQUEST_DURATION = Histogram(
    "muleteer_request_duration_seconds",
    "Time from the first byte of a prediction request to its answer.",
    ["model", "version", "mode"],
    buckets=LATENCY_BUCKETS,
    registry=GATEWAY,
)
REQUESTS_IN_PROGRESS = Gauge(
    "muleteer_requests_in_progress", "Prediction requests being answered now.", registry=GATEWAY
)
REJECTED = Counter(
    "muleteer_rejected_total",
    "Prediction requests refused before they became a job, by reason.",
    ["reason"],
    registry=GATEWAY,
)
QUEUE_JOBS = Gauge(
    "muleteer_queue_jobs",
    "Jobs in the queue (queued) or in a worker's hands (running).",
    ["model", "version", "state"],
    registry=GATEWAY,
)
QUEUE_OLDEST = Gauge(
    "muleteer_queue_oldest_seconds",
    "How long the oldest queued job has waited; 0 with none queued.",
    ["model", "version"],
    registry=GATEWAY,
)
WORKERS = Gauge("muleteer_workers", "Worker processes alive, by pool.", ["pool"], registry=GATEWAY)
CALLBACKS = Counter(
    "muleteer_callbacks_total", "Webhook deliveries, by outcome (delivered, failed).", ["outcome"], registry=GATEWAY
)
CATALOG_RELOADS = Counter(
    "muleteer_catalog_reloads_total", "Catalog files read after a change, by outcome (ok, refused).", ["outcome"],
    registry=GATEWAY,
)  # fmt: skip
JOBS_ACCOUNTED = LabelledFigures(
    "muleteer_jobs_accounted_total",
    "Jobs by what became of them (accepted, finished, failed, canceled, expired), as Redis accounts for them: the same "
    "from every gateway. Accepted are the others together, and those queued or running.",
    ["model", "version", "event"],
    registry=GATEWAY,
)
QUEUE_WAIT = Gauge(
    "muleteer_queue_wait_seconds",
    "Predicted time until a request that arrives now is in a worker's hands; left away while no cost is known.",
    ["model", "version"],
    registry=GATEWAY,
)
BACKLOG_JOBS = Gauge(
    "muleteer_backlog_jobs", "Jobs queued or running for all versions of a pool.", ["pool"], registry=GATEWAY
)
BACKLOG_SECONDS = Gauge(
    "muleteer_backlog_seconds",
    "Seconds of worker time that these jobs are expected to take; 0 while nothing is known of their pace.",
    ["pool"],
    registry=GATEWAY,
)
VERSION_READY_WORKERS = Gauge(
    "muleteer_version_ready_workers",
    "Worker processes that have the version ready.",
    ["model", "version"],
    registry=GATEWAY,
)
VERSION_FAILED = Gauge(
    "muleteer_version_failed",
    "1 while all workers that tell of the version say that it failed, or its manifest cannot be read, else 0.",
    ["model", "version"],
    registry=GATEWAY,
)
VERSION_COLD = Gauge(
    "muleteer_version_cold",
    "1 while no worker process has the version and one loads it when it is asked for, else 0.",
    ["model", "version"],
    registry=GATEWAY,
)
TRAFFIC_SHARE = Gauge(
    "muleteer_model_traffic_share",
    "Share (0 to 1) of the requests without a version that the catalog gives to this one.",
    ["model", "version"],
    registry=GATEWAY,
)
REDIS_UP = Gauge("muleteer_redis_up", "1 while the gateway reaches Redis, else 0.", registry=GATEWAY)
REDIS_SERVER = Figures(
    gauges={
        "muleteer_redis_memory_bytes": "Memory that Redis uses for its data.",
        "muleteer_redis_memory_limit_bytes": "Memory that Redis may use (maxmemory); 0 is no limit.",
        "muleteer_redis_clients": "Client connections that Redis has.",
        "muleteer_redis_aof_enabled": "1 while Redis keeps its append-only file, else 0.",
        "muleteer_redis_persistence_ok": (
            "1 while the last write and rewrite of the append-only file went well, or without one the last snapshot, "
            "else 0."
        ),
    },
    counters={
        "muleteer_redis_commands_total": "Commands that Redis has processed since it started.",
        "muleteer_redis_evicted_keys_total": "Keys that Redis has evicted for want of memory: none should ever be.",
    },
    registry=GATEWAY,
)

# Worker

JOBS = Counter(
    "muleteer_jobs_total",
    "Jobs that ended, by outcome (finished, failed, expired, canceled, stale, dead).",
    ["model", "version", "outcome"],
    registry=WORKER,
)
JOB_WAIT = JobHistogram(
    "muleteer_job_wait_seconds",
    "Time a job waited in the queue before a worker claimed it.",
    ["model", "version"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
BATCH_ROWS = Histogram(
    "muleteer_batch_rows",
    "Instances in one predict call.",
    ["model", "version"],
    buckets=ROW_BUCKETS,
    registry=WORKER,
)
PREDICT_DURATION = Histogram(
    "muleteer_predict_duration_seconds",
    "Time of one predict call, whole batch.",
    ["model", "version"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
BATCH_DURATION = Histogram(
    "muleteer_batch_duration_seconds",
    "Time from a batch's claim until its results are stored.",
    ["model", "version"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
PREDICTION_VALUE = Histogram(
    "muleteer_prediction_value",
    "Numbers predicted, by member of the prediction (empty for a bare one); a sample of at most 8 a predict call.",
    ["model", "version", "field"],
    buckets=VALUE_BUCKETS,
    registry=WORKER,
)
PREDICTIONS = Counter(
    "muleteer_predictions_total",
    "Texts and truth values predicted, by member of the prediction (empty for a bare one); the same sample.",
    ["model", "version", "field", "label"],
    registry=WORKER,
)
COST_BATCH = Gauge(
    "muleteer_cost_batch_seconds",
    "Seconds that a batch takes however small, as learned (a of a + b * rows).",
    ["model", "version"],
    registry=WORKER,
    multiprocess_mode="livemostrecent",
)
COST_ROW = Gauge(
    "muleteer_cost_row_seconds",
    "Seconds that each row of a batch takes, as learned (b of a + b * rows).",
    ["model", "version"],
    registry=WORKER,
    multiprocess_mode="livemostrecent",
)
REDELIVERED = Counter(
    "muleteer_jobs_redelivered_total",
    "Jobs put back into the queue because the worker that held them died or lost its lease.",
    ["model", "version"],
    registry=WORKER,
)
MODEL_INFO = Gauge(
    "muleteer_model_info",
    "1 for every model version that is resident, with its framework and artifact checksum.",
    ["model", "version", "framework", "sha256"],
    registry=WORKER,
    multiprocess_mode="livemax",
)
MODEL_READY = Gauge(
    "muleteer_model_ready",
    "Worker processes of this pod in which the version is ready.",
    ["model", "version"],
    registry=WORKER,
    multiprocess_mode="livesum",
)
MODEL_LOAD = Histogram(
    "muleteer_model_load_seconds",
    "Time to fetch, check, load and warm up a model version.",
    ["model", "version"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
    registry=WORKER,
)
MODEL_LOAD_FAILURES = Counter(
    "muleteer_model_load_failures_total",
    "Model versions that could not be made ready, by reason.",
    ["model", "version", "reason"],
    registry=WORKER,
)
MODEL_EVICTIONS = Counter(
    "muleteer_model_evictions_total",
    "Times a model version was unloaded to make room for another under the memory budget.",
    ["model", "version"],
    registry=WORKER,
)
MODEL_RESIDENT_BYTES = Gauge(
    "muleteer_model_resident_bytes",
    "Memory that a model version takes in the processes of this pod, as measured; 0 when it is not resident.",
    ["model", "version"],
    registry=WORKER,
    multiprocess_mode="livesum",
)
RESIDENT_BYTES = Gauge(
    "muleteer_resident_bytes",
    "Memory that all model versions take in the processes of this pod, as measured.",
    registry=WORKER,
    multiprocess_mode="livesum",
)
RESIDENT_BYTES_LIMIT = Gauge(
    "muleteer_resident_bytes_limit",
    "Memory that all model versions may take in the processes of this pod; 0 is no limit.",
    registry=WORKER,
    multiprocess_mode="livesum",
)
WORKER_RESTARTS = Counter(
    "muleteer_worker_restarts_total",
    "Worker processes that ended without being asked to and were started again.",
    registry=WORKER,
)
