"""The chart's NetworkPolicies, where the cluster's network enforces any: who gets through to what."""

from collections.abc import Iterator

import pytest

from support.cluster import Namespace, wait_phase
from support.pods import TARGET_PORT, connect_command, deny_all, idle_pod, target_pod
from support.release import NAME, Release
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)


class Stranger:
    """A pod that has nothing to do with Muleteer."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self._namespace, self._name = namespace, name

    def reaches(self, pod: str, port: int) -> bool:
        """Tell whether a connection to a pod's own address succeeds from here."""
        address = self._namespace.kubectl("get", "pod", pod, "--output=jsonpath={.status.podIP}")
        return self._namespace.kubectl("exec", self._name, "--", *connect_command(address, port)).strip() == "open"


@pytest.fixture(scope="module")
def stranger(installed: Release) -> Iterator[Stranger]:
    """A stranger in the release's own namespace. Skips where the network enforces no policy at all."""
    namespace, image = installed.namespace, installed.images["gateway"]
    closed = target_pod("target-closed", image)
    pods = [idle_pod("stranger", image), target_pod("target-open", image), closed]
    policy = deny_all("target-closed", closed["metadata"]["labels"])
    namespace.apply(*pods, policy)
    try:
        for pod in pods:
            wait_phase(namespace, pod["metadata"]["name"], "Running")
        stranger = Stranger(namespace, "stranger")
        wait_until(lambda: stranger.reaches("target-open", TARGET_PORT), 60, "a pod reached that no policy guards")
        if not is_enforced(stranger):
            pytest.skip("this cluster's network enforces no NetworkPolicy (minikube does with --cni=calico)")
        yield stranger
    finally:
        names = [f"pod/{pod['metadata']['name']}" for pod in pods]
        namespace.kubectl("delete", *names, "networkpolicy/target-closed", "--wait=true")


def is_enforced(stranger: Stranger) -> bool:
    """Tell whether a policy closes a pod; a network may need a while for a new one."""
    try:
        wait_until(lambda: not stranger.reaches("target-closed", TARGET_PORT), 30)
    except AssertionError:
        return False
    return True


def test_a_stranger_reaches_the_api_but_not_valkey(release: Release, stranger: Stranger) -> None:
    [valkey] = release.pods("valkey")
    gateway = release.pods("gateway")[0]["metadata"]["name"]
    assert stranger.reaches(gateway, 8080)
    assert not stranger.reaches(valkey["metadata"]["name"], 6379)


def test_a_stranger_reaches_no_metrics(release: Release, stranger: Stranger) -> None:
    for component in ("gateway", "worker"):
        assert not stranger.reaches(release.pods(component)[0]["metadata"]["name"], 9090)


def test_labels_that_are_not_the_releases_open_nothing(release: Release, stranger: Stranger) -> None:
    """Another release's worker is a stranger too."""
    del stranger  # the network enforces policies
    labels = {
        "app.kubernetes.io/name": "muleteer",
        "app.kubernetes.io/instance": f"not-{NAME}",
        "app.kubernetes.io/component": "worker",
    }
    release.namespace.apply(idle_pod("impostor", release.images["gateway"], labels))
    try:
        wait_phase(release.namespace, "impostor", "Running")
        [valkey] = release.pods("valkey")
        assert not Stranger(release.namespace, "impostor").reaches(valkey["metadata"]["name"], 6379)
    finally:
        release.namespace.kubectl("delete", "pod/impostor", "--wait=true")
