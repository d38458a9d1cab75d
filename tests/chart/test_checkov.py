"""checkov finds nothing in what the chart renders but what is listed here, each with its reason."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.chart import render
from support.kube_tools import FOLDER

CHECKOV = FOLDER.parent / "checkov" / "bin" / "checkov"

EXPLAINED = {
    "default": {
        ("CKV_K8S_11", "*"): "No CPU limit on purpose: throttling shows as latency. values.yaml says so.",
        ("CKV_K8S_43", "*"): "Digests are for who pins an installation; ci/locked-down-values.yaml does.",
        ("CKV_K8S_15", "*"): "Tags of releases never move, and images built into minikube cannot be pulled.",
        (
            "CKV_K8S_35",
            "gateway",
        ): "The services read their settings from variables; no manifest holds a secret.",
        ("CKV_K8S_35", "worker"): "As for the gateway.",
        ("CKV_K8S_35", "valkey"): "The password goes from a variable to standard input, into no file.",
        ("CKV_K8S_40", "valkey"): "999 is the user of the official image, which owns its files.",
        ("CKV_K8S_8", "test"): "A pod that runs once and ends has no use for probes.",
        ("CKV_K8S_9", "test"): "A pod that runs once and ends has no use for probes.",
    },
    "production": {
        ("CKV_K8S_11", "*"): "As by default.",
        ("CKV_K8S_43", "*"): "As by default.",
        ("CKV_K8S_15", "*"): "As by default.",
        ("CKV_K8S_35", "*"): "As by default; the test pod has its API key from a variable too.",
        ("CKV_K8S_8", "test"): "As by default.",
        ("CKV_K8S_9", "test"): "As by default.",
    },
}
"""Findings that stay, by check and component (``*``: every pod). One that no longer occurs must go."""


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[tuple[str, str], str]]:
    """What checkov finds, by values file, and in it by check and component."""
    if not CHECKOV.exists():
        raise FileNotFoundError(f"{CHECKOV} is missing: run `make kube-tools`, which installs it from PyPI.")
    folder = tmp_path_factory.mktemp("checkov")
    components: dict[str, tuple[str, str]] = {}
    for name in EXPLAINED:
        # All in one run, which takes seconds to start: one release a values file, in a namespace of its own.
        manifests = [
            {**item, "metadata": {**item["metadata"], "namespace": f"{name}-values"}} for item in render(ci=name)
        ]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(manifests))
        for item in manifests:
            component = item["metadata"]["labels"].get("app.kubernetes.io/component", "")
            components[f"{item['kind']}.{name}-values.{item['metadata']['name']}"] = (name, component)
    report = run(folder)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 500, "checkov has looked at what there is"
    found: dict[str, dict[tuple[str, str], str]] = {name: {} for name in EXPLAINED}
    for item in report["results"]["failed_checks"]:
        name, component = components[item["resource"]]
        found[name][item["check_id"], component] = f"{item['resource']}: {item['check_name']}"
    return found


def run(folder: Path) -> dict[str, Any]:
    """Run checkov on the manifests in a folder and return its report."""
    command = [CHECKOV, "--directory", str(folder), "--framework", "kubernetes", "--output", "json"]
    done = subprocess.run(
        [*command, "--quiet", "--compact", "--skip-download"],
        capture_output=True,
        text=True,
        env={"PATH": os.defpath, "HOME": str(folder), "LOG_LEVEL": "ERROR"},
        check=False,
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("name", sorted(EXPLAINED))
def test_checkov_finds_only_what_is_explained(name: str, findings: dict[str, dict[tuple[str, str], str]]) -> None:
    found, explained = findings[name], EXPLAINED[name]
    unexplained = {key: text for key, text in found.items() if not {key, (key[0], "*")} & set(explained)}
    assert unexplained == {}
    checks = {check for check, _ in found}
    gone = {
        (check, part)
        for check, part in explained
        if (check not in checks if part == "*" else (check, part) not in found)
    }
    assert gone == set(), "explained, but no longer found"
