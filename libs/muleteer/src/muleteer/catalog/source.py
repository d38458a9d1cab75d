"""The catalog file: reading it, and noticing when it changes."""

import difflib
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from muleteer.catalog.model import Batching, Catalog, Limits, ModelEntry, VersionEntry
from muleteer.errors import CatalogError

log = logging.getLogger(__name__)

_KEYS = sorted({name for part in (Batching, Catalog, Limits, ModelEntry, VersionEntry) for name in part.model_fields})


class _TextLoader(yaml.SafeLoader):
    """YAML whose scalars stay text: a version ``1.10`` must not become 1.1. Pydantic makes the numbers.

    A key given twice is an error; YAML would silently keep the last one.
    """

    # Null and merge (`<<`) keep their meaning; a new dict, because the parent's is shared by all loaders.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it as an instance variable
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and not key_node.tag.endswith(":merge"):
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"key {key_node.value!r} is there twice", problem_mark=key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def read_catalog(path: Path) -> Catalog:
    """Read a catalog file.

    A relative ``repository`` or version ``uri`` is taken from the catalog file's folder. Raises CatalogError with one
    line that names the file, each wrong place in it and what is wanted there.
    """
    return _parse(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _parse(path: Path, content: bytes) -> Catalog:
    try:
        document = yaml.load(content.decode(), Loader=_TextLoader)  # noqa: S506 - a SafeLoader that makes only text
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if document is None:
        raise CatalogError(f"{path}: the file is empty; it must hold at least `models`")
    _complete(document)
    try:
        catalog = Catalog.model_validate(document)
    except ValidationError as error:
        raise CatalogError(f"{path}: " + "; ".join(_explain(item) for item in error.errors())) from error
    return _resolve(catalog, path.absolute().parent)


def _complete(document: Any) -> None:
    """Let ``models:`` and ``"1":`` stand without a value: an empty mapping is what is meant."""
    if not isinstance(document, dict):
        return
    if document.get("models", ...) is None:
        document["models"] = {}
    for entry in _mappings(document.get("models")):
        versions = entry.get("versions")
        if isinstance(versions, dict):
            entry["versions"] = {name: {} if value is None else value for name, value in versions.items()}


def _mappings(value: Any) -> Iterator[dict[Any, Any]]:
    if isinstance(value, dict):
        yield from (item for item in value.values() if isinstance(item, dict))


def _explain(error: ErrorDetails) -> str:
    """Return one wrong place as ``models.sentiment.traffic: what is wanted``."""
    message = error["msg"].removeprefix("Value error, ")
    place = [str(part) for part in error["loc"]]
    if place and place[-1] == "[key]":
        return f"{'.'.join(place[:-1])}: the name {place[-2]!r} is not allowed: {message.lower()}"
    where = ".".join(place) or "the document"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(place[-1], _KEYS, n=1)
        return f"{where}: there is no such setting" + (f"; did you mean {close[0]!r}?" if close else "")
    if error["type"] == "missing":
        return f"{where}: is missing"
    if error["type"] in {"model_type", "dict_type", "model_attributes_type"}:
        return f"{where}: must be a mapping, not {error['input']!r:.60}"
    if error["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message[0].lower()}{message[1:]}, not {error['input']!r:.60}"


def _resolve(catalog: Catalog, folder: Path) -> Catalog:
    """Make relative places absolute, so that they mean the same wherever a process was started."""

    def absolute(uri: str) -> str:
        return uri if "://" in uri else os.path.normpath(folder / uri)

    models = {}
    for name, entry in catalog.models.items():
        versions = {
            version: item if item.uri is None else item.model_copy(update={"uri": absolute(item.uri)})
            for version, item in entry.versions.items()
        }
        models[name] = entry.model_copy(update={"versions": versions})
    return catalog.model_copy(update={"repository": absolute(catalog.repository), "models": models})


class CatalogSource:
    """A catalog file that may change: holds the last good catalog and looks for a new one when polled.

    ``poll_seconds`` is how often the content is compared even though the file's stat signature did not change (coarse
    file system clocks hide quick edits). There is no thread: callers poll. Raises CatalogError when the file cannot be
    used at first.
    """

    def __init__(self, path: Path, poll_seconds: float) -> None:
        self.path = path
        self.poll_seconds = poll_seconds
        self.problem: str | None = None
        """Why the file's present content was refused, in one line; None while it is the one in use."""
        self._signature = self._stat()
        content = _read(path)
        self._current = _parse(path, content)
        self._digest = self._accepted = hashlib.sha256(content).digest()
        self._read_at = time.monotonic()

    @property
    def current(self) -> Catalog:
        """The last good catalog."""
        return self._current

    def poll(self) -> bool:
        """Look whether the file changed; return True when a new valid catalog was taken.

        Cheap while nothing changes: one ``stat``, and a read every ``poll_seconds``. A broken edit keeps the last good
        catalog, is logged once and shown as ``problem``.
        """
        signature = self._stat()
        now = time.monotonic()
        if signature == self._signature and now - self._read_at < self.poll_seconds:
            return False
        self._signature, self._read_at = signature, now
        try:
            content = _read(self.path)
        except CatalogError as error:
            self._refuse(error, b"")
            return False
        digest = hashlib.sha256(content).digest()
        if digest == self._digest:
            return False
        if digest == self._accepted:
            self._digest, self.problem = digest, None
            return False
        try:
            catalog = _parse(self.path, content)
        except CatalogError as error:
            self._refuse(error, digest)
            return False
        changed = catalog != self._current
        self._current, self._digest, self._accepted, self.problem = catalog, digest, digest, None
        return changed

    def _refuse(self, error: CatalogError, digest: bytes) -> None:
        if digest != self._digest:
            log.error("Catalog refused, the last good one stays in use: %s", error.message)
        self._digest, self.problem = digest, error.message

    def _stat(self) -> tuple[int, ...] | None:
        # The link is followed: a ConfigMap changes by swapping a symlink further up, which gives another inode.
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
