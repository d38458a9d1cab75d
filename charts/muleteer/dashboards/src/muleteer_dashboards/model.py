"""One model: how it does, how its versions compare, and for each version where its time goes and what it predicts."""

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.dashboard import VariableSort

from muleteer_dashboards.document import choice, document, namespaces
from muleteer_dashboards.panels import (
    GREEN,
    NUMBER,
    ORANGE,
    PER_SECOND,
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
    heat_map,
    number,
)
from muleteer_dashboards.promql import (
    highest,
    increase,
    mean,
    of_all,
    once,
    or_zero,
    per,
    quantile,
    rate,
    series,
    share,
    total,
)

UID = "muleteer-model"
VERSION = ('model=~"$model"', 'version=~"$version"')
FIELD = 'field=~"$field"'
SYNC = 'mode="sync"'
FAILED = 'status=~"5.."'
DURATION = "muleteer_request_duration_seconds"
WAIT = "muleteer_job_wait_seconds"
BATCH = "muleteer_batch_duration_seconds"
PREDICT = "muleteer_predict_duration_seconds"
BAD_SHARE = ((None, GREEN), (0.01, YELLOW), (0.05, RED))
SLOW = ((None, GREEN), (0.5, YELLOW), (1, RED))


def dashboard() -> builders.Dashboard:
    """Return the dashboard of one model."""
    variables = [
        namespaces(),
        choice(
            "model",
            "Model",
            "One model of the catalog.",
            'label_values(muleteer_queue_jobs{namespace=~"$namespace"}, model)',
            several=False,
        ),
        choice(
            "version",
            "Version",
            "Versions of the model, those that are being retired included.",
            'label_values(muleteer_queue_jobs{namespace=~"$namespace", model=~"$model"}, version)',
            sort=VariableSort.NUMERICAL_ASC,
        ),
        choice(
            "field",
            "Prediction field",
            "Member of a prediction that is shown; All includes bare predictions, which have none.",
            "query_result(count by (field) ({__name__=~"
            '"muleteer_prediction_value_count|muleteer_predictions_total", namespace=~"$namespace", model=~"$model"}))',
        ).regex('/field="([^"]+)"/'),
    ]
    rows = [
        (builders.Row("$model now"), _now()),
        (builders.Row("Versions compared"), _compared()),
        (builders.Row("Latency and its parts, by version"), _latency()),
        (builders.Row("Errors and redeliveries"), _errors()),
        (builders.Row("Predictions, by version"), _predictions()),
        (builders.Row("$model version $version").repeat("version"), _each_version()),
    ]
    return document(
        UID,
        "Muleteer / Model",
        "One model: traffic, latency, batches, errors and predictions of its versions, side by side and one by one.",
        variables,
        rows,
    )


def _now() -> list[Panel]:
    requests = total(rate("muleteer_requests_total", *VERSION))
    failed = total(rate("muleteer_requests_total", *VERSION, FAILED))
    ready = once(series("muleteer_version_ready_workers", *VERSION), "model", "version")
    return [
        number(
            "Requests",
            "Prediction requests of this model answered a second.",
            REQUESTS_A_SECOND,
            or_zero(requests),
            span=4,
        ),
        number(
            "Errors",
            "Share of requests answered with a status of 500 and above.",
            SHARE,
            share(failed, requests),
            BAD_SHARE,
            span=4,
            no_value="no requests",
            decimals=2,
        ),
        number(
            "p99 latency, sync",
            "99 of 100 requests that waited for their answer got it within this time.",
            SECONDS,
            f"{quantile(0.99, DURATION, *VERSION, SYNC)} >= 0",
            SLOW,
            span=4,
            no_value="no requests",
        ),
        number(
            "Oldest queued job",
            "How long the job that has waited longest is in its queue by now.",
            SECONDS,
            f"max({series('muleteer_queue_oldest_seconds', *VERSION)})",
            ((None, GREEN), (30, YELLOW), (120, RED)),
            span=4,
        ),
        number(
            "Ready workers, least of all versions",
            "Worker processes that have the version ready which has fewest.",
            NUMBER,
            f"min({ready})",
            ((None, RED), (1, GREEN)),
            span=4,
        ),
        number(
            "Jobs redelivered",
            "Jobs in the time range whose worker died with them in hand.",
            NUMBER,
            or_zero(total(increase("muleteer_jobs_redelivered_total", *VERSION, window="$__range"))),
            ((None, GREEN), (1, ORANGE)),
            span=4,
            decimals=0,
        ),
    ]


def _compared() -> list[Panel]:
    window = "$__range"
    by = ("version",)
    requests = total(rate("muleteer_requests_total", *VERSION, window=window), *by)
    failed = total(rate("muleteer_requests_total", *VERSION, FAILED, window=window), *by)
    loads = per(
        total(series("muleteer_model_load_seconds_sum", *VERSION), *by),
        total(series("muleteer_model_load_seconds_count", *VERSION), *by),
    )
    now = total(rate("muleteer_requests_total", *VERSION), *by)
    planned = highest(series("muleteer_model_traffic_share", *VERSION), *by)
    return [
        columns(
            "Versions",
            "The versions side by side over the time range; shares, workers and artifacts as they are at its end.",
            {"version": "Version"},
            Column("Traffic, by catalog", planned, SHARE, 0),
            Column("Traffic, measured", of_all(requests), SHARE, 1),
            Column("Requests/s", requests, REQUESTS_A_SECOND),
            Column("Errors", share(failed, requests), SHARE, 2, BAD_SHARE),
            Column("p50, sync", f"{quantile(0.5, DURATION, *VERSION, SYNC, by=by, window=window)} >= 0", SECONDS),
            Column("p99, sync", f"{quantile(0.99, DURATION, *VERSION, SYNC, by=by, window=window)} >= 0", SECONDS),
            Column("Predict call, mean", mean(PREDICT, *VERSION, by=by, window=window), SECONDS),
            Column(
                "Predict a row",
                per(
                    total(rate(f"{PREDICT}_sum", *VERSION, window=window), *by),
                    total(rate("muleteer_batch_rows_sum", *VERSION, window=window), *by),
                ),
                SECONDS,
            ),
            Column("Rows a batch", mean("muleteer_batch_rows", *VERSION, by=by, window=window), NUMBER, 1),
            Column(
                "Ready workers",
                highest(series("muleteer_version_ready_workers", *VERSION), *by),
                steps=((None, RED), (1, GREEN)),
            ),
            Column(
                "Failed",
                highest(series("muleteer_version_failed", *VERSION), *by),
                steps=((None, GREEN), (1, RED)),
            ),
            Column("Load time, mean", loads, SECONDS),
            height=7,
        ),
        course(
            "Traffic by version, measured",
            "Share of the model's requests that each version answered, those that name a version included.",
            SHARE,
            Query(of_all(now), "{{version}}"),
            stacked="normal",
            top=1,
        ),
        course(
            "Traffic by version, by catalog",
            "Share of requests that name no version, as the catalog has it. Where the measured share differs, callers "
            "name versions, or one is not ready.",
            SHARE,
            Query(planned, "{{version}}"),
            stepped=True,
            top=1,
        ),
        course(
            "Requests by version",
            "Prediction requests answered a second.",
            REQUESTS_A_SECOND,
            Query(now, "{{version}}"),
        ),
        columns(
            "Resident artifacts",
            "What the workers hold: framework and checksum of each version, and in how many pods. Two checksums of one "
            "version mean that its artifact was changed in place; a version must never be.",
            {"version": "Version", "framework": "Framework", "sha256": "SHA-256 of the artifact"},
            Column(
                "Pods",
                f"count by (version, framework, sha256) ({series('muleteer_model_info', *VERSION)} == 1)",
            ),
            height=5,
        ),
    ]


def _latency() -> list[Panel]:
    by = ("version",)
    out: list[Panel] = [
        course(
            f"p{q * 100:g} latency, sync",
            f"{q * 100:g} of 100 requests that waited for their answer got it within this time.",
            SECONDS,
            Query(quantile(q, DURATION, *VERSION, SYNC, by=by), "{{version}}"),
        )
        for q in (0.5, 0.9, 0.99)
    ]
    phases = [
        (WAIT, "Queue: p99 wait", "From enqueue to claim. It grows when workers are too few."),
        (BATCH, "Batch: p99 time", "From claim to finish of a batch: predict, and all around it."),
        (PREDICT, "Predict: p99 time", "One predict call of the model, whole batch. It grows with the rows in it."),
    ]
    out += [
        course(title, description, SECONDS, Query(quantile(0.99, metric, *VERSION, by=by), "{{version}}"))
        for metric, title, description in phases
    ]
    learned = [
        (
            "muleteer_cost_batch_seconds",
            "Cost of a batch",
            "Seconds that a batch takes however small, as workers learned.",
        ),
        ("muleteer_cost_row_seconds", "Cost of a row", "Seconds that each row of a batch takes, as workers learned."),
        (
            "muleteer_queue_wait_seconds",
            "Predicted wait",
            "Seconds until a request that arrives now is in a worker's hands. What that makes too late is refused.",
        ),
    ]
    out += [
        course(title, description, SECONDS, Query(highest(series(metric, *VERSION), *by), "{{version}}"))
        for metric, title, description in learned
    ]
    return out


def _errors() -> list[Panel]:
    requests = total(rate("muleteer_requests_total", *VERSION), "version")
    failed = total(rate("muleteer_requests_total", *VERSION, FAILED), "version")
    return [
        course(
            "Errors by version",
            "Share of requests answered with a status of 500 and above.",
            SHARE,
            Query(share(failed, requests), "{{version}}"),
            steps=((None, GREEN), (0.05, RED)),
        ),
        course(
            "Statuses that are not 200 or 202",
            "4xx is the caller's mistake, 499 a caller that went away, 500 a prediction that failed, 503 no room or no "
            "Redis, 504 out of time.",
            REQUESTS_A_SECOND,
            Query(
                total(rate("muleteer_requests_total", *VERSION, 'status!~"200|202"'), "version", "status"),
                "{{version}}: {{status}}",
            ),
            stacked="normal",
        ),
        course(
            "Jobs that did not finish, by outcome",
            "failed: the model raised or answered nonsense; expired: nobody waits any more; canceled; stale: finished "
            "after its lease was lost; dead: killed every worker that held it.",
            PER_SECOND,
            Query(
                total(rate("muleteer_jobs_total", *VERSION, 'outcome!="finished"'), "version", "outcome"),
                "{{version}}: {{outcome}}",
            ),
            stacked="normal",
        ),
        course(
            "Redeliveries",
            "Jobs put back into the queue because their worker died or lost its lease.",
            PER_SECOND,
            Query(total(rate("muleteer_jobs_redelivered_total", *VERSION), "version"), "{{version}}"),
        ),
        course(
            "Load failures",
            "Times that a version could not be made ready, by reason, since the pods started.",
            NUMBER,
            Query(
                total(series("muleteer_model_load_failures_total", *VERSION), "version", "reason"),
                "{{version}}: {{reason}}",
            ),
        ),
        course(
            "Processes that have it ready, by pod",
            "As the workers themselves tell.",
            NUMBER,
            Query(total(series("muleteer_model_ready", *VERSION), "pod", "version"), "{{pod}} {{version}}"),
            stepped=True,
        ),
    ]


def _predictions() -> list[Panel]:
    value = "muleteer_prediction_value"
    return [
        *(
            course(
                f"{name} of predicted values",
                "Quantile of numeric predictions (a sample of them): versions that drift apart, or a model whose "
                "answers change, show here first.",
                NUMBER,
                Query(quantile(q, value, *VERSION, FIELD, by=("version", "field")), "{{version}} {{field}}"),
                bottom=None,
            )
            for name, q in (("Median", 0.5), ("90th percentile", 0.9))
        ),
        course(
            "Predicted labels",
            "Text and true/false predictions (a sample of them), by version.",
            PER_SECOND,
            Query(
                total(rate("muleteer_predictions_total", *VERSION, FIELD), "version", "field", "label"),
                "{{version}} {{field}}: {{label}}",
            ),
            stacked="percent",
        ),
    ]


def _each_version() -> list[Panel]:
    batches = total(rate(f"{BATCH}_count", *VERSION))
    predict = total(rate(f"{PREDICT}_sum", *VERSION))
    around = f"clamp_min({total(rate(f'{BATCH}_sum', *VERSION))} - {predict}, 0)"
    return [
        course(
            "Where the time goes",
            "Mean time of a job: waiting in the queue, in a batch around predict (claim, decoding, finish), and in "
            "predict. HTTP and the way through Redis come on top.",
            SECONDS,
            Query(mean(WAIT, *VERSION), "queue"),
            Query(per(around, batches), "batch around predict"),
            Query(per(predict, batches), "predict"),
            span=6,
            stacked="normal",
        ),
        heat_map(
            "Rows in a batch",
            "How many instances went into each predict call; strong colours are frequent. It moves up under load.",
            NUMBER,
            total(increase("muleteer_batch_rows_bucket", *VERSION), "le"),
            span=6,
        ),
        heat_map(
            "Predicted values",
            "Distribution of numeric predictions (a sample of them) over time. Choose one prediction field where a "
            "model answers with several.",
            NUMBER,
            total(increase("muleteer_prediction_value_bucket", *VERSION, FIELD), "le"),
            span=6,
        ),
        heat_map(
            "Latency of requests",
            "How long requests of every mode took; strong colours are frequent.",
            SECONDS,
            total(increase(f"{DURATION}_bucket", *VERSION), "le"),
            span=6,
        ),
    ]
