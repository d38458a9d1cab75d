"""A catalog made from a folder of version folders: every model in it, the newest version as the default."""

import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from muleteer.catalog.model import Catalog, ModelEntry, VersionEntry
from muleteer.errors import CatalogError
from muleteer.repository.manifest import MANIFEST


def catalog_of_folder(folder: Path) -> Catalog:
    """Return the catalog of every ``<model>/<version>/model.yaml`` below ``folder``.

    Raises CatalogError if there is none, or a folder's name cannot be a model's or version's.
    """
    if (folder / MANIFEST).exists():
        raise CatalogError(
            f"{folder} is one version folder; give the repository that holds <model>/<version>/ folders "
            f"(`muleteer push {folder} REPOSITORY` makes one)."
        )
    versions: dict[str, list[str]] = {}
    for manifest in sorted(folder.glob(f"*/*/{MANIFEST}")):
        versions.setdefault(manifest.parent.parent.name, []).append(manifest.parent.name)
    if not versions:
        raise CatalogError(f"{folder} holds no model: expected <model>/<version>/{MANIFEST} in it.")
    try:
        models = {
            name: ModelEntry(versions=dict.fromkeys(found, VersionEntry()), default=max(found, key=age_key))
            for name, found in versions.items()
        }
        return Catalog(repository=str(folder.resolve()), models=models)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise CatalogError(f"{folder}: the folder name {wrong['input']!r} cannot be used: {wrong['msg']}") from error


def age_key(version: str) -> list[tuple[int, int, str]]:
    """Return what sorts versions by age: numbers in a name count as numbers, so that 10 is newer than 9."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[^\d.]+", version)]


def write_catalog(catalog: Catalog, path: Path) -> None:
    """Write a catalog as the YAML file that the services read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = catalog.model_dump(mode="json", exclude_defaults=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(yaml.safe_dump(document, sort_keys=False))
    temporary.replace(path)
