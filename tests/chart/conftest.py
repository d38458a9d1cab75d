"""Fixtures of the chart's tests."""

import pytest

from support.chart import CI, Manifest, render


@pytest.fixture(params=sorted(CI), scope="session")
def ci(request: pytest.FixtureRequest) -> str:
    """The name of a file in ci/, one after the other."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def manifests(ci: str) -> list[Manifest]:
    """What each file in ci/ renders to."""
    return render(ci=ci)
