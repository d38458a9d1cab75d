"""What validators miss: selectors, ports, probes, scalers and references all point at something that is there."""

import pytest

from support.chart import (
    CI,
    Manifest,
    PodTemplate,
    catalog_values,
    of_kind,
    one,
    pods,
    pool_values,
    render,
    seconds,
    selects,
    values_of,
)

LONG_RELEASE = "recommendations-experiments-of-the-growth-team-europe"
WORKLOADS = ("Deployment", "StatefulSet")

MIGHT_EXIST = {
    # Objects that only the cluster has, by the values that name them.
    ("Secret", "gateway", "apiKeys", "existingSecret"),
    ("Secret", "gateway", "callbacks", "existingSecret"),
    ("Secret", "models", "credentials", "existingSecret"),
    ("Secret", "valkey", "auth", "existingSecret"),
    ("Secret", "redis", "external", "existingSecret"),
    ("Secret", "redis", "external", "ca", "existingSecret"),
    ("Secret", "tests", "apiKey", "existingSecret"),
    ("PersistentVolumeClaim", "models", "persistentVolumeClaim"),
}


def test_selectors_take_the_pods_of_their_own_workload_and_no_others(manifests: list[Manifest]) -> None:
    everyone = pods(manifests)
    for workload in of_kind(manifests, *WORKLOADS):
        own = workload["spec"]["template"]["metadata"]["labels"]
        taken = [item.name for item in everyone if selects(workload["spec"]["selector"], item.labels)]
        assert taken == [f"{workload['kind']}/{workload['metadata']['name']}"]
        assert selects(workload["spec"]["selector"], own)


def test_services_take_the_pods_of_one_component_and_reach_their_ports(manifests: list[Manifest]) -> None:
    components = {"gateway": "gateway", "gateway-metrics": "gateway", "valkey": "valkey"}
    services = of_kind(manifests, "Service")
    assert len(services) >= 2
    for service in services:
        name = service["metadata"]["name"]
        component = next(components[end] for end in sorted(components, key=len, reverse=True) if name.endswith(end))
        taken = [item for item in pods(manifests) if selects({"matchLabels": service["spec"]["selector"]}, item.labels)]
        assert {item.component for item in taken} == {component}
        assert {item.component for item in pods(manifests)} - {component}, "others that it must not take"
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in item.ports() for item in taken)
            assert port["name"] == port["targetPort"]


def test_the_api_is_one_port_and_metrics_are_another_that_callers_do_not_reach(manifests: list[Manifest]) -> None:
    api = one(manifests, "Service", "-gateway")["spec"]["ports"]
    assert [(port["name"], port["targetPort"]) for port in api] == [("http", "http")]
    metrics = one(manifests, "Service", "-gateway-metrics")
    assert metrics["spec"]["type"] == "ClusterIP"
    assert [port["port"] for port in metrics["spec"]["ports"]] == [9090]


def test_no_release_takes_pods_of_another() -> None:
    for ci in CI:
        mine, theirs = render(ci=ci, release="a"), render(ci=ci, release="b")
        selectors = [
            *(item["spec"]["selector"] for item in of_kind(mine, *WORKLOADS, "PodDisruptionBudget", "PodMonitor")),
            *({"matchLabels": item["spec"]["selector"]} for item in of_kind(mine, "Service")),
            *(item["spec"]["podSelector"] for item in of_kind(mine, "NetworkPolicy")),
            *(
                constraint["labelSelector"]
                for item in pods(mine)
                for constraint in item.spec.get("topologySpreadConstraints", [])
            ),
        ]
        assert len(selectors) > 10
        for selector in selectors:
            assert any(selects(selector, item.labels) for item in pods(mine)), f"{selector} selects nothing"
            assert not any(selects(selector, item.labels) for item in pods(theirs)), f"{selector} takes another's pods"


def test_two_releases_in_one_namespace_share_no_name() -> None:
    def names(release: str, **more: str) -> set[tuple[str, str]]:
        return {(item["kind"], item["metadata"]["name"]) for item in render(release=release, **more)}

    assert not names("a") & names("b")
    assert not names("a") & names("muleteer")
    assert not names("muleteer") & names("muleteer-2")
    # Names are cut, but not so that long ones with the same beginning become one.
    assert not names(f"{LONG_RELEASE[:-1]}a") & names(f"{LONG_RELEASE[:-1]}b")


@pytest.mark.parametrize("release", ["r", "muleteer", LONG_RELEASE])
def test_names_and_labels_are_short_enough(release: str) -> None:
    # As long as a pool's name may be when the release has the longest.
    pools = {"p" * 10: {"autoscaling": {"type": "cpu"}}}
    for manifest in [*render({"pools": pools}, release=release), *render(ci="production", release=release)]:
        name = manifest["metadata"]["name"]
        assert 0 < len(name) <= 63
        assert name == name.strip("-")
        assert all(len(value) <= 63 for item in pods([manifest]) for value in item.labels.values())
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())
        if manifest["kind"] == "StatefulSet":
            # Kubernetes puts "-" and ten characters behind the name, into a label of the pod.
            assert len(name) <= 52
        if manifest["kind"] == "ScaledObject":
            assert len(manifest["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"]) <= 63


def test_probes_ask_real_ports_for_real_paths(manifests: list[Manifest]) -> None:
    paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    ports = {"gateway": "http", "worker": "metrics"}
    for item in pods(manifests):
        for container in item.spec["containers"]:
            probes = {name for name in container if name.endswith("Probe")}
            assert probes == (set() if item.component == "test" else set(paths)), item.name
            for name in probes if item.component in ports else ():
                request = container[name]["httpGet"]
                assert request == {"path": paths[name], "port": ports[item.component]}
                assert request["port"] in item.ports()
            for name in probes:
                assert container[name]["timeoutSeconds"] <= container[name]["periodSeconds"] or name == "startupProbe"


def test_a_pod_gets_as_long_to_start_as_it_waits_for_redis(manifests: list[Manifest]) -> None:
    for item in pods(manifests):
        if item.component in {"gateway", "worker"}:
            probe = item.main["startupProbe"]
            patience = probe["periodSeconds"] * probe["failureThreshold"]
            assert patience > int(item.environment()["MULETEER_STARTUP_SECONDS"])


def test_disruption_budgets_take_one_workload_each_and_let_one_pod_go(manifests: list[Manifest]) -> None:
    budgets = of_kind(manifests, "PodDisruptionBudget")
    assert budgets
    for budget in budgets:
        taken = [item.name for item in pods(manifests) if selects(budget["spec"]["selector"], item.labels)]
        assert taken == [f"Deployment/{budget['metadata']['name']}"]
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]


def test_what_a_scaler_owns_has_no_replicas_and_what_none_owns_has(ci: str, manifests: list[Manifest]) -> None:
    values = values_of(ci)
    owned: dict[str, str] = {}
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        assert target.get("kind", "Deployment") == "Deployment"
        assert target.get("apiVersion", "apps/v1") == "apps/v1"
        assert target["name"] not in owned, "two scalers for one Deployment"
        owned[target["name"]] = scaler["kind"]
    deployments = {item["metadata"]["name"]: item for item in of_kind(manifests, "Deployment")}
    assert set(owned) <= set(deployments)
    for name, deployment in deployments.items():
        assert ("replicas" in deployment["spec"]) is (name not in owned)
        pool = deployment["metadata"]["labels"].get("muleteer.dev/pool")
        scaling = (pool_values(values, pool) if pool else values["gateway"])["autoscaling"]["type"]
        kinds = {"cpu": "HorizontalPodAutoscaler", "keda": "ScaledObject", "none": None}
        assert owned.get(name) == kinds[scaling]


def test_scalers_have_a_fewest_and_a_most_and_scale_up_fast_and_down_slowly(manifests: list[Manifest]) -> None:
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        assert 1 <= spec["minReplicas"] <= spec["maxReplicas"]
        assert slow_down(spec["behavior"])
    for scaler in of_kind(manifests, "ScaledObject"):
        spec = scaler["spec"]
        assert 0 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
        assert slow_down(spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"])


def slow_down(behavior: dict[str, dict[str, int]]) -> bool:
    """Tell whether scaling up is at once, and scaling down is not."""
    return (
        behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
        and behavior["scaleDown"]["stabilizationWindowSeconds"] >= 60
    )


def test_every_worker_on_cpu_has_a_request_to_be_measured_by(manifests: list[Manifest]) -> None:
    workloads = {item.owner["metadata"]["name"]: item for item in pods(manifests)}
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = workloads[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "cpu" in target.main["resources"]["requests"]


def test_keda_asks_the_gateways_own_port_for_the_pools_backlog() -> None:
    for ci in ("production", "many-pools"):
        manifests = render(ci=ci, namespace="models")
        service = one(manifests, "Service", "-gateway-metrics")
        scalers = of_kind(manifests, "ScaledObject")
        assert scalers
        for scaler in scalers:
            assert scaler["apiVersion"] == "keda.sh/v1alpha1"
            deployment = one(manifests, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])
            pool = deployment["metadata"]["labels"]["muleteer.dev/pool"]
            url = (
                f"http://{service['metadata']['name']}.models.svc:{service['spec']['ports'][0]['port']}/backlog/{pool}"
            )
            triggers = scaler["spec"]["triggers"]
            merged = pool_values(values_of(ci), pool)
            wanted = merged["autoscaling"]["keda"]
            found = {item["metadata"]["valueLocation"]: item for item in triggers}
            assert set(found) == {"jobs", "seconds", "busy_workers"}
            assert found["jobs"]["metadata"]["targetValue"] == str(wanted["targetJobs"])
            assert found["seconds"]["metadata"]["targetValue"] == str(wanted["targetSeconds"])
            busy = found["busy_workers"]["metadata"]
            assert float(busy["targetValue"]) == pytest.approx(merged["processes"] * wanted["targetUtilization"] / 100)
            starts = {what: float(item["metadata"]["activationTargetValue"]) for what, item in found.items()}
            # An average that forgets is never quite 0: it must not keep the last pod of an idle pool.
            assert starts == {"jobs": 0, "seconds": 0, "busy_workers": 1_000_000}
            for item in triggers:
                assert item["type"] == "metrics-api"
                # The only type of metric that KEDA has a fallback for.
                assert item["metricType"] == "AverageValue"
                assert item["metadata"]["url"] == url
                assert item["metadata"]["format"] == "json"
                assert all(isinstance(value, str) for value in item["metadata"].values())


def test_prometheus_scrapes_gateways_and_workers_and_nothing_else() -> None:
    manifests = render(ci="production")
    (monitor,) = of_kind(manifests, "PodMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    taken = [item for item in pods(manifests) if selects(monitor["spec"]["selector"], item.labels)]
    assert {item.component for item in taken} == {"gateway", "worker"}
    assert {item.name for item in taken} == {item.name for item in pods(manifests) if item.component != "test"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    assert all(endpoint["port"] in item.ports() for item in taken)
    assert seconds(endpoint["scrapeTimeout"]) <= seconds(endpoint["interval"])
    both = render({"monitoring": {"podMonitor": {"enabled": True}}})
    (monitor,) = of_kind(both, "PodMonitor")
    assert not any(
        selects(monitor["spec"]["selector"], item.labels) for item in pods(both) if item.component == "valkey"
    )


def test_routes_lead_to_the_gateways_service() -> None:
    manifests = render(ci="locked-down")
    (ingress,) = of_kind(manifests, "Ingress")
    (rule,) = ingress["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    service = one(manifests, "Service", backend["name"])
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert rule["host"] == "models.internal"
    assert ingress["spec"]["tls"] == [{"secretName": "models-tls", "hosts": ["models.internal"]}]
    (route,) = of_kind(render({"gateway": {"service": {"port": 8000}}}, ci="production"), "HTTPRoute")
    assert route["spec"]["rules"][0]["backendRefs"] == [{"name": "rel-muleteer-gateway", "port": 8000}]


def test_everything_that_pods_refer_to_is_rendered_or_named_by_a_value(ci: str, manifests: list[Manifest]) -> None:
    values = values_of(ci)
    known = {(item["kind"], item["metadata"]["name"]): item for item in manifests}
    named = set()
    for kind, *path in MIGHT_EXIST:
        place = values
        for key in path:
            place = place[key]
        named.add((kind, place))
    for pool in values["pools"]:
        for volume in pool_values(values, pool)["extraVolumes"]:
            named.add(("Secret", volume.get("secret", {}).get("secretName")))
    for item in pods(manifests):
        for kind, name, key in references(item):
            assert (kind, name) in set(known) | named, f"{item.name} wants {kind} {name}"
            if (kind, name) in known and key:
                assert key in known[kind, name]["data"], f"{kind} {name} has no {key}"
        account = item.spec.get("serviceAccountName", "default")
        chosen = {values[place]["serviceAccount"]["name"] for place in ("gateway", "worker")} - {""}
        assert ("ServiceAccount", account) in known or account in chosen | {"default"}


def references(item: PodTemplate) -> list[tuple[str, str, str]]:
    """Return kind, name and key of what a pod needs in its namespace."""
    found = []
    for container in item.containers:
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    found.append((kind, source[field]["name"], source[field]["key"]))
        found += [("Secret", whole["secretRef"]["name"], "") for whole in container.get("envFrom", [])]
    for volume in item.spec.get("volumes", []):
        if "configMap" in volume:
            found.append(("ConfigMap", volume["configMap"]["name"], ""))
        if "secret" in volume:
            found.append(("Secret", volume["secret"]["secretName"], ""))
        if "persistentVolumeClaim" in volume:
            found.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], ""))
    return found


def test_volumes_are_mounted_and_mounts_have_volumes(manifests: list[Manifest]) -> None:
    for item in pods(manifests):
        mounted = {mount["name"] for container in item.containers for mount in container.get("volumeMounts", [])}
        assert mounted == item.volumes(), item.name
        for container in item.containers:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(set(paths)) == len(paths), f"{item.name} mounts twice at one path"


def test_no_variable_and_no_port_is_there_twice(manifests: list[Manifest]) -> None:
    for item in pods(manifests):
        for container in item.containers:
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(set(names)) == len(names)
        numbers = [port["containerPort"] for container in item.containers for port in container.get("ports", [])]
        assert len(set(numbers)) == len(numbers)
        assert len({container["name"] for container in item.containers}) == len(item.containers)


def test_every_model_has_a_pool_that_is_deployed(ci: str, manifests: list[Manifest]) -> None:
    deployed = {item.labels["muleteer.dev/pool"] for item in pods(manifests) if item.component == "worker"}
    assert deployed == set(values_of(ci)["pools"])
    assert {entry.get("pool", "default") for entry in catalog_values(values_of(ci)).values()} <= deployed
    for item in pods(manifests):
        if item.component == "worker":
            assert item.environment()["MULETEER_POOL"] == item.labels["muleteer.dev/pool"]
            assert item.owner["metadata"]["name"].endswith(f"-worker-{item.labels['muleteer.dev/pool']}")
