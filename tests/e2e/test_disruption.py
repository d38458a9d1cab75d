"""Pods come and go under load, as they do on every cluster: callers notice nothing."""

from typing import Any

import pytest

from muleteer.client import Client
from support.release import WORKLOADS, Release, identities
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

ANSWERS = 200
"""Answers between two disturbances: so many that every caller and every pod has had its turn."""
HANDED_IN = 300


@pytest.mark.parametrize(
    "how", [("--wait=false",), ("--wait=false", "--grace-period=0", "--force")], ids=["deleted", "killed"]
)
def test_a_worker_pod_that_goes_under_load_fails_no_request(
    release: Release, requests: list[dict[str, Any]], how: tuple[str, ...]
) -> None:
    before = identities(release.pods("worker"))
    with release.under_load("worker-goes", requests) as load:
        release.namespace.kubectl("delete", "pod", release.pods("worker")[0]["metadata"]["name"], *how)
        load.until_more(ANSWERS)
        release.wait_settled()
        load.until_more(ANSWERS)
    assert len(identities(release.pods("worker")).keys() & before.keys()) == len(before) - 1


def test_a_gateway_pod_that_is_deleted_under_load_fails_no_request(
    release: Release, requests: list[dict[str, Any]]
) -> None:
    with release.under_load("gateway-goes", requests) as load:
        release.namespace.kubectl("delete", "pod", release.pods("gateway")[0]["metadata"]["name"], "--wait=false")
        load.until_more(ANSWERS)
        release.wait_settled()
        load.until_more(ANSWERS)


def test_a_rolling_upgrade_under_load_fails_no_request(release: Release, requests: list[dict[str, Any]]) -> None:
    before = [identities(release.pods(component)).keys() for component in ("gateway", "worker")]
    changed = {"podAnnotations": {"muleteer.dev/e2e": "rolled"}}
    with release.under_load("rolling", requests) as load:
        release.upgrade({"gateway": changed, "worker": changed})
        release.wait_settled()
        load.until_more(ANSWERS)
    after = [identities(release.pods(component)).keys() for component in ("gateway", "worker")]
    assert [len(pods) for pods in after] == [2, 2]
    assert not (before[0] & after[0])
    assert not (before[1] & after[1])


def test_jobs_survive_the_valkey_pod(release: Release) -> None:
    """They are handed in while no worker runs, so that all of them wait in Valkey when its pod goes."""
    namespace, workers = release.namespace, WORKLOADS["worker"]
    namespace.kubectl("scale", workers, "--replicas=0")
    wait_until(lambda: not namespace.items("pods", "app.kubernetes.io/component=worker"), 180, "no worker pod")
    texts = [f"a film that I would see {number} times" for number in range(HANDED_IN)]
    with release.forwarded() as url, Client(url) as client:
        jobs = [client.submit("movie-sentiment", [{"text": text}]) for text in texts]
        assert {client.job(job.id).status for job in jobs[:5]} == {"queued"}
    before = identities(release.pods("valkey"))
    namespace.kubectl("delete", "pod", release.pods("valkey")[0]["metadata"]["name"], "--wait=true")
    namespace.kubectl("scale", workers, "--replicas=2")
    release.wait_settled()
    assert not (identities(release.pods("valkey")).keys() & before.keys())
    with release.forwarded() as url, Client(url) as client:
        client.wait_ready()
        answers = [client.result(job.id, timeout=120) for job in jobs]
        assert [len(answer) for answer in answers] == [1] * HANDED_IN
        assert answers[0] == client.predict("movie-sentiment", [{"text": texts[0]}])
