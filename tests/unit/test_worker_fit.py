"""Learning what batches cost: the line is found through noise and outliers, followed when it moves, never negative."""

import random

import pytest

from muleteer.queue.cost import Cost
from muleteer_worker.fit import CostFit


def learned(pairs: list[tuple[int, float]], prior: Cost | None = None) -> Cost:
    fit = CostFit(prior)
    for rows, seconds in pairs:
        fit.observe(rows, seconds)
    assert fit.cost is not None
    return fit.cost


def batches(cost: Cost, count: int, seed: int = 1, noise: float = 0.1) -> list[tuple[int, float]]:
    """Return batches of 1 to 64 rows that cost about so much."""
    chance = random.Random(seed)  # noqa: S311 - noise that can be repeated
    rows = [chance.randint(1, 64) for _ in range(count)]
    return [(n, cost.seconds(n, 64) * chance.lognormvariate(0, noise)) for n in rows]


def test_nothing_is_known_before_the_first_batch() -> None:
    assert CostFit().cost is None


@pytest.mark.parametrize("true", [Cost(0.005, 0.0001), Cost(0.0002, 0.00005), Cost(0.0, 0.02), Cost(2.0, 0.1)])
def test_the_line_is_found_through_noise(true: Cost) -> None:
    found = learned(batches(true, 300))
    for rows in (1, 16, 64):
        assert found.seconds(rows, 64) == pytest.approx(true.seconds(rows, 64), rel=0.15)


def test_batches_that_were_held_up_move_it_little() -> None:
    true = Cost(0.005, 0.0001)
    pairs = batches(true, 300)
    held_up = [(rows, seconds * 50 if n % 20 == 10 else seconds) for n, (rows, seconds) in enumerate(pairs)]
    assert learned(held_up).seconds(32, 64) == pytest.approx(true.seconds(32, 64), rel=0.5)


def test_a_model_that_becomes_slower_is_followed() -> None:
    fast, slow = Cost(0.001, 0.0001), Cost(0.02, 0.002)
    found = learned(batches(fast, 200) + batches(slow, 300, seed=2))
    assert found.seconds(64, 64) == pytest.approx(slow.seconds(64, 64), rel=0.2)


def test_batches_of_one_size_count_as_their_rows_cost() -> None:
    found = learned([(64, 0.064)] * 50)
    assert found.seconds(64, 64) == pytest.approx(0.064, rel=0.01)
    assert found.row_seconds == pytest.approx(0.001, rel=0.01)


@pytest.mark.parametrize("pairs", [[(1, 0.1), (64, 0.01)] * 40, [(1, 0.001), (64, 1.0), (2, 0.9)] * 40, [(5, 0.0)] * 9])
def test_neither_part_is_ever_negative(pairs: list[tuple[int, float]]) -> None:
    found = learned(pairs)
    assert found.batch_seconds >= 0
    assert found.row_seconds >= 0


def test_what_others_have_learned_counts_until_own_batches_say_otherwise() -> None:
    prior = Cost(0.01, 0.001)
    assert CostFit(prior).cost == prior
    one_odd = learned([(10, 0.2)], prior)
    assert one_odd.seconds(10, 64) == pytest.approx(prior.seconds(10, 64), rel=0.5)
    many = learned(batches(Cost(0.1, 0.01), 300), prior)
    assert many.seconds(32, 64) == pytest.approx(Cost(0.1, 0.01).seconds(32, 64), rel=0.15)


@pytest.mark.parametrize(
    ("cost", "target", "rows"),
    [
        (Cost(0.0, 0.1), 1.0, 10),  # as many as fit
        (Cost(0.5, 0.1), 1.0, 5),
        (Cost(0.0, 3.0), 1.0, 1),  # at least one
        (Cost(0.0, 0.001), 1.0, 64),  # at most max_rows
        (Cost(2.0, 0.1), 1.0, 20),  # the batch itself is over the target: rows may take as long again
        (Cost(2.0, 0.0), 1.0, 64),
    ],
)
def test_a_batch_is_bounded_by_its_predicted_time(cost: Cost, target: float, rows: int) -> None:
    assert cost.rows_within(target, 64) == rows


def test_many_rows_cost_as_many_batches_as_they_need() -> None:
    assert Cost(1.0, 0.1).seconds(65, 64) == pytest.approx(2 + 6.5)
    assert Cost(1.0, 0.1).seconds(0, 64) == 0
