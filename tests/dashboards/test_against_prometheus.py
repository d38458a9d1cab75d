"""Every query of the dashboards and the rules, asked of a real Prometheus that has scraped a real system."""

import re
import subprocess
import time
from typing import Any

import httpx
import pytest
import yaml

from support import grafana
from support.prometheus import Prometheus, binary
from support.scene import ASYNC, Scene
from support.services import Service
from support.waiting import wait_until

SCRAPE_SECONDS = 1
TARGETS = [target for name in sorted(grafana.DASHBOARDS) for target in grafana.targets(name)]
VARIABLES = [(name, variable) for name in sorted(grafana.DASHBOARDS) for variable in grafana.variables(name)]
RULES = yaml.safe_load((grafana.CHART / "alerts" / "rules.yaml").read_text())

MAY_BE_EMPTY: dict[str, str] = {}
"""Panels that need not have data in this system, each with the reason. There is none: it has seen everything."""
MODEL_SHOWN = {"Load failures": "broken"}
"""The model that a panel of the model's dashboard is looked at with, where it is not `judge`."""

EXPECTED_ALERTS = {
    "MuleteerErrorRateHigh": "`broken` is asked for, and texts raise",
    "MuleteerOverloaded": "`parked` takes three jobs and is asked for more",
    "MuleteerNoWorker": "the pool of `parked` has none",
    "MuleteerVersionWithoutReadyWorker": "`parked` has jobs, `broken` has traffic",
    "MuleteerVersionFailed": "`broken` has the wrong checksum",
    "MuleteerJobsRedelivered": "a text that kills its worker",
    "MuleteerJobsDead": "the same text, given up",
    "MuleteerWorkersRestarting": "it has killed three",
    "MuleteerCatalogRefused": "an edit that is no catalog",
    "MuleteerWebhooksFailing": "a receiver that answers 500",
}
"""Alerts that this system must make pending or firing, with the reason, and no others."""


def ask(prometheus: Prometheus, target: grafana.Target, **values: str) -> list[dict[str, Any]]:
    """Ask a panel's query as Grafana does."""
    shown = int(time.time() - prometheus.started) + 1
    expression = grafana.filled(target.expression, SCRAPE_SECONDS, shown, **values)
    return prometheus.query(expression) if target.instant else prometheus.query_range(expression)


def target(dashboard: str, panel: str, name: str = "A") -> grafana.Target:
    (found,) = [t for t in TARGETS if (t.dashboard, t.panel, t.name) == (dashboard, panel, name)]
    return found


def labels(found: list[dict[str, Any]], *names: str) -> set[tuple[str, ...]]:
    return {tuple(series["metric"].get(name, "") for name in names) for series in found}


def last(found: list[dict[str, Any]], **wanted: str) -> float:
    """Return the newest value of the one series with these labels."""
    (series,) = [series for series in found if series["metric"].items() >= wanted.items()]
    _, value = series["values"][-1] if "values" in series else series["value"]
    return float(value)


@pytest.mark.parametrize("query", TARGETS, ids=str)
def test_every_panels_query_has_data(scene: Scene, query: grafana.Target) -> None:
    values = {"model": MODEL_SHOWN.get(query.panel, "judge")} if query.dashboard == "model" else {}
    found = ask(scene.prometheus, query, **values)
    assert found or query.panel in MAY_BE_EMPTY, query.expression


@pytest.mark.parametrize("query", [t for t in TARGETS if t.dashboard == "model"], ids=str)
def test_the_models_panels_also_work_for_one_version_and_one_field(scene: Scene, query: grafana.Target) -> None:
    values = {"model": MODEL_SHOWN.get(query.panel, "judge"), "version": "1", "namespace": "shop"}
    found = ask(scene.prometheus, query, **values, field="score" if "values" in query.panel else "mood")
    assert found or query.panel in MAY_BE_EMPTY, query.expression
    assert labels(found, "version") <= {("1",), ("",)}


@pytest.mark.parametrize("query", TARGETS, ids=str)
def test_another_namespace_shows_nothing_of_this_one(scene: Scene, query: grafana.Target) -> None:
    found = ask(scene.prometheus, query, namespace="elsewhere", model="judge")
    assert all(series["metric"] == {} for series in found), "only a bare 0 may be left"


@pytest.mark.parametrize(("dashboard", "name"), VARIABLES)
def test_every_variables_query_finds_its_choices(scene: Scene, dashboard: str, name: str) -> None:
    variable = grafana.variables(dashboard)[name]
    if variable["type"] == "datasource":
        return
    expected = {
        "namespace": {"shop"},
        "model": {"broken", "judge", "length", "parked"},
        "pool": {"default", "nobody"},
        "version": {"1", "2"},
        "field": {"mood", "score"},
    }
    query = grafana.filled(variable["query"], SCRAPE_SECONDS, 60, model="judge")
    if match := re.fullmatch(r"label_values\((.+), (\w+)\)", query):
        found = set(scene.prometheus.label_values(match[1], match[2]))
    else:
        (inner,) = re.fullmatch(r"query_result\((.+)\)", query).groups()
        texts = [
            "{" + ",".join(f'{k}="{v}"' for k, v in series["metric"].items()) + "} 1"
            for series in scene.prometheus.query(inner)
        ]
        pattern = re.compile(variable["regex"].strip("/"))
        found = {match[1] for text in texts if (match := pattern.search(text))}
    assert found == expected[name]


def test_the_annotation_shows_the_alerts_that_fire(scene: Scene) -> None:
    for name in grafana.DASHBOARDS:
        (annotation,) = grafana.load(name)["annotations"]["list"]
        found = scene.prometheus.query_range(grafana.filled(annotation["expr"], SCRAPE_SECONDS, 60))
        assert "MuleteerJobsDead" in {series["metric"]["alertname"] for series in found}


def test_every_rule_is_evaluated_without_an_error(scene: Scene) -> None:
    rules = scene.prometheus.rules()
    assert len(rules) == sum(len(group["rules"]) for group in RULES["groups"])
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]


def test_every_recording_rule_has_recorded(scene: Scene) -> None:
    for rule in scene.prometheus.rules():
        if rule["type"] == "recording":
            assert scene.prometheus.query(f'{rule["name"]}{{namespace="shop", model="judge"}}'), rule["name"]


def test_the_alerts_that_should_and_no_others_have_noticed(scene: Scene) -> None:
    for name, reason in EXPECTED_ALERTS.items():
        wait_until(lambda n=name: n in scene.prometheus.alerts(), 10, f"{name}: {reason}")
    assert scene.prometheus.alerts() == EXPECTED_ALERTS.keys()


def test_two_gateways_that_see_the_same_queue_are_not_added_up(scene: Scene) -> None:
    parked = {"model": "parked", "version": "1"}
    both = 'count(muleteer_queue_jobs{model="parked", state="queued"} == 3)'
    wait_until(lambda: scene.prometheus.value(both) == 2, 10, "both gateways see three jobs")
    assert last(ask(scene.prometheus, target("overview", "Queued jobs by model version")), **parked) == 3
    assert last(ask(scene.prometheus, target("overview", "Models and versions", "D")), **parked) == 3
    # A worker process was killed for this scene: its successor is counted once it lives.
    workers = target("overview", "Workers by pool")
    wait_until(lambda: last(ask(scene.prometheus, workers), pool="default") == 2, 20, "two workers are shown, not four")
    assert last(ask(scene.prometheus, target("overview", "Scaling: backlog and workers")), pool="nobody") == 3
    assert last(ask(scene.prometheus, target("overview", "Redis memory", "B"))) == 256 * 1024 * 1024


def test_the_panels_show_what_has_happened(scene: Scene) -> None:
    def seen(dashboard: str, panel: str, *names: str, name: str = "A") -> set[tuple[str, ...]]:
        return labels(ask(scene.prometheus, target(dashboard, panel, name), model="judge"), *names)

    assert seen("overview", "Requests by status", "status") >= {("200",), ("202",), ("422",), ("500",)}
    assert seen("overview", "Requests by mode", "mode") == {("sync",), ("wait",), ("async",)}
    reasons = seen("overview", "Refused requests by reason", "reason")
    assert reasons >= {("ValidationFailed",), ("NotFound",), ("queue_full",)}
    assert seen("overview", "Jobs ended by outcome", "outcome") >= {("finished",), ("failed",), ("dead",)}
    assert seen("overview", "Catalog files read", "outcome") == {("ok",), ("refused",)}
    assert seen("overview", "Webhooks", "outcome") == {("delivered",), ("failed",)}
    assert seen("model", "Predicted labels", "field", "label") == {("mood", "good"), ("mood", "bad")}
    assert seen("model", "Median of predicted values", "version", "field") == {("1", "score"), ("2", "score")}
    assert len(seen("model", "Rows in a batch", "le")) > 5
    planned = ask(scene.prometheus, target("model", "Traffic by version, by catalog"), model="judge")
    assert (last(planned, version="1"), last(planned, version="2")) == (0.7, 0.3)
    measured = ask(scene.prometheus, target("model", "Versions", "B"), model="judge")
    assert 0.99 < last(measured, version="1") + last(measured, version="2") < 1.01
    given_up = ask(scene.prometheus, target("overview", "Jobs given up"), model="judge")
    assert round(last(given_up)) == 1


@pytest.mark.parametrize("kind", ["gateways", "workers"])
def test_promtool_finds_nothing_wrong_with_the_exposition(scene: Scene, kind: str) -> None:
    service: Service = getattr(scene.system, kind)[0]
    command = [binary("promtool"), "check", "metrics"]
    result = subprocess.run(command, input=service.metrics(), capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_an_outage_shows_in_the_top_row_and_in_the_alerts(scene: Scene) -> None:
    """The last test: nothing of the system is left after it."""
    system, prometheus = scene.system, scene.prometheus
    up, errors = target("overview", "Redis"), target("overview", "Errors")
    assert last(ask(prometheus, up)) == 1
    system.valkey.stop()
    wait_until(lambda: "MuleteerRedisDown" in prometheus.alerts(), 30, "the alert notices that Redis is gone")
    wait_until(lambda: last(ask(prometheus, up)) == 0, 30, "the panel shows that Redis is gone")

    def all_fail() -> bool:
        url = f"{system.url}/v1/models/length:predict"
        assert httpx.post(url, json={"instances": [{"text": "a"}]}, headers=ASYNC, timeout=30).status_code == 503
        return last(ask(prometheus, errors)) == 1

    wait_until(all_fail, 30, "every request is an error")
    for gateway in system.gateways:
        gateway.kill_all()
    wait_until(lambda: prometheus.alerts() >= {"MuleteerNoGateway", "MuleteerTargetDown"}, 30, "no gateway is noticed")
