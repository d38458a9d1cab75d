"""The catalog file: read in one go, refused in one line, reloaded without ever losing the last good one."""

import logging
from pathlib import Path

import pytest

from muleteer.catalog import CatalogSource, read_catalog
from muleteer.errors import CatalogError

GOOD = """
repository: models
models:
  sentiment:
    versions: {1: {}, 1.10: {uri: "s3://bucket/sentiment"}, old: {uri: ../elsewhere}}
    traffic: {1: 0.9, 1.10: 0.1}
    aliases: {champion: 1}
    timeout: 2.5
    batching: {max_rows: 128}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str) -> str:
    path = write(tmp_path / "catalog.yaml", text)
    with pytest.raises(CatalogError) as caught:
        read_catalog(path)
    message = caught.value.message
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_versions_written_as_numbers_keep_their_text(tmp_path: Path) -> None:
    entry = read_catalog(write(tmp_path / "catalog.yaml", GOOD)).model("sentiment")

    assert list(entry.versions) == ["1", "1.10", "old"]
    assert entry.traffic == {"1": 0.9, "1.10": 0.1}
    assert entry.aliases == {"champion": "1"}
    assert (entry.timeout, entry.batching.max_rows) == (2.5, 128)


def test_relative_places_are_taken_from_the_catalogs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    path = write(tmp_path / "conf" / "catalog.yaml", GOOD)
    monkeypatch.chdir(tmp_path)

    for spelled in (path, Path("conf/catalog.yaml")):
        catalog = read_catalog(spelled)
        assert catalog.version_uri("sentiment", "1") == str(tmp_path / "conf" / "models" / "sentiment" / "1")
        assert catalog.version_uri("sentiment", "old") == str(tmp_path / "elsewhere")
        assert catalog.version_uri("sentiment", "1.10") == "s3://bucket/sentiment"


def test_a_url_as_repository_stays_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "catalog.yaml", "repository: s3://bucket/models/\nmodels: {a: {versions: {1: }}}\n")

    assert read_catalog(path).version_uri("a", "1") == "s3://bucket/models/a/1"


def test_a_version_needs_no_settings_and_a_catalog_no_models(tmp_path: Path) -> None:
    assert read_catalog(write(tmp_path / "a.yaml", "models:\n  a:\n    versions:\n      1:\n")).model("a").versions
    assert read_catalog(write(tmp_path / "b.yaml", "models:\n")).models == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: {a: {versions: {1: }, trafic: {1: 1}}}", "models.a.trafic: there is no such setting; did you mean"),
        ("models: {a: {versions: {1: }, timeout: soon}}", "models.a.timeout: input should be a valid number"),
        ("models: {a: {versions: {1: }, default: 2}}", "models.a: default names version '2', which is not among"),
        ("models: {a: {versions: {1: }, traffic: {1: -1}}}", "models.a: shares in `traffic` must not be negative"),
        ("models: {a: {versions: [1]}}", "models.a.versions: must be a mapping, not ['1']"),
        ("models: {a: {}}", "models.a.versions: is missing"),
        ("models: {A_b: {versions: {1: }}}", "models.A_b: the name 'A_b' is not allowed"),
        (
            "models: {a: {versions: {1: }, limits: {max_instances: 0}}}",
            "models.a.limits.max_instances: input should be",
        ),
        ("models: {a: {versions: {1: }}, a: {versions: {2: }}}", "not YAML: key 'a' is there twice"),
        ("models: [", "not YAML: "),
        ("just text", "the document: must be a mapping, not 'just text'"),
        ("", "the file is empty"),
        ("models: !!python/object/apply:os.getcwd []", "not YAML: could not determine a constructor"),
    ],
)
def test_a_wrong_catalog_is_refused_with_the_place_and_what_is_wanted(tmp_path: Path, text: str, expected: str) -> None:
    assert refusal(tmp_path, text).startswith(expected)


def test_every_wrong_place_is_named_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "models: {a: {versions: {1: }, timeout: x, pool: B_}, b: {}}")

    assert {part.split(":")[0] for part in message.split("; ")} == {
        "models.a.timeout",
        "models.a.pool",
        "models.b.versions",
    }


def test_a_catalog_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"catalog\.yaml cannot be read: no such file"):
        read_catalog(tmp_path / "catalog.yaml")
    (tmp_path / "catalog.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogError, match="not YAML"):
        CatalogSource(tmp_path / "catalog.yaml", 1)


def test_an_edit_is_taken_once(tmp_path: Path) -> None:
    path = write(tmp_path / "catalog.yaml", GOOD)
    source = CatalogSource(path, poll_seconds=3600)
    assert not source.poll()

    write(path, GOOD.replace("timeout: 2.5", "timeout: 25.0"))

    assert source.poll()
    assert source.current.model("sentiment").timeout == 25
    assert not source.poll()


def test_an_edit_that_changes_nothing_but_a_comment_is_not_a_new_catalog(tmp_path: Path) -> None:
    path = write(tmp_path / "catalog.yaml", GOOD)
    source = CatalogSource(path, 0)

    write(path, GOOD + "# a comment\n")

    assert not source.poll()
    assert source.problem is None


def test_a_broken_edit_keeps_the_last_good_catalog_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    path = write(tmp_path / "catalog.yaml", GOOD)
    source = CatalogSource(path, 0)

    write(path, "models: [")
    assert [source.poll() for _ in range(3)] == [False] * 3

    assert source.current.model("sentiment").timeout == 2.5
    assert source.problem is not None
    assert "not YAML" in source.problem
    assert [record.getMessage() for record in caplog.records] == [
        f"Catalog refused, the last good one stays in use: {source.problem}"
    ]
    write(path, "models: {a: 1}")
    source.poll()
    assert len(caplog.records) == 2


def test_going_back_to_the_last_good_content_clears_the_problem(tmp_path: Path) -> None:
    path = write(tmp_path / "catalog.yaml", GOOD)
    source = CatalogSource(path, 0)
    write(path, "models: [")
    source.poll()

    write(path, GOOD)

    assert not source.poll()
    assert source.problem is None


def test_a_file_that_disappears_and_comes_back_is_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "catalog.yaml", GOOD)
    source = CatalogSource(path, 0)
    path.unlink()

    assert [source.poll(), source.poll()] == [False, False]
    assert source.problem is not None
    assert "cannot be read" in source.problem
    assert len(caplog.records) == 1

    write(path, GOOD.replace("2.5", "3.5"))
    assert source.poll()
    assert source.problem is None


def test_a_configmaps_symlink_swap_is_noticed(tmp_path: Path) -> None:
    """Kubernetes replaces the link ``..data``; the path that is read stays the same."""
    for name, timeout in (("first", "2.5"), ("second", "9.5")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "catalog.yaml", GOOD.replace("2.5", timeout))
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "catalog.yaml").symlink_to("..data/catalog.yaml")
    source = CatalogSource(tmp_path / "catalog.yaml", poll_seconds=3600)

    (tmp_path / "..new").symlink_to("second")
    (tmp_path / "..new").replace(tmp_path / "..data")

    assert source.poll()
    assert source.current.model("sentiment").timeout == 9.5
    assert source.current.repository == str(tmp_path / "models")


def test_an_edit_that_the_clock_hides_is_found_by_its_content(tmp_path: Path) -> None:
    import os

    path = write(tmp_path / "catalog.yaml", GOOD)
    source = CatalogSource(path, poll_seconds=0)
    before = path.stat()
    write(path, GOOD.replace("2.5", "4.5"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert source.poll()
