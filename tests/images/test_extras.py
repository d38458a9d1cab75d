"""Extras by build argument."""

import pytest

from support.containers import Container
from support.images import ImageStore

pytestmark = pytest.mark.timeout(900)  # the first test builds the images


def test_s3_is_an_extra_of_the_gateway(store: ImageStore) -> None:
    image = store.build("gateway", tag="s3", EXTRAS="s3")
    with store.mounted(image) as root:
        imported = Container(root, store.config(image)).run("python", "-c", "import s3fs, muleteer_gateway.server")
    assert (imported.returncode, imported.stderr) == (0, "")
