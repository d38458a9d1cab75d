"""What ``helm uninstall`` leaves."""

from typing import Any

import pytest

from support.cluster import Cluster
from support.release import FULL_NAME, Release
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)


def test_uninstall_leaves_nothing_but_valkeys_volume(
    cluster: Cluster, images: dict[str, str], values: dict[str, Any]
) -> None:
    with cluster.namespace() as namespace:
        wait_until(lambda: "serviceaccount/default" in namespace.everything(), 60, "the namespace's own objects")
        before = namespace.everything()
        release = Release(namespace, images, values).install()
        release.test()
        assert len(namespace.everything() - before) > 10
        release.uninstall()
        left: set[str] = set()

        def only_the_volume() -> bool:
            left.clear()
            left.update(namespace.everything() - before)
            return all(name.startswith("persistentvolumeclaim/") for name in left)

        wait_until(only_the_volume, 180, f"only a volume left of {left}")
        assert [name.partition("/")[2] for name in left] == [f"data-{FULL_NAME}-valkey-0"]
