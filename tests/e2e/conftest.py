"""A namespace of its own, with Muleteer in it, on the cluster that KUBECONFIG names; without one all is skipped."""

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from muleteer.client import Client
from support.cluster import Cluster, Namespace
from support.release import IMAGE_VARIABLES, Release, images_from_environment, merged

CURRENT = pytest.StashKey[Namespace]()
HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all that needs a cluster, with one reason, where there is none."""
    problem = why_not()
    for item in items:
        if problem and item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.skip(reason=problem))


def why_not() -> str:
    """Return why these tests cannot run here; empty when they can."""
    missing = [IMAGE_VARIABLES[component] for component, image in images_from_environment().items() if not image]
    if missing:  # naming images is also the consent to use the cluster
        return f"No images to test on a cluster: set {' and '.join(missing)} to repository:tag."
    return Cluster().unreachable()


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The images to test."""
    return images_from_environment()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that KUBECONFIG names."""
    return Cluster()


@pytest.fixture(scope="session")
def namespace(cluster: Cluster, pytestconfig: pytest.Config) -> Iterator[Namespace]:
    """A namespace for this run that admits restricted pods only."""
    with cluster.namespace() as namespace:
        pytestconfig.stash[CURRENT] = namespace
        yield namespace
        del pytestconfig.stash[CURRENT]


@pytest.fixture(scope="session")
def values() -> dict[str, Any]:
    """The chart's values for these tests, and on top what this cluster needs (a mirror, pull secrets, a class)."""
    own = yaml.safe_load((HERE / "values.yaml").read_text(encoding="utf-8"))
    more = os.environ.get("MULETEER_E2E_VALUES", "")
    return merged(own, yaml.safe_load(Path(more).read_text(encoding="utf-8"))) if more else own


@pytest.fixture(scope="session")
def installed(namespace: Namespace, images: dict[str, str], values: dict[str, Any]) -> Release:
    """Muleteer, installed once for all tests."""
    return Release(namespace, images, values).install()


@pytest.fixture
def release(installed: Release) -> Iterator[Release]:
    """The installed release; the test that disturbs it leaves it whole for the next."""
    yield installed
    installed.wait_settled()


@pytest.fixture
def url(release: Release) -> Iterator[str]:
    """The API at a local port. It is one gateway pod's: not for tests that delete those."""
    with release.forwarded() as url:
        yield url


@pytest.fixture(scope="session")
def requests(installed: Release) -> list[dict[str, Any]]:
    """A request for every example model with the answer that it gets when nothing disturbs it."""
    out = []
    with installed.forwarded() as url, Client(url) as client:
        for path in sorted(EXAMPLES.glob("*/requests.json")):
            item = next(r for r in json.loads(path.read_text(encoding="utf-8")) if r["path"].endswith(":predict"))
            predictions = client.predict(path.parent.name, item["body"]["instances"])
            out.append({"path": item["path"], "body": item["body"], "answer": {"predictions": predictions}})
    return out


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the namespace beside a failure: afterwards it is gone."""
    report = yield
    namespace = item.config.stash.get(CURRENT, None)
    if report.failed and call.when != "teardown" and namespace is not None:
        report.sections.append((f"namespace {namespace.name}", namespace.describe()))
    return report
