"""What Skaffold makes of ``skaffold.yaml``: profiles laid over it, and the words that it gives to Helm."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "skaffold.yaml"


def with_profiles(*names: str) -> dict[str, Any]:
    """Return the configuration with profiles applied, in their own order as Skaffold does it."""
    document: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    for profile in document["profiles"]:
        if profile["name"] in names:
            _overlay(document["build"], profile.get("build", {}))
            for patch in profile.get("patches", []):
                _apply(document, patch)
    return document


def profile_names() -> list[str]:
    """Return the names of all profiles."""
    return [profile["name"] for profile in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["profiles"]]


def helm_words(release: dict[str, Any], built: dict[str, str]) -> list[str]:
    """Return Helm's arguments for a release; ``built`` are its images, name -> repository:tag[@digest]."""
    variables = {}
    for name, reference in built.items():
        image, _, digest = reference.partition("@")
        repository, _, tag = image.rpartition(":")
        suffix = re.sub(r"[/.-]", "_", name)
        variables |= {f"IMAGE_REPO_{suffix}": repository, f"IMAGE_TAG_{suffix}": tag, f"IMAGE_DIGEST_{suffix}": digest}
    words = []
    for key, value in release.get("setValues", {}).items():
        words += ["--set", f"{key}={value}"]
    for key, template in release.get("setValueTemplates", {}).items():
        words += ["--set", f"{key}={_expand(template, variables)}"]
    for path in release.get("valuesFiles", []):
        words += ["--values", path]
    return words


def _expand(template: str, variables: dict[str, str]) -> str:
    value = re.sub(r"\{\{\s*\.(\w+)\s*\}\}", lambda match: variables[match[1]], template)
    assert "{{" not in value, template
    return value


def _overlay(base: dict[str, Any], more: dict[str, Any]) -> None:
    # A profile's `local` replaces the other one as a whole.
    base.update(copy.deepcopy(more))


def _apply(document: dict[str, Any], patch: dict[str, Any]) -> None:
    *path, last = patch["path"].strip("/").split("/")
    place: Any = document
    for key in path:
        place = place[int(key)] if isinstance(place, list) else place[key]
    assert patch["op"] == "add", patch
    if isinstance(place, list):
        assert last == "-", patch
        place.append(copy.deepcopy(patch["value"]))
    else:
        assert last not in place, f"{patch['path']} is there already"
        place[last] = copy.deepcopy(patch["value"])
