"""What operators see: metrics of both services, log lines that belong together, probes that tell the truth."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from support.models import MOODY, write_catalog, write_version
from support.raw import RawConnection, request
from support.services import Service, System
from support.waiting import wait_until

PREDICT = "/v1/models/moody:predict"
GOOD = {"instances": [{"text": "a"}, {"text": "b"}]}
RAISING = {"instances": [{"text": "raise"}]}

GATEWAY_METRICS = {
    "muleteer_requests": "counter",
    "muleteer_request_duration_seconds": "histogram",
    "muleteer_requests_in_progress": "gauge",
    "muleteer_rejected": "counter",
    "muleteer_queue_jobs": "gauge",
    "muleteer_queue_oldest_seconds": "gauge",
    "muleteer_workers": "gauge",
    "muleteer_backlog_jobs": "gauge",
    "muleteer_backlog_seconds": "gauge",
    "muleteer_version_ready_workers": "gauge",
    "muleteer_version_cold": "gauge",
    "muleteer_version_failed": "gauge",
    "muleteer_model_traffic_share": "gauge",
    "muleteer_redis_commands": "counter",
    "muleteer_redis_up": "gauge",
}
WORKER_METRICS = {
    "muleteer_jobs": "counter",
    "muleteer_job_wait_seconds": "histogram",
    "muleteer_batch_rows": "histogram",
    "muleteer_predict_duration_seconds": "histogram",
    "muleteer_batch_duration_seconds": "histogram",
    "muleteer_predictions": "counter",
    "muleteer_jobs_redelivered": "counter",
    "muleteer_model_info": "gauge",
    "muleteer_model_load_seconds": "histogram",
    "muleteer_model_evictions": "counter",
    "muleteer_model_resident_bytes": "gauge",
    "muleteer_resident_bytes": "gauge",
    "muleteer_resident_bytes_limit": "gauge",
}
JUDGE = """
    class Model:
        def predict(self, instances):
            return [{"length": len(i["text"]), "label": i["text"][:1], "parts": [1, 2]} for i in instances]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("observability")
    write_version(folder / "models", "moody", code=MOODY)
    write_version(folder / "models", "judge", code=JUDGE)
    write_version(folder / "models", "parked")
    one = {"versions": {"1": {}}}
    catalog = write_catalog(folder / "catalog.yaml", {"moody": one, "judge": one, "parked": one | {"pool": "nobody"}})
    with System(folder, catalog) as made:
        made.add_gateway()
        made.add_worker()
        yield made.wait_ready(but=frozenset({"parked"}))


def families(service: Service) -> dict[str, Metric]:
    response = httpx.get(f"{service.url}/metrics", timeout=5)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def samples(service: Service, name: str, **labels: str) -> list[Sample]:
    """Return the samples of this name that have these labels."""
    return [
        sample
        for family in families(service).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def value(service: Service, name: str, **labels: str) -> float:
    return sum(sample.value for sample in samples(service, name, **labels))


def failed_prediction(system: System, request_id: str) -> dict[str, Any]:
    response = httpx.post(f"{system.url}{PREDICT}", json=RAISING, headers={"X-Request-Id": request_id})
    assert response.status_code == 500
    document: dict[str, Any] = response.json()
    return document


def test_the_gateway_exports_its_metrics_with_requests_by_model_version_mode_and_status(system: System) -> None:
    gateway = system.gateways[0]
    url = f"{gateway.url}{PREDICT}"
    of_moody = {"model": "moody", "version": "1"}
    before = value(gateway, "muleteer_requests_total", **of_moody)
    for _ in range(3):
        assert httpx.post(url, json=GOOD).status_code == 200
    assert httpx.post(url, json=GOOD, headers={"Prefer": "wait=5"}).status_code == 200
    assert httpx.post(url, json=GOOD, headers={"Prefer": "respond-async"}).status_code == 202
    assert httpx.post(url, json=RAISING).status_code == 500
    assert httpx.post(url, json={"instances": [3]}).status_code == 422
    assert httpx.post(url, content=b"{").status_code == 400
    assert httpx.post(f"{gateway.url}/v1/models/nobody:predict", json=GOOD).status_code == 404

    found = families(gateway)
    assert {name: found[name].type for name in GATEWAY_METRICS} == GATEWAY_METRICS
    assert value(gateway, "muleteer_requests_total", **of_moody) - before == 8
    for mode, status, least in [("sync", "200", 3), ("wait", "200", 1), ("async", "202", 1), ("sync", "500", 1)]:
        assert value(gateway, "muleteer_requests_total", **of_moody, mode=mode, status=status) >= least
    assert value(gateway, "muleteer_requests_total", model="", version="", mode="sync", status="404") >= 1
    assert value(gateway, "muleteer_request_duration_seconds_count", **of_moody, mode="sync") >= 6
    reasons = {sample.labels["reason"] for sample in samples(gateway, "muleteer_rejected_total")}
    assert reasons >= {"ValidationFailed", "BadRequest", "NotFound"}
    with RawConnection(gateway.url) as raw:
        raw.send(request(PREDICT, b"", "Content-Length: 100"))
    wait_until(lambda: value(gateway, "muleteer_requests_total", **of_moody, status="499") == 1, 10, "a caller gone")
    assert value(gateway, "muleteer_requests_in_progress") == 0
    assert value(gateway, "muleteer_redis_up") == 1
    assert value(gateway, "muleteer_workers", pool="default") == 1


def test_the_gateway_exports_how_deep_and_how_old_each_queue_is(system: System) -> None:
    gateway = system.gateways[0]
    job = httpx.post(f"{gateway.url}/v1/models/parked:predict", json=GOOD, headers={"Prefer": "respond-async"}).json()[
        "id"
    ]
    of_parked = {"model": "parked", "version": "1"}
    wait_until(lambda: value(gateway, "muleteer_queue_jobs", **of_parked, state="queued") == 1, 10, "one job queued")
    wait_until(lambda: value(gateway, "muleteer_queue_oldest_seconds", **of_parked) > 0.2, 10, "it grows old")
    assert value(gateway, "muleteer_queue_jobs", **of_parked, state="running") == 0
    assert value(gateway, "muleteer_workers", pool="nobody") == 0
    assert len(samples(gateway, "muleteer_workers", pool="nobody")) == 1  # an alert needs the 0 to be there
    httpx.delete(f"{gateway.url}/v1/jobs/{job}")
    wait_until(lambda: value(gateway, "muleteer_queue_jobs", **of_parked) == 0, 10, "none queued")


def test_the_worker_exports_its_metrics_by_model_and_version(system: System) -> None:
    worker = system.workers[0]
    of_moody = {"model": "moody", "version": "1"}
    before = value(worker, "muleteer_jobs_total", **of_moody, outcome="finished")
    rows_before = value(worker, "muleteer_batch_rows_sum", **of_moody)
    for _ in range(3):
        assert httpx.post(f"{system.url}{PREDICT}", json=GOOD).status_code == 200
    failed_prediction(system, "metrics")
    wait_until(lambda: value(worker, "muleteer_jobs_total", **of_moody, outcome="finished") - before == 3, 10)

    found = families(worker)
    assert {name: found[name].type for name in WORKER_METRICS if name in found} == WORKER_METRICS
    wait_until(lambda: value(worker, "muleteer_jobs_total", **of_moody, outcome="failed") >= 1, 10)
    assert value(worker, "muleteer_batch_rows_sum", **of_moody) - rows_before >= 6
    assert value(worker, "muleteer_job_wait_seconds_count", **of_moody) >= 4
    assert value(worker, "muleteer_predict_duration_seconds_count", **of_moody) >= 4
    (info,) = samples(worker, "muleteer_model_info", **of_moody)
    assert info.labels["framework"] == "python"
    assert len(info.labels["sha256"]) == 64
    assert value(worker, "muleteer_model_load_seconds_count", **of_moody) == 1


def test_the_worker_exports_what_its_models_predict(system: System) -> None:
    worker = system.workers[0]
    of_judge = {"model": "judge", "version": "1"}
    for texts in (["up", "upper"], ["down"], ["u" * 30]):
        body = {"instances": [{"text": text} for text in texts]}
        assert httpx.post(f"{system.url}/v1/models/judge:predict", json=body).status_code == 200
    by_length = of_judge | {"field": "length"}
    wait_until(lambda: value(worker, "muleteer_prediction_value_count", **by_length) == 4, 10, "all are counted")
    assert value(worker, "muleteer_prediction_value_bucket", **by_length, le="2.0") == 1
    assert value(worker, "muleteer_prediction_value_bucket", **by_length, le="5.0") == 3
    assert value(worker, "muleteer_prediction_value_sum", **by_length) == 2 + 5 + 4 + 30
    by_label = of_judge | {"field": "label"}
    assert value(worker, "muleteer_predictions_total", **by_label, label="u") == 3
    assert value(worker, "muleteer_predictions_total", **by_label, label="d") == 1
    fields = {sample.labels["field"] for sample in samples(worker, "muleteer_prediction_value_count", **of_judge)}
    assert fields == {"length"}
    batches = value(worker, "muleteer_batch_duration_seconds_count", **of_judge)
    assert 1 <= batches <= 3
    predicted = value(worker, "muleteer_predict_duration_seconds_sum", **of_judge)
    assert value(worker, "muleteer_batch_duration_seconds_sum", **of_judge) > predicted


def test_a_failed_prediction_is_logged_on_both_sides_with_its_request_and_job(system: System) -> None:
    document = failed_prediction(system, "a-failure-to-find")
    for service in (system.gateways[0], system.workers[0]):

        def mine(service: Service = service) -> list[dict[str, Any]]:
            return [line for line in service.log_lines() if line.get("request_id") == "a-failure-to-find"]

        (line,) = wait_until(mine, 10, f"a line in the log of {service.module}")
        assert line["job_id"] == document["job_id"]
        assert (line["model"], line["version"], line["level"]) == ("moody", "1", "WARNING")
        assert line["service"] == service.module.removeprefix("muleteer_")
        assert "this text is not to my taste" in line["message"] + line.get("error", "")


def test_every_line_of_both_logs_is_json(system: System) -> None:
    for service in (system.gateways[0], system.workers[0]):
        lines = service.log.read_text().splitlines()
        assert lines
        assert len(service.log_lines()) == len(lines)
        for line in service.log_lines():
            assert line.keys() >= {"timestamp", "level", "logger", "message", "service"}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"])
def test_the_gateways_pages_are_there(system: System, path: str) -> None:
    assert httpx.get(f"{system.url}{path}").status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_the_workers_pages_are_there(system: System, path: str) -> None:
    assert httpx.get(f"{system.workers[0].url}{path}").status_code == 200


def test_without_redis_both_services_live_but_are_not_ready_and_come_back_by_themselves(system: System) -> None:
    gateway, worker = system.gateways[0], system.workers[0]
    system.valkey.stop()
    try:
        for service in (gateway, worker):
            wait_until(lambda s=service: httpx.get(f"{s.url}/readyz").status_code == 503, 30, "not ready")
            assert "Redis" in httpx.get(f"{service.url}/readyz").text
            assert httpx.get(f"{service.url}/livez").status_code == 200
        assert value(gateway, "muleteer_redis_up") == 0
        response = httpx.post(f"{gateway.url}{PREDICT}", json=GOOD, timeout=20)
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert int(response.headers["retry-after"]) >= 1
        for job in (httpx.get, httpx.delete):
            assert job(f"{gateway.url}/v1/jobs/{'0' * 32}", timeout=20).status_code == 503
    finally:
        system.valkey.start()
    system.wait_ready(but=frozenset({"parked"}))
    assert value(gateway, "muleteer_redis_up") == 1
    wait_until(lambda: httpx.post(f"{gateway.url}{PREDICT}", json=GOOD, timeout=20).status_code == 200, 20)
