from pathlib import Path

import pytest

from muleteer.catalog.source import read_catalog
from muleteer.cli.folder_catalog import age_key, catalog_of_folder, write_catalog
from muleteer.errors import CatalogError


def make_version(repository: Path, model: str, version: str) -> Path:
    folder = repository / model / version
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text("name: x\n")
    return folder


def test_every_model_is_served_and_its_newest_version_answers(tmp_path: Path) -> None:
    for model, version in [("a", "9"), ("a", "10"), ("b", "1")]:
        make_version(tmp_path, model, version)
    (tmp_path / "a" / "notes").mkdir()
    catalog = catalog_of_folder(tmp_path)
    assert {name: list(entry.targets()) for name, entry in catalog.models.items()} == {"a": ["10"], "b": ["1"]}
    assert set(catalog.models["a"].versions) == {"9", "10"}
    assert catalog.version_uri("a", "10") == str(tmp_path / "a" / "10")


def test_the_written_catalog_reads_back_the_same(tmp_path: Path) -> None:
    make_version(tmp_path / "models", "a", "1.10")
    catalog = catalog_of_folder(tmp_path / "models")
    write_catalog(catalog, tmp_path / "state" / "catalog.yaml")
    assert read_catalog(tmp_path / "state" / "catalog.yaml") == catalog


@pytest.mark.parametrize(
    ("older", "newer"),
    [("9", "10"), ("1.9", "1.10"), ("v2", "v10"), ("1", "1.1"), ("2024-12-31", "2025-01-01"), ("1.0-rc1", "1.0-rc2")],
)
def test_numbers_in_versions_count_as_numbers(older: str, newer: str) -> None:
    assert age_key(older) < age_key(newer)


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="holds no model"):
        catalog_of_folder(tmp_path)


def test_a_version_folder_instead_of_a_repository_is_explained(tmp_path: Path) -> None:
    folder = make_version(tmp_path, "a", "1")
    with pytest.raises(CatalogError, match="is one version folder"):
        catalog_of_folder(folder)


def test_a_folder_name_that_no_model_can_have_is_named(tmp_path: Path) -> None:
    make_version(tmp_path, "My Model", "1")
    with pytest.raises(CatalogError, match="'My Model' cannot be used"):
        catalog_of_folder(tmp_path)
