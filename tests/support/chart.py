"""The chart, rendered with the real helm: manifests as Kubernetes would get them, and the words of a refusal."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from support.kube_tools import tool

CHART = Path(__file__).parents[2] / "charts" / "muleteer"
CI = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
RELEASE, NAMESPACE = "rel", "some-namespace"

Manifest = dict[str, Any]
Labels = Mapping[str, str]


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # chosen at run time
    """YAML in which a key that is there twice is an error: Kubernetes would keep only one of them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{sorted(twice)} twice in a mapping that begins at line {node.start_mark.line + 1}"
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


@dataclass(frozen=True)
class Done:
    """What helm said."""

    code: int
    stdout: str
    stderr: str

    @property
    def all(self) -> str:
        """Both outputs, with white space as single spaces, so that line breaks do not hide words."""
        return " ".join(f"{self.stdout}\n{self.stderr}".split())


def helm(*words: str, stdin: str | None = None, binary: str = "helm") -> Done:
    """Run helm where it finds no cluster and no settings of whoever runs the tests."""
    with tempfile.TemporaryDirectory() as home:
        # A process that lives for a tenth of a second needs no garbage collector: that halves its time.
        runtime = {"GOGC": "off", "GOMAXPROCS": "1"}
        environment = {"PATH": os.defpath, "HOME": home, "KUBECONFIG": os.devnull, **runtime}
        done = subprocess.run(
            [tool(binary), *words], input=stdin, capture_output=True, text=True, env=environment, check=False
        )
    return Done(done.returncode, done.stdout, done.stderr)


def template(
    values: Mapping[str, Any] | None = None,
    *flags: str,
    ci: str = "default",
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    binary: str = "helm",
) -> Done:
    """Run ``helm template`` with a file of ``ci/``, and ``values`` on top of it."""
    given = json.dumps(values or {})
    words = ("template", release, str(CHART), "--namespace", namespace, "--values", str(CI[ci]), "--values", "-")
    return helm(*words, *flags, stdin=given, binary=binary)


def render(values: Mapping[str, Any] | None = None, *flags: str, **where: str) -> list[Manifest]:
    """Return the objects rendered. The same call gives the same list, which must not be changed."""
    return _render(json.dumps(values or {}, sort_keys=True), flags, tuple(sorted(where.items())))


@cache
def _render(values: str, flags: tuple[str, ...], where: tuple[tuple[str, str], ...]) -> list[Manifest]:
    done = template(json.loads(values), *flags, **dict(where))
    assert done.code == 0, done.stderr
    return parse(done.stdout)


def parse(text: str) -> list[Manifest]:
    """Return the objects in a YAML stream."""
    return [document for document in yaml.load_all(text, Loader=_StrictLoader) if document]


def refusal(values: Mapping[str, Any], **where: str) -> str:
    """Return, in one line, why helm refuses these values. Fails if it does not."""
    done = template(values, **where)
    assert done.code != 0, f"helm takes {json.dumps(values)}"
    return " ".join(done.stderr.split())


@cache
def values_of(ci: str = "default") -> dict[str, Any]:
    """Return values.yaml with a file of ``ci/`` on top of it, as helm merges them."""
    merged: dict[str, Any] = merge(
        yaml.safe_load((CHART / "values.yaml").read_text()), yaml.safe_load(CI[ci].read_text())
    )
    return merged


def merge(base: Any, over: Any) -> Any:
    """Return ``over`` on top of ``base``: maps in maps, everything else whole."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    merged = base | over
    return {key: merge(base[key], over[key]) if key in base and key in over else merged[key] for key in merged}


def pool_values(values: Mapping[str, Any], pool: str) -> dict[str, Any]:
    """Return the settings of a pool: ``worker``, and on top of it what ``pools`` says."""
    settings: dict[str, Any] = merge(values["worker"], values["pools"][pool] or {})
    return settings


def catalog_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the models that are served."""
    models: dict[str, Any] = values["models"]["catalog"] or values["models"]["examples"]
    return models


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Return the objects of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the object of that kind whose name ends so; there must be exactly one."""
    found = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"].endswith(name)]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} have names that end with {name}"
    return found[0]


@dataclass(frozen=True)
class PodTemplate:
    """A pod as one of the objects makes it."""

    owner: Manifest
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """Kind and name of what makes it."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def component(self) -> str:
        """Component: gateway, worker, valkey or test."""
        return self.labels["app.kubernetes.io/component"]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All its containers, those that initialise it first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def main(self) -> dict[str, Any]:
        """Its only container that stays."""
        (container,) = self.spec["containers"]
        return dict(container)

    def ports(self) -> dict[str, int]:
        """Return its named ports."""
        return {port["name"]: port["containerPort"] for item in self.containers for port in item.get("ports", [])}

    def environment(self) -> dict[str, str]:
        """Return the variables of its main container that have a text as value."""
        return {item["name"]: item["value"] for item in self.main.get("env", []) if "value" in item}

    def volumes(self) -> set[str]:
        """Return the names of its volumes, a StatefulSet's claims among them."""
        claims = self.owner["spec"].get("volumeClaimTemplates", []) if self.owner["kind"] == "StatefulSet" else []
        return {volume["name"] for volume in self.spec.get("volumes", [])} | {
            item["metadata"]["name"] for item in claims
        }


def pods(manifests: list[Manifest]) -> list[PodTemplate]:
    """Return every pod that the objects make."""
    return list(_pods(manifests))


def _pods(manifests: list[Manifest]) -> Iterator[PodTemplate]:
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            metadata, spec = manifest["metadata"], manifest["spec"]
        elif "template" in manifest.get("spec", {}):
            metadata, spec = manifest["spec"]["template"]["metadata"], manifest["spec"]["template"]["spec"]
        else:
            continue
        yield PodTemplate(manifest, metadata["labels"], metadata.get("annotations", {}), spec)


def pod(manifests: list[Manifest], component: str, pool: str = "") -> PodTemplate:
    """Return the pod of a component, and for workers of a pool; there must be exactly one."""
    (found,) = [
        item
        for item in pods(manifests)
        if item.component == component and (not pool or item.labels.get("muleteer.dev/pool") == pool)
    ]
    return found


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Tell whether a label selector (matchLabels, matchExpressions) takes these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for item in selector.get("matchExpressions", []):
        key, values = item["key"], item.get("values", [])
        fits = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not fits[item["operator"]]:
            return False
    return True


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as 1m30s."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    total, number, rest = 0.0, "", duration
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        number, rest = rest[:digits], rest[digits:]
        unit = next(name for name in units if rest.startswith(name))
        total, rest = total + int(number) * units[unit], rest[len(unit) :]
    return total
