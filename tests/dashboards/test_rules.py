"""The alert rules: right by Prometheus's own tools, tested one by one, and each with a section in the runbook."""

import re
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from muleteer.cli.app import app
from support import grafana
from support.prometheus import binary

ALERTS = grafana.CHART / "alerts"
RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"
TEXT = RUNBOOK.read_text()
GROUPS = yaml.safe_load((ALERTS / "rules.yaml").read_text())["groups"]
RULES = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
TESTS = yaml.safe_load((ALERTS / "tests.yaml").read_text())["tests"]
WORDS_OF_OTHERS = {"Bad file format", "Unexpected end of file", "Muleteer / Overview", "Muleteer / Model"}


def promtool(*words: str) -> None:
    command = [binary("promtool"), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ALERTS)
    assert result.returncode == 0, result.stdout + result.stderr


def anchors() -> set[str]:
    """Return the anchors of the runbook's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", "rules.yaml")


def test_every_alert_fires_when_it_should_and_is_silent_when_it_should_not() -> None:
    promtool("test", "rules", "tests.yaml")


def test_every_alert_is_tested_firing_and_silent() -> None:
    cases = [case for test in TESTS for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert firing == RULES.keys()
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    with_patience = {name for name, rule in RULES.items() if "for" in rule}
    # An alert that waits is seen waiting; the others have series in their test that must not fire.
    assert with_patience - {"MuleteerWorkersRestarting"} <= silent


@pytest.mark.parametrize("name", RULES)
def test_every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(name: str) -> None:
    rule = RULES[name]
    assert name.startswith("Muleteer")
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook"}
    assert not notes["summary"].endswith(".")
    assert notes["description"].endswith(".")
    file, _, anchor = notes["runbook"].partition("#")
    assert file == "docs/operations.md"
    assert anchor == name.lower()
    assert anchor in anchors()


def test_every_rule_is_aggregated_by_namespace() -> None:
    for group in GROUPS:
        for rule in group["rules"]:
            by = re.findall(r"\b(?:sum|max|min|count|avg) by \(([^)]*)\)", rule["expr"])
            assert by or "namespace_model:" in rule["expr"], rule
            assert all(labels.split(", ")[0] == "namespace" for labels in by), rule
            assert not re.search(r"\b(sum|max|min|count|avg) ?\((?!.*by)", rule["expr"]), rule


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    assert set(re.findall(r"^### (Muleteer\w+)$", TEXT, re.MULTILINE)) == RULES.keys()


def test_the_runbooks_links_lead_somewhere() -> None:
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors()
    for path in re.findall(r"\]\((\.\.[^)#]+)\)", TEXT):
        assert (RUNBOOK.parent / path).exists(), path


def test_the_runbook_names_panels_that_exist() -> None:
    titles = {panel["title"] for name in grafana.DASHBOARDS for panel in grafana.panels(name)}
    named = {" ".join(name.split()) for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", TEXT)} - WORDS_OF_OTHERS
    assert named
    assert {name for name in named if not any(title.startswith(name) for title in titles)} == set()


def test_the_runbook_names_commands_that_exist() -> None:
    known = typer.main.get_command(app).commands
    named = set(re.findall(r"`muleteer (\w+)", TEXT))
    assert {"models", "jobs", "check", "push"} <= named <= known.keys()
