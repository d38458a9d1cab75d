"""Servers that integration tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from muleteer.embedded import EmbeddedValkey
from muleteer.queue.connection import connect


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """One real Valkey for all tests that do not disturb it."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(shared_valkey: EmbeddedValkey) -> EmbeddedValkey:
    """The shared Valkey, emptied."""
    with connect(shared_valkey.url) as connection:
        connection.flushall()
    return shared_valkey


@pytest.fixture
def connection(valkey: EmbeddedValkey) -> Iterator[redis.Redis]:
    """A plain connection to the emptied Valkey."""
    with connect(valkey.url) as client:
        yield client


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty model repository beside the test's catalog."""
    return tmp_path / "models"
