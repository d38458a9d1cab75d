"""The overview's lower rows: requests, queue, workers, Redis."""

from muleteer_dashboards.panels import (
    BYTES,
    GREEN,
    NUMBER,
    PER_SECOND,
    RED,
    REQUESTS_A_SECOND,
    ROWS_A_SECOND,
    SECONDS,
    SHARE,
    Panel,
    Query,
    course,
)
from muleteer_dashboards.promql import highest, increase, mean, once, per, quantile, rate, series, total

MODEL = 'model=~"$model"'
POOL = 'pool=~"$pool"'
SYNC = 'mode="sync"'
DURATION = "muleteer_request_duration_seconds"


def requests() -> list[Panel]:
    """Return what callers see."""
    in_time = total(rate(f"{DURATION}_bucket", MODEL, SYNC, 'le="1.0"'))
    all_sync = total(rate(f"{DURATION}_count", MODEL, SYNC))
    return [
        course(
            "Requests by model",
            "Prediction requests answered a second.",
            REQUESTS_A_SECOND,
            Query(total(rate("muleteer_requests_total", MODEL), "model"), "{{model}}"),
            stacked="normal",
        ),
        course(
            "Requests by status",
            "HTTP statuses of the answers: 200 and 202 are good, 4xx is the caller's mistake, 499 a caller that went "
            "away, 500 a prediction that failed, 503 no room, no Redis or no ready version, 504 out of time.",
            REQUESTS_A_SECOND,
            Query(total(rate("muleteer_requests_total", MODEL), "status"), "{{status}}"),
            stacked="normal",
        ),
        course(
            "Refused requests by reason",
            "Requests refused before they became a job. deadline, loading, in_progress and queue_… are ours to solve; "
            "the others are callers' mistakes, or more than a client may send (rate, concurrency).",
            REQUESTS_A_SECOND,
            Query(total(rate("muleteer_rejected_total"), "reason"), "{{reason}}"),
            stacked="normal",
        ),
        course(
            "Latency of sync requests",
            "From a request's first byte to its answer, over all chosen models.",
            SECONDS,
            *(Query(quantile(q, DURATION, MODEL, SYNC), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
        ),
        course(
            "Sync requests within 1 s",
            "The objective: 99 of 100 sync requests are answered within 1 s. The burn alerts watch this share.",
            SHARE,
            Query(per(in_time, all_sync), "within 1 s"),
            steps=((None, RED), (0.99, GREEN)),
            bottom=None,
            top=1,
        ),
        course(
            "p99 latency by mode",
            "sync waits for the answer, wait as long as the caller said, async only for the job to be in the queue.",
            SECONDS,
            Query(quantile(0.99, DURATION, MODEL, by=("mode",)), "{{mode}}"),
        ),
        course(
            "Requests by mode",
            "How callers ask: sync, wait (Prefer: wait=N) or async (Prefer: respond-async).",
            REQUESTS_A_SECOND,
            Query(total(rate("muleteer_requests_total", MODEL), "mode"), "{{mode}}"),
            stacked="normal",
        ),
        course(
            "Requests in progress by gateway",
            "Requests that each gateway is answering now. A gateway refuses more than MULETEER_MAX_IN_PROGRESS.",
            NUMBER,
            Query(total(series("muleteer_requests_in_progress"), "pod"), "{{pod}}"),
            stacked="normal",
        ),
        course(
            "Jobs ended by outcome",
            "finished, failed (the model said no), expired (nobody waits any more), canceled, stale (finished after "
            "its lease was lost; another worker answers), dead (killed every worker that held it).",
            PER_SECOND,
            Query(total(rate("muleteer_jobs_total", MODEL), "outcome"), "{{outcome}}"),
            stacked="normal",
        ),
    ]


def queue() -> list[Panel]:
    """Return what waits and how it is worked off."""
    return [*_waiting(), *_worked_off()]


def _waiting() -> list[Panel]:
    jobs = once(series("muleteer_queue_jobs", MODEL), "model", "version", "state")
    queued = once(series("muleteer_queue_jobs", MODEL, 'state="queued"'), "model", "version")
    return [
        course(
            "Queued jobs by model version",
            "Jobs that wait for a worker. Each version has a queue of its own.",
            NUMBER,
            Query(total(queued, "model", "version"), "{{model}} {{version}}"),
            stacked="normal",
        ),
        course(
            "Jobs by state",
            "queued waits in Redis, running is in a worker's hands. Workers are scaled on both together.",
            NUMBER,
            Query(total(jobs, "state"), "{{state}}"),
            stacked="normal",
        ),
        course(
            "Oldest queued job by model version",
            "How long the oldest job of each queue has waited.",
            SECONDS,
            Query(
                f"max by (model, version) ({series('muleteer_queue_oldest_seconds', MODEL)})", "{{model}} {{version}}"
            ),
        ),
        course(
            "Predicted wait by model version",
            "Seconds until a request that arrives now is in a worker's hands, from what waits and what batches cost. "
            "Requests that it makes too late are refused.",
            SECONDS,
            Query(f"max by (model, version) ({series('muleteer_queue_wait_seconds', MODEL)})", "{{model}} {{version}}"),
        ),
        course(
            "Jobs accepted and ended",
            "What Redis accounts for, a second: accepted jobs end as finished, failed, canceled or expired.",
            PER_SECOND,
            Query(
                total(once(rate("muleteer_jobs_accounted_total", MODEL), "model", "version", "event"), "event"),
                "{{event}}",
            ),
        ),
        course(
            "Backlog seconds by pool",
            "Predicted seconds of worker time for all jobs of a pool; 0 while nothing is known of a queue's pace.",
            SECONDS,
            Query(total(once(series("muleteer_backlog_seconds", POOL), "pool"), "pool"), "{{pool}}"),
        ),
    ]


def _worked_off() -> list[Panel]:
    return [
        course(
            "Rows in a batch",
            "Instances in one predict call: the mean and the 99th percentile. Batches grow with load; 1 on an idle "
            "system.",
            NUMBER,
            Query(mean("muleteer_batch_rows", MODEL), "mean"),
            Query(quantile(0.99, "muleteer_batch_rows", MODEL), "p99"),
        ),
        course(
            "Instances predicted by model",
            "Rows that went through predict a second.",
            ROWS_A_SECOND,
            Query(total(rate("muleteer_batch_rows_sum", MODEL), "model"), "{{model}}"),
            stacked="normal",
        ),
        course(
            "Wait in the queue",
            "Time from enqueue to claim of the jobs that were claimed.",
            SECONDS,
            *(Query(quantile(q, "muleteer_job_wait_seconds", MODEL), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
        ),
        course(
            "Mean predict time by model",
            "Seconds of one predict call, whole batch.",
            SECONDS,
            Query(mean("muleteer_predict_duration_seconds", MODEL, by=("model",)), "{{model}}"),
        ),
        course(
            "Jobs redelivered",
            "Jobs put back into the queue because their worker died or lost its lease. Callers only see a longer wait.",
            PER_SECOND,
            Query(total(rate("muleteer_jobs_redelivered_total", MODEL), "model", "version"), "{{model}} {{version}}"),
        ),
    ]


def workers() -> list[Panel]:
    """Return who does the work, and whether there are enough of them."""
    return [*_processes(), *_versions(), *_memory()]


def _processes() -> list[Panel]:
    alive = total(once(series("muleteer_workers", POOL), "pool"), "pool")
    jobs = total(once(series("muleteer_backlog_jobs", POOL), "pool"), "pool")
    return [
        course(
            "Workers by pool",
            "Worker processes alive: pods times processes.",
            NUMBER,
            Query(alive, "{{pool}}"),
            stepped=True,
        ),
        course(
            "Scaling: backlog and workers",
            "Jobs of each pool, queued and running, beside its workers: what the autoscaler sees, and what it did.",
            NUMBER,
            Query(jobs, "{{pool}} jobs"),
            Query(alive, "{{pool}} workers"),
        ),
        course(
            "Jobs a worker",
            "Backlog of each pool divided by its workers. Nothing while a pool has no worker.",
            NUMBER,
            Query(per(jobs, alive), "{{pool}}"),
        ),
        course(
            "Busy worker processes by model",
            "Seconds of batches a second: so many processes are at work on each model. Close to the number of workers, "
            "they are the limit.",
            NUMBER,
            Query(total(rate("muleteer_batch_duration_seconds_sum", MODEL), "model"), "{{model}}"),
            stacked="normal",
        ),
    ]


def _versions() -> list[Panel]:
    ready = once(series("muleteer_version_ready_workers", MODEL), "model", "version")
    return [
        course(
            "Workers with a version ready",
            "Worker processes in which each version is loaded, checked and warmed up. 0 with requests for it is an "
            "outage of that version.",
            NUMBER,
            Query(total(ready, "model", "version"), "{{model}} {{version}}"),
            stepped=True,
        ),
        course(
            "Worker processes restarted",
            "Processes that ended without being asked to and were started again, by pod, in each interval.",
            NUMBER,
            Query(total(increase("muleteer_worker_restarts_total"), "pod"), "{{pod}}"),
        ),
        course(
            "Versions resident, by pod",
            "Processes of each pod times the versions they have ready, as the workers themselves tell.",
            NUMBER,
            Query(total(series("muleteer_model_ready", MODEL), "pod"), "{{pod}}"),
            stepped=True,
        ),
        course(
            "Load failures by reason",
            "Times that a version could not be made ready, since the pods started. Fetching is tried again, a wrong "
            "artifact is not.",
            NUMBER,
            Query(
                total(series("muleteer_model_load_failures_total", MODEL), "model", "reason"), "{{model}} {{reason}}"
            ),
        ),
        course(
            "Mean time to load a version",
            "Time to fetch, check, load and warm up: what a new pod needs before it helps.",
            SECONDS,
            Query(mean("muleteer_model_load_seconds", MODEL, by=("model",), window="$__range"), "{{model}}"),
        ),
    ]


def _memory() -> list[Panel]:
    return [
        course(
            "Memory of models by pod",
            "What resident versions take, as measured, beside what they may take in a pool with a memory budget (0: "
            "there is none).",
            BYTES,
            Query(total(series("muleteer_resident_bytes"), "pod"), "{{pod}}"),
            Query(total(series("muleteer_resident_bytes_limit"), "pod"), "{{pod}} limit"),
        ),
        course(
            "Memory by model",
            "What the versions of each model take in all processes together, as measured.",
            BYTES,
            Query(total(series("muleteer_model_resident_bytes", MODEL), "model"), "{{model}}"),
            stacked="normal",
        ),
        course(
            "Versions unloaded to make room",
            "Under a memory budget: versions of each model unloaded for others, in each interval. Models that come and "
            "go all the time need a larger budget, or more workers.",
            NUMBER,
            Query(total(increase("muleteer_model_evictions_total", MODEL), "model"), "{{model}}"),
        ),
    ]


def redis() -> list[Panel]:
    """Return the state of what everything hangs on."""
    memory = once(series("muleteer_redis_memory_bytes"))
    limit = once(series("muleteer_redis_memory_limit_bytes"))
    return [
        course(
            "Redis reached by gateway",
            "1 while a gateway reaches Redis.",
            NUMBER,
            Query(highest(series("muleteer_redis_up"), "namespace", "pod"), "{{pod}} {{namespace}}"),
            stepped=True,
            top=1,
        ),
        course(
            "Redis memory",
            "Used, and the limit (maxmemory) where one is set. At the limit Redis takes no new jobs.",
            BYTES,
            Query(memory, "used {{namespace}}"),
            Query(f"{limit} > 0", "limit {{namespace}}"),
        ),
        course(
            "Redis memory, share of the limit",
            "Used memory divided by maxmemory; nothing where there is no limit.",
            SHARE,
            Query(per(memory, limit), "used {{namespace}}"),
            steps=((None, GREEN), (0.8, RED)),
            top=1,
        ),
        course(
            "Redis commands",
            "Commands a second. One Redis core is good for about 20,000 jobs a second.",
            PER_SECOND,
            Query(once(rate("muleteer_redis_commands_total")), "commands {{namespace}}"),
        ),
        course(
            "Redis clients",
            "Connections: a few for each gateway and worker process.",
            NUMBER,
            Query(once(series("muleteer_redis_clients")), "clients {{namespace}}"),
            stepped=True,
        ),
        course(
            "Redis persistence",
            "ok: the last write and rewrite of the append-only file, or else the last snapshot, went well. aof: the "
            "append-only file is on; without it a crash loses the jobs since the last snapshot.",
            NUMBER,
            Query(once(series("muleteer_redis_persistence_ok")), "ok {{namespace}}"),
            Query(once(series("muleteer_redis_aof_enabled")), "aof {{namespace}}"),
            stepped=True,
            top=1,
        ),
        course(
            "Redis keys evicted",
            "Keys that Redis threw away for want of memory: jobs lost. It stays 0 with maxmemory-policy noeviction.",
            NUMBER,
            Query(once(increase("muleteer_redis_evicted_keys_total")), "evicted {{namespace}}"),
        ),
        course(
            "Catalog files read",
            "Catalog edits that gateways took (ok) or refused since they started: after a refused one they go on with "
            "the catalog before.",
            NUMBER,
            Query(total(series("muleteer_catalog_reloads_total"), "outcome"), "{{outcome}}"),
            stepped=True,
        ),
        course(
            "Webhooks",
            "Webhook deliveries, and those that were given up after all attempts (failed).",
            PER_SECOND,
            Query(total(rate("muleteer_callbacks_total"), "outcome"), "{{outcome}}"),
        ),
    ]
