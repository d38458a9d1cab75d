"""Model libraries: imported only when a version needs them, and compared with what it was trained with."""

import importlib
import importlib.metadata
from typing import Any

from muleteer.errors import ModelLoadError
from muleteer.repository.manifest import Manifest


def require(module: str, distribution: str, extra: str | None = None) -> Any:
    """Import a library's module and return it.

    Raises ModelLoadError (reason ``library``) that names the distribution, and the extra of muleteer-worker that
    brings it, when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = f"muleteer-worker[{extra}]" if extra else distribution
        raise ModelLoadError(
            f"The library {distribution} is needed but cannot be imported ({error}): install {wanted}",
            reason="library",
        ) from error


def check_libraries(manifest: Manifest) -> None:
    """Compare the manifest's ``libraries`` with those installed: major and minor version must agree.

    Raises ModelLoadError (reason ``library``) that names every one that does not.
    """
    wrong = []
    for distribution, trained in manifest.libraries.items():
        try:
            installed = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{distribution} {trained} is needed and not installed")
            continue
        if _minor(installed) != _minor(trained):
            wrong.append(f"it was trained with {distribution} {trained}, but {installed} is installed")
    if wrong:
        raise ModelLoadError(
            f"{manifest.name} {manifest.version}: {'; '.join(wrong)}: install that version or train again",
            reason="library",
        )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
