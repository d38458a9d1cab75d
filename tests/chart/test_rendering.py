"""The chart renders, with every helm it promises, to what every Kubernetes it promises accepts."""

import json
import re
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from support.chart import CHART, CI, NAMESPACE, Manifest, helm, of_kind, parse, render, template

KUBERNETES = ("1.33", "1.34", "1.35", "1.36", "1.37")
CUSTOM = {"HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject"}
API_VERSIONS = (
    "--api-versions=monitoring.coreos.com/v1",
    "--api-versions=monitoring.coreos.com/v1/PodMonitor",
    "--api-versions=keda.sh/v1alpha1",
    "--api-versions=gateway.networking.k8s.io/v1",
)
EVERYTHING: dict[str, Any] = {
    "gateway": {
        "autoscaling": {"type": "cpu"},
        "apiKeys": {"existingSecret": "keys"},
        "callbacks": {"existingSecret": "callbacks", "hosts": ["hooks.example.com"]},
        "ingress": {"enabled": True, "hosts": [{"paths": [{"path": "/"}]}]},
    },
    "monitoring": {name: {"enabled": True} for name in ("podMonitor", "prometheusRule", "dashboards")},
    "pools": {"default": {"autoscaling": {"type": "keda", "minReplicas": 0}}},
}


def test_helm_lints_the_chart_strictly(ci: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(CI[ci]))
    assert done.code == 0, done.all
    assert "WARNING" not in done.all


@pytest.mark.parametrize(
    "flags",
    [("--is-upgrade",), API_VERSIONS, ("--kube-version=1.30.0",), ("--include-crds", "--no-hooks=false")],
    ids=["upgrade", "operators", "oldest-kubernetes", "hooks"],
)
def test_every_values_file_renders_to_the_same_kinds_whatever_the_cluster_says_of_itself(
    ci: str, flags: tuple[str, ...]
) -> None:
    def names(manifests: list[Manifest]) -> list[tuple[str, str]]:
        return sorted((item["kind"], item["metadata"]["name"]) for item in manifests)

    assert names(render(None, *flags, ci=ci)) == names(render(ci=ci))


def test_a_kubernetes_without_the_sleep_hook_is_refused() -> None:
    done = template(None, "--kube-version=1.29.0")
    assert done.code != 0
    assert "requires kubeVersion: >=1.30.0-0" in done.all


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_for_kubernetes(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package reads a megabyte of schemas again for each object.
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
    manifests = [*render(EVERYTHING), *(item for ci in CI for item in render(ci=ci))]
    unknown = set()
    for manifest in {json.dumps(item, sort_keys=True): item for item in manifests}.values():
        try:
            assert kubernetes_validate.validate(manifest, version, strict=True) == version
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(manifest["kind"])
    assert unknown == CUSTOM


def test_no_object_has_an_empty_field(manifests: list[Manifest]) -> None:
    def empty(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            return [found for key, item in value.items() for found in empty(item, f"{path}.{key}")]
        if isinstance(value, list):
            return [found for index, item in enumerate(value) for found in empty(item, f"{path}[{index}]")]
        return [path] if value is None else []

    for manifest in manifests:
        assert empty(manifest, manifest["kind"]) == []


def test_no_two_objects_have_one_name(manifests: list[Manifest]) -> None:
    names = [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in manifests]
    assert sorted(set(names)) == sorted(names)


def test_the_namespace_is_left_to_helm(manifests: list[Manifest]) -> None:
    assert [item["metadata"]["name"] for item in manifests if "namespace" in item["metadata"]] == []
    assert NAMESPACE not in json.dumps([item for item in manifests if item["kind"] != "ScaledObject"])


def test_the_http_route_has_what_the_gateway_api_wants() -> None:
    (route,) = of_kind(render(ci="production"), "HTTPRoute")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert set(route["spec"]) == {"parentRefs", "hostnames", "rules"}
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["timeouts"] == {"request": "130s"}
    assert rule["backendRefs"] == [{"name": "rel-muleteer-gateway", "port": 80}]


def test_the_prometheus_rule_is_the_file_of_alerts_as_it_is() -> None:
    (rule,) = of_kind(render(ci="production"), "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"] == yaml.safe_load((CHART / "alerts" / "rules.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_dashboards_are_config_maps_that_grafanas_sidecar_finds() -> None:
    found = {}
    for item in of_kind(render(ci="production"), "ConfigMap"):
        if item["metadata"]["labels"].get("grafana_dashboard") == "1":
            assert item["metadata"]["annotations"] == {"grafana_folder": "Muleteer"}
            found |= {name: json.loads(text) for name, text in item["data"].items()}
            assert len(json.dumps(item)) < 1_000_000, "a ConfigMap holds a megabyte at most"
    files = {path.name: json.loads(path.read_text()) for path in (CHART / "dashboards").glob("*.json")}
    assert len(files) == 2
    assert found == files


def test_what_is_opt_in_is_not_there_by_default() -> None:
    kinds = {item["kind"] for item in render()}
    assert not kinds & {*CUSTOM, "Ingress"}
    assert not any("dashboard" in item["metadata"]["name"] for item in render())


def test_the_oldest_helm_that_is_promised_renders_the_same(ci: str) -> None:
    # 3.14 takes Kubernetes for 1.29 where it sees no cluster.
    old = template(None, "--kube-version=1.33.0", ci=ci, binary="helm-3.14")
    assert old.code == 0, old.stderr

    def comparable(manifests: list[Manifest]) -> list[Manifest]:
        made = [item for item in manifests if item["kind"] != "Secret"]
        plain = re.sub(r'("checksum/redis-password": )"\w+"', r'\1"drawn"', json.dumps(made, sort_keys=True))
        return sorted(json.loads(plain), key=lambda item: (item["kind"], item["metadata"]["name"]))

    assert comparable(parse(old.stdout)) == comparable(render(ci=ci))


def test_the_oldest_helm_reads_the_schema_the_same() -> None:
    for values, words in (({"nonsense": 1}, "nonsense"), ({"gateway": {"replicas": "one"}}, "gateway.replicas")):
        old = template(values, "--kube-version=1.33.0", binary="helm-3.14")
        assert old.code != 0
        assert words in old.stderr


def test_the_package_holds_nothing_that_only_developers_need(tmp_path: Path) -> None:
    done = helm("package", str(CHART), "--destination", str(tmp_path))
    assert done.code == 0, done.all
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as package:
        names = {name.removeprefix("muleteer/") for name in package.getnames()}
    assert {"Chart.yaml", "values.yaml", "values.schema.json", "README.md", "alerts/rules.yaml"} <= names
    assert [name for name in names if name.startswith(("ci/", "dashboards/src")) or name.endswith(".py")] == []
