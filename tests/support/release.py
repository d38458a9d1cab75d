"""Muleteer in a cluster: installed, upgraded and tested with its own chart, as users do it."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml

from support.cluster import Namespace, wait_phase
from support.pods import STOP_FILE, load_pod
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "muleteer"
NAME = "e2e"
FULL_NAME = f"{NAME}-muleteer"
WORKLOADS = {
    "gateway": f"deployment/{FULL_NAME}-gateway",
    "worker": f"deployment/{FULL_NAME}-worker-default",
    "valkey": f"statefulset/{FULL_NAME}-valkey",
}
IMAGE_VARIABLES = {"gateway": "MULETEER_E2E_GATEWAY_IMAGE", "worker": "MULETEER_E2E_WORKER_IMAGE"}


def images_from_environment() -> dict[str, str]:
    """Return the images to test, ``repository:tag`` by component; empty where a variable is missing."""
    return {component: os.environ.get(variable, "") for component, variable in IMAGE_VARIABLES.items()}


def image_values(image: str) -> dict[str, str]:
    """Return an image as the chart's values want it. A port's colon is not the tag's."""
    repository, _, tag = image.rpartition(":")
    assert repository, f"{image} must be repository:tag"
    assert "/" not in tag, f"{image} must be repository:tag"
    return {"repository": repository, "tag": tag}


class Release:
    """One release of the chart in a namespace."""

    def __init__(self, namespace: Namespace, images: dict[str, str], values: dict[str, Any]) -> None:
        self.namespace, self.images = namespace, images
        self._values = values
        for component, image in images.items():
            self._values = merged(self._values, {component: {"image": image_values(image)}})
        self._values = merged(self._values, {"image": {"registry": ""}})

    @property
    def url(self) -> str:
        """Return the API's address in the cluster."""
        return f"http://{FULL_NAME}-gateway.{self.namespace.name}.svc"

    def install(self) -> Self:
        """Install it and return when every pod is ready."""
        return self._helm("install")

    def upgrade(self, values: dict[str, Any]) -> Self:
        """Upgrade to more values, which later upgrades keep, and return when every pod is ready."""
        self._values = merged(self._values, values)
        return self._helm("upgrade")

    def test(self) -> str:
        """Run ``helm test`` and return what it said."""
        # Not with --logs: a pod that has succeeded is gone before Helm 3 asks for them.
        return self.namespace.cluster.helm("test", NAME, "--namespace", self.namespace.name, "--timeout=5m")

    def uninstall(self) -> None:
        """Uninstall it and return when its objects are gone."""
        words = ("--namespace", self.namespace.name, "--wait", "--timeout=5m")
        self.namespace.cluster.helm("uninstall", NAME, *words)

    def wait_settled(self) -> None:
        """Return when every pod is there and ready, after a test that disturbed some."""
        for component, workload in WORKLOADS.items():
            self.namespace.wait_rolled_out(workload)
            wanted = int(self.namespace.kubectl("get", workload, "--output=jsonpath={.spec.replicas}"))
            # A rollout's status does not know yet of a pod that has just been deleted.
            wait_until(lambda c=component, w=wanted: self._ready(c) == w, 180, f"{wanted} ready pods of {workload}")

    def _ready(self, component: str) -> int:
        return sum(map(is_ready, self.pods(component)))

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component that are not on their way out."""
        instance = f"app.kubernetes.io/instance={NAME}"
        return self.namespace.pods(f"{instance},app.kubernetes.io/component={component}")

    def forwarded(self) -> contextlib.AbstractContextManager[str]:
        """Forward the API's Service to a local port."""
        return self.namespace.forwarded(f"service/{FULL_NAME}-gateway", 80)

    @contextlib.contextmanager
    def under_load(self, name: str, requests: list[dict[str, Any]], callers: int = 8) -> Iterator["LoadPod"]:
        """Run callers in a pod while the block runs; then no request may have failed."""
        load = LoadPod(self.namespace, name)
        self.namespace.apply(*load_pod(name, self.images["gateway"], self.url, requests, callers))
        try:
            wait_phase(self.namespace, name, "Running")
            load.until_more(50)
            yield load
            load.until_more(50)
            load.stop()
        finally:
            self.namespace.kubectl("delete", f"pod/{name}", f"configmap/{name}", "--wait=true")

    def _helm(self, verb: str) -> Self:
        words = (verb, NAME, str(CHART), "--namespace", self.namespace.name, "--values=-", "--wait", "--timeout=5m")
        self.namespace.cluster.helm(*words, stdin=yaml.safe_dump(self._values))
        return self


class LoadPod:
    """A pod that runs ``e2e/load.py``."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self._namespace, self._name = namespace, name

    def seen(self) -> dict[str, Any]:
        """Return the last report that it printed."""
        lines = self._namespace.kubectl("logs", self._name, "--tail=1").splitlines()
        return json.loads(lines[-1]) if lines else {"answered": 0, "failed": 0, "failures": []}

    def until_more(self, answers: int) -> None:
        """Return when so many more requests have been answered. Fails as soon as one has failed."""
        goal = self.seen()["answered"] + answers

        def reached() -> bool:
            seen = self.seen()
            assert not seen["failed"], f"{seen['failed']} of {seen['answered']} requests failed: {seen['failures']}"
            return bool(seen["answered"] >= goal)

        wait_until(reached, 120, f"{answers} more answers in pod {self._name}")

    def stop(self) -> None:
        """Let the requests in progress be answered, and look whether one has failed."""
        self._namespace.kubectl("exec", self._name, "--", "touch", STOP_FILE)
        pod = wait_phase(self._namespace, self._name, "Succeeded", "Failed")
        seen = self.seen()
        assert seen["failed"] == 0, f"{seen['failed']} of {seen['answered']} requests failed: {seen['failures']}"
        assert pod["status"]["phase"] == "Succeeded", self._namespace.kubectl("logs", self._name, "--tail=50")


def is_ready(pod: dict[str, Any]) -> bool:
    """Tell whether a pod is ready."""
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def identities(pods: list[dict[str, Any]]) -> dict[str, int]:
    """Return the pods' uids with how often their containers were started again."""
    return {pod["metadata"]["uid"]: sum(c["restartCount"] for c in pod["status"]["containerStatuses"]) for pod in pods}


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` with ``more`` laid over it, as Helm lays values files over each other."""
    out = dict(values)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out
