"""What the cluster tests take for granted, without a cluster: names in the chart, and pods that are admitted."""

import subprocess
import sys
from typing import Any

import kubernetes_validate
import pytest
import yaml

from muleteer.embedded import free_port
from support.kube_tools import tool
from support.pods import TARGET_PORT, connect_command, deny_all, idle_pod, load_pod, target_pod
from support.release import CHART, FULL_NAME, NAME, ROOT, WORKLOADS, image_values, merged
from support.waiting import wait_until

IMAGE = "registry.example.com:5000/ml/muleteer-gateway:0.1.0"
PODS = [
    load_pod("load", IMAGE, "http://gateway", [], 4)[1],
    target_pod("target", IMAGE),
    idle_pod("idle", IMAGE, {"app.kubernetes.io/name": "muleteer"}),
]


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    """What the chart makes of the cluster tests' values."""
    values = yaml.safe_load((ROOT / "tests/e2e/values.yaml").read_text(encoding="utf-8"))
    for component in ("gateway", "worker"):
        values = merged(values, {component: {"image": image_values(IMAGE)}})
    command = [str(tool("helm")), "template", NAME, str(CHART), "--values=-"]
    done = subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return the object of that kind and name."""
    [found] = [d for d in documents if d["kind"].lower() == kind.lower() and d["metadata"]["name"] == name]
    return found


def test_the_chart_makes_two_of_each_by_the_names_that_the_tests_use(rendered: list[dict[str, Any]]) -> None:
    for component, workload in WORKLOADS.items():
        document = named(rendered, *workload.split("/"))
        assert document["spec"]["replicas"] == (1 if component == "valkey" else 2)
        labels = document["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == NAME
        assert labels["app.kubernetes.io/component"] == component
        image = document["spec"]["template"]["spec"]["containers"][0]["image"]
        assert (image == IMAGE) == (component != "valkey")
    assert not [d for d in rendered if d["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]


def test_the_service_and_the_ports_are_those_that_the_tests_use(rendered: list[dict[str, Any]]) -> None:
    assert 80 in [port["port"] for port in named(rendered, "service", f"{FULL_NAME}-gateway")["spec"]["ports"]]
    for component, ports in {"gateway": {8080, 9090}, "worker": {9090}, "valkey": {6379}}.items():
        [container] = named(rendered, *WORKLOADS[component].split("/"))["spec"]["template"]["spec"]["containers"]
        assert {port["containerPort"] for port in container["ports"]} == ports


def test_the_volume_that_stays_has_the_name_that_the_tests_expect(rendered: list[dict[str, Any]]) -> None:
    valkey = named(rendered, *WORKLOADS["valkey"].split("/"))
    [claim] = valkey["spec"]["volumeClaimTemplates"]
    assert f"{claim['metadata']['name']}-{valkey['metadata']['name']}-0" == f"data-{FULL_NAME}-valkey-0"


def test_the_version_that_an_upgrade_brings_is_not_there_before(rendered: list[dict[str, Any]]) -> None:
    catalog = yaml.safe_load(named(rendered, "ConfigMap", f"{FULL_NAME}-catalog")["data"]["catalog.yaml"])
    movies = catalog["models"]["movie-sentiment"]
    assert (list(movies["versions"]), movies["aliases"]) == (["1"], {"champion": "1"})
    assert len(catalog["models"]) == 4


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["metadata"]["name"])
@pytest.mark.parametrize("version", ["1.33", "1.37"])
def test_pods_are_valid_and_restricted(pod: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(pod, version, strict=True)
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert all(set(volume) - {"name"} <= {"emptyDir", "configMap"} for volume in spec["volumes"])


def test_what_the_load_pod_runs_is_in_its_config_map() -> None:
    config_map, pod = load_pod("load", IMAGE, "http://gateway", [{"path": "/p", "body": {}, "answer": {}}], 4)
    kubernetes_validate.validate(config_map, "1.37", strict=True)
    [container] = pod["spec"]["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    files = [word for word in container["command"] if word.startswith("/load/")]
    assert mounted["/load"] == "load"
    assert [file.removeprefix("/load/") for file in files] == ["load.py", "requests.json"]
    assert {"load.py", "requests.json"} == set(config_map["data"])


def test_the_policy_closes_its_target_and_nothing_else() -> None:
    target, other = target_pod("target", IMAGE), target_pod("other", IMAGE)
    policy = deny_all("target", target["metadata"]["labels"])
    kubernetes_validate.validate(policy, "1.37", strict=True)
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    assert selected <= target["metadata"]["labels"].items()
    assert not selected <= other["metadata"]["labels"].items()


def test_a_connection_is_tried_and_told() -> None:
    """The target and the stranger as processes: what runs in the pods, without the pods."""
    port = free_port()
    command = target_pod("target", IMAGE)["spec"]["containers"][0]["command"]
    command = [str(port) if word == str(TARGET_PORT) else word for word in command]

    def told() -> str:
        words = connect_command("127.0.0.1", port)
        return subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=True).stdout.strip()

    assert told().startswith("refused: ")
    with subprocess.Popen(
        [sys.executable, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as target:
        try:
            wait_until(lambda: told() == "open", what="the target open")
        finally:
            target.terminate()


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("muleteer-gateway:0.1.0", "muleteer-gateway", "0.1.0"),
        ("localhost:5000/ml/muleteer-gateway:dev", "localhost:5000/ml/muleteer-gateway", "dev"),
    ],
)
def test_an_image_is_taken_apart_at_its_tag(image: str, repository: str, tag: str) -> None:
    assert image_values(image) == {"repository": repository, "tag": tag}


@pytest.mark.parametrize("image", ["muleteer-gateway", "localhost:5000/muleteer-gateway", ""])
def test_an_image_without_a_tag_is_refused(image: str) -> None:
    with pytest.raises(AssertionError, match="must be repository:tag"):
        image_values(image)


def test_later_values_are_laid_over_earlier_ones() -> None:
    values = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    assert merged(values, {"a": {"c": {"f": 3}}, "e": [2]}) == {"a": {"b": 1, "c": {"d": 2, "f": 3}}, "e": [2]}
    assert values == {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
