"""The restricted Pod Security Standard, and what this project wants beyond it, as a list of what a pod breaks."""

from collections.abc import Iterator
from typing import Any

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
ALLOWED_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
}
SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def broken(spec: dict[str, Any], annotations: dict[str, str]) -> list[str]:
    """Return the controls of the restricted standard that a pod breaks; none for one that is admitted."""
    return [*_pod(spec, annotations), *(item for each in _containers(spec) for item in _container(spec, each))]


def hardening_missing(spec: dict[str, Any]) -> list[str]:
    """Return what this chart promises beyond the standard and a pod does not keep."""
    missing = []
    if spec.get("automountServiceAccountToken") is not False:
        missing.append("automountServiceAccountToken must be false")
    if spec.get("enableServiceLinks") is not False:
        missing.append("enableServiceLinks must be false")
    missing += [
        f"volume {volume['name']} is a token"
        for volume in spec.get("volumes", [])
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
    ]
    for container in _containers(spec):
        context = container.get("securityContext", {})
        if context.get("readOnlyRootFilesystem") is not True:
            missing.append(f"{container['name']}: readOnlyRootFilesystem must be true")
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
            missing.append(f"{container['name']}: requests of cpu and memory, and a limit of memory, must be there")
    return missing


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        *spec.get("initContainers", []),
        *spec.get("containers", []),
        *spec.get("ephemeralContainers", []),
    ]


def _pod(spec: dict[str, Any], annotations: dict[str, str]) -> Iterator[str]:
    context = spec.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is on"
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= ALLOWED_VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed: {sorted(kinds - ALLOWED_VOLUMES)}"
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in ALLOWED_SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    if any(key.startswith("container.apparmor.security.beta.kubernetes.io/") for key in annotations):
        yield "an AppArmor annotation"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess is on"
    yield from _identity("the pod", context)


def _container(spec: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    name = container["name"]
    own = container.get("securityContext", {})
    shared = spec.get("securityContext", {})
    if own.get("privileged"):
        yield f"{name}: privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation must be false"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: all capabilities must be dropped"
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
        yield f"{name}: runAsNonRoot must be true"
    if (own.get("seccompProfile") or shared.get("seccompProfile") or {}).get("type") not in SECCOMP:
        yield f"{name}: the seccomp profile must be RuntimeDefault or Localhost"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name}: hostPort"
    if own.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name}: hostProcess is on"
    yield from _hooks(container)
    yield from _identity(name, own)


def _hooks(container: dict[str, Any]) -> Iterator[str]:
    hooks = container.get("lifecycle", {}).values()
    probes = [container.get(f"{kind}Probe", {}) for kind in ("startup", "liveness", "readiness")]
    for action in (*hooks, *probes):
        if action.get("httpGet", {}).get("host") or action.get("tcpSocket", {}).get("host"):
            yield f"{container['name']}: a probe or hook names a host"


def _identity(name: str, context: dict[str, Any]) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield f"{name}: runAsUser is root"
    if context.get("runAsNonRoot") is False:
        yield f"{name}: runAsNonRoot is false"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in SECCOMP:
        yield f"{name}: the seccomp profile is Unconfined"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in SECCOMP:
        yield f"{name}: the AppArmor profile is Unconfined"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{name}: SELinux options"
