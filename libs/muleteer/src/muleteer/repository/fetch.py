"""Fetching versions: local folders are used in place, anything else is downloaded once into a cache."""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muleteer.errors import ModelLoadError, RepositoryError
from muleteer.repository.checksums import entry_file, member_path, verify_checksums
from muleteer.repository.location import Location, local_folder, repository_errors
from muleteer.repository.manifest import MANIFEST, Manifest, read_manifest

log = logging.getLogger(__name__)


def fetch_manifest(uri: str, cache_dir: Path) -> Manifest:
    """Return the manifest of the version at ``uri``; nothing else of it is read.

    While a repository cannot be reached, the copy in ``cache_dir`` serves. Raises RepositoryError when there is
    neither, and ModelLoadError (reason ``manifest``) when ``model.yaml`` is missing or wrong.
    """
    return read_manifest(_manifest_folder(uri, cache_dir))


def fetch_version(uri: str, cache_dir: Path) -> Path:
    """Return a local folder that holds the version at ``uri``.

    A local folder is returned as it is. From any other place ``model.yaml`` and the files it names are downloaded,
    checked against their checksums and only then moved into ``cache_dir`` in one step, so that processes may fetch the
    same version at once and a cached folder is never half there. Raises RepositoryError when the repository cannot be
    reached and ModelLoadError (reason ``manifest`` or ``checksum``) when what it holds is wrong.
    """
    manifest_folder = _manifest_folder(uri, cache_dir)
    if local_folder(uri) is not None:
        return manifest_folder
    content = (manifest_folder / MANIFEST).read_bytes()
    target = cache_dir / "versions" / _digest(uri.encode(), content)
    if target.is_dir():
        return target
    with _alone(target):
        if not target.is_dir():
            started = time.monotonic()
            partial = target.with_name(f".partial-{target.name}")
            shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
            partial.mkdir()
            (partial / MANIFEST).write_bytes(content)
            try:
                _download(uri, partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            log.info("Fetched %s in %.1f s", uri, time.monotonic() - started)
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one process at a time work on a cached version: the others wait and find it there, downloaded once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".lock-{target.name}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the system lets go of it when the file is closed or the process dies
        yield


def evict_version(folder: Path, cache_dir: Path) -> bool:
    """Remove a fetched version from the cache, so that the next fetch downloads it again.

    Returns False, and leaves everything alone, for a folder that is not in the cache.
    """
    if folder.parent != cache_dir / "versions":
        return False
    with _alone(folder):
        # Renamed first: a process must never find half a folder under the final name.
        aside = folder.with_name(f".partial-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        if folder.is_dir():
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
    return True


def _manifest_folder(uri: str, cache_dir: Path) -> Path:
    """Return a local folder with the version's ``model.yaml``: the version's own, or a copy's in the cache."""
    folder = local_folder(uri)
    if folder is not None:
        if not folder.is_dir():
            raise RepositoryError(f"{uri} does not exist, or is not a folder")
        return folder
    folder = cache_dir / "manifests" / _digest(uri.encode())
    copy = folder / MANIFEST
    try:
        location = Location.open(uri)
        with repository_errors(uri):
            content = location.read(MANIFEST)
    except RepositoryError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ModelLoadError(f"{uri}/{MANIFEST} is missing", reason="manifest") from error
        if not copy.is_file():
            raise
        log.warning("%s; the cached %s is used", error.message, MANIFEST)
        return folder
    if not copy.is_file() or copy.read_bytes() != content:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".partial-", dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(copy)
    return folder


def _download(uri: str, folder: Path) -> None:
    """Download what the ``model.yaml`` in ``folder`` names beside it, and check it."""
    manifest = read_manifest(folder)
    names = dict.fromkeys([manifest.artifact, *manifest.files])
    if entry := entry_file(manifest):
        names[entry] = None
    for name in names:
        member_path(folder, name)
    location = Location.open(uri)
    with repository_errors(uri):
        for file in dict.fromkeys(file for name in names for file in location.files(name)):
            location.download(file, member_path(folder, file))
    verify_checksums(folder, manifest)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
