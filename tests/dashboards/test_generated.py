"""The dashboards: generated from their source, complete, and about metrics that exist."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from muleteer import metrics
from support import grafana

SOURCE = grafana.CHART / "dashboards" / "src" / "generate.py"
RULES = yaml.safe_load((grafana.CHART / "alerts" / "rules.yaml").read_text())
BOTH = sorted(grafana.DASHBOARDS)
HISTOGRAM_ENDINGS = ("_bucket", "_sum", "_count")

UNUSED: dict[str, str] = {}
"""Metrics that neither a panel nor a rule shows, each with the reason."""


def exported() -> set[str]:
    """Return the names of all series that metrics.py can export."""
    text = Path(metrics.__file__).read_text()
    names = set(re.findall(r'"(muleteer_[a-z0-9_]+)"', text))
    families = [*metrics.GATEWAY.collect(), *metrics.WORKER.collect()]
    histograms = {family.name for family in families if family.type == "histogram"}
    assert histograms <= names
    return (names - histograms) | {name + ending for name in histograms for ending in HISTOGRAM_ENDINGS}


def recorded() -> set[str]:
    return {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}


def rule_metrics() -> set[str]:
    text = " ".join(rule["expr"] for group in RULES["groups"] for rule in group["rules"])
    for name in recorded():
        text = text.replace(name, "")
    return set(grafana.METRIC.findall(text))


def panel_metrics(dashboard: str) -> set[str]:
    return {name for target in grafana.targets(dashboard) for name in grafana.METRIC.findall(target.expression)}


def described(panel: dict[str, Any]) -> str:
    return f"panel {panel.get('title')!r}"


def test_the_json_is_what_its_source_generates() -> None:
    result = subprocess.run([sys.executable, str(SOURCE), "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    code = "import sys, pathlib, generate; print(generate.drifted(pathlib.Path(sys.argv[1])))"
    for path in grafana.DASHBOARDS.values():
        (tmp_path / path.name).write_text(path.read_text())
    changed = tmp_path / "muleteer-model.json"
    changed.write_text(changed.read_text().replace("p99", "p98", 1))
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=SOURCE.parent)
    assert result.stdout.strip() == "['muleteer-model.json']"


@pytest.mark.parametrize("dashboard", BOTH)
def test_every_panel_has_title_description_unit_and_queries(dashboard: str) -> None:
    for panel in grafana.panels(dashboard):
        assert panel["title"], panel
        assert panel["description"].endswith("."), described(panel)
        assert panel["fieldConfig"]["defaults"]["unit"], described(panel)
        assert panel["targets"], described(panel)
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, described(panel)
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], described(panel)
            assert panel["type"] == "table" or target["legendFormat"], described(panel)


@pytest.mark.parametrize("dashboard", BOTH)
def test_every_selector_of_every_query_is_limited_to_the_namespaces(dashboard: str) -> None:
    document = grafana.load(dashboard)
    expressions = [target.expression for target in grafana.targets(dashboard)]
    expressions += [annotation["expr"] for annotation in document["annotations"]["list"]]
    for expression in expressions:
        selectors = re.findall(r"\b(?:muleteer_[a-z0-9_]+|ALERTS)\b(\{[^}]*\})?", expression)
        assert selectors, expression
        assert all('namespace=~"$namespace"' in selector for selector in selectors), expression


@pytest.mark.parametrize("dashboard", BOTH)
def test_rates_use_the_interval_that_grafana_computes_or_the_shown_range(dashboard: str) -> None:
    for target in grafana.targets(dashboard):
        windows = re.findall(r"\[([^]]+)\]", target.expression)
        assert set(windows) <= {"$__rate_interval", "$__range"}, str(target)


@pytest.mark.parametrize("dashboard", BOTH)
def test_queries_name_only_metrics_that_exist(dashboard: str) -> None:
    assert panel_metrics(dashboard) <= exported()


def test_rules_name_only_metrics_that_exist() -> None:
    assert rule_metrics() <= exported()


def test_every_metric_is_shown_somewhere_or_left_out_for_a_reason() -> None:
    used = rule_metrics() | panel_metrics("overview") | panel_metrics("model")
    used = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    names = {re.sub("_(bucket|sum|count)$", "", name) for name in exported()}
    assert names - used == UNUSED.keys()


@pytest.mark.parametrize("dashboard", BOTH)
def test_panels_fill_the_grid_without_overlap_and_have_ids_of_their_own(dashboard: str) -> None:
    everything = grafana.load(dashboard)["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(set(ids)) == len(ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in everything:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, described(panel)
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{described(panel)} lies on {taken[x, y]}"
                taken[x, y] = described(panel)
    lines = sorted({y for _, y in taken})
    assert all(after == before + 1 for before, after in pairwise(lines))


@pytest.mark.parametrize("dashboard", BOTH)
def test_all_of_a_variable_also_means_series_without_the_label(dashboard: str) -> None:
    for name, variable in grafana.variables(dashboard).items():
        assert variable["label"], name
        if variable.get("includeAll"):
            assert variable["allValue"] == ".*", name
            assert variable["current"]["value"] == "$__all", name


def test_the_variables_are_those_that_a_reader_needs() -> None:
    overview, model = grafana.variables("overview"), grafana.variables("model")
    assert list(overview) == ["datasource", "namespace", "model", "pool"]
    assert list(model) == ["datasource", "namespace", "model", "version", "field"]
    assert overview["datasource"]["type"] == model["datasource"]["type"] == "datasource"
    assert overview["datasource"]["query"] == "prometheus"
    assert model["version"]["multi"]
    assert not model["model"]["multi"]


def test_the_dashboards_have_fixed_addresses_and_lead_to_each_other() -> None:
    for name in BOTH:
        document = grafana.load(name)
        assert document["uid"] == f"muleteer-{name}"
        assert document["tags"] == ["muleteer"]
        assert [link["tags"] for link in document["links"]] == [["muleteer"]]
        assert document["links"][0]["keepTime"]
        assert document["links"][0]["includeVars"]
    (table,) = [panel for panel in grafana.panels("overview") if panel["title"] == "Models and versions"]
    links = [p["value"] for o in table["fieldConfig"]["overrides"] for p in o["properties"] if p["id"] == "links"]
    assert links[0][0]["url"].startswith("/d/muleteer-model?var-model=${__data.fields.Model}&")
