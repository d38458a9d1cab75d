"""A version takes traffic only after it was checked, loaded, proved and warmed up; if not, it says why in one line."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from muleteer.errors import ModelLoadError, PredictionFailedError
from muleteer.repository.golden import difference
from muleteer.repository.store import push_version, write_manifest
from muleteer_worker.readiness import LoadedVersion, prepare

DOUBLE = """
class Model:
    def predict(self, instances):
        return [{"twice": 2 * instance["x"]} for instance in instances]
"""
EXAMPLES = [{"instance": {"x": x}, "prediction": {"twice": 2.0 * x}} for x in (1, 2.5)]


def build(folder: Path, source: str = DOUBLE, **values: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(source)
    document = {"name": "toy", "version": "1", "framework": "python", "artifact": "model.py"}
    write_manifest(folder, {**document, "entrypoint": "model.py:Model", "examples": EXAMPLES, **values})
    return folder


def ready(folder: Path | str, model: str = "toy", version: str = "1", cache: Path = Path("unused")) -> LoadedVersion:
    return prepare(model, version, str(folder), cache, frozenset())


def refusal(folder: Path | str, **arguments: Any) -> tuple[str, str]:
    before = set(sys.modules)
    with pytest.raises(ModelLoadError) as caught:
        ready(folder, **arguments)
    assert "\n" not in caught.value.message
    assert [name for name in set(sys.modules) - before if name.startswith("muleteer_model_")] == []
    return caught.value.reason, caught.value.message


@pytest.fixture
def memory() -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    yield "memory://ready"
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def test_a_good_version_becomes_ready(tmp_path: Path) -> None:
    loaded = ready(build(tmp_path))

    assert (loaded.model, loaded.version, loaded.manifest.name) == ("toy", "1", "toy")
    assert 0 < loaded.load_seconds < 30
    assert loaded.predict([{"x": 3}, {"x": 4}]) == [{"twice": 6}, {"twice": 8}]
    loaded.unload()


def test_a_version_without_examples_becomes_ready_too(tmp_path: Path) -> None:
    ready(build(tmp_path, examples=[])).unload()


def test_golden_examples_are_predicted_alone_and_then_as_one_batch(tmp_path: Path) -> None:
    noting = (
        "class Model:\n    sizes = []\n    def predict(self, instances):\n"
        "        if instances == ['sizes']:\n            return [self.sizes]\n"
        "        self.sizes.append(len(instances))\n"
        "        return [{'twice': 2 * instance.pop('x')} for instance in instances]\n"
    )
    loaded = ready(build(tmp_path, noting))

    assert loaded.predict(["sizes"]) == [[1, 1, 2]]
    loaded.unload()


def test_a_golden_example_that_does_not_hold_says_what_was_expected_and_what_came(tmp_path: Path) -> None:
    folder = build(tmp_path, DOUBLE.replace("2 *", "3 *"))

    reason, message = refusal(folder)

    assert reason == "golden"
    assert message == "toy 1: golden example 0: prediction.twice: expected 2.0, got 3"


def test_a_model_that_is_right_alone_but_wrong_in_a_batch_is_refused(tmp_path: Path) -> None:
    source = DOUBLE.replace("2 * instance", "len(instances) ** 2 * 2 * instance")

    assert refusal(build(tmp_path, source)) == (
        "golden",
        "toy 1: all golden examples as one batch (example 0): prediction.twice: expected 2.0, got 8",
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("return [1]", "golden example 0: prediction: expected {'twice': 2.0}, got 1"),
        ("return []", "predict raised PredictionFailedError: The model answered 0 predictions for 1 instances."),
        ("return None", "predict raised PredictionFailedError: The model answered nothing"),
        ("return [float('nan')]", "predict raised PredictionFailedError: The prediction for instance 0 holds nan"),
        ("raise ValueError('two\\nlines')", "predict raised ValueError: two lines"),
        ("raise SystemExit(3)", "predict raised SystemExit: 3"),
    ],
)
def test_a_model_that_cannot_predict_its_golden_examples_is_refused(tmp_path: Path, source: str, expected: str) -> None:
    reason, message = refusal(build(tmp_path, f"class Model:\n    def predict(self, instances):\n        {source}\n"))

    assert reason == "golden"
    assert expected in message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("class Model:\n    def __init__(self):\n        raise OSError\n", "cannot be loaded: OSError"),
        ("def broken(:\n", "cannot be loaded: SyntaxError"),
        ("import sys\nsys.exit(4)\n", "cannot be loaded: SystemExit: 4"),
    ],
)
def test_whatever_loading_raises_is_told_in_one_line(tmp_path: Path, source: str, expected: str) -> None:
    reason, message = refusal(build(tmp_path, source))

    assert reason == "load"
    assert message.startswith("toy 1 cannot be loaded: ")
    assert expected in message


def test_an_unload_that_fails_as_well_does_not_hide_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = DOUBLE.replace("2 *", "3 *") + "    def unload(self):\n        raise RuntimeError('again')\n"

    assert refusal(build(tmp_path, source))[0] == "golden"
    assert "could not be unloaded either" in caplog.text


def test_a_changed_artifact_is_refused(tmp_path: Path) -> None:
    folder = build(tmp_path)
    (folder / "model.py").write_text(DOUBLE + "# changed\n")

    reason, message = refusal(folder)
    assert reason == "checksum"
    assert "model.py has sha256" in message


def test_the_catalogs_name_and_version_must_be_the_manifests(tmp_path: Path) -> None:
    folder = build(tmp_path)

    assert refusal(folder, model="other") == ("manifest", f"{folder} holds toy 1, but the catalog says other 1")
    assert refusal(folder, version="2") == ("manifest", f"{folder} holds toy 1, but the catalog says toy 2")


def test_a_version_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing")[0] == "repository"
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == ("manifest", f"{tmp_path}/empty/model.yaml is missing")


def test_libraries_must_agree_in_major_and_minor_version(tmp_path: Path) -> None:
    import numpy as np

    major, minor, _ = np.__version__.split(".", 2)
    ready(build(tmp_path, libraries={"numpy": f"{major}.{minor}.99"})).unload()

    reason, message = refusal(build(tmp_path, libraries={"numpy": "1.2.3", "no-such-thing": "4.5"}))
    assert reason == "library"
    assert f"it was trained with numpy 1.2.3, but {np.__version__} is installed" in message
    assert "no-such-thing 4.5 is needed and not installed" in message


def test_golden_examples_must_fit_the_schemas(tmp_path: Path) -> None:
    instance = {"type": "object", "properties": {"x": {"type": "string"}}}
    assert refusal(build(tmp_path, instance_schema=instance)) == (
        "schema",
        'toy 1: golden example 0 does not fit instance_schema: instance.x: 1 is not of type "string"',
    )
    reason, message = refusal(build(tmp_path, prediction_schema={"type": "number"}))
    assert (reason, "prediction_schema: prediction:" in message) == ("schema", True)
    reason, message = refusal(build(tmp_path, instance_schema={"type": "nonsense"}))
    assert (reason, "instance_schema is not a JSON Schema" in message) == ("schema", True)


def test_a_version_is_fetched_and_a_rotten_cached_copy_fetched_again(tmp_path: Path, memory: str) -> None:
    uri = push_version(build(tmp_path / "built"), memory)
    ready(uri, cache=tmp_path / "cache").unload()
    [cached] = (tmp_path / "cache" / "versions").glob("*/model.py")
    cached.write_text("rotten")

    loaded = ready(uri, cache=tmp_path / "cache")

    assert loaded.predict([{"x": 1}]) == [{"twice": 2}]
    loaded.unload()


def test_a_version_that_is_wrong_in_the_repository_is_refused_each_time(tmp_path: Path, memory: str) -> None:
    uri = push_version(build(tmp_path / "built"), memory)
    fsspec.filesystem("memory").pipe_file("/ready/toy/1/model.py", b"rotten")

    for _ in range(2):
        assert refusal(uri, cache=tmp_path / "cache")[0] == "checksum"
    document = yaml.safe_load((tmp_path / "built" / "model.yaml").read_text())
    fsspec.filesystem("memory").pipe_file("/ready/toy/1/model.yaml", yaml.safe_dump({**document, "x": 1}).encode())
    assert refusal(uri, cache=tmp_path / "cache")[0] == "manifest"


def test_more_or_fewer_predictions_than_instances_are_an_error(tmp_path: Path) -> None:
    loaded = ready(build(tmp_path, DOUBLE.replace("in instances]", "in instances[:2]]")))

    with pytest.raises(PredictionFailedError, match="answered 2 predictions for 3 instances"):
        loaded.predict([{"x": 1}] * 3)
    loaded.unload()


@pytest.mark.parametrize(
    ("expected", "got", "line"),
    [
        ({"a": [1, {"b": 2.0}]}, {"a": [1, {"b": 2.0000001}]}, None),
        (1, 1.0, None),
        (1e9, 1e9 + 1, None),
        (1e9, 1e9 + 9e3, "prediction: expected 1000000000.0, got 1000009000.0"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "prediction.a.1: expected 2, got 3"),
        ({"a": 1}, {"b": 1}, "prediction.a: expected 1, got nothing"),
        ({"a": 1}, {"a": 1, "b": 2}, "prediction.b: expected nothing, got 2"),
        ([1], [1, 2], "prediction: expected 1 items, got 2"),
        (True, 1, "prediction: expected True, got 1"),
        ("1", 1, "prediction: expected '1', got 1"),
        (None, None, None),
        ("a", "b", "prediction: expected 'a', got 'b'"),
    ],
)
def test_predictions_are_compared_through_their_whole_depth(expected: Any, got: Any, line: str | None) -> None:
    assert difference(expected, got, 1e-6) == line
