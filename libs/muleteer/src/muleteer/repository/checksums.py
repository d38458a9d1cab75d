"""Checksums of artifacts: one sha256 for a file or for a whole folder."""

import hashlib
from pathlib import Path, PurePosixPath

from muleteer.errors import ModelLoadError
from muleteer.repository.manifest import MANIFEST, Manifest

BYTECODE = "__pycache__"
"""Folders that Python writes by itself: never part of an artifact."""


def member_path(folder: Path, relative: str) -> Path:
    """Return the path of a manifest's member inside its version folder.

    Raises ModelLoadError (reason ``manifest``) when ``relative`` is absolute, leads out of the folder or is the
    folder itself.
    """
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise ModelLoadError(
            f"{folder / MANIFEST}: {relative!r} must be a path inside the version folder", reason="manifest"
        )
    return folder.joinpath(*parts.parts)


def entry_file(manifest: Manifest) -> str | None:
    """Return the Python file that a manifest's ``entrypoint`` names, or None without one."""
    return manifest.entrypoint.partition(":")[0] if manifest.entrypoint else None


def files_below(path: Path) -> list[Path]:
    """Return every file below a folder in a stable order, without Python's bytecode caches."""
    files = [item for item in path.rglob("*") if item.is_file() and BYTECODE not in item.relative_to(path).parts]
    return sorted(files, key=lambda item: item.relative_to(path).as_posix().encode())


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifact_sha256(path: Path) -> str:
    """Return the sha256 of an artifact, in hex.

    A file's is that of its bytes. A folder's is the sha256 of one line ``<sha256>  <relative path>`` for each file,
    sorted by path as bytes: what ``sha256sum`` prints for them, so that a person can check it with standard tools.
    Raises FileNotFoundError when there is nothing at ``path``.
    """
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for item in files_below(path):
        digest.update(f"{file_sha256(item)}  {item.relative_to(path).as_posix()}\n".encode())
    return digest.hexdigest()


def verify_checksums(folder: Path, manifest: Manifest) -> None:
    """Check the artifact and every other file that the manifest names against its sha256.

    Raises ModelLoadError (reason ``checksum``) that names the first one that is missing or differs.
    """
    for name, expected in {**manifest.files, manifest.artifact: manifest.sha256}.items():
        path = member_path(folder, name)
        try:
            actual = artifact_sha256(path)
        except OSError as error:
            raise ModelLoadError(f"{path} cannot be read: {error.strerror or error}", reason="checksum") from error
        if actual != expected:
            raise ModelLoadError(
                f"{path} has sha256 {actual}, but {MANIFEST} says {expected}: the file is damaged or was changed",
                reason="checksum",
            )
