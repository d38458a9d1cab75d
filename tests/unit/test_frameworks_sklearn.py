"""scikit-learn versions: skops by default, pickles only where they are allowed by checksum."""

import gc
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from muleteer.errors import ModelLoadError
from muleteer.repository.store import write_manifest
from muleteer_worker.frameworks import Adapter, make_adapter
from muleteer_worker.frameworks.sklearn import is_trusted

TEXTS = ["good film", "bad film", "good good", "bad bad"]


class HomeMade(ClassifierMixin, BaseEstimator):
    def predict(self, rows: Any) -> Any:
        return np.zeros(len(rows))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def save(folder: Path, model: Any, artifact: str = "model.skops", **values: Any) -> Adapter:
    (skops.io if artifact.endswith(".skops") else joblib).dump(model, folder / artifact)
    allow = values.pop("allow", ())
    document = {"name": "toy", "version": "1", "framework": "sklearn", "artifact": artifact}
    manifest = write_manifest(folder, {**document, **values})
    return make_adapter(folder, manifest, frozenset([manifest.sha256] if allow == "this" else allow))


def classifier() -> Any:
    return make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, [1, 0, 1, 0])


def test_a_forest_of_its_own_answers_like_the_model_called_directly(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(40, 3))
    model = RandomForestRegressor(n_estimators=5, random_state=1).fit(rows, rows[:, 0])
    adapter = save(tmp_path, model, input={"kind": "array"})
    adapter.load()
    gc.collect()
    assert adapter.predict(rows.tolist()) == model.predict(rows).tolist()


def test_a_text_pipeline_answers_like_the_model_called_directly(tmp_path: Path) -> None:
    model = classifier()
    adapter = save(
        tmp_path, model, input={"kind": "text", "field": "text"}, output={"method": "predict_proba", "column": 1}
    )
    adapter.load()

    got = adapter.predict([{"text": text} for text in TEXTS])

    assert got == model.predict_proba(TEXTS)[:, 1].tolist()
    assert all(type(value) is float for value in got)
    adapter.unload()


def test_a_pipeline_of_records_answers_alone_as_in_a_batch(tmp_path: Path) -> None:
    rides = [{"zone": f"z{i % 5}", "distance": i / 3} for i in range(60)]
    forest = RandomForestRegressor(n_estimators=5, random_state=1)
    model = make_pipeline(DictVectorizer(), forest).fit(rides, [ride["distance"] for ride in rides])
    adapter = save(tmp_path, model, output={"field": "duration", "version_field": "model_version"})
    adapter.load()

    batch = adapter.predict(rides)

    assert batch[0] == {"duration": model.predict(rides[:1])[0], "model_version": "1"}
    assert batch == [adapter.predict([ride])[0] for ride in rides]


def test_a_dataframe_pipeline_gets_the_columns_it_was_trained_with(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"colour": ["red", "blue", "red", "blue"], "size": [1.0, 2.0, 3.0, 4.0]})
    encoder = ColumnTransformer([("colour", OneHotEncoder(), ["colour"])], remainder="passthrough")
    model = make_pipeline(encoder, LogisticRegression()).fit(frame, ["a", "b", "a", "b"])
    adapter = save(tmp_path, model, input={"kind": "dataframe"})
    adapter.load()

    assert adapter.predict([{"size": 1.0, "colour": "red"}, {"colour": "blue", "size": 2.0}]) == ["a", "b"]


@pytest.mark.parametrize("model", [SGDClassifier(loss="log_loss"), HistGradientBoostingRegressor(max_iter=3)])
def test_estimators_with_inner_types_of_scikit_learn_are_loaded(tmp_path: Path, model: Any) -> None:
    rows = np.arange(40, dtype=float).reshape(20, 2)
    model.fit(rows, [0, 1] * 10)
    adapter = save(tmp_path, model, input={"kind": "array"})
    adapter.load()

    assert adapter.predict(rows.tolist()) == model.predict(rows).tolist()


def test_types_from_elsewhere_are_refused_by_name(tmp_path: Path) -> None:
    adapter = save(tmp_path, HomeMade())

    with pytest.raises(ModelLoadError, match=r"model\.skops holds types from outside .*\.HomeMade") as caught:
        adapter.load()
    assert caught.value.reason == "unsafe"


def test_only_classes_of_the_three_packages_are_trusted() -> None:
    assert is_trusted("sklearn.linear_model._logistic.LogisticRegression")
    assert is_trusted("numpy.random.RandomState")
    assert is_trusted("scipy.sparse.csr_matrix")
    for name in (
        "os.system",
        "builtins.eval",
        "sklearnex.Model",
        "numpy.load",
        "numpy.testing.TestCase",
        "numpy.f2py.crackfortran.eval",
        "scipy.optimize.minimize",
        "sklearn.no_such_module.Model",
        "sklearn.linear_model.NoSuchModel",
        "sklearn",
        "",
    ):
        assert not is_trusted(name), name


@pytest.mark.parametrize("artifact", ["model.joblib", "model.pkl"])
def test_a_pickle_is_loaded_only_when_its_checksum_is_allowed(tmp_path: Path, artifact: str) -> None:
    with pytest.raises(ModelLoadError, match=r"is a pickle, which can run any code: .* add [0-9a-f]{64}") as caught:
        save(tmp_path, classifier(), artifact).load()
    assert caught.value.reason == "unsafe"
    with pytest.raises(ModelLoadError, match="is a pickle"):
        save(tmp_path, classifier(), artifact, allow=["0" * 64]).load()

    adapter = save(tmp_path, classifier(), artifact, allow="this", input={"kind": "text"})
    adapter.load()
    assert adapter.predict(TEXTS) == [1, 0, 1, 0]


def test_a_pickle_that_was_exchanged_after_the_check_is_not_unpickled(tmp_path: Path) -> None:
    adapter = save(tmp_path, classifier(), "model.pkl", allow="this")
    joblib.dump(Bomb(), tmp_path / "model.pkl")

    with pytest.raises(ModelLoadError, match=r"has sha256 .*, not the manifest's") as caught:
        adapter.load()
    assert caught.value.reason == "checksum"


def test_a_method_that_the_model_lacks_is_said_so_at_load(tmp_path: Path) -> None:
    adapter = save(tmp_path, RandomForestRegressor(1).fit([[1]], [1]), output={"method": "predict_proba"})
    with pytest.raises(ModelLoadError, match="RandomForestRegressor has no method predict_proba"):
        adapter.load()


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"model\.bin must end in \.skops, or in \.joblib"):
        save(tmp_path, classifier(), "model.bin").load()
