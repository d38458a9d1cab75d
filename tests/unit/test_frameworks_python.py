"""Any Python class: found by its entrypoint, kept apart from other versions, and only checked code is run."""

import sys
from pathlib import Path
from typing import Any

import pytest

from muleteer.errors import ModelLoadError
from muleteer.repository.store import write_manifest
from muleteer_worker.frameworks import Adapter, make_adapter

FULL = '''
class Model:
    """Repeats what its artifact says."""

    def load(self, context):
        self.word = (context.folder / context.manifest.artifact).read_text()
        self.times = context.manifest.parameters["times"]

    def predict(self, instances):
        return [self.word * self.times + instance["text"] for instance in instances]

    def unload(self):
        self.word = None
'''

PLAIN = "class Model:\n    def predict(self, instances):\n        return [len(i) for i in instances]\n"


def adapter_for(folder: Path, source: str, **values: Any) -> Adapter:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(source)
    (folder / "word.txt").write_text(values.pop("word", "x"))
    document = {"name": "toy", "version": "1", "framework": "python", "artifact": "word.txt"}
    manifest = write_manifest(folder, {**document, "entrypoint": "model.py:Model", **values})
    return make_adapter(folder, manifest, frozenset())


def loaded_models() -> set[str]:
    return {name for name in sys.modules if name.startswith("muleteer_model_")}


def test_a_class_is_told_its_folder_and_manifest(tmp_path: Path) -> None:
    before = loaded_models()
    adapter = adapter_for(tmp_path, FULL, word="ha", parameters={"times": 2}, output={"field": "res"})
    adapter.load()

    assert adapter.predict([{"text": "!"}, {"text": "?"}]) == [{"res": "haha!"}, {"res": "haha?"}]
    adapter.unload()
    assert loaded_models() == before


def test_load_and_unload_are_optional_and_the_artifact_may_be_the_code(tmp_path: Path) -> None:
    adapter = adapter_for(tmp_path, PLAIN, artifact="model.py", input={"kind": "text", "field": "t"})
    adapter.load()

    assert adapter.predict([{"t": "abc"}]) == [3]
    adapter.unload()


def test_two_versions_live_side_by_side(tmp_path: Path) -> None:
    adapters = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "answer.py").write_text(f"ANSWER = {number}\n")
        source = (
            "from .answer import ANSWER\n\nclass Model:\n    def predict(self, instances):\n"
            "        return [ANSWER] * len(instances)\n"
        )
        adapters.append(adapter_for(folder, source, files=["answer.py"]))
    for adapter in adapters:
        adapter.load()

    assert [adapter.predict([0])[0] for adapter in adapters] == [1, 2]
    adapters[0].unload()
    assert adapters[1].predict([0]) == [2]
    adapters[1].unload()


def test_a_file_without_a_checksum_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("raise SystemExit\n")
    adapter = adapter_for(tmp_path, "from . import helper\n" + PLAIN)

    with pytest.raises(ImportError, match=r"helper\.py has no checksum: add it to `files` in model\.yaml"):
        adapter.load()
    adapter.unload()


def test_code_in_a_folder_that_is_the_artifact_is_covered_by_its_checksum(tmp_path: Path) -> None:
    (tmp_path / "code" / "deep").mkdir(parents=True)
    (tmp_path / "code" / "deep" / "helper.py").write_text("N = 5\n")
    (tmp_path / "code" / "main.py").write_text(
        "from .deep.helper import N\n\nclass Model:\n    def predict(self, rows):\n        return [N] * len(rows)\n"
    )
    adapter = adapter_for(tmp_path, PLAIN, artifact="code", entrypoint="code/main.py:Model")
    adapter.load()

    assert adapter.predict([1, 2]) == [5, 5]
    adapter.unload()
    assert list(tmp_path.rglob("__pycache__")) == []


def test_a_file_of_a_package_is_not_run_without_a_checksum_either(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "helper.py").write_text("raise SystemExit\n")
    adapter = adapter_for(tmp_path, "from .deep import helper\n" + PLAIN)

    with pytest.raises(ImportError, match=r"helper\.py has no checksum"):
        adapter.load()
    adapter.unload()


def test_no_bytecode_is_written_and_an_edit_is_never_hidden_by_it(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        source = f"class Model:\n    def predict(self, instances):\n        return [{number}]\n"
        adapter = adapter_for(tmp_path, source)
        adapter.load()
        assert adapter.predict([0]) == [number]
        adapter.unload()
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    ("source", "entrypoint", "message"),
    [
        (PLAIN, "model.py:Other", r"model\.py has no class Other"),
        ("Model = 5\n", "model.py:Model", r"model\.py has no class Model"),
        ("class Model: ...\n", "model.py:Model", "the class has no method predict"),
        (PLAIN, "model.py", "needs `entrypoint: file.py:Class`"),
        (PLAIN, "word.txt:Model", "needs `entrypoint: file.py:Class`"),
        (PLAIN, None, "needs `entrypoint: file.py:Class`"),
    ],
)
def test_an_entrypoint_that_names_nothing_is_refused(
    tmp_path: Path, source: str, entrypoint: str | None, message: str
) -> None:
    adapter = adapter_for(tmp_path, source, entrypoint=entrypoint)
    with pytest.raises(ModelLoadError, match=message):
        adapter.load()
    adapter.unload()


def test_what_the_models_code_raises_comes_through(tmp_path: Path) -> None:
    adapter = adapter_for(tmp_path, "class Model:\n    def predict(self, i):\n        raise KeyError('nothing')\n")
    adapter.load()
    with pytest.raises(KeyError, match="nothing"):
        adapter.predict([1])
    adapter.unload()


def test_dataclasses_and_pickles_of_a_models_own_types_work(tmp_path: Path) -> None:
    """Both look a class up in ``sys.modules`` by its module's name."""
    source = (
        "from __future__ import annotations\nimport pickle\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Point:\n    x: int\n\n"
        "class Model:\n    def predict(self, instances):\n"
        "        return [pickle.loads(pickle.dumps(Point(i))).x for i in instances]\n"
    )
    adapter = adapter_for(tmp_path, source)
    adapter.load()
    assert adapter.predict([4]) == [4]
    adapter.unload()
