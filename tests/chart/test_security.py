"""Every pod passes the restricted Pod Security Standard, has no token, writes where it may, and shows no secret."""

import base64
import json
import re
from typing import Any

import pytest

from support.chart import Manifest, of_kind, one, pod, pods, render
from support.pod_security import broken, hardening_missing

WRITTEN = {"gateway": {"/tmp", "/var/cache/muleteer"}, "worker": {"/tmp", "/var/cache/muleteer"}, "test": {"/tmp"}}  # noqa: S108 - paths in a pod
IDENTITIES = {"gateway": 10001, "worker": 10001, "test": 10001, "valkey": 999}


def test_every_pod_passes_the_restricted_standard(manifests: list[Manifest]) -> None:
    assert {item.component for item in pods(manifests)} >= {"gateway", "worker", "test"}
    for item in pods(manifests):
        assert broken(item.spec, item.annotations) == [], item.name


def test_every_pod_keeps_what_the_chart_promises_beyond_it(manifests: list[Manifest]) -> None:
    for item in pods(manifests):
        assert hardening_missing(item.spec) == [], item.name


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"securityContext": {"runAsNonRoot": True}}, "seccomp"),
        ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, "runAsNonRoot"),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "sysctl"),
        ({"initContainers": [{"name": "root", "securityContext": {"privileged": True}}]}, "root: privileged"),
        ({"containers": [{"name": "plain"}]}, "plain: allowPrivilegeEscalation"),
        ({"containers": [{"name": "plain", "ports": [{"containerPort": 1, "hostPort": 1}]}]}, "plain: hostPort"),
    ],
)
def test_the_checker_of_the_standard_finds(change: dict[str, Any], word: str) -> None:
    spec = pod(render(), "gateway").spec | change
    assert any(word in found for found in broken(spec, {}))


def test_pods_run_as_the_users_of_their_images(manifests: list[Manifest]) -> None:
    for item in pods(manifests):
        context = item.spec["securityContext"]
        user = IDENTITIES[item.component]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (user, user, user)
        for container in item.containers:
            assert not {"runAsUser", "runAsGroup", "runAsNonRoot"} & set(container["securityContext"])


def test_a_namespace_that_gives_users_itself_may_do_so() -> None:
    # OpenShift's does.
    none = {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
    for item in pods(render({"gateway": none, "worker": none, "valkey": none})):
        context = item.spec["securityContext"]
        assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert broken(item.spec, item.annotations) == []


def test_what_the_images_write_to_is_writable_and_the_rest_is_not(manifests: list[Manifest]) -> None:
    for item in pods(manifests):
        if item.component not in WRITTEN:
            continue
        volumes = {volume["name"]: volume for volume in item.spec["volumes"]}
        writable = {
            mount["mountPath"]: volumes[mount["name"]]
            for mount in item.main["volumeMounts"]
            if not mount.get("readOnly")
        }
        assert set(writable) == WRITTEN[item.component], item.name
        assert all("emptyDir" in volume for volume in writable.values())
        assert all(volume["emptyDir"]["sizeLimit"] for volume in writable.values())


def test_valkey_writes_to_its_data_and_nowhere_else() -> None:
    item = pod(render(), "valkey")
    writable = {mount["mountPath"]: mount["name"] for mount in item.main["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/data": "data", "/tmp": "tmp"}  # noqa: S108 - a path in a pod
    (claim,) = item.owner["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    assert item.owner["spec"]["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    without = pod(render({"valkey": {"persistence": {"enabled": False}}}), "valkey")
    assert "volumeClaimTemplates" not in without.owner["spec"]
    assert [volume for volume in without.spec["volumes"] if volume["name"] == "data" and "emptyDir" in volume]


def test_gateways_get_the_manifests_of_models_that_only_the_workers_image_has() -> None:
    gateway = pod(render(), "gateway")
    (first,) = gateway.spec["initContainers"]
    assert first["image"] == pod(render(), "worker").main["image"]
    (mount,) = [item for item in gateway.main["volumeMounts"] if item["mountPath"] == "/models"]
    assert mount == {"name": "manifests", "mountPath": "/models", "readOnly": True}
    assert first["volumeMounts"] == [{"name": "manifests", "mountPath": "/manifests"}]
    for values, kind in (
        ({"persistentVolumeClaim": "models"}, "models"),
        ({"repository": "s3://bucket/models"}, None),
    ):
        manifests = render({"models": {**values, "catalog": {"m": {"versions": {"1": {}}}}}})
        for component in ("gateway", "worker"):
            item = pod(manifests, component)
            assert "initContainers" not in item.spec
            found = [mount for mount in item.main["volumeMounts"] if mount["mountPath"] == "/models"]
            assert found == ([{"name": kind, "mountPath": "/models", "readOnly": True}] if kind else [])


def test_one_copy_of_manifests_comes_from_each_image_that_pools_have() -> None:
    (first, second) = pod(render(ci="many-pools"), "gateway").spec["initContainers"]
    assert [first["image"], second["image"]] == ["muleteer-worker:0.1.0", "legacy-worker:2.3"]


def test_images_are_pinned(manifests: list[Manifest]) -> None:
    for item in pods(manifests):
        for container in item.containers:
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            assert tag, f"{container['image']} has no tag and no digest"
            assert name
            assert tag != "latest"


def test_secrets_are_in_secrets_only() -> None:
    manifests = render()
    (secret,) = of_kind(manifests, "Secret")
    password = base64.b64decode(secret["data"]["password"]).decode()
    assert re.fullmatch("[A-Za-z0-9]{40}", password)
    rest = json.dumps([item for item in manifests if item["kind"] != "Secret"])
    assert password not in rest
    assert secret["data"]["password"] not in rest
    for manifest in [*manifests, *render(ci="production"), *render(ci="locked-down")]:
        if manifest["kind"] == "Secret":
            continue
        for item in pods([manifest]):
            for container in item.containers:
                for variable in container.get("env", []):
                    if re.search("PASSWORD|SECRET|KEYS?$|TOKEN", variable["name"]):
                        assert set(variable["valueFrom"]) == {"secretKeyRef"}, f"{item.name}: {variable['name']}"


def test_a_secret_of_ones_own_is_used_and_none_is_made() -> None:
    manifests = render({"valkey": {"auth": {"existingSecret": "mine", "key": "pass"}}})
    assert of_kind(manifests, "Secret") == []
    reference = {"secretKeyRef": {"name": "mine", "key": "pass"}}
    for component, name in (
        ("gateway", "MULETEER_REDIS_PASSWORD"),
        ("worker", "MULETEER_REDIS_PASSWORD"),
        ("valkey", "VALKEY_PASSWORD"),
    ):
        (found,) = [item for item in pod(manifests, component).main["env"] if item["name"] == name]
        assert found["valueFrom"] == reference


def test_service_accounts_give_no_token(manifests: list[Manifest]) -> None:
    for account in of_kind(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not of_kind(manifests, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def test_pools_restart_for_a_new_password_but_not_for_a_new_catalog() -> None:
    before = render()
    catalog = render({"models": {"examples": {"fancy": None}}})
    assert one(before, "ConfigMap", "-catalog") != one(catalog, "ConfigMap", "-catalog")
    config = render({"valkey": {"extraConfig": "maxclients 100"}})
    secret = {"valkey": {"auth": {"existingSecret": "mine"}}}
    for component in ("gateway", "worker", "valkey"):
        (mark,) = [key for key in pod(before, component).annotations if "password" in key]
        assert mark.startswith("checksum/")
        assert not [key for key in pod(render(secret), component).annotations if "password" in key]
    templates = {
        component: [strip(pod(manifests, component)) for manifests in (before, catalog, config)]
        for component in ("gateway", "worker", "valkey")
    }
    for component in ("gateway", "worker"):
        assert templates[component][0] == templates[component][1] == templates[component][2]
    assert templates["valkey"][0] == templates["valkey"][1]
    assert templates["valkey"][0] != templates["valkey"][2]
    assert pod(before, "valkey").annotations["checksum/config"] != pod(config, "valkey").annotations["checksum/config"]


def strip(item: Any) -> str:
    """Return a pod's template as text without the checksum of the password, which each rendering draws."""
    annotations = {key: value for key, value in item.annotations.items() if "password" not in key}
    return json.dumps([item.labels, annotations, item.spec], sort_keys=True)


def test_one_rendering_draws_one_password() -> None:
    manifests = render()
    marks = {
        pod(manifests, component).annotations["checksum/redis-password"]
        for component in ("gateway", "worker", "valkey")
    }
    assert len(marks) == 1
