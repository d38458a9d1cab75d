"""Pods that the cluster tests put beside Muleteer: callers, strangers, and targets of a network policy."""

import json
from pathlib import Path
from typing import Any

LOAD_SCRIPT = Path(__file__).parents[1] / "e2e" / "load.py"
STOP_FILE = "/tmp/stop"  # noqa: S108 - in the pod's own empty volume
TARGET_PORT = 8000

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
    print("open")
except TimeoutError:
    print("dropped")
except OSError as error:
    print(f"refused: {error}")
"""


def restricted_pod(
    name: str, image: str, command: list[str], labels: dict[str, str] | None = None, **volumes: dict[str, Any]
) -> dict[str, Any]:
    """Return a pod that the restricted Pod Security Standard admits; ``volumes`` are mounted at ``/<name>``."""
    volumes = {"tmp": {"emptyDir": {}}} | volumes
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"muleteer.dev/e2e": name} | (labels or {})},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "64Mi"},
                        "limits": {"memory": "256Mi"},
                    },
                    "volumeMounts": [{"name": volume, "mountPath": f"/{volume}"} for volume in volumes],
                }
            ],
            "volumes": [{"name": volume} | source for volume, source in volumes.items()],
        },
    }


def load_pod(name: str, image: str, url: str, requests: list[dict[str, Any]], callers: int) -> list[dict[str, Any]]:
    """Return a pod that runs ``e2e/load.py`` against ``url``, and the ConfigMap that it reads."""
    files = {"load.py": LOAD_SCRIPT.read_text(encoding="utf-8"), "requests.json": json.dumps(requests)}
    command = ["python", "/load/load.py", "/load/requests.json", "--url", url]
    command += ["--callers", str(callers), "--stop", STOP_FILE]
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": files}
    return [config_map, restricted_pod(name, image, command, load={"configMap": {"name": name}})]


def target_pod(name: str, image: str) -> dict[str, Any]:
    """Return a pod that accepts connections on TARGET_PORT."""
    return restricted_pod(name, image, ["python", "-m", "http.server", str(TARGET_PORT), "--directory", "/tmp"])  # noqa: S108 - in the pod


def idle_pod(name: str, image: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a pod that does nothing: commands are run in it."""
    return restricted_pod(name, image, ["python", "-c", "import signal; signal.pause()"], labels)


def connect_command(host: str, port: int) -> list[str]:
    """Return the command that tries a TCP connection and prints ``open``, ``dropped`` or ``refused: …``."""
    return ["python", "-c", CONNECT, host, str(port)]


def deny_all(name: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return a NetworkPolicy that lets nobody in to the pods with these labels."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": []},
    }
