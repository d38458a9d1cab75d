"""The NetworkPolicies let through exactly what the system does: each flow that must work does, and no other."""

import copy
from typing import Any

import pytest

from support.chart import NAMESPACE, Manifest, of_kind, pod, pods, render
from support.network_policy import Endpoint, allowed

INTERNET = Endpoint("internet", ip="93.184.216.34")
METADATA = Endpoint("metadata service", ip="169.254.169.254")
PRIVATE = Endpoint("private host", ip="10.20.0.7")
DNS = Endpoint("dns", "kube-system", {"k8s-app": "kube-dns"}, {"dns": 53}, ip="10.244.0.2")
NODE_DNS = Endpoint("dns cache of the node", ip="169.254.20.10")
STRANGER = Endpoint("stranger in the namespace", NAMESPACE, {"app": "other"}, {"http": 80}, ip="10.244.0.66")
ABROAD = Endpoint("stranger elsewhere", "elsewhere", {"app": "other"}, {"http": 80}, ip="10.244.0.77")
PROMETHEUS = Endpoint("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}, ip="10.244.0.88")
KEDA = Endpoint("keda", "keda", {"app": "keda-operator"}, ip="10.244.0.99")
INGRESS = Endpoint("ingress", "ingress", {"app.kubernetes.io/component": "controller"}, ip="10.244.0.55")
INGRESS_JOB = Endpoint("another pod of the ingress' namespace", "ingress", {"app": "job"}, ip="10.244.0.56")
ROUTER = Endpoint("router", "gateways", {"app": "envoy"}, ip="10.244.0.57")
OUTSIDE = (INTERNET, METADATA, PRIVATE)

EXAMPLE = {"catalog": {"m": {"versions": {"1": {}}}}}
EXTERNAL: dict[str, Any] = {"valkey": {"enabled": False}, "redis": {"external": {"host": "r", "port": 6380}}}


def in_namespace(name: str) -> list[dict[str, Any]]:
    """Return the peers that a namespace's pods are."""
    return [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]


MONITORED = {"networkPolicy": {"metricsFrom": in_namespace("monitoring")}}
ON_BACKLOG = {"worker": {"autoscaling": {"type": "keda"}}}


class Network:
    """A release's pods under its policies, beside another release of the same chart in the namespace."""

    def __init__(self, values: dict[str, Any], ci: str = "default", pool: str = "default") -> None:
        own, other = render(values, ci=ci), render(values, ci=ci, release="other")
        self.policies = [placed(item) for item in of_kind(own, "NetworkPolicy")]
        self.policies += [placed(item) for item in of_kind(other, "NetworkPolicy")]
        self.ends = {component: endpoint(own, component, pool) for component in components(own)}
        self.ends |= {f"other {component}": endpoint(other, component, pool) for component in components(other)}

    def open(self, source: str | Endpoint, target: str | Endpoint, port: str | int, protocol: str = "TCP") -> bool:
        """Tell whether a connection gets through; texts are components of the release."""
        ends = [self.ends[end] if isinstance(end, str) else end for end in (source, target)]
        return allowed(self.policies, *ends, port, protocol)


def components(manifests: list[Manifest]) -> set[str]:
    """Return the components that have pods."""
    return {item.component for item in pods(manifests)}


def endpoint(manifests: list[Manifest], component: str, pool: str) -> Endpoint:
    """Return a component's pod as an end of a connection."""
    item = pod(manifests, component, pool if component == "worker" else "")
    return Endpoint(item.name, NAMESPACE, item.labels, item.ports())


def placed(policy: Manifest) -> Manifest:
    """Return a policy in the namespace that helm installs it into."""
    manifest = copy.deepcopy(policy)
    manifest["metadata"]["namespace"] = NAMESPACE
    return manifest


def test_what_works_by_default() -> None:
    network = Network({})
    for client in (STRANGER, ABROAD, INGRESS, INTERNET, "test"):
        assert network.open(client, "gateway", "http")
    for component in ("gateway", "worker"):
        assert network.open(component, "valkey", "valkey")
    for component in ("gateway", "worker", "test"):
        for server in (DNS, NODE_DNS):
            assert network.open(component, server, 53, "UDP")
            assert network.open(component, server, 53, "TCP")


@pytest.mark.parametrize("values", [{}, MONITORED, ON_BACKLOG], ids=["default", "monitored", "on-backlog"])
def test_nobody_else_reaches_valkey_and_valkey_reaches_nobody(values: dict[str, Any]) -> None:
    network = Network(values)
    for source in (
        "test",
        "other gateway",
        "other worker",
        "other test",
        "other valkey",
        STRANGER,
        ABROAD,
        PROMETHEUS,
        KEDA,
        *OUTSIDE,
    ):
        assert not network.open(source, "valkey", "valkey")
    for target in ("gateway", "worker", "test", STRANGER, ABROAD, *OUTSIDE):
        for port in (53, 80, 443, 6379, 8080, 9090):
            assert not network.open("valkey", target, port)
    for server in (DNS, NODE_DNS):
        assert not network.open("valkey", server, 53, "UDP")


def test_gateways_and_workers_talk_through_valkey_only() -> None:
    network = Network({})
    for port in ("http", "metrics"):
        assert not network.open("worker", "gateway", port)
        assert not network.open("gateway", "gateway", port)
    assert not network.open("gateway", "worker", "metrics")
    assert not network.open("worker", "worker", "metrics")
    assert not network.open("gateway", "other gateway", "http")
    assert not network.open("gateway", "other valkey", "valkey")
    assert not network.open("worker", "other valkey", "valkey")


def test_nobody_leaves_the_cluster_by_default() -> None:
    network = Network({})
    for component in ("gateway", "worker", "test", "valkey"):
        for target in (*OUTSIDE, STRANGER, ABROAD):
            for port in (80, 443, 6379, 6443, 8080):
                assert not network.open(component, target, port)
            assert not network.open(component, target, 443, "UDP")


def test_nobody_reads_metrics_unless_values_say_so() -> None:
    network = Network({})
    for source in (STRANGER, ABROAD, PROMETHEUS, KEDA, INGRESS, INTERNET, "test", "valkey", "other gateway"):
        assert not network.open(source, "gateway", "metrics")
        assert not network.open(source, "worker", "metrics")


def test_prometheus_reads_metrics_when_values_say_so_and_others_still_do_not() -> None:
    network = Network(MONITORED)
    for component in ("gateway", "worker"):
        assert network.open(PROMETHEUS, component, "metrics")
        for source in (STRANGER, ABROAD, KEDA, "test"):
            assert not network.open(source, component, "metrics")
    assert not network.open(PROMETHEUS, "valkey", "valkey")


def test_keda_reads_the_backlog_of_gateways_when_a_pool_scales_on_it() -> None:
    network = Network(ON_BACKLOG)
    assert network.open(KEDA, "gateway", "metrics")
    assert not network.open(KEDA, "worker", "metrics")
    for source in (STRANGER, ABROAD, PROMETHEUS, "test"):
        assert not network.open(source, "gateway", "metrics")
    one_pool = Network({"pools": {"default": {"autoscaling": {"type": "keda"}}, "other": {}}})
    assert one_pool.open(KEDA, "gateway", "metrics")


def test_only_the_clients_that_values_name_call_the_api() -> None:
    network = Network({}, ci="locked-down")
    assert network.open(INGRESS, "gateway", "http")
    assert network.open("test", "gateway", "http")
    for source in (INGRESS_JOB, STRANGER, ABROAD, INTERNET, "worker", "other test"):
        assert not network.open(source, "gateway", "http")
    for port in (53, 5353):
        for component in ("gateway", "worker", "test"):
            assert network.open(component, DNS, port, "UDP")


def test_without_a_test_pod_nothing_is_let_in_for_it() -> None:
    clients = {"clientsFrom": in_namespace("ingress")}
    network = Network({"tests": {"enabled": False}, "networkPolicy": clients})
    labels = network.ends["gateway"].labels | {"app.kubernetes.io/component": "test"}
    assert not network.open(Endpoint("imposter", NAMESPACE, labels), "gateway", "http")
    assert "test" not in network.ends


def test_the_test_pod_reaches_the_api_and_nothing_else() -> None:
    network = Network(MONITORED)
    assert network.open("test", "gateway", "http")
    for target, port in (
        ("gateway", "metrics"),
        ("worker", "metrics"),
        ("valkey", "valkey"),
        ("other gateway", "http"),
    ):
        assert not network.open("test", target, port)
    for source in ("gateway", "worker", STRANGER, ABROAD):
        assert not network.open(source, "test", 8080)


def test_an_external_redis_is_reached_anywhere_at_its_port_or_where_values_say() -> None:
    network = Network(EXTERNAL)
    for component in ("gateway", "worker"):
        assert network.open(component, PRIVATE, 6380)
        assert network.open(component, INTERNET, 6380)
        assert not network.open(component, PRIVATE, 6379)
        assert not network.open(component, INTERNET, 443)
    assert not network.open("test", PRIVATE, 6380)
    narrow = Network({**EXTERNAL, "networkPolicy": {"redisTo": [{"ipBlock": {"cidr": "10.20.0.0/24"}}]}})
    for component in ("gateway", "worker"):
        assert narrow.open(component, PRIVATE, 6380)
        assert not narrow.open(component, INTERNET, 6380)
    by_url = Network({"valkey": {"enabled": False}, "redis": {"external": {"url": "rediss://r.example.com:7000/1"}}})
    assert by_url.open("worker", INTERNET, 7000)
    assert not by_url.open("worker", INTERNET, 6379)
    without_port = Network({"valkey": {"enabled": False}, "redis": {"external": {"url": "redis://r"}}})
    assert without_port.open("worker", INTERNET, 6379)


@pytest.mark.parametrize(
    "models",
    [
        {**EXAMPLE, "repository": "s3://bucket/models"},
        {"catalog": {"m": {"versions": {"1": {}, "2": {"uri": "https://models.example.com/m/2"}}, "default": "1"}}},
    ],
    ids=["repository", "one-version"],
)
def test_gateways_and_workers_fetch_models_that_are_elsewhere(models: dict[str, Any]) -> None:
    network = Network({"models": models})
    for component in ("gateway", "worker"):
        assert network.open(component, INTERNET, 443)
        assert not network.open(component, INTERNET, 80)
    assert not network.open("test", INTERNET, 443)
    assert not network.open("valkey", INTERNET, 443)
    policy = {"repositoryTo": [{"ipBlock": {"cidr": "10.20.0.0/24"}}], "repositoryPorts": [9000, 443]}
    narrow = Network({"models": models, "networkPolicy": policy})
    assert narrow.open("worker", PRIVATE, 9000)
    assert not narrow.open("worker", INTERNET, 443)


def test_only_gateways_call_back_and_only_when_callbacks_are_on() -> None:
    network = Network({"gateway": {"callbacks": {"existingSecret": "s"}}})
    assert network.open("gateway", INTERNET, 443)
    assert not network.open("worker", INTERNET, 443)
    assert not network.open("gateway", INTERNET, 80)


def test_production_lets_through_what_it_says() -> None:
    network = Network({}, ci="production", pool="gpu")
    assert network.open(ROUTER, "gateway", "http")
    assert network.open("test", "gateway", "http")
    assert not network.open(ABROAD, "gateway", "http")
    assert network.open(KEDA, "gateway", "metrics")
    for component in ("gateway", "worker"):
        assert network.open(PROMETHEUS, component, "metrics")
        assert network.open(component, PRIVATE, 6380)
        assert network.open(component, INTERNET, 443), "the model repository"
        assert network.open(component, Endpoint("cloud role", ip="169.254.170.23"), 80)
        assert not network.open(component, METADATA, 80)
        assert not network.open(component, INTERNET, 6380)


def test_every_pod_is_under_a_policy_for_both_directions(manifests: list[Manifest]) -> None:
    policies = [placed(item) for item in of_kind(manifests, "NetworkPolicy")]
    for item in pods(manifests):
        end = Endpoint(item.name, NAMESPACE, item.labels, item.ports())
        assert not allowed(policies, end, Endpoint("nowhere", ip="203.0.113.1"), 12345)
        assert not allowed(policies, Endpoint("nobody", ip="203.0.113.1"), end, 12345)


def test_without_policies_there_are_none() -> None:
    assert of_kind(render({"networkPolicy": {"enabled": False}}), "NetworkPolicy") == []


def test_the_evaluator_knows_the_rules_of_network_policies() -> None:
    def policy(**spec: Any) -> Manifest:
        return {"metadata": {"namespace": NAMESPACE}, "spec": {"podSelector": {}, **spec}}

    inside = Endpoint("inside", NAMESPACE, {"a": "b"}, {"web": 80})
    assert allowed([], ABROAD, inside, 80)
    assert not allowed([policy(policyTypes=["Ingress"])], ABROAD, inside, 80)
    assert allowed([policy(policyTypes=["Ingress"])], inside, ABROAD, 80)
    assert not allowed([policy(policyTypes=["Egress"])], inside, ABROAD, 80)
    everyone = policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": "web"}]}])
    assert allowed([everyone], ABROAD, inside, 80)
    assert not allowed([everyone], ABROAD, inside, 81)
    assert not allowed([everyone], ABROAD, inside, 80, "UDP")
    neighbours = policy(policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}]}])
    assert allowed([neighbours], STRANGER, inside, 80)
    assert not allowed([neighbours], ABROAD, inside, 80)
    abroad = policy(
        policyTypes=["Ingress"],
        ingress=[{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "other"}}}]}],
    )
    assert allowed([abroad], ABROAD, inside, 80)
    assert not allowed([abroad], PROMETHEUS, inside, 80)
    assert allowed([abroad, neighbours], inside, inside, 80), "policies add up"
    block = policy(
        policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}]
    )
    assert allowed([block], inside, INTERNET, 443)
    assert not allowed([block], inside, PRIVATE, 443)
