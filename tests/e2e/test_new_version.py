"""A version comes by ``helm upgrade``: no pod is started for it, and no request notices."""

from typing import Any

import pytest

from muleteer.client import Client, MuleteerAPIError
from support.release import Release, identities
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

TEXT = [{"text": "this movie really sucked"}]


def test_a_version_added_by_an_upgrade_is_served_without_a_restart(
    release: Release, requests: list[dict[str, Any]]
) -> None:
    before = {component: identities(release.pods(component)) for component in ("gateway", "worker", "valkey")}
    with release.forwarded() as url, Client(url) as client:
        with pytest.raises(MuleteerAPIError, match="2"):
            client.predict("movie-sentiment", TEXT, version="2")
        with release.under_load("new-version", requests) as load:
            entry = {"versions": {"2": {}}, "aliases": {"onnx": "2"}}
            release.upgrade({"models": {"catalog": {"movie-sentiment": entry}}})
            # The kubelet brings a changed ConfigMap into running pods within a minute or two.
            wait_until(lambda: is_served(client), 240, "version 2 served")
            load.until_more(100)
        old, new = (client.predict("movie-sentiment", TEXT, version=version)[0] for version in ("1", "2"))
        assert client.predict("movie-sentiment", TEXT, alias="onnx") == [new]
        assert new["score"] == pytest.approx(old["score"], abs=1e-3)
    assert {component: identities(release.pods(component)) for component in before} == before


def is_served(client: Client) -> bool:
    """Tell whether the version answers."""
    try:
        return len(client.predict("movie-sentiment", TEXT, version="2")) == 1
    except MuleteerAPIError:
        return False
