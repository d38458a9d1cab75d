"""The scene that tests of dashboards and alerts look at."""

from collections.abc import Iterator

import pytest

from support.prometheus import binary
from support.scene import Scene, staged


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One staged system for all tests of a module."""
    binary("prometheus")  # skips before anything is started
    with staged(tmp_path_factory.mktemp("dashboards")) as made:
        yield made
