"""Pushing a version folder into a model repository."""

import os
import shutil
from pathlib import Path

from muleteer.errors import RepositoryError
from muleteer.repository.checksums import entry_file, files_below, member_path, verify_checksums
from muleteer.repository.location import Location, local_folder, repository_errors
from muleteer.repository.manifest import MANIFEST, Manifest, read_manifest


def push_version(folder: Path, repository: str) -> str:
    """Copy a version folder to ``<repository>/<name>/<version>`` and return that URI.

    Only what ``model.yaml`` names is copied, and ``model.yaml`` last: a version that can be seen is complete. Pushing
    the same version again changes nothing. Raises ModelLoadError when the folder's manifest or checksums are wrong and
    RepositoryError when the repository cannot be written or already holds another version of that name.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    verify_checksums(folder, manifest)
    content = (folder / MANIFEST).read_bytes()
    uri = f"{repository.rstrip('/')}/{manifest.name}/{manifest.version}"
    local = local_folder(uri)
    there = _present(uri, local)
    if there == content:
        return uri
    if there is not None:
        raise RepositoryError(
            f"{uri} already holds another version {manifest.version!r} of {manifest.name}: versions never change, "
            f"so give this one a new `version` in {MANIFEST}"
        )
    sources = _members(folder, manifest)
    if local is not None:
        _push_local(folder, sources, local, content)
    else:
        location = Location.open(uri)
        with repository_errors(uri):
            for source in [*sources, folder / MANIFEST]:
                location.upload(source, source.relative_to(folder).as_posix())
    return uri


def _present(uri: str, local: Path | None) -> bytes | None:
    """Return the ``model.yaml`` that ``uri`` holds already, or None."""
    try:
        if local is not None:
            return (local / MANIFEST).read_bytes()
        location = Location.open(uri)
        with repository_errors(uri):
            return location.read(MANIFEST)
    except FileNotFoundError:
        return None
    except RepositoryError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _members(folder: Path, manifest: Manifest) -> list[Path]:
    """Return the files that ``model.yaml`` names, each once; folders as the files below them."""
    names = [manifest.artifact, *manifest.files]
    if entry := entry_file(manifest):
        names.append(entry)
    paths = [member_path(folder, name) for name in names]
    return list(dict.fromkeys(file for path in paths for file in (files_below(path) if path.is_dir() else [path])))


def _push_local(folder: Path, sources: list[Path], target: Path, manifest: bytes) -> None:
    with repository_errors(str(target)):
        for source in sources:
            path = target / source.relative_to(folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        temporary = target / f".{MANIFEST}.{os.getpid()}"
        temporary.write_bytes(manifest)
        temporary.replace(target / MANIFEST)
