"""The sample of predictions in the worker's metrics: bounded in every way, and never the cause of a failure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from muleteer.metrics import WORKER
from muleteer_worker.sample import MAX_FIELDS, MAX_LABELS, OTHER, ROWS, TEXT_LENGTH, Sampler, take_sample

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model of this test alone: metrics live as long as the process."""
    return f"sampled-{abs(hash(request.node.nodeid))}"


def labels(model: str) -> dict[tuple[str, str], float]:
    """Return how often each (field, label) was counted."""
    return {(s["field"], s["label"]): n for s, n in samples("muleteer_predictions_total", model)}


def samples(name: str, model: str) -> list[tuple[dict[str, str], float]]:
    found = [sample for family in WORKER.collect() for sample in family.samples if sample.name == name]
    return [(sample.labels, sample.value) for sample in found if sample.labels["model"] == model]


def buckets(model: str, field: str) -> dict[str, float]:
    """Return how many numbers of a field were not above each bound."""
    return {s["le"]: n for s, n in samples("muleteer_prediction_value_bucket", model) if s["field"] == field}


def test_numbers_texts_and_truth_values_are_counted_by_member(model: str) -> None:
    sampler = Sampler(model, "1")
    sampler.count([{"score": 0.25, "label": "up", "sure": True}, {"score": 3, "label": "down", "sure": False}])
    sampler.count([{"score": 0.05, "label": "up", "sure": True}])
    assert labels(model) == {
        ("label", "up"): 2,
        ("label", "down"): 1,
        ("sure", "true"): 2,
        ("sure", "false"): 1,
    }
    found = buckets(model, "score")
    assert (found["0.1"], found["0.3"], found["2.0"], found["5.0"], found["+Inf"]) == (1, 2, 2, 3, 3)


def test_bare_predictions_have_no_field(model: str) -> None:
    sampler = Sampler(model, "1")
    sampler.count([0.5, "up", True, -5])
    assert labels(model) == {("", "up"): 1, ("", "true"): 1}
    assert (buckets(model, "")["-1.0"], buckets(model, "")["+Inf"]) == (1, 2)


def test_what_is_neither_number_nor_label_is_passed_over(model: str) -> None:
    Sampler(model, "1").count([None, [1, 2], {"a": None, "b": [1.0], "c": {"d": 1}}, float("nan"), float("inf")])
    assert labels(model) == {}
    assert buckets(model, "").get("+Inf", 0) == 0


def test_labels_and_fields_beyond_the_limit_do_not_make_new_series(model: str) -> None:
    sampler = Sampler(model, "1")
    sampler.count([f"text {n}" for n in range(MAX_LABELS + 30)])
    sampler.count(["text 0"])
    found = labels(model)
    assert len(found) == MAX_LABELS + 1
    assert (found["", OTHER], found["", "text 0"]) == (30, 2)
    Sampler(f"{model}-wide", "1").count([{f"field {n}": "x" for n in range(500)}])
    assert len(labels(f"{model}-wide")) == MAX_FIELDS


def test_texts_are_cut_and_made_fit_for_a_scrape(model: str) -> None:
    sampler = Sampler(model, "1")
    sampler.count(["é" * 500, "half \ud800", {"n" * 500: 'a "quoted"\nline'}])
    assert set(labels(model)) == {
        ("", "é" * TEXT_LENGTH),
        ("", "half ?"),
        ("n" * TEXT_LENGTH, 'a "quoted"\nline'),
    }
    assert b"quoted" in generate_latest(WORKER)


@given(st.lists(JSON, max_size=20))
def test_no_prediction_makes_it_fail(predictions: list[Any]) -> None:
    Sampler("sampled-anything", "1").count(take_sample(predictions))


@given(st.integers(0, 5000))
def test_a_sample_is_small_and_from_all_over(size: int) -> None:
    predictions = list(range(size))
    sample = take_sample(predictions)
    assert len(sample) == size if size <= ROWS else ROWS / 2 < len(sample) <= ROWS
    assert set(sample) <= set(predictions)
    if size > ROWS:
        assert sample[0] == 0
        assert sample[-1] >= size / 2
