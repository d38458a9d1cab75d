"""Random forests answer the same without joblib's dispatch, and what is not one of them is left alone."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from muleteer_worker.frameworks.forest import without_dispatch

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(300, 6))
NEW = RANDOM.normal(size=(200, 6))
Y = X[:, 0] * 3 + np.sin(X[:, 1]) + RANDOM.normal(size=300)
CLASSES = np.array(["bad", "good", "none"])[np.digitize(Y, [-1, 1])]
REGRESSORS = [RandomForestRegressor, ExtraTreesRegressor]
CLASSIFIERS = [RandomForestClassifier, ExtraTreesClassifier]


def is_replaced(forest: Any) -> bool:
    return bool({"predict", "predict_proba"} & vars(forest).keys())


def same(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and bool(np.array_equal(one, other))


@pytest.mark.parametrize("rows", [1, 200])
@pytest.mark.parametrize("kind", REGRESSORS)
def test_a_regressor_answers_the_same_to_the_last_bit(kind: Any, rows: int) -> None:
    forest = kind(n_estimators=30, random_state=1).fit(X, Y)
    before = forest.predict(NEW[:rows])
    assert is_replaced(without_dispatch(forest))
    assert same(forest.predict(NEW[:rows]), before)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_answers_the_same_to_the_last_bit(kind: Any) -> None:
    forest = kind(n_estimators=30, random_state=1).fit(X, CLASSES)
    before, proba = forest.predict(NEW), forest.predict_proba(NEW)
    assert is_replaced(without_dispatch(forest))
    assert same(forest.predict(NEW), before)
    assert same(forest.predict_proba(NEW), proba)


def test_the_last_step_of_a_pipeline_is_found() -> None:
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=10, random_state=1)).fit(X, CLASSES)
    before = pipeline.predict_proba(NEW)
    assert is_replaced(without_dispatch(pipeline)[-1])
    assert same(pipeline.predict_proba(NEW), before)


def test_a_forest_that_is_let_go_is_freed_at_once() -> None:
    forest = RandomForestRegressor(n_estimators=5, random_state=1).fit(X, Y)
    assert is_replaced(without_dispatch(forest))
    itself = weakref.ref(forest)
    gc.disable()
    try:
        del forest
        assert itself() is None
    finally:
        gc.enable()


def test_sparse_input_is_answered_the_same() -> None:
    sparse = csr_matrix(np.where(X > 0, X, 0))
    forest = RandomForestRegressor(n_estimators=10, random_state=1).fit(sparse, Y)
    before = forest.predict(sparse)
    without_dispatch(forest)
    assert same(forest.predict(sparse), before)


def test_missing_values_are_answered_the_same_where_the_forest_knows_them() -> None:
    holes = np.where(RANDOM.random(X.shape) < 0.2, np.nan, X)
    forest = RandomForestRegressor(n_estimators=10, random_state=1).fit(holes, Y)
    before = forest.predict(holes)
    without_dispatch(forest)
    assert same(forest.predict(holes), before)


@pytest.mark.parametrize("wrong", [NEW[:, :5], np.where(NEW > 1, np.inf, NEW), [["a"] * 6]])
def test_wrong_input_raises_the_same(wrong: Any) -> None:
    forest = RandomForestRegressor(n_estimators=5, random_state=1).fit(X, Y)
    with pytest.raises(ValueError) as before:  # noqa: PT011 - compared below
        forest.predict(wrong)
    without_dispatch(forest)
    with pytest.raises(ValueError) as after:  # noqa: PT011 - compared here
        forest.predict(wrong)
    assert str(after.value) == str(before.value)


class HomeMade(RandomForestRegressor):
    pass


@pytest.mark.parametrize(
    "model",
    [
        RandomForestRegressor(n_estimators=5, n_jobs=2).fit(X, Y),
        RandomForestRegressor(n_estimators=5).fit(X, np.column_stack([Y, Y])),
        HomeMade(n_estimators=5).fit(X, Y),
        GradientBoostingRegressor(n_estimators=5).fit(X, Y),
        make_pipeline(StandardScaler(), LinearRegression()).fit(X, Y),
        RandomForestRegressor(),
    ],
    ids=["threads", "two outputs", "a class of one's own", "boosting", "no forest", "not trained"],
)
def test_what_is_something_else_is_left_alone(model: Any) -> None:
    assert without_dispatch(model) is model
    assert not is_replaced(model.steps[-1][1] if hasattr(model, "steps") else model)


def test_a_forest_that_would_answer_differently_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    forest = RandomForestRegressor(n_estimators=5, random_state=1).fit(X, Y)
    usual = forest.predict
    changed = lambda rows: usual(rows) + 1e-9  # noqa: E731 - what somebody has put there
    forest.predict = changed
    without_dispatch(forest)
    assert forest.predict is changed
    assert "RandomForestRegressor answers differently" in caplog.text
