"""ONNX versions: the same answers as the pipeline that was exported."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from muleteer.errors import ModelLoadError, ValidationFailedError
from muleteer.repository.store import write_manifest
from muleteer_worker.frameworks import Adapter, make_adapter

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TEXTS = ["good film", "bad film", "good good", "bad bad"]


def export(folder: Path, model: Any, initial_types: list[Any], zipmap: bool = False, **values: Any) -> Adapter:
    from skl2onnx import to_onnx

    options: dict[Any, Any] = {id(model): {"zipmap": zipmap}} if hasattr(model, "classes_") else {}
    # Lower-casing needs a locale; en_US.UTF-8, the default, is not there on a slim machine.
    options[TfidfVectorizer] = {"locale": "C"}
    graph = to_onnx(model, initial_types=initial_types, options=options)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    document = {"name": "toy", "version": "2", "framework": "onnx", "artifact": "model.onnx"}
    return make_adapter(folder, write_manifest(folder, {**document, **values}), frozenset())


def text_model(folder: Path, **values: Any) -> tuple[Any, Adapter]:
    from skl2onnx.common.data_types import StringTensorType

    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, [1, 0, 1, 0])
    values = {"input": {"kind": "text", "field": "text"}, **values}
    return model, export(folder, model, [("text", StringTensorType([None, 1]))], **values)


def test_a_text_pipeline_answers_like_the_one_it_was_exported_from(tmp_path: Path) -> None:
    model, adapter = text_model(tmp_path, output={"output": "probabilities", "column": 1, "field": "score"})
    adapter.load()

    got = adapter.predict([{"text": text} for text in TEXTS])

    assert [row["score"] for row in got] == pytest.approx(model.predict_proba(TEXTS)[:, 1].tolist(), abs=1e-5)
    adapter.unload()


def test_the_first_output_is_taken_when_none_is_named(tmp_path: Path) -> None:
    _, adapter = text_model(tmp_path, output={"labels": {"0": "Negative", "1": "Positive"}})
    adapter.load()

    assert adapter.predict([{"text": "good"}, {"text": "bad"}]) == ["Positive", "Negative"]


def test_a_map_of_probabilities_becomes_an_object(tmp_path: Path) -> None:
    _, adapter = text_model(tmp_path, zipmap=True, output={"output": "output_probability"})
    adapter.load()

    [answer] = adapter.predict([{"text": "good"}])
    assert list(answer) == ["0", "1"]


def test_an_array_gets_the_graphs_own_type(tmp_path: Path) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    model = RandomForestRegressor(5, random_state=1).fit(rows, rows[:, 0])
    adapter = export(
        tmp_path, model, [("X", FloatTensorType([None, 2]))], input={"kind": "array", "columns": ["a", "b"]},
        output={"column": 0},
    )  # fmt: skip
    adapter.load()

    got = adapter.predict([{"a": a, "b": b} for a, b in rows.tolist()])

    assert got == pytest.approx(model.predict(rows).tolist(), rel=1e-5)
    with pytest.raises(ValidationFailedError, match=r"Instance 0 has no member 'b'\."):
        adapter.predict([{"a": 1}])


def test_a_graph_with_several_inputs_takes_members_by_name(tmp_path: Path) -> None:
    import pandas as pd
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    frame = pd.DataFrame({"colour": ["red", "blue"] * 4, "size": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]})
    encoder = ColumnTransformer([("colour", OneHotEncoder(), ["colour"])], remainder="passthrough")
    model = make_pipeline(encoder, LogisticRegression()).fit(frame, [0, 1] * 4)
    types = [("colour", StringTensorType([None, 1])), ("size", FloatTensorType([None, 1]))]
    adapter = export(tmp_path, model, types)
    adapter.load()

    assert adapter.predict([{"colour": "red", "size": 3}, {"colour": "blue", "size": 2.5}]) == [0, 1]
    with pytest.raises(ValidationFailedError, match=r"Instance 1 does not fit an array of float32"):
        adapter.predict([{"colour": "red", "size": 3}, {"colour": "red", "size": "x"}])
    wrong = make_adapter(
        tmp_path,
        write_manifest(tmp_path, {"name": "toy", "version": "2", "framework": "onnx", "artifact": "model.onnx",
                                  "input": {"kind": "text"}}),
        frozenset(),
    )  # fmt: skip
    with pytest.raises(ModelLoadError, match=r"needs a graph with one input, but model\.onnx has colour, size"):
        wrong.load()


def test_an_output_that_is_not_there_is_said_so_at_load(tmp_path: Path) -> None:
    _, adapter = text_model(tmp_path, output={"output": "scores"})
    with pytest.raises(ModelLoadError, match="has no output 'scores', but label, probabilities"):
        adapter.load()


def test_one_thread_works_on_a_call_unless_the_manifest_says_otherwise(tmp_path: Path) -> None:
    _, adapter = text_model(tmp_path)
    adapter.load()
    assert adapter._run.__self__.get_session_options().intra_op_num_threads == 1  # type: ignore[attr-defined]  # bound
    _, adapter = text_model(tmp_path, parameters={"intra_op_threads": 2})
    adapter.load()
    assert adapter._run.__self__.get_session_options().intra_op_num_threads == 2  # type: ignore[attr-defined]  # bound


def test_a_missing_onnxruntime_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapter = text_model(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # what Python itself does for a module that cannot be found

    with pytest.raises(ModelLoadError, match=r"onnxruntime is needed .*: install muleteer-worker\[onnx\]") as caught:
        adapter.load()
    assert caught.value.reason == "library"
