"""The schema: closed at every level, in step with values.yaml, the README and what the services read."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_settings import BaseSettings

from muleteer.catalog import Batching, Limits, ModelEntry, VersionEntry
from muleteer_gateway.settings import GatewaySettings
from muleteer_worker.settings import WorkerSettings
from support.chart import CHART, merge, pod, render, template, values_of

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
FREE = {"extraObjects[]", "gateway.extraVolumes[]", "worker.extraVolumes[]", "global"} | {
    f"{place}.affinity.{kind}"
    for place in ("gateway", "worker", "valkey")
    for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")
}
"""Where any key goes: parts of Kubernetes' own API that pass through, and what Helm gives to every subchart."""

NAMED_BY_USERS = {
    "clientLimits",
    "catalog",
    "examples",
    "pools",
    "versions",
    "traffic",
    "aliases",
    "requests",
    "limits",
    "extraEnv",
} | {
    *("labels", "annotations", "commonLabels", "podLabels", "podAnnotations", "nodeSelector", "matchLabels"),
}
"""Maps whose keys are the user's; the schema gives a pattern for them, and a type for what they hold."""

UNDOCUMENTED = {
    # What a user adds to a list of the defaults, or sets besides them; the comment there says of what kind it is.
    *(f"{place}.podSecurityContext.supplementalGroups" for place in ("gateway", "worker", "valkey")),
    *(
        f"{place}.autoscaling.behavior.{way}.{key}"
        for place in ("gateway", "worker")
        for way in ("scaleUp", "scaleDown")
        for key in ("selectPolicy", "tolerance")
    ),
    "global",
}


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Return a node of the schema with references followed and ``allOf`` put together."""
    flat = {key: value for key, value in node.items() if key not in {"$ref", "allOf"}}
    parts = [*node.get("allOf", []), *([{"$ref": node["$ref"]}] if "$ref" in node and "allOf" in node else [])]
    if "$ref" in node:
        parts = [SCHEMA["definitions"][node["$ref"].rpartition("/")[2]]]
    for part in parts:
        flat = merge(resolve(part), flat)
    return flat


def objects(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every place of the schema where a map may stand; what users name is ``*``, an item of a list ``[]``."""
    node = resolve(node)
    types = node.get("type", [])
    if "object" in ([types] if isinstance(types, str) else types):
        yield path, node
    for key, child in node.get("properties", {}).items():
        yield from objects(child, f"{path}.{key}".removeprefix("."))
    for child in node.get("patternProperties", {}).values():
        yield from objects(child, f"{path}.*")
    if "items" in node:
        yield from objects(node["items"], f"{path}[]")


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every key of values.yaml with its value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key), item
            yield from places(item, (*path, key))


def at(path: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the schema's node for a key of values.yaml, None if there is none."""
    node = resolve(SCHEMA)
    for key in path:
        child = node.get("properties", {}).get(key)
        if child is None:
            child = next(iter(node.get("patternProperties", {}).values()), None)
        if child is None:
            return None
        node = resolve(child)
    return node


def test_every_map_is_closed_or_says_what_its_keys_look_like() -> None:
    named = set()
    for path, node in objects(SCHEMA):
        last = path.rpartition(".")[2]
        if (
            path.removeprefix("pools.*").replace("pools.*", "worker") in FREE
            or path.replace("pools.*", "worker") in FREE
        ):
            continue
        assert node.get("additionalProperties") is False, f"{path} takes any key"
        if "patternProperties" in node:
            named.add(last)
            for pattern, child in node["patternProperties"].items():
                assert pattern.startswith("^"), path
                assert pattern.endswith("$"), path
                assert resolve(child).get("type"), f"{path} takes anything as a value"
        else:
            assert node.get("properties"), f"{path} takes no key at all"
    assert named == NAMED_BY_USERS


def test_every_value_has_a_type() -> None:
    for path, node in objects(SCHEMA):
        for key, child in node.get("properties", {}).items():
            assert {"type", "enum"} & set(resolve(child)), f"{path}.{key} takes anything"


def test_every_key_of_the_values_is_in_the_schema() -> None:
    assert [".".join(path) for path, _ in places(values_of()) if at(path) is None] == []


def test_every_key_of_the_schema_is_in_the_values() -> None:
    missing = set()
    for path, value in [((), values_of()), *places(values_of())]:
        node = at(path)
        if node is None or not isinstance(value, dict) or path[:2] == ("models", "examples") or path[:1] == ("pools",):
            continue
        empty_on_purpose = not value and path
        if not empty_on_purpose:
            missing |= {".".join((*path, key)) for key in node.get("properties", {}) if key not in value}
    assert missing == UNDOCUMENTED


def test_a_pool_takes_exactly_what_the_workers_defaults_have() -> None:
    pool = resolve(next(iter(SCHEMA["properties"]["pools"]["patternProperties"].values())))
    assert set(pool["properties"]) == set(values_of()["worker"])


@pytest.mark.parametrize(
    ("component", "settings"), [("gateway", GatewaySettings), ("worker", WorkerSettings)], ids=["gateway", "worker"]
)
def test_settings_are_those_of_the_service_that_the_chart_does_not_set_itself(
    component: str, settings: type[BaseSettings]
) -> None:
    everything = {
        "gateway": {"apiKeys": {"existingSecret": "a"}, "callbacks": {"existingSecret": "b", "hosts": ["h"]}},
        "valkey": {"enabled": False},
        "redis": {
            "external": {
                "host": "r",
                "tls": True,
                "username": "u",
                "existingSecret": "c",
                "ca": {"existingSecret": "d"},
            }
        },
    }
    main = pod(render(everything), component).main
    own = {item["name"].removeprefix("MULETEER_").lower() for item in main["env"]}
    offered = at((component, "settings"))
    assert offered is not None
    wanted = settings.model_json_schema()["properties"]
    assert own <= set(wanted)
    assert {camel(name) for name in set(wanted) - own} == set(offered["properties"])
    for name in set(wanted) - own:
        assert bounds(offered["properties"][camel(name)]) == bounds(wanted[name]), name


@pytest.mark.parametrize(
    ("model", "path"),
    [(ModelEntry, ()), (Batching, ("batching",)), (Limits, ("limits",)), (VersionEntry, ("versions", "1"))],
)
def test_a_models_entry_is_what_the_catalog_reads(model: type[BaseModel], path: tuple[str, ...]) -> None:
    offered = at(("models", "catalog", "any", *path))
    assert offered is not None
    wanted = model.model_json_schema()["properties"]
    assert set(offered["properties"]) == set(wanted)
    for name, node in wanted.items():
        if {"type", "enum"} & set(node) and node["type"] != "object":
            assert bounds(offered["properties"][name]) == bounds(node), name


def camel(name: str) -> str:
    """Return a setting's name as values.yaml has it: max_wait_seconds is maxWaitSeconds."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def bounds(node: dict[str, Any]) -> dict[str, Any]:
    """Return what a schema says of a value, without words and defaults."""
    flat = resolve(node)
    kept = {key: value for key, value in flat.items() if key in {"type", "enum", "pattern", "items"}}
    limits = {key: flat[key] for key in ("minimum", "maximum", "exclusiveMinimum") if key in flat}
    if "items" in kept:
        kept["items"] = bounds(kept["items"])
    return kept | limits


def test_documentation_made_of_the_values_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, CHART / "docs.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_may_be_left_out_may_be_null() -> None:
    """``key: null`` takes a default away; where the schema allows that, the templates must live without it."""
    nulls: dict[str, Any] = {}
    for path, _ in places(values_of()):
        parent = at(path[:-1])
        optional = parent is not None and path[-1] not in parent.get("required", [])
        if optional and path[:2] != ("models", "examples") and path[:2] != ("pools", "default") and len(path) > 1:
            inner: Any = None
            for key in reversed(path):
                inner = {key: inner}
            nulls = merge(inner, nulls)
    # What a template then asks for, in a sentence: see test_refused_values.
    keep = {
        "worker": {"resources": {"requests": {"cpu": 1}}},
        "valkey": {"resources": {"limits": {"memory": "1Gi"}}, "image": {"tag": "8"}},
    }
    done = template(merge(nulls, keep))
    assert done.code == 0, done.stderr
