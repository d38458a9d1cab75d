"""Writing ``model.yaml``: what a training script calls when its artifact is saved."""

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from muleteer.errors import ModelLoadError
from muleteer.repository.checksums import artifact_sha256, entry_file, member_path
from muleteer.repository.manifest import MANIFEST, Manifest

_FRAMEWORK_LIBRARIES = {"sklearn": ("scikit-learn",)}
"""Libraries whose version decides whether an artifact of the framework still means the same."""


def write_manifest(folder: Path, values: Mapping[str, Any]) -> Manifest:
    """Write ``model.yaml`` into a version folder and return it.

    ``values`` are the manifest's fields; what can be worked out is filled in: ``sha256`` of the artifact, ``files``
    (names are enough; the entrypoint's file is added) and ``libraries`` (names are enough; by default scikit-learn
    for framework sklearn). Numpy numbers and arrays become plain ones. Raises ModelLoadError (reason ``manifest``)
    when a field is wrong, a file is missing or a library is not installed.
    """
    folder = Path(folder)
    document: dict[str, Any] = {str(key): _plain(value) for key, value in values.items()}
    # Checked once before any file is read, so that a forgotten field is reported as that and not as a missing file.
    draft = _validate(folder, {**document, "sha256": "0" * 64, "files": {}, "libraries": {}})
    names = list(document.get("files") or [])
    entry = entry_file(draft)
    if entry and entry not in names and not _covered(entry, draft.artifact):
        names.append(entry)
    document["sha256"] = _checksum(folder, draft.artifact)
    document["files"] = {name: _checksum(folder, name) for name in names}
    libraries = document.get("libraries", _FRAMEWORK_LIBRARIES.get(draft.framework, ()))
    document["libraries"] = _versions(libraries)
    manifest = _validate(folder, document)
    _write(folder / MANIFEST, manifest)
    return manifest


def _covered(name: str, artifact: str) -> bool:
    """Say whether a file's checksum is part of the artifact's."""
    return Path(name) == Path(artifact) or Path(artifact) in Path(name).parents


def _checksum(folder: Path, name: str) -> str:
    path = member_path(folder, name)
    try:
        return artifact_sha256(path)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror or error}", reason="manifest") from error


def _versions(libraries: Any) -> dict[str, str]:
    """Return distribution -> version; versions that were not given are those installed now."""
    given = dict(libraries) if isinstance(libraries, Mapping) else dict.fromkeys(libraries)
    versions = {}
    for name, version in given.items():
        try:
            versions[name] = str(version) if version else importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise ModelLoadError(f"libraries: {name!r} is not an installed distribution", reason="manifest") from error
    return versions


def _validate(folder: Path, document: dict[str, Any]) -> Manifest:
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        parts = [f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg'].lower()}" for e in error.errors()]
        raise ModelLoadError(f"{folder / MANIFEST}: " + "; ".join(parts), reason="manifest") from error


def _write(path: Path, manifest: Manifest) -> None:
    """Replace the file in one step: a reader sees the old one or the new one, never half of it."""
    text = yaml.safe_dump(
        manifest.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True, width=100
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _plain(value: Any) -> Any:
    """Return ``value`` with numpy scalars and arrays made plain (by their ``tolist``; numpy is not imported here)."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    return value.tolist() if hasattr(value, "tolist") else value
