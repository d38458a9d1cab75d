"""The clients and the commands against a real gateway with a real worker behind it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from muleteer.client import AsyncClient, Client, JobCanceled, NotFound, PredictionFailed, ValidationFailed
from support.models import MOODY, write_catalog, write_version
from support.services import System

MULETEER = Path(sys.executable).with_name("muleteer")
INSTANCES = [{"text": "one"}, {"text": "two"}]
ECHOES = [{"echo": "one"}, {"echo": "two"}]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("clients")
    for name in ("echo", "parked"):
        write_version(folder / "models", name, description=f"Model {name}.")
    write_version(folder / "models", "moody", code=MOODY)
    one = {"versions": {"1": {}}}
    models = {
        "echo": one | {"route": "/echo", "aliases": {"champion": "1"}},
        "moody": one,
        "parked": one | {"pool": "nobody"},  # its jobs stay queued
    }
    with System(folder, write_catalog(folder / "catalog.yaml", models)) as made:
        made.add_gateway()
        made.add_worker()
        yield made.wait_ready(but=frozenset({"parked"}))


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with Client(system.url) as made:
        yield made


def muleteer(system: System, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(MULETEER), *words, "--url", system.url]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def printed(ended: subprocess.CompletedProcess[str]) -> str:
    """Return what a command that ended well has printed."""
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_client_predicts_by_list_by_id_by_version_and_by_alias(client: Client) -> None:
    client.wait_ready(timeout=10)
    assert client.predict("echo", INSTANCES) == ECHOES
    assert client.predict("echo", {"a": INSTANCES[0]}) == {"a": ECHOES[0]}
    assert client.predict("echo", INSTANCES, version="1") == ECHOES
    assert client.predict("echo", INSTANCES, alias="champion", idempotency_key="client") == ECHOES


def test_the_client_submits_looks_at_and_fetches_a_job(client: Client) -> None:
    job = client.submit("echo", INSTANCES)
    assert client.result(job, timeout=20) == ECHOES
    done = client.job(job.id)
    assert (done.id, done.status, done.model, done.version) == (job.id, "finished", "echo", "1")
    assert (
        client.submit("echo", INSTANCES, idempotency_key="k").id
        == client.submit("echo", INSTANCES, idempotency_key="k").id
    )


def test_the_client_cancels_a_job(client: Client) -> None:
    job = client.submit("parked", INSTANCES)
    assert (client.job(job.id).status, client.job(job.id).position) == ("queued", 0)
    assert client.cancel(job).status == "canceled"
    with pytest.raises(JobCanceled):
        client.result(job, timeout=5)


def test_the_client_raises_what_the_gateway_says(client: Client) -> None:
    with pytest.raises(NotFound, match="nobody"):
        client.predict("nobody", INSTANCES)
    with pytest.raises(ValidationFailed) as wrong:
        client.predict("echo", [{"text": 3}])
    assert [error["path"] for error in wrong.value.errors] == ["instances/0/text"]
    with pytest.raises(PredictionFailed, match="not to my taste"):
        client.predict("moody", [{"text": "raise"}])
    with pytest.raises(PredictionFailed, match="not to my taste"):
        client.result(client.submit("moody", [{"text": "raise"}]), timeout=20)


def test_the_client_describes_the_models(client: Client) -> None:
    assert {model.name: model.ready for model in client.models()} == {"echo": True, "moody": True, "parked": False}
    echo = client.model("echo")
    assert (echo.route, echo.aliases, echo.description) == ("/echo", {"champion": "1"}, "Model echo.")
    assert [(version.version, version.state, version.workers) for version in echo.versions] == [("1", "AVAILABLE", 1)]


async def test_the_async_client_does_the_same(system: System) -> None:
    async with AsyncClient(system.url) as client:
        await client.wait_ready(timeout=10)
        assert await client.predict("echo", INSTANCES) == ECHOES
        assert await client.predict("echo", {"a": INSTANCES[0]}, alias="champion") == {"a": ECHOES[0]}
        job = await client.submit("echo", INSTANCES)
        assert await client.result(job, timeout=20) == ECHOES
        assert (await client.job(job.id)).status == "finished"
        parked = await client.submit("parked", INSTANCES)
        assert (await client.cancel(parked.id)).status == "canceled"
        assert {model.name for model in await client.models()} == {"echo", "moody", "parked"}
        assert (await client.model("moody")).versions[0].state == "AVAILABLE"
        with pytest.raises(ValidationFailed):
            await client.predict("echo", [{}])
        with pytest.raises(NotFound):
            await client.job("0" * 32)


def test_the_command_predict_prints_the_predictions(system: System) -> None:
    assert json.loads(printed(muleteer(system, "predict", "echo", json.dumps(INSTANCES)))) == ECHOES
    by_id = muleteer(system, "predict", "echo", "-", "--alias", "champion", stdin=json.dumps({"a": INSTANCES[0]}))
    assert json.loads(printed(by_id)) == {"a": ECHOES[0]}


def test_the_command_predict_says_in_one_line_what_is_wrong(system: System) -> None:
    for words in (["nobody", "[{}]"], ["echo", '[{"text": 3}]'], ["moody", '[{"text": "raise"}]']):
        ended = muleteer(system, "predict", *words)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith("muleteer: ")
        assert len(ended.stderr.splitlines()) == 1


def test_an_async_prediction_is_waited_for_and_shown_by_the_commands(system: System) -> None:
    job = printed(muleteer(system, "predict", "echo", json.dumps(INSTANCES), "--async"))
    assert json.loads(printed(muleteer(system, "jobs", "wait", job))) == ECHOES
    shown = printed(muleteer(system, "jobs", "show", job))
    assert job in shown
    assert "finished" in shown
    assert "echo version 1" in shown
    document = json.loads(printed(muleteer(system, "jobs", "show", job, "--json")))
    assert (document["id"], document["result"]) == (job, {"predictions": ECHOES})


def test_a_job_is_cancelled_by_the_command(system: System) -> None:
    job = printed(muleteer(system, "predict", "parked", json.dumps(INSTANCES), "--async"))
    assert "queued" in printed(muleteer(system, "jobs", "show", job))
    assert printed(muleteer(system, "jobs", "cancel", job)) == "canceled"
    assert "canceled" in printed(muleteer(system, "jobs", "show", job))
    waited = muleteer(system, "jobs", "wait", job)
    assert (waited.returncode, waited.stdout) == (1, "")
    assert "canceled" in waited.stderr


def test_the_command_models_lists_all_or_one(system: System) -> None:
    listed = [line.split() for line in printed(muleteer(system, "models")).splitlines()[1:]]
    assert sorted(words[:2] for words in listed) == [["echo", "1"], ["moody", "1"], ["parked", "1"]]
    title, row = printed(muleteer(system, "models", "echo")).splitlines()
    assert title.split()[:3] == ["MODEL", "VERSION", "STATE"]
    assert row.split() == ["echo", "1", "AVAILABLE", "1", "100%", "champion", "/echo"]
    assert muleteer(system, "models", "nobody").returncode == 1
