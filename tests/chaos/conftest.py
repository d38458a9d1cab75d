"""How long chaos lasts and which seeds it is made from."""

import math

import pytest

CI_SEEDS = (1, 2)
CI_SECONDS = 25.0
"""A schedule of this length takes about three quarters of a minute on two cores, with its start and its end."""
ROUND_SECONDS = 45.0
LEAK_JOBS = 200_000
MODES = ("everysec", "always")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos-minutes", type=float, default=0.0, help="rounds of chaos for about so long, a seed each")
    group.addoption("--chaos-all", action="store_true", help="each way of writing with each seed, not one seed each")
    group.addoption("--chaos-seed", type=int, default=None, help="seed of the first round")
    group.addoption("--chaos-seconds", type=float, default=CI_SECONDS, help="length of each schedule")
    group.addoption("--chaos-appendfsync", choices=MODES, default=None, help="only with this way of writing")
    group.addoption("--chaos-jobs", type=int, default=LEAK_JOBS, help="jobs of the leak test")


def pytest_report_header(config: pytest.Config) -> str:
    rounds = [f"{mode} {seed}" for mode, seed in rounds_of(config)]
    shown = rounds if len(rounds) <= 8 else [*rounds[:4], "...", rounds[-1]]
    return f"chaos: schedules of {config.getoption('chaos_seconds', CI_SECONDS):g} s, seeds " + ", ".join(shown)


def rounds_of(config: pytest.Config) -> list[tuple[str, int]]:
    """Return how Valkey writes and the seed of every round."""
    # Defaults here too: this file is not always read before the command line is.
    minutes, seed = config.getoption("chaos_minutes", 0.0), config.getoption("chaos_seed", None)
    only, seconds = config.getoption("chaos_appendfsync", None), config.getoption("chaos_seconds", CI_SECONDS)
    modes = [only] if only else list(MODES)
    if minutes:
        count = max(1, math.ceil(minutes * 60 / (seconds - CI_SECONDS + ROUND_SECONDS)))
        first = CI_SEEDS[0] if seed is None else seed
        return [(modes[n % len(modes)], first + n // len(modes)) for n in range(count)]
    if seed is None and only is None and not config.getoption("chaos_all", False):
        return list(zip(MODES, CI_SEEDS, strict=True))
    return [(mode, one) for one in (CI_SEEDS if seed is None else (seed,)) for mode in modes]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"appendfsync", "seed"} <= set(metafunc.fixturenames):
        metafunc.parametrize(("appendfsync", "seed"), rounds_of(metafunc.config))


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """The length of a schedule."""
    return float(request.config.getoption("chaos_seconds", CI_SECONDS))


@pytest.fixture
def leak_jobs(request: pytest.FixtureRequest) -> int:
    """How many jobs the leak test puts through."""
    return int(request.config.getoption("chaos_jobs", LEAK_JOBS))
