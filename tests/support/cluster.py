"""A real Kubernetes cluster for the tests in ``e2e/``: kubectl, helm, and a namespace that is gone afterwards."""

import contextlib
import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import yaml

from support.kube_tools import tool
from support.waiting import wait_until

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


class Cluster:
    """The cluster that KUBECONFIG names."""

    def unreachable(self) -> str:
        """Return why no cluster can be used; empty when one can."""
        try:
            # Not /readyz: without a KUBECONFIG kubectl asks localhost:8080, where a gateway may well answer that.
            version = json.loads(self.kubectl("version", "--output=json", "--request-timeout=5s"))
        except FileNotFoundError as error:
            return str(error)
        except (AssertionError, json.JSONDecodeError):
            version = {}
        known = version.get("serverVersion", {}).get("gitVersion")
        return "" if known else "kubectl reaches no cluster: let KUBECONFIG name one, or start minikube."

    def kubectl(self, *words: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl and return what it printed. Raises AssertionError with its own words when it fails."""
        return run([str(tool("kubectl")), *words], stdin, timeout)

    def helm(self, *words: str, stdin: str | None = None, timeout: float = 600) -> str:
        """Run helm in the same way."""
        return run([str(tool("helm")), *words], stdin, timeout)

    @contextlib.contextmanager
    def namespace(self) -> Iterator["Namespace"]:
        """Make a namespace of a new name that admits restricted pods only; it goes with all that is in it."""
        namespace = Namespace(self, f"muleteer-e2e-{uuid.uuid4().hex[:8]}")
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name, "labels": RESTRICTED}}
        self.kubectl("create", "--filename=-", stdin=yaml.safe_dump(document))
        try:
            yield namespace
        finally:
            self.kubectl("delete", "namespace", namespace.name, "--timeout=300s", timeout=310)


class Namespace:
    """One namespace of a cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def kubectl(self, *words: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl in this namespace."""
        return self.cluster.kubectl("--namespace", self.name, *words, stdin=stdin, timeout=timeout)

    def apply(self, *documents: dict[str, Any]) -> None:
        """Create or change objects."""
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(documents))

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, f"--selector={selector}", "-o", "json"))[
            "items"
        ]
        return items

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods that are not on their way out."""
        return [pod for pod in self.items("pods", selector) if "deletionTimestamp" not in pod["metadata"]]

    def wait_rolled_out(self, *workloads: str) -> None:
        """Return when deployments and stateful sets run what they should, and nothing else."""
        for workload in workloads:
            self.kubectl("rollout", "status", workload, "--timeout=300s", timeout=310)

    def wait_gone(self, name: str) -> None:
        """Return when an object (``pod/name``) no longer exists."""
        self.kubectl("wait", "--for=delete", name, "--timeout=180s", timeout=190)

    def everything(self) -> set[str]:
        """Return ``kind/name`` of every object that someone would have to delete; events fade by themselves."""
        kinds = self.cluster.kubectl("api-resources", "--verbs=list,delete", "--namespaced", "--output=name").split()
        wanted = ",".join(kind for kind in kinds if kind.partition(".")[0] != "events")
        return set(self.kubectl("get", wanted, "--ignore-not-found", "--output=name").split())

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """Forward a local port to ``service/name`` or ``pod/name``; yields its URL. It holds on to one pod."""
        command = [str(tool("kubectl")), "--namespace", self.name, "port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                assert found, f"{' '.join(command)} said {line!r}"
                yield f"http://127.0.0.1:{found[1]}"
            finally:
                process.terminate()

    def describe(self) -> str:
        """Return what someone looks at first when a test has failed."""
        looks = [
            ("get", "all,networkpolicies,persistentvolumeclaims", "--output=wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
        ]
        for pod in self.kubectl("get", "pods", "--output=name").split():
            logs = ("logs", pod, "--all-containers", "--prefix", "--tail=30")
            looks += [(*logs, "--previous"), logs]
        parts = []
        for words in looks:
            with contextlib.suppress(AssertionError):  # a container that has not been started has no logs
                parts.append(self.kubectl(*words))
        return "\n".join(parts)


def run(command: list[str], stdin: str | None, timeout: float) -> str:
    """Run a command and return its standard output. Raises AssertionError with all it said when it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def wait_phase(namespace: Namespace, pod: str, *phases: str) -> dict[str, Any]:
    """Return a pod as soon as it is in one of these phases."""

    def reached() -> dict[str, Any] | None:
        found: dict[str, Any] = json.loads(namespace.kubectl("get", "pod", pod, "--output=json"))
        return found if found["status"]["phase"] in phases else None

    return wait_until(reached, 180, f"pod {pod} {' or '.join(phases)}")
