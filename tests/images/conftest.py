"""Images, built once for all tests of this folder, while the tests run that come before them."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from support.images import ImageStore, why_not

VERSION, REVISION, CREATED = "9.8.7", "0123456789abcdef", "2026-01-02T03:04:05Z"


class Builds:
    """Builds the images beside the tests: that needs one core for two minutes, and most tests need one as well."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="images")
        self.store = self._pool.submit(self._open_store)
        self.images = {service: self._pool.submit(self._build, service) for service in ("gateway", "worker")}

    def close(self) -> None:
        """Wait for what is still being built, and let other test runs have the store."""
        self._pool.shutdown(cancel_futures=True)
        self._held.close()

    def _open_store(self) -> ImageStore:
        store = ImageStore()
        self._held.enter_context(store.used_alone())
        return store

    def _build(self, service: str) -> str:
        return self.store.result().build(service, VERSION=VERSION, REVISION=REVISION, CREATED=CREATED)


BUILDS = pytest.StashKey[Builds]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to build if images are to be tested and can be built here."""
    wanted = any("builds" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly and not why_not():
        session.config.stash[BUILDS] = Builds()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what was begun, also when the tests were interrupted."""
    if BUILDS in config.stash:
        config.stash[BUILDS].close()


@pytest.fixture(scope="session")
def builds(request: pytest.FixtureRequest) -> Builds:
    """What is being built; skips what needs it where nothing can be."""
    if reason := why_not():
        pytest.skip(reason)
    return request.config.stash[BUILDS]


@pytest.fixture(scope="session")
def store(builds: Builds) -> ImageStore:
    """The store that images are built in."""
    return builds.store.result()


@pytest.fixture(scope="session")
def gateway_image(builds: Builds) -> str:
    """The name of the gateway's image."""
    return builds.images["gateway"].result()


@pytest.fixture(scope="session")
def worker_image(builds: Builds) -> str:
    """The name of the worker's image, with the example models."""
    return builds.images["worker"].result()
