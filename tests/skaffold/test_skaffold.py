"""``skaffold.yaml`` against the repository, the Dockerfiles and the chart: what it names is there and fits."""

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.kube_tools import tool
from support.skaffold import CONFIG, ROOT, helm_words, profile_names, with_profiles

KEYS = {
    "": {"apiVersion", "kind", "metadata", "build", "deploy", "portForward", "profiles"},
    "build": {"tagPolicy", "local", "artifacts"},
    "build.local": {"push", "useBuildkit", "concurrency"},
    "build.artifacts": {"image", "context", "docker", "sync"},
    "build.artifacts.docker": {"dockerfile", "target", "buildArgs"},
    "build.artifacts.sync": {"manual"},
    "build.artifacts.sync.manual": {"src", "dest", "strip"},
    "deploy": {"helm", "statusCheckDeadlineSeconds"},
    "deploy.helm": {"releases"},
    "deploy.helm.releases": {
        "name",
        "chartPath",
        "namespace",
        "createNamespace",
        "valuesFiles",
        "setValues",
        "setValueTemplates",
    },
    "portForward": {"resourceType", "resourceName", "namespace", "port", "localPort"},
    "profiles": {"name", "activation", "build", "patches"},
    "profiles.activation": {"command", "kubeContext"},
    "profiles.build": {"local"},
    "profiles.build.local": {"push", "useBuildkit", "concurrency"},
    "profiles.patches": {"op", "path", "value"},
}
"""The keys of Skaffold's v4beta13 that the file may use, by where they stand; anything else is a typing mistake."""
LOCAL = {"muleteer-gateway": f"muleteer-gateway:{'1' * 64}", "muleteer-worker": f"muleteer-worker:{'2' * 64}"}
PUSHED = {
    "muleteer-gateway": f"registry.example.com:5000/me/muleteer-gateway:v1@sha256:{'a' * 64}",
    "muleteer-worker": f"registry.example.com:5000/me/muleteer-worker:v1@sha256:{'b' * 64}",
}
PROFILES = [(), ("minikube",), ("kind",), ("dev", "minikube"), ("dev", "kind"), tuple(profile_names())]


@functools.cache
def rendered(*profiles: str, pushed: bool = False) -> list[dict[str, Any]]:
    """Return the objects that a deployment with these profiles makes."""
    [release] = with_profiles(*profiles)["deploy"]["helm"]["releases"]
    words = helm_words(release, PUSHED if pushed else LOCAL)
    capabilities = ["--api-versions", "monitoring.coreos.com/v1", "--api-versions", "keda.sh/v1alpha1"]
    command = [
        str(tool("helm")),
        "template",
        release["name"],
        release["chartPath"],
        "--namespace",
        release["namespace"],
    ]
    done = subprocess.run([*command, *capabilities, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def containers(documents: list[dict[str, Any]], component: str) -> list[dict[str, Any]]:
    """Return the containers of a component's Deployments."""
    out = []
    for document in documents:
        labels = document["metadata"].get("labels", {})
        if document["kind"] == "Deployment" and labels.get("app.kubernetes.io/component") == component:
            out += document["spec"]["template"]["spec"]["containers"]
    assert out, component
    return out


def sync_rules(artifact: dict[str, Any]) -> list[tuple[str, str]]:
    """Return an artifact's rules as folder -> place in the container."""
    rules = []
    for rule in artifact["sync"]["manual"]:
        folder, star, _ = rule["src"].partition("/**/*")
        assert star, rule
        assert "strip" not in rule
        rules.append((folder, f"{rule['dest']}/{folder}"))
    return rules


def test_no_key_is_unknown_to_skaffold() -> None:
    def look(value: Any, place: str) -> None:
        if isinstance(value, list):
            for item in value:
                look(item, place)
        elif isinstance(value, dict) and place in KEYS:
            assert set(value) <= KEYS[place], place
            for key, item in value.items():
                look(item, f"{place}.{key}".strip("."))

    document = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    assert (document["apiVersion"], document["kind"]) == ("skaffold/v4beta13", "Config")
    look(document, "")


def test_no_tag_can_be_taken_for_a_number() -> None:
    """``helm --set tag=1234567`` is an integer, which the chart's schema refuses; a git commit can look like that."""
    assert with_profiles()["build"]["tagPolicy"] == {"inputDigest": {}}


@pytest.mark.parametrize("profiles", PROFILES, ids="+".join)
def test_every_image_has_its_dockerfile_and_stage(profiles: tuple[str, ...]) -> None:
    artifacts = with_profiles(*profiles)["build"]["artifacts"]
    assert [artifact["image"] for artifact in artifacts] == ["muleteer-gateway", "muleteer-worker"]
    for artifact in artifacts:
        dockerfile = (ROOT / artifact["context"] / artifact["docker"]["dockerfile"]).read_text(encoding="utf-8")
        stages = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
        assert stages[-1] != "dev"  # what is built when no stage is named
        assert artifact["docker"].get("target", stages[-1]) in stages
        assert ("sync" in artifact) == (artifact["docker"].get("target") == "dev") == ("dev" in profiles)
        arguments = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
        assert set(artifact["docker"].get("buildArgs", {})) <= arguments


@pytest.mark.parametrize("profiles", PROFILES, ids="+".join)
def test_buildkit_is_on_for_dockerfiles_that_mount_caches(profiles: tuple[str, ...]) -> None:
    build = with_profiles(*profiles)["build"]
    assert build["local"]["useBuildkit"] is True
    assert build["local"].get("push") is (False if {"minikube", "kind"} & set(profiles) else None)


@pytest.mark.parametrize(("context", "profile"), [("minikube", "minikube"), ("kind-kind", "kind"), ("kind-ci", "kind")])
def test_the_cluster_chooses_its_profile(context: str, profile: str) -> None:
    document = with_profiles()
    chosen = [
        candidate["name"]
        for candidate in document["profiles"]
        for activation in candidate.get("activation", [])
        if "kubeContext" in activation and re.search(activation["kubeContext"], context)
    ]
    assert chosen == [profile]


@pytest.mark.parametrize("pushed", [False, True], ids=["local", "pushed"])
@pytest.mark.parametrize("profiles", PROFILES, ids="+".join)
def test_every_pod_runs_the_images_that_were_built(profiles: tuple[str, ...], pushed: bool) -> None:
    built = PUSHED if pushed else LOCAL
    documents = rendered(*profiles, pushed=pushed)
    for component, name in (("gateway", "muleteer-gateway"), ("worker", "muleteer-worker")):
        repository, digest = built[name].partition("@")[0].rpartition(":")[0], built[name].partition("@")[2]
        for container in containers(documents, component):
            # Skaffold replaces what begins with the repository by the whole reference, in any case.
            assert container["image"].startswith(repository)
            assert container["image"].endswith(digest or built[name])
    images = set(re.findall(r"image: [\"']?([^\s\"']+)", yaml.safe_dump_all(documents)))
    ours = [image for image in images if "muleteer" in image]
    assert all(image.startswith(tuple(reference[:30] for reference in built.values())) for image in ours), ours


def test_the_forwarded_service_has_that_port() -> None:
    document = with_profiles()
    [forward] = document["portForward"]
    [release] = document["deploy"]["helm"]["releases"]
    [service] = [
        found
        for found in rendered()
        if found["kind"].lower() == forward["resourceType"] and found["metadata"]["name"] == forward["resourceName"]
    ]
    assert forward["namespace"] == release["namespace"]
    assert forward["port"] in [port["port"] for port in service["spec"]["ports"]]
    assert forward["localPort"] == 8080


def test_every_source_file_of_a_service_is_copied_to_where_its_image_has_it() -> None:
    for artifact in with_profiles("dev")["build"]["artifacts"]:
        service = artifact["image"].removeprefix("muleteer-")
        folders = {"libs/muleteer/src", f"services/{service}/src"}
        rules = dict(sync_rules(artifact))
        assert set(rules) == folders
        assert all(list((ROOT / folder).rglob("*.py")) for folder in folders)
        dockerfile = (ROOT / artifact["docker"]["dockerfile"]).read_text(encoding="utf-8")
        dev = dockerfile.partition(" AS dev\n")[2].partition("\nFROM ")[0]
        [started] = re.findall(r"watchfiles .* (/\S+)[\"'\]]", dev)  # the folder that is watched
        started = started.rstrip("\"']")
        assert set(rules.values()) == {f"{started}/{folder}" for folder in folders}


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_files_can_be_copied_into_a_pod_whose_root_is_read_only(component: str) -> None:
    for document in rendered("dev", "minikube"):
        labels = document["metadata"].get("labels", {})
        if document["kind"] != "Deployment" or labels.get("app.kubernetes.io/component") != component:
            continue
        pod = document["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        [volume] = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/src"]
        assert {"name": volume, "emptyDir": {}} in pod["volumes"]


def test_only_development_has_folders_to_copy_into() -> None:
    assert "/src" not in yaml.safe_dump_all(rendered("minikube"))


def test_monitoring_is_found_and_let_in() -> None:
    stack = yaml.safe_load((ROOT / "k8s/monitoring-values.yaml").read_text(encoding="utf-8"))
    documents = rendered("minikube", "monitoring")
    kinds = [document["kind"] for document in documents]
    assert {"PodMonitor", "PrometheusRule"} <= set(kinds)
    sidecar = stack["grafana"]["sidecar"]["dashboards"]
    label = {sidecar["label"]: sidecar["labelValue"]}
    dashboards = [d for d in documents if d["kind"] == "ConfigMap" and label.items() <= d["metadata"]["labels"].items()]
    assert dashboards
    namespace = {"kubernetes.io/metadata.name": namespace_of("k8s/monitoring-values.yaml")}
    for component in ("gateway", "worker"):
        assert lets_in(documents, component, 9090, namespace)
        assert not lets_in(rendered("minikube"), component, 9090, namespace)


def test_keda_is_used_and_let_in() -> None:
    documents = rendered("minikube", "autoscaling")
    [scaled] = [document for document in documents if document["kind"] == "ScaledObject"]
    assert scaled["spec"]["minReplicaCount"] == 0
    keda = {"kubernetes.io/metadata.name": namespace_of("k8s/keda-values.yaml")}
    assert lets_in(documents, "gateway", 9090, keda)


def namespace_of(values: str) -> str:
    """Return the namespace into which the README installs a chart with these values."""
    readme = (ROOT / "k8s/README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    [command] = [line for line in readme.splitlines() if f"--values {values}" in line and "helm install" in line]
    return re.findall(r"--namespace (\S+)", command)[0]


def lets_in(documents: list[dict[str, Any]], component: str, port: int, namespace: dict[str, str]) -> bool:
    """Tell whether a NetworkPolicy lets a namespace's pods reach a port of a component."""
    container = containers(documents, component)[0]
    names = {named["name"] for named in container["ports"] if named["containerPort"] == port}
    for policy in documents:
        if policy["kind"] != "NetworkPolicy":
            continue
        if policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component") != component:
            continue
        for rule in policy["spec"].get("ingress", []):
            ports = {allowed["port"] for allowed in rule["ports"]}
            peers = [peer.get("namespaceSelector", {}).get("matchLabels") for peer in rule.get("from", [])]
            if namespace in peers and ports & (names | {port}):
                return True
    return False


def test_the_readme_names_only_what_is_there_and_all_of_it() -> None:
    folder = ROOT / "k8s"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"(?:k8s|charts|docs|tests|libs|services)/[\w./-]*\w", readme)):
        assert (ROOT / name).exists(), name
    for path in folder.glob("*.yaml"):
        used = f"k8s/{path.name}" in readme or f"k8s/{path.name}" in CONFIG.read_text(encoding="utf-8")
        assert used, path


def test_the_readme_uses_only_profiles_that_there_are() -> None:
    readme = (ROOT / "k8s" / "README.md").read_text(encoding="utf-8")
    named = {name for names in re.findall(r"--profile[= ]([\w,]+)", readme) for name in names.split(",")}
    assert {"monitoring", "autoscaling"} <= named <= set(profile_names())


def test_no_link_of_the_readme_leads_nowhere() -> None:
    readme = ROOT / "k8s" / "README.md"
    for link in re.findall(r"\]\(([^)#]+)", readme.read_text(encoding="utf-8")):
        assert link.startswith("https://") or Path(readme.parent / link).exists(), link
