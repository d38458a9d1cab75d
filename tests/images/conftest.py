"""Images, built once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from support.images import ImageStore, why_not

VERSION, REVISION, CREATED = "9.8.7", "0123456789abcdef", "2026-01-02T03:04:05Z"


@pytest.fixture(scope="session")
def store() -> Iterator[ImageStore]:
    """The store that images are built in; skips what needs it where nothing can be built."""
    if reason := why_not():
        pytest.skip(reason)
    images = ImageStore()
    with images.used_alone():
        yield images


@pytest.fixture(scope="session")
def gateway_image(store: ImageStore) -> str:
    """The name of the gateway's image."""
    return store.build("gateway", VERSION=VERSION, REVISION=REVISION, CREATED=CREATED)


@pytest.fixture(scope="session")
def worker_image(store: ImageStore) -> str:
    """The name of the worker's image, with the example models."""
    return store.build("worker", VERSION=VERSION, REVISION=REVISION, CREATED=CREATED)
