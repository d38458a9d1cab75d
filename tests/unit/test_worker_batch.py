import itertools
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from muleteer.errors import PredictionFailedError, ValidationFailedError
from muleteer.queue.consumer import ClaimedJob, Outcome
from muleteer_worker.batch import Batch
from muleteer_worker.watch import Pulse

Predict = Callable[[list[Any]], list[Any]]
numbers = itertools.count()


def job(*instances: Any) -> ClaimedJob:
    return raw_job(orjson.dumps(instances), len(instances))


def raw_job(content: bytes, rows: int = 1) -> ClaimedJob:
    return ClaimedJob(f"job-{next(numbers)}", content, rows, 0, 0.0, False, b"")


def run(predict: Predict, jobs: list[ClaimedJob], max_rows: int = 64) -> Batch:
    batch = Batch(predict, max_rows, Pulse())
    batch.run(jobs)
    assert sorted(outcome.job_id for outcome in batch.outcomes) == sorted(item.id for item in jobs)
    return batch


def outcome(batch: Batch, item: ClaimedJob) -> Outcome:
    return next(found for found in batch.outcomes if found.job_id == item.id)


def answer(batch: Batch, item: ClaimedJob) -> Any:
    predictions = outcome(batch, item).predictions
    assert predictions is not None, outcome(batch, item)
    return orjson.loads(predictions)


def failure(batch: Batch, item: ClaimedJob) -> tuple[str, str]:
    found = outcome(batch, item)
    assert found.predictions is None
    return found.error_type, found.error_message


def double(instances: list[Any]) -> list[Any]:
    return [2 * instance for instance in instances]


def picky(instances: list[Any]) -> list[Any]:
    """Raise for the first instance that is a text."""
    texts = [instance for instance in instances if isinstance(instance, str)]
    if texts:
        raise ValueError(f"not a number: {texts[0]}")
    return double(instances)


def test_all_jobs_go_through_one_predict_call() -> None:
    jobs = [job(1), job(2, 3), job(4)]
    batch = run(double, jobs)
    assert [answer(batch, item) for item in jobs] == [[2], [4, 6], [8]]
    assert [rows for rows, _ in batch.calls] == [4]
    assert batch.rows == 4


def test_jobs_of_one_row_each_get_their_own_prediction() -> None:
    jobs = [job(n) for n in range(64)]
    batch = run(double, jobs)
    assert [answer(batch, item) for item in jobs] == [[2 * n] for n in range(64)]


def test_a_job_without_instances_has_no_predictions() -> None:
    empty, full = job(), job(1)
    batch = run(double, [empty, full])
    assert (answer(batch, empty), answer(batch, full)) == ([], [2])


def test_only_the_job_that_raises_fails() -> None:
    jobs = [job(n) for n in range(63)]
    bad = job("seven")
    batch = run(picky, [*jobs[:40], bad, *jobs[40:]])
    assert [answer(batch, item) for item in jobs] == [[2 * n] for n in range(63)]
    assert failure(batch, bad) == ("ValueError", "not a number: seven")


def test_finding_one_bad_job_takes_few_predict_calls() -> None:
    batch = run(picky, [*(job(n) for n in range(63)), job("seven")])
    assert len(batch.calls) <= 2 * 6 + 1


def test_several_bad_jobs_each_fail_with_their_own_reason() -> None:
    jobs = [job(1), job("a"), job(2), job("b")]
    batch = run(picky, jobs)
    assert answer(batch, jobs[0]) == [2]
    assert answer(batch, jobs[2]) == [4]
    assert failure(batch, jobs[1]) == ("ValueError", "not a number: a")
    assert failure(batch, jobs[3]) == ("ValueError", "not a number: b")


def test_when_every_job_raises_every_job_fails() -> None:
    jobs = [job(f"t{n}") for n in range(7)]
    batch = run(picky, jobs)
    assert [failure(batch, item)[1] for item in jobs] == [f"not a number: t{n}" for n in range(7)]


@pytest.mark.parametrize("row", [0, 1, 4, 9])
def test_the_row_that_raises_in_a_job_of_several_is_named(row: int) -> None:
    instances: list[Any] = list(range(10))
    instances[row] = "bad"
    bad = job(*instances)
    assert failure(run(picky, [job(1), bad]), bad) == ("ValueError", f"instances/{row}: not a number: bad")


def test_no_row_is_named_when_rows_raise_only_together() -> None:
    def unsocial(instances: list[Any]) -> list[Any]:
        if len(instances) > 1:
            raise RuntimeError("one at a time, please")
        return instances

    pair, single = job(1, 2), job(3)
    batch = run(unsocial, [pair, single])
    assert failure(batch, pair) == ("RuntimeError", "one at a time, please")
    assert answer(batch, single) == [3]


def test_a_model_that_changes_its_instances_before_it_raises_hurts_nobody() -> None:
    def greedy(instances: list[Any]) -> list[Any]:
        values = [instance.pop("x") for instance in instances]
        return picky(values)

    jobs = [job({"x": 1}), job({"x": "bad"}), job({"x": 3})]
    batch = run(greedy, jobs)
    assert (answer(batch, jobs[0]), answer(batch, jobs[2])) == ([2], [6])
    assert failure(batch, jobs[1]) == ("ValueError", "not a number: bad")


def test_a_model_that_tries_to_end_the_process_fails_the_job_only() -> None:
    def leaving(instances: list[Any]) -> list[Any]:
        if "leave" in instances:
            raise SystemExit(3)
        return instances

    bad, good = job("leave"), job("stay")
    batch = run(leaving, [bad, good])
    assert failure(batch, bad) == ("SystemExit", "3")
    assert answer(batch, good) == ["stay"]


def test_ctrl_c_is_not_taken_for_an_error_of_the_model() -> None:
    def interrupted(_: list[Any]) -> list[Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Batch(interrupted, 64, Pulse()).run([job(1)])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_predictions_is_a_prediction_error(count: int) -> None:
    bad = job(1, 2)
    message = f"The model answered {count} predictions for 2 instances."
    assert failure(run(lambda _: [0] * count, [bad]), bad) == ("PredictionError", message)


def test_a_model_that_cannot_batch_still_answers_jobs_of_one_row() -> None:
    jobs = [job(n) for n in range(5)]
    batch = run(lambda instances: instances[:1], jobs)
    assert [answer(batch, item) for item in jobs] == [[n] for n in range(5)]


def test_an_answer_that_is_no_prediction_is_a_prediction_error() -> None:
    def nan(_: list[Any]) -> list[Any]:
        raise PredictionFailedError("The prediction for instance 1 holds nan, which is not a JSON number.")

    bad = job(1, 2)
    assert failure(run(nan, [bad]), bad) == (
        "PredictionError",
        "The prediction for instance 1 holds nan, which is not a JSON number.",
    )


def test_a_prediction_that_is_not_json_is_a_prediction_error() -> None:
    kind, message = failure(run(lambda instances: [object() for _ in instances], [bad := job(1)]), bad)
    assert kind == "PredictionError"
    assert message.startswith("The model's prediction cannot be written as JSON: ")


def test_an_error_of_muleteer_keeps_its_name() -> None:
    def lacking(_: list[Any]) -> list[Any]:
        raise ValidationFailedError("instance 0 has no member 'text'")

    bad = job({})
    assert failure(run(lacking, [bad]), bad) == ("ValidationFailedError", "instance 0 has no member 'text'")


@pytest.mark.parametrize("content", [b"", b"[1", b'{"a": 1}', b"7", b"[NaN]", b"\xff"])
def test_a_job_whose_input_is_not_an_array_fails_alone(content: bytes) -> None:
    bad, good = raw_job(content), job(1)
    batch = run(double, [bad, good])
    assert failure(batch, bad)[0] == "BadInput"
    assert answer(batch, good) == [2]


def test_no_predict_call_gets_more_than_max_rows() -> None:
    large = job(*range(1000))
    batch = run(double, [large], max_rows=64)
    assert answer(batch, large) == [2 * n for n in range(1000)]
    assert max(rows for rows, _ in batch.calls) == 64
    assert sum(rows for rows, _ in batch.calls) == 1000


def test_the_bad_row_of_a_job_larger_than_a_batch_is_named() -> None:
    instances: list[Any] = list(range(300))
    instances[217] = "bad"
    bad = job(*instances)
    assert failure(run(picky, [bad], max_rows=64), bad) == ("ValueError", "instances/217: not a number: bad")


def test_messages_are_cut_and_can_be_written_as_json() -> None:
    def verbose(_: list[Any]) -> list[Any]:
        raise ValueError("\ud800" + "x" * 100_000)

    message = failure(run(verbose, [bad := job(1)]), bad)[1]
    assert len(message) == 1000
    assert orjson.loads(orjson.dumps(message)) == message


def test_predict_seconds_are_those_of_all_calls() -> None:
    def slow(instances: list[Any]) -> list[Any]:
        until = time.perf_counter() + 0.01
        while time.perf_counter() < until:
            pass
        return instances

    batch = run(slow, [job(*range(4))], max_rows=2)
    assert batch.predict_seconds >= 0.02


def test_a_predict_call_is_seen_while_it_runs_and_forgotten_when_it_raises() -> None:
    pulse = Pulse()
    seen = []

    def looking(instances: list[Any]) -> list[Any]:
        seen.append(pulse.predict_since is not None)
        return picky(instances)

    Batch(looking, 64, pulse).run([job("bad")])
    assert seen == [True]
    assert pulse.predict_since is None
    assert pulse.predict_limit == 0.0


def test_a_few_of_the_predictions_are_kept_as_a_sample_as_the_model_gave_them() -> None:
    assert run(double, [job(1, 2.5)]).sample == [2, 5.0]
    assert run(double, [job(n) for n in range(3)]).sample == [0, 2, 4]
    sample = run(double, [job(*range(100)), job(*range(100))]).sample
    assert len(sample) <= 8
    assert {type(value) for value in sample} == {int}


def test_of_a_batch_with_a_failure_only_delivered_predictions_are_in_the_sample() -> None:
    batch = run(picky, [job(1), job("no"), job(3), job(4)])
    assert sorted(batch.sample) == [2, 6, 8]
    assert run(lambda rows: [object() for _ in rows], [job(1)]).sample == []
