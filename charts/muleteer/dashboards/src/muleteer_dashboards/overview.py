"""The overview: is it broken, how badly, since when, and which model; below that the way of a request, part by part."""

from grafana_foundation_sdk.builders import dashboard as builders

from muleteer_dashboards import overview_parts as parts
from muleteer_dashboards.document import FIRING, choice, document, namespaces
from muleteer_dashboards.panels import (
    GREEN,
    NUMBER,
    ORANGE,
    RED,
    REQUESTS_A_SECOND,
    SECONDS,
    SHARE,
    YELLOW,
    Column,
    Panel,
    Query,
    columns,
    course,
    number,
    words,
)
from muleteer_dashboards.promql import increase, once, or_zero, quantile, rate, series, share, total

UID = "muleteer-overview"
MODEL = 'model=~"$model"'
SYNC = 'mode="sync"'
FAILED = 'status=~"5.."'
OF_VERSION = ("namespace", "model", "version")
BAD_SHARE = ((None, GREEN), (0.01, YELLOW), (0.05, RED))
SLOW = ((None, GREEN), (0.5, YELLOW), (1, RED))
OLD = ((None, GREEN), (30, YELLOW), (120, RED))
MODEL_URL = (
    "/d/muleteer-model?var-model=${__data.fields.Model}"
    "&${namespace:queryparam}&${datasource:queryparam}&${__url_time_range}"
)


def dashboard() -> builders.Dashboard:
    """Return the overview."""
    variables = [
        namespaces(),
        choice(
            "model",
            "Model",
            "Models of the catalog. Requests that name no known model have an empty one and belong to All.",
            'label_values(muleteer_queue_jobs{namespace=~"$namespace"}, model)',
        ),
        choice(
            "pool",
            "Pool",
            "Worker pools: each is a Deployment of identical workers.",
            'label_values(muleteer_workers{namespace=~"$namespace"}, pool)',
        ),
    ]
    rows = [
        (builders.Row("Is it broken, how badly, since when, which model"), [*_now(), *_since_when(), _models()]),
        (builders.Row("Requests"), parts.requests()),
        (builders.Row("Queue and batches"), parts.queue()),
        (builders.Row("Workers and scaling"), parts.workers()),
        (builders.Row("Redis, catalog and webhooks"), parts.redis()),
    ]
    return document(
        UID,
        "Muleteer / Overview",
        "Requests, queues, workers and Redis of a Muleteer installation. The top row says whether something is wrong; "
        "a click on a model opens its own dashboard.",
        variables,
        rows,
    )


def _now() -> list[Panel]:
    requests = total(rate("muleteer_requests_total", MODEL))
    failed = total(rate("muleteer_requests_total", MODEL, FAILED))
    oldest = series("muleteer_queue_oldest_seconds", MODEL)
    return [
        number(
            "Alerts firing",
            "Alerts of Muleteer that fire now. What each means and what to do: docs/operations.md. 0 also where the "
            "alert rules are not installed.",
            NUMBER,
            or_zero(f"count({FIRING})"),
            ((None, GREEN), (1, RED)),
            link="/alerting/list?search=Muleteer",
        ),
        number(
            "Requests",
            "Prediction requests answered a second, whatever the answer.",
            REQUESTS_A_SECOND,
            or_zero(requests),
        ),
        number(
            "Errors",
            "Share of requests answered with a status of 500 and above: a failed prediction, a full queue, no Redis, "
            "or out of time. A caller's own mistakes (4xx) do not count.",
            SHARE,
            share(failed, requests),
            BAD_SHARE,
            no_value="no requests",
            decimals=2,
        ),
        number(
            "p99 latency, sync",
            "99 of 100 requests that waited for their answer got it within this time.",
            SECONDS,
            f"{quantile(0.99, 'muleteer_request_duration_seconds', MODEL, SYNC)} >= 0",
            SLOW,
            no_value="no requests",
        ),
        number(
            "Oldest queued job",
            "How long the job that has waited longest is in its queue by now. It grows while workers are too slow, "
            "too few or gone.",
            SECONDS,
            f"max({oldest})",
            OLD,
        ),
        number(
            "Versions failed",
            "Model versions that no worker could make ready: every worker that reports on them says failed.",
            NUMBER,
            or_zero(f"sum({once(series('muleteer_version_failed', MODEL), 'model', 'version')})"),
            ((None, GREEN), (1, RED)),
        ),
        number(
            "Jobs given up",
            "Jobs in the time range that failed for good because every worker that held them died. They are RQ's "
            "failed jobs.",
            NUMBER,
            or_zero(total(increase("muleteer_jobs_total", MODEL, 'outcome="dead"', window="$__range"))),
            ((None, GREEN), (1, ORANGE)),
            decimals=0,
        ),
        number(
            "Redis",
            "Whether every gateway reaches Redis. Without it nothing is predicted.",
            NUMBER,
            f"min({series('muleteer_redis_up')})",
            ((None, RED), (1, GREEN)),
            mappings=words({"0": ("down", RED), "1": ("up", GREEN)}),
            no_value="no gateway",
        ),
    ]


def _since_when() -> list[Panel]:
    by_model = total(rate("muleteer_requests_total", MODEL), "model")
    failed = total(rate("muleteer_requests_total", MODEL, FAILED), "model")
    return [
        course(
            "Errors by model",
            "Share of each model's requests answered with 500 and above. Without a model: requests that reached no "
            "version, because there is no such model or none of it is ready.",
            SHARE,
            Query(share(failed, by_model), "{{model}}"),
            span=8,
            steps=((None, GREEN), (0.05, RED)),
            legend="table",
        ),
        course(
            "p99 latency by model, sync",
            "99 of 100 requests that waited for their answer got it within this time.",
            SECONDS,
            Query(quantile(0.99, "muleteer_request_duration_seconds", MODEL, SYNC, by=("model",)), "{{model}}"),
            span=8,
            steps=((None, GREEN), (1, RED)),
            legend="table",
        ),
        course(
            "Oldest queued job by model",
            "How long the oldest job of each model has waited in its queue.",
            SECONDS,
            Query(f"max by (model) ({series('muleteer_queue_oldest_seconds', MODEL)})", "{{model}}"),
            span=8,
            steps=((None, GREEN), (120, RED)),
            legend="table",
        ),
    ]


def _models() -> Panel:
    window = "$__range"
    requests = total(rate("muleteer_requests_total", MODEL, window=window), *OF_VERSION)
    failed = total(rate("muleteer_requests_total", MODEL, FAILED, window=window), *OF_VERSION)
    p99 = quantile(0.99, "muleteer_request_duration_seconds", MODEL, SYNC, by=OF_VERSION, window=window)
    queued = series("muleteer_queue_jobs", MODEL, 'state="queued"')
    none_ready = ((None, RED), (1, GREEN))
    return columns(
        "Models and versions",
        "Rates and latency over the time range; queue and workers as they are at its end. A click on a model opens its "
        "dashboard.",
        {"model": "Model", "version": "Version", "namespace": "Namespace"},
        Column("Requests/s", requests, REQUESTS_A_SECOND),
        Column("Errors", share(failed, requests), SHARE, 2, BAD_SHARE),
        Column("p99, sync", f"{p99} >= 0", SECONDS, None, SLOW),
        Column("Queued", once(queued, "model", "version")),
        Column("Oldest job", once(series("muleteer_queue_oldest_seconds", MODEL), "model", "version"), SECONDS, 1, OLD),
        Column(
            "Ready workers",
            once(series("muleteer_version_ready_workers", MODEL), "model", "version"),
            steps=none_ready,
        ),
        Column(
            "Failed",
            once(series("muleteer_version_failed", MODEL), "model", "version"),
            steps=((None, GREEN), (1, RED)),
        ),
        link=("Open this model's dashboard", MODEL_URL),
        sort_by="Errors",
    )
