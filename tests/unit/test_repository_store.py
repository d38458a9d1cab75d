"""Model repositories: written, pushed, fetched and checked, on a local folder, in memory and on an S3 endpoint."""

import multiprocessing
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from muleteer.errors import ModelLoadError, RepositoryError
from muleteer.repository.manifest import read_manifest
from muleteer.repository.store import (
    artifact_sha256,
    evict_version,
    fetch_manifest,
    fetch_version,
    push_version,
    verify_checksums,
    write_manifest,
)
from support.fetching import fetch_in_process


def make_version(folder: Path, text: str = "weights", **values: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.bin").write_text(text)
    (folder / "model.py").write_text("class Model: ...\n")
    document = {"name": "toy", "version": "1", "framework": "python", "artifact": "weights.bin"}
    write_manifest(folder, {**document, "entrypoint": "model.py:Model", **values})
    return folder


@pytest.fixture
def memory() -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    yield "memory://models"
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a real S3 endpoint, spoken to over HTTP."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket = f"bucket-{uuid.uuid4().hex}"  # moto's buckets outlive its server
    filesystem.mkdir(bucket)
    type(filesystem).clear_instance_cache()
    yield f"s3://{bucket}/models"
    type(filesystem).clear_instance_cache()
    server.stop()


@pytest.fixture(params=["local", "file", "memory", "s3"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "models")
    if request.param == "file":
        return f"file://{tmp_path}/models"
    return str(request.getfixturevalue(request.param))


def reason(caught: pytest.ExceptionInfo[ModelLoadError]) -> str:
    assert "\n" not in caught.value.message
    return caught.value.reason


# Writing


def test_a_written_manifest_has_checksums_and_library_versions(tmp_path: Path) -> None:
    import numpy as np

    values = {"libraries": ["numpy"], "metrics": {"accuracy": np.float64(0.75)}}
    manifest = read_manifest(make_version(tmp_path, **values))

    assert manifest.sha256 == artifact_sha256(tmp_path / "weights.bin")
    assert manifest.files == {"model.py": artifact_sha256(tmp_path / "model.py")}
    assert manifest.libraries == {"numpy": np.__version__}
    assert manifest.metrics == {"accuracy": 0.75}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.py", "model.yaml", "weights.bin"]


def test_numpy_values_in_golden_examples_are_written_as_plain_ones(tmp_path: Path) -> None:
    import numpy as np

    example = {"instance": {"x": np.float32(0.5)}, "prediction": np.array([1, 2])}
    make_version(tmp_path, examples=[example])

    [written] = yaml.safe_load((tmp_path / "model.yaml").read_text())["examples"]
    assert written == {"instance": {"x": 0.5}, "prediction": [1, 2]}


def test_sklearn_versions_record_scikit_learn_by_themselves(tmp_path: Path) -> None:
    assert list(make_manifest_libraries(tmp_path, framework="sklearn")) == ["scikit-learn"]
    assert make_manifest_libraries(tmp_path, framework="sklearn", libraries={}) == {}
    assert make_manifest_libraries(tmp_path, libraries={"numpy": "1.0"}) == {"numpy": "1.0"}


def make_manifest_libraries(folder: Path, **values: Any) -> dict[str, str]:
    return read_manifest(make_version(folder, **values)).libraries


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"artifact": "nothing.bin"}, "nothing.bin cannot be read"),
        ({"artifact": "../weights.bin"}, "must be a path inside the version folder"),
        ({"artifact": "."}, "must be a path inside the version folder"),
        ({"files": ["/etc/hostname"]}, "must be a path inside the version folder"),
        ({"libraries": ["no-such-library"]}, "'no-such-library' is not an installed distribution"),
        ({"framework": "fortran"}, "framework: "),
        ({"colour": "red"}, "colour: extra inputs are not permitted"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_not_written(tmp_path: Path, values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ModelLoadError, match=expected) as caught:
        make_version(tmp_path, **values)
    assert reason(caught) == "manifest"
    assert not (tmp_path / "model.yaml").exists()


# Checksums


def test_a_folders_checksum_is_what_sha256sum_says(tmp_path: Path) -> None:
    import subprocess

    for name in ("b.txt", "a/x.txt", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    said = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert artifact_sha256(tmp_path) == said.split()[0]


def test_a_folders_checksum_depends_on_names_and_bytes_but_not_on_bytecode(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = artifact_sha256(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("bytecode")
    assert artifact_sha256(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert artifact_sha256(tmp_path) != before


@pytest.mark.parametrize("damage", ["weights.bin", "model.py"])
def test_a_changed_or_missing_file_is_named(tmp_path: Path, damage: str) -> None:
    folder = make_version(tmp_path)
    manifest = read_manifest(folder)
    verify_checksums(folder, manifest)

    (folder / damage).write_text("changed")
    with pytest.raises(ModelLoadError, match=f"{damage} has sha256") as caught:
        verify_checksums(folder, manifest)
    assert reason(caught) == "checksum"

    (folder / damage).unlink()
    with pytest.raises(ModelLoadError, match=f"{damage} cannot be read: No such file"):
        verify_checksums(folder, manifest)


# Push and fetch


def test_what_was_pushed_is_fetched(repository: str, tmp_path: Path) -> None:
    folder = make_version(tmp_path / "built")
    (folder / "notes.txt").write_text("not named by the manifest")

    uri = push_version(folder, repository)
    fetched = fetch_version(uri, tmp_path / "cache")

    assert uri == f"{repository}/toy/1"
    assert fetch_manifest(uri, tmp_path / "cache") == read_manifest(folder)
    verify_checksums(fetched, read_manifest(fetched))
    assert sorted(path.name for path in fetched.iterdir()) == ["model.py", "model.yaml", "weights.bin"]


def test_an_artifact_that_is_a_folder_travels_whole(repository: str, tmp_path: Path) -> None:
    built = tmp_path / "built"
    (built / "net" / "deep").mkdir(parents=True)
    (built / "net" / "deep" / "weights").write_text("1")
    (built / "net" / "graph").write_text("2")
    make_version(built, artifact="net")

    fetched = fetch_version(push_version(built, repository), tmp_path / "cache")

    assert (fetched / "net" / "deep" / "weights").read_text() == "1"
    verify_checksums(fetched, read_manifest(fetched))


def test_pushing_the_same_version_again_changes_nothing_but_another_is_refused(repository: str, tmp_path: Path) -> None:
    folder = make_version(tmp_path / "built")
    assert push_version(folder, repository) == push_version(folder, repository)

    make_version(folder, "other weights")
    with pytest.raises(RepositoryError, match="already holds another version '1' of toy"):
        push_version(folder, repository)
    assert push_version(make_version(folder, "other weights", version="2"), repository) == f"{repository}/toy/2"


def test_a_damaged_version_is_not_pushed(tmp_path: Path, memory: str) -> None:
    folder = make_version(tmp_path)
    (folder / "weights.bin").write_text("damaged")

    with pytest.raises(ModelLoadError, match="has sha256"):
        push_version(folder, memory)
    assert fsspec.filesystem("memory").find("/models") == []


def test_a_local_version_is_used_in_place(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "built")

    assert fetch_version(str(folder), tmp_path / "cache") == folder
    assert fetch_version(f"file://{folder}", tmp_path / "cache") == folder
    assert not (tmp_path / "cache").exists()


def test_a_fetched_version_is_downloaded_once(tmp_path: Path, memory: str) -> None:
    uri = push_version(make_version(tmp_path / "built"), memory)
    first = fetch_version(uri, tmp_path / "cache")
    fsspec.filesystem("memory").rm("/models/toy/1/weights.bin")

    assert fetch_version(uri, tmp_path / "cache") == first


def test_a_replaced_version_is_fetched_anew(tmp_path: Path, memory: str) -> None:
    """Versions must not change, but on a developer's machine they do: the manifest's content is part of the key."""
    uri = push_version(make_version(tmp_path / "built"), memory)
    first = fetch_version(uri, tmp_path / "cache")
    fsspec.filesystem("memory").rm("/models", recursive=True)
    push_version(make_version(tmp_path / "built", "retrained"), memory)

    second = fetch_version(uri, tmp_path / "cache")

    assert second != first
    assert (second / "weights.bin").read_text() == "retrained"


def test_a_damaged_download_never_enters_the_cache(tmp_path: Path, memory: str) -> None:
    uri = push_version(make_version(tmp_path / "built"), memory)
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/models/toy/1/weights.bin", b"dam")
    for _ in range(2):
        with pytest.raises(ModelLoadError, match="has sha256") as caught:
            fetch_version(uri, tmp_path / "cache")
        assert reason(caught) == "checksum"

    filesystem.pipe_file("/models/toy/1/weights.bin", b"weights")
    assert (fetch_version(uri, tmp_path / "cache") / "weights.bin").read_text() == "weights"
    assert [path.name for path in (tmp_path / "cache" / "versions").iterdir() if "partial" in path.name] == []


def test_an_evicted_version_is_downloaded_again(tmp_path: Path, memory: str) -> None:
    uri = push_version(make_version(tmp_path / "built"), memory)
    folder = fetch_version(uri, tmp_path / "cache")
    (folder / "weights.bin").write_text("rotten")

    assert evict_version(folder, tmp_path / "cache")
    assert (fetch_version(uri, tmp_path / "cache") / "weights.bin").read_text() == "weights"
    assert not evict_version(tmp_path / "built", tmp_path / "cache")
    assert (tmp_path / "built").is_dir()


def test_a_manifest_is_served_from_the_cache_while_the_repository_is_away(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import s3fs

    uri = push_version(make_version(tmp_path / "built"), s3)
    folder = fetch_version(uri, tmp_path / "cache")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    assert fetch_manifest(uri, tmp_path / "cache").version == "1"
    assert fetch_version(uri, tmp_path / "cache") == folder
    assert "the cached model.yaml is used" in caplog.text
    with pytest.raises(RepositoryError, match="/toy/2 cannot be reached"):
        fetch_manifest(f"{s3}/toy/2", tmp_path / "cache")


def test_a_version_that_is_not_there_is_said_to_be_missing(repository: str, tmp_path: Path) -> None:
    if "://" in repository and not repository.startswith("file"):
        with pytest.raises(ModelLoadError, match=r"toy/9/model\.yaml is missing"):
            fetch_version(f"{repository}/toy/9", tmp_path / "cache")
    else:
        with pytest.raises(RepositoryError, match="toy/9 does not exist"):
            fetch_version(f"{repository}/toy/9", tmp_path / "cache")


def test_a_file_that_the_repository_lacks_is_named(tmp_path: Path, memory: str) -> None:
    uri = push_version(make_version(tmp_path / "built"), memory)
    fsspec.filesystem("memory").rm("/models/toy/1/weights.bin")

    with pytest.raises(RepositoryError, match=r"does not exist, or not all of it does: .*weights\.bin"):
        fetch_version(uri, tmp_path / "cache")


def test_a_protocol_that_is_not_known_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="nonsense://a/b cannot be reached: ValueError: Protocol not known"):
        fetch_version("nonsense://a/b", tmp_path)
    with pytest.raises(RepositoryError, match=r"gs://a/b cannot be reached: install the fsspec package for it"):
        fetch_manifest("gs://a/b", tmp_path)


def test_a_manifest_cannot_make_a_download_leave_its_folder(tmp_path: Path, memory: str) -> None:
    uri = push_version(make_version(tmp_path / "built"), memory)
    document = yaml.safe_load((tmp_path / "built" / "model.yaml").read_text())
    document["files"] = {"../../escaped": "0" * 64}
    fsspec.filesystem("memory").pipe_file("/models/toy/1/model.yaml", yaml.safe_dump(document).encode())

    with pytest.raises(ModelLoadError, match="must be a path inside the version folder"):
        fetch_version(uri, tmp_path / "cache")


def test_processes_that_fetch_the_same_version_at_once_all_get_it_whole(s3: str, tmp_path: Path) -> None:
    uri = push_version(make_version(tmp_path / "built", "w" * 2_000_000), s3)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=fetch_in_process, args=(uri, tmp_path / "cache", results)) for _ in range(3)]
    for process in processes:
        process.start()
    folders = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0

    [folder] = folders
    verify_checksums(Path(folder), read_manifest(Path(folder)))


def test_a_version_can_be_fetched_over_http_without_a_listing(tmp_path: Path) -> None:
    import http.server
    import threading
    from functools import partial

    make_version(tmp_path / "built")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        folder = fetch_version(f"http://127.0.0.1:{server.server_port}/built", tmp_path / "cache")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    verify_checksums(folder, read_manifest(folder))
