"""Who may talk to whom under a set of NetworkPolicies: what a network plugin would decide, for tests."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.chart import Manifest, selects

NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Endpoint:
    """One end of a connection: a pod, or with an empty namespace a host outside of the cluster."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    ip: str = "10.244.0.10"
    namespace_labels: Mapping[str, str] = field(default_factory=dict)

    def labels_of_namespace(self) -> dict[str, str]:
        """Return the labels of its namespace; Kubernetes itself puts its name among them."""
        return {**self.namespace_labels, NAME_LABEL: self.namespace}

    def number(self, port: str | int) -> int | None:
        """Return the number of a port that has a name, None if it has no such port."""
        return self.ports.get(port) if isinstance(port, str) else port


def allowed(
    policies: Sequence[Manifest], source: Endpoint, target: Endpoint, port: str | int, protocol: str = "TCP"
) -> bool:
    """Tell whether ``source`` gets a connection to ``port`` of ``target``: it may go out, and may come in."""
    number = target.number(port)
    if number is None:
        return False
    goes_out = _passes(policies, "Egress", source, target, target, number, protocol)
    return goes_out and _passes(policies, "Ingress", target, source, target, number, protocol)


def _passes(
    policies: Sequence[Manifest],
    direction: str,
    subject: Endpoint,
    other: Endpoint,
    target: Endpoint,
    port: int,
    protocol: str,
) -> bool:
    """Tell whether the policies of ``subject`` let ``other`` through; nothing selects a host outside."""
    own = [policy for policy in policies if _isolates(policy, subject, direction)]
    if not own:
        return True
    peers = "from" if direction == "Ingress" else "to"
    for policy in own:
        for rule in policy["spec"].get(direction.lower()) or []:
            if _port_fits(rule.get("ports"), target, port, protocol) and _peer_fits(rule.get(peers), policy, other):
                return True
    return False


def _isolates(policy: Manifest, endpoint: Endpoint, direction: str) -> bool:
    if not endpoint.namespace or namespace_of(policy) != endpoint.namespace:
        return False
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return direction in types and selects(spec.get("podSelector", {}), endpoint.labels)


def namespace_of(policy: Manifest) -> str:
    """Return the namespace of a policy; helm leaves that of the release out, so that it must be put in."""
    namespace: str = policy["metadata"]["namespace"]
    return namespace


def _port_fits(ports: list[dict[str, Any]] | None, target: Endpoint, port: int, protocol: str) -> bool:
    """No list, or an empty one, means every port."""
    if not ports:
        return True
    for item in ports:
        if item.get("protocol", "TCP") != protocol:
            continue
        first = item.get("port")
        if first is None:
            return True
        number = target.number(first)
        if number is not None and number <= port <= item.get("endPort", number):
            return True
    return False


def _peer_fits(peers: list[dict[str, Any]] | None, policy: Manifest, other: Endpoint) -> bool:
    """No list, or an empty one, means everyone."""
    return not peers or any(_one_peer_fits(peer, policy, other) for peer in peers)


def _one_peer_fits(peer: dict[str, Any], policy: Manifest, other: Endpoint) -> bool:
    if "ipBlock" in peer:
        address, block = ipaddress.ip_address(other.ip), peer["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(cidr) for cidr in block.get("except", []))
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], other.labels_of_namespace()):
            return False
    elif other.namespace != namespace_of(policy):
        return False
    return selects(peer.get("podSelector", {}), other.labels)
