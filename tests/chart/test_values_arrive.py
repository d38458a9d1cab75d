"""What values give arrives where it should, in every place, and nowhere else."""

import json
from typing import Any

import pytest
import yaml

from support.chart import CHART, PodTemplate, of_kind, one, pod, pods, pool_values, render, values_of

PLACED: dict[str, Any] = {
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "high",
    "podAnnotations": {"example.com/note": "42"},
    "podLabels": {"tier": "one"},
}
MORE: dict[str, Any] = {
    "extraEnv": {
        "PLAIN": "text with 'quotes' and \"more\": yes",
        "NODE": {"valueFrom": {"fieldRef": {"fieldPath": "a"}}},
    },
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more", "readOnly": True}],
    "topologySpread": [{"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}],
}
COMPONENTS = ("gateway", "worker", "valkey")


def has_placement(item: PodTemplate, given: dict[str, Any]) -> bool:
    """Tell whether a pod goes where values say."""
    spec = {key: value for key, value in given.items() if key not in {"podAnnotations", "podLabels"}}
    return (
        all(item.spec.get(key) == value for key, value in spec.items())
        and given["podAnnotations"].items() <= item.annotations.items()
        and given["podLabels"].items() <= item.labels.items()
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_placement_arrives_in_its_component_only(component: str) -> None:
    manifests = render({component: PLACED})
    for item in pods(manifests):
        if item.component != "test":
            assert has_placement(item, PLACED) is (item.component == component)
            assert ("priorityClassName" in item.spec) is (item.component == component)


def test_the_test_pod_goes_where_gateways_go() -> None:
    spec = pod(render({"gateway": PLACED}), "test").spec
    assert spec["nodeSelector"] == PLACED["nodeSelector"]
    assert spec["tolerations"] == PLACED["tolerations"]
    assert spec["priorityClassName"] == "high"


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_variables_volumes_and_spread_arrive_in_their_component_only(component: str) -> None:
    for item in pods(render({component: MORE})):
        here = item.component == component
        variables = {variable["name"]: variable for variable in item.main.get("env", [])}
        assert ("PLAIN" in variables) is here
        assert ("more" in item.volumes()) is here
        assert any(mount["mountPath"] == "/more" for mount in item.main["volumeMounts"]) is here
        if here:
            assert variables["PLAIN"]["value"] == MORE["extraEnv"]["PLAIN"]
            assert variables["NODE"] == {"name": "NODE", **MORE["extraEnv"]["NODE"]}
            assert {"name": "more", "emptyDir": {}} in item.spec["volumes"]
            (spread,) = item.spec["topologySpreadConstraints"]
            assert (spread["topologyKey"], spread["maxSkew"], spread["whenUnsatisfiable"]) == (
                "rack",
                2,
                "DoNotSchedule",
            )


def test_pods_spread_among_their_own_workload() -> None:
    for item in pods(render(ci="many-pools")):
        for spread in item.spec.get("topologySpreadConstraints", []):
            assert spread["labelSelector"] == item.owner["spec"]["selector"]
            assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
        assert len(item.spec.get("topologySpreadConstraints", [])) == (
            2 if item.component in {"gateway", "worker"} else 0
        )


def test_pull_secrets_and_policy_arrive_in_every_pod() -> None:
    values = {"imagePullSecrets": [{"name": "one"}, {"name": "two"}], "image": {"pullPolicy": "Always"}}
    for item in pods(render(values)):
        assert item.spec["imagePullSecrets"] == values["imagePullSecrets"]
        assert {container["imagePullPolicy"] for container in item.containers} == {"Always"}


def test_images_are_put_together_from_registry_name_tag_and_digest() -> None:
    def images(values: dict[str, Any]) -> dict[str, str]:
        return {item.component: item.main["image"] for item in pods(render(values))}

    assert images({}) == {
        "gateway": f"muleteer-gateway:{version()}",
        "worker": f"muleteer-worker:{version()}",
        "test": f"muleteer-gateway:{version()}",
        "valkey": f"docker.io/valkey/valkey:{values_of()['valkey']['image']['tag']}",
    }
    digest = "sha256:" + "a" * 64
    changed = images(
        {
            "image": {"registry": "reg:5000/team/", "tag": "1"},
            "gateway": {"image": {"tag": "2"}},
            "worker": {"image": {"repository": "own", "digest": digest}},
            "valkey": {"image": {"registry": "mirror", "digest": digest}},
        }
    )
    assert changed == {
        "gateway": "reg:5000/team/muleteer-gateway:2",
        "worker": f"reg:5000/team/own@{digest}",
        "test": "reg:5000/team/muleteer-gateway:2",
        "valkey": f"mirror/valkey/valkey@{digest}",
    }


def version() -> str:
    """Return the chart's appVersion."""
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"])


def test_a_pool_with_an_image_of_its_own_does_not_inherit_the_digest_of_another() -> None:
    digest = "sha256:" + "a" * 64
    pools = {"own": {"image": {"repository": "own", "tag": "2"}}, "newer": {"image": {"tag": "3"}}}
    manifests = render({"worker": {"image": {"digest": digest}}, "pools": pools})
    images = {
        item.labels["muleteer.dev/pool"]: item.main["image"] for item in pods(manifests) if item.component == "worker"
    }
    assert images == {"default": f"muleteer-worker@{digest}", "own": "own:2", "newer": "muleteer-worker:3"}
    wanted = {container["image"] for container in pod(manifests, "gateway").spec["initContainers"]}
    assert wanted == set(images.values())


OVERRIDES: dict[str, Any] = {
    **PLACED,
    **MORE,
    "processes": 3,
    "threads": 5,
    "maxResidentBytes": "1.5Gi",
    "replicas": 7,
    "autoscaling": {"type": "none"},
    "resources": {"requests": {"cpu": "3"}, "limits": {"nvidia.com/gpu": 1}},
    "leaseSeconds": 21,
    "drainSeconds": 77,
    "retireSeconds": 555,
    "startupSeconds": 444,
    "cacheSize": "33Gi",
    "settings": {"logLevel": "error"},
    "runtimeClassName": "nvidia",
    "image": {"repository": "special"},
    "serviceAccount": {"name": "special"},
    "podDisruptionBudget": {"enabled": False},
    "podSecurityContext": {"runAsUser": 4321},
}


def test_what_a_pool_sets_arrives_in_that_pool_and_no_other() -> None:
    plain = render({"pools": {"gpu": {}}})
    changed = render({"pools": {"gpu": OVERRIDES}})
    assert without_password(pod(plain, "worker", "default")) == without_password(pod(changed, "worker", "default"))
    gpu = pod(changed, "worker", "gpu")
    assert has_placement(gpu, PLACED)
    assert gpu.owner["spec"]["replicas"] == 7
    assert gpu.main["image"].startswith("special:")
    assert gpu.main["resources"]["requests"] == {
        "cpu": "3",
        "memory": values_of()["worker"]["resources"]["requests"]["memory"],
    }
    assert gpu.main["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert gpu.spec["runtimeClassName"] == "nvidia"
    assert gpu.spec["securityContext"]["runAsUser"] == 4321
    assert gpu.spec["serviceAccountName"] == "special"
    assert {"name": "cache", "emptyDir": {"sizeLimit": "33Gi"}} in gpu.spec["volumes"]
    variables = gpu.environment()
    wanted = {"PROCESSES": "3", "THREADS": "5", "LEASE_SECONDS": "21", "DRAIN_SECONDS": "77", "RETIRE_SECONDS": "555"}
    wanted |= {"STARTUP_SECONDS": "444", "LOG_LEVEL": "error", "MAX_RESIDENT_BYTES": "1.5Gi"}
    assert {f"MULETEER_{name}": value for name, value in wanted.items()}.items() <= variables.items()
    assert gpu.spec["terminationGracePeriodSeconds"] > 77 + 21
    budgets = {item["metadata"]["name"] for item in of_kind(changed, "PodDisruptionBudget")}
    assert budgets == {"rel-muleteer-gateway", "rel-muleteer-worker-default"}


def without_password(item: PodTemplate) -> list[Any]:
    """Return a pod without the checksum of the password, which each rendering draws."""
    return [item.labels, item.spec, {key: value for key, value in item.annotations.items() if "password" not in key}]


def test_a_pool_can_set_every_field_of_the_workers() -> None:
    assert set(OVERRIDES) == set(values_of()["worker"])


def test_a_pools_variable_replaces_the_one_of_all_pools_whole() -> None:
    secret = {"valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    field = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    pools = {
        "one": {"extraEnv": {"A": field}},
        "two": {"extraEnv": {"A": "text"}},
        "three": {"extraEnv": {"B": "more"}},
    }
    manifests = render({"worker": {"extraEnv": {"A": secret}}, "pools": pools})
    found = {
        pool: {item["name"]: item for item in pod(manifests, "worker", pool).main["env"]}
        for pool in ("default", *pools)
    }
    assert found["default"]["A"] == {"name": "A", **secret}
    assert found["one"]["A"] == {"name": "A", **field}
    assert found["two"]["A"] == {"name": "A", "value": "text"}
    assert (found["three"]["A"], found["three"]["B"]) == ({"name": "A", **secret}, {"name": "B", "value": "more"})


def test_a_pool_may_take_away_what_all_pools_have() -> None:
    worker = {
        "priorityClassName": "high",
        "podDisruptionBudget": {"enabled": True},
        "topologySpread": [{"topologyKey": "a"}],
    }
    pool = {"priorityClassName": "", "podDisruptionBudget": {"enabled": False}, "topologySpread": [], "replicas": 0}
    manifests = render({"worker": worker, "pools": {"bare": {**pool, "autoscaling": {"type": "none"}}}})
    bare = pod(manifests, "worker", "bare")
    assert not {"priorityClassName", "topologySpreadConstraints"} & set(bare.spec)
    assert bare.owner["spec"]["replicas"] == 0
    assert not [
        item for item in of_kind(manifests, "PodDisruptionBudget") if item["metadata"]["name"].endswith("-bare")
    ]


def test_the_defaults_of_the_tests_own_merge_are_helms(ci: str) -> None:
    """The tests read values as helm merges them: replicas and resources of each pool say whether they do."""
    manifests, values = render(ci=ci), values_of(ci)
    for pool in values["pools"]:
        assert pod(manifests, "worker", pool).main["resources"] == pool_values(values, pool)["resources"]


def test_credentials_of_the_repository_are_in_gateways_and_workers() -> None:
    models = {
        "repository": "s3://b/m",
        "credentials": {"existingSecret": "s3"},
        "catalog": {"m": {"versions": {"1": {}}}},
    }
    for item in pods(render({"models": models})):
        wanted = [{"secretRef": {"name": "s3"}}] if item.component in {"gateway", "worker"} else None
        assert item.main.get("envFrom") == wanted


def test_labels_are_complete_and_common_labels_are_everywhere() -> None:
    own = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version"} | {
        *("app.kubernetes.io/managed-by", "app.kubernetes.io/part-of", "helm.sh/chart"),
    }
    for ci in ("default", "production", "locked-down"):
        manifests = render({"commonLabels": {"team": "a"}}, ci=ci)
        for manifest in manifests:
            labels = manifest["metadata"]["labels"]
            assert own | {"team"} <= set(labels), manifest["metadata"]["name"]
            assert labels["app.kubernetes.io/name"] == "muleteer"
            assert labels["app.kubernetes.io/instance"] == "rel"
            assert labels["app.kubernetes.io/version"] == version()
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
        for item in pods(manifests):
            assert item.labels["team"] == "a"
            # A new chart must not restart pods that stay as they are.
            assert item.component == "test" or not {"helm.sh/chart", "app.kubernetes.io/version"} & set(item.labels)


def test_no_label_of_a_users_takes_the_place_of_a_selectors() -> None:
    mine = {"app.kubernetes.io/component": "x", "app.kubernetes.io/instance": "y", "muleteer.dev/pool": "z"}
    manifests = render({"commonLabels": mine, "gateway": {"podLabels": mine}, "worker": {"podLabels": mine}})
    for item in pods(manifests):
        assert item.labels["app.kubernetes.io/instance"] == "rel"
        assert item.component in {*COMPONENTS, "test"}
    assert pod(manifests, "worker").labels["muleteer.dev/pool"] == "default"


def test_annotations_and_labels_of_services_and_routes_arrive() -> None:
    given = {"annotations": {"example.com/a": "1"}, "labels": {"l": "2"}}
    ingress = {**given, "enabled": True, "hosts": [{"host": "a.example.com"}]}
    manifests = render(
        {"gateway": {"service": given, "ingress": ingress, "serviceAccount": {"annotations": {"r": "x"}}}}
    )
    for kind in ("Service", "Ingress"):
        metadata = one(manifests, kind, "rel-muleteer-gateway")["metadata"]
        assert metadata["annotations"] == given["annotations"]
        assert metadata["labels"]["l"] == "2"
    assert one(manifests, "ServiceAccount", "-gateway")["metadata"]["annotations"] == {"r": "x"}
    assert "annotations" not in one(manifests, "ServiceAccount", "-worker")["metadata"]


def test_extra_objects_are_rendered_as_maps_and_as_texts() -> None:
    objects = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a"}, "data": {"k": "v"}},
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {name: {{ include "muleteer.fullname" . }}}\n',
    ]
    manifests = render({"extraObjects": objects})
    assert one(manifests, "ConfigMap", "rel-a")["data"] == {"k": "v"}
    assert [item["data"] for item in of_kind(manifests, "ConfigMap") if item["metadata"]["name"] == "b"] == [
        {"name": "rel-muleteer"}
    ]


def test_names_can_be_chosen() -> None:
    def names(values: dict[str, Any]) -> set[str]:
        return {
            item["metadata"]["name"].rpartition("-gateway")[0] for item in of_kind(render(values), "Deployment")
        } - {""}

    assert names({}) == {"rel-muleteer"}
    assert names({"fullnameOverride": "serving"}) == {"serving"}
    assert names({"nameOverride": "models"}) == {"rel-models"}


def test_the_test_pod_predicts_through_the_service_with_a_key_if_one_is_wanted() -> None:
    plain = pod(render({"gateway": {"service": {"port": 8000}}}), "test").main
    assert plain["command"] == ["muleteer"]
    assert plain["args"][:3] == ["smoke", "--url", "http://rel-muleteer-gateway:8000"]
    assert "env" not in plain
    shared = pod(render({"gateway": {"apiKeys": {"existingSecret": "keys"}}}), "test").main
    assert [item["name"] for item in shared["env"]] == ["MULETEER_API_KEYS"]
    own = pod(render(ci="production"), "test").main
    assert json.dumps(own["env"]) == json.dumps(
        [{"name": "MULETEER_API_KEY", "valueFrom": {"secretKeyRef": {"name": "muleteer-test-key", "key": "key"}}}]
    )
    test = one(render(), "Pod", "-test")
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert test["spec"]["restartPolicy"] == "Never"
    assert [item.component for item in pods(render({"tests": {"enabled": False}}))].count("test") == 0
