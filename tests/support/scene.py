"""A whole system with everything in its metrics that the dashboards show, and a Prometheus that scrapes it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from muleteer.queue.connection import connect
from support.grafana import CHART
from support.models import write_catalog, write_version
from support.prometheus import Prometheus, Target
from support.receiver import Receiver
from support.services import System
from support.waiting import wait_until

JUDGE = """
    import os
    import time

    class Model:
        def predict(self, instances):
            texts = [i["text"] for i in instances]
            if "abort" in texts:
                os.abort()
            if "raise" in texts:
                raise ValueError("this text is not to my taste")
            time.sleep(0.002)
            return [{"score": len(t) / 10, "mood": "good" if len(t) % 2 else "bad"} for t in texts]
"""
LENGTH = """
    class Model:
        def predict(self, instances):
            return [len(i["text"]) for i in instances]
"""
ONE = {"versions": {"1": {}}}
CATALOG = {
    "judge": {"versions": {"1": {}, "2": {}}, "traffic": {"1": 0.7, "2": 0.3}},
    "length": ONE,
    "broken": ONE,
    "parked": ONE | {"pool": "nobody", "limits": {"max_queue_jobs": 3}},
}
ASYNC = {"Prefer": "respond-async"}


@dataclass
class Scene:
    """What the tests look at."""

    system: System
    prometheus: Prometheus


class MixedLoad:
    """Requests of every kind, again and again, until the block ends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._problem: Exception | None = None

    def __enter__(self) -> None:
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._problem is not None:
            raise self._problem

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=30) as client:
                while not self._stop.is_set():
                    self._round(client)
        except Exception as error:  # noqa: BLE001 - raised again in the test
            self._problem = error

    @staticmethod
    def _round(client: httpx.Client) -> None:
        def ask(model: str, text: object = "hello", **headers: str) -> int:
            body = {"instances": [{"text": text}, {"text": text}]}
            named = {name.capitalize(): value for name, value in headers.items()}
            return client.post(f"/v1/models/{model}:predict", json=body, headers=named).status_code

        assert ask("judge") == 200
        assert ask("judge", "a longish text") == 200
        assert ask("judge/versions/2") == 200
        assert ask("length") == 200
        assert ask("judge", prefer="wait=5") in (200, 202)
        assert ask("judge", prefer="respond-async") == 202
        assert ask("judge", "raise") == 500
        assert ask("judge", 3) == 422
        assert ask("nobody-knows-it") == 404
        assert ask("parked", prefer="respond-async") in (202, 503)
        # While both workers start again nobody knows yet that it is broken: the request is taken.
        assert ask("broken", prefer="wait=1") in (202, 503)


def refuse_an_edit(system: System) -> None:
    """Put a catalog in place that cannot be used, and then a good one again."""

    def reloads(outcome: str) -> bool:
        return all(f'reloads_total{{outcome="{outcome}"}}' in gateway.metrics() for gateway in system.gateways)

    good = system.catalog.read_text()
    system.catalog.write_text("models: 3\n")
    wait_until(lambda: reloads("refused"), 20, "every gateway has refused the edit")
    system.catalog.write_text(good + "# edited\n")
    changed = {**CATALOG, "length": ONE | {"batching": {"max_rows": 8}}}
    write_catalog(system.catalog, changed)
    wait_until(lambda: reloads("ok"), 20, "every gateway has taken the good one")


def kill_a_worker_three_times(system: System) -> None:
    """Send an input that kills whoever predicts it, until it is given up."""
    body = {"instances": [{"text": "abort"}]}
    answer = httpx.post(f"{system.url}/v1/models/judge/versions/1:predict", json=body, timeout=60)
    assert answer.status_code == 500
    wait_until(lambda: 'outcome="dead",version="1"} 1.0' in system.workers[0].metrics(), 20, "the dead job counted")


def send_webhooks(system: System, url: str, settled: int) -> None:
    for path in ("taken", "refused"):
        body = {"instances": [{"text": "hello"}], "callback": f"{url}/{path}"}
        assert httpx.post(f"{system.url}/v1/models/judge:predict", json=body, headers=ASYNC).status_code == 202

    def count() -> float:
        lines = [line for gateway in system.gateways for line in gateway.metrics().splitlines()]
        return sum(float(line.split()[-1]) for line in lines if line.startswith("muleteer_callbacks_total"))

    wait_until(lambda: count() >= settled, 30, "webhooks delivered and given up")


def wait_until_seen(prometheus: Prometheus) -> None:
    """Return once rates over four scrapes have seen the load, and the webhook that came last.

    Then five scrapes of every pod more: a panel asks for whole seconds since the start, and has no point yet for what
    came in this one; and an increase over two scrapes is guessed up to twice as large as it is.
    """
    seen = [
        'sum(rate(muleteer_requests_total{status="500"}[4s])) > 0',
        "sum(rate(muleteer_batch_rows_count[4s])) > 0",
        'sum(rate(muleteer_requests_total{model="judge", version="1", status="500"}[4s])) > 0',
        'muleteer_cost_batch_seconds{model="judge", version="1"}',
        'muleteer_cost_row_seconds{model="judge", version="1"}',
        'muleteer_queue_wait_seconds{model="judge", version="1"}',
        'muleteer_callbacks_total{outcome="failed"}',
        'muleteer_callbacks_total{outcome="delivered"}',
        "muleteer_redis_memory_limit_bytes > 0",
        'count(muleteer_catalog_reloads_total{outcome="ok"}) == 2',
        'ALERTS{alertname="MuleteerJobsDead", alertstate="firing"}',
    ]
    for expression in seen:
        wait_until(lambda e=expression: prometheus.query(e), 30, expression)
    enough = f"min(timestamp(up)) > {time.time() + 5}"
    wait_until(lambda: prometheus.query(enough), 30, "five scrapes more")


@contextmanager
def staged(folder: Path) -> Iterator[Scene]:
    """A system of two gateways and a worker pod that has seen good and bad, as Prometheus has seen it."""
    for name, version, code in [("judge", "1", JUDGE), ("judge", "2", JUDGE), ("length", "1", LENGTH)]:
        write_version(folder / "models", name, version, code)
    write_version(folder / "models", "broken", sha256="0" * 64)
    write_version(folder / "models", "parked")
    settings = {"MULETEER_CALLBACK_SECRET": "a-secret", "MULETEER_CALLBACK_ATTEMPTS": "1"}
    with (
        System(folder, write_catalog(folder / "catalog.yaml", CATALOG), **settings) as system,
        Receiver(lambda number: 204 if number % 2 == 0 else 500) as receiver,
    ):
        with connect(system.valkey.url) as redis:
            redis.config_set("maxmemory", "256mb")
        pods = [(system.add_gateway(), "gateway", "g1"), (system.add_gateway(), "gateway", "g2")]
        pods.append((system.add_worker(processes=2), "worker", "w1"))
        targets = [Target(f"127.0.0.1:{pod.port}", component, name) for pod, component, name in pods]
        with Prometheus(folder, targets, CHART / "alerts" / "rules.yaml") as prometheus:
            system.wait_ready(but=frozenset({"parked"}))
            wait_until(prometheus.all_up, 30, "every pod scraped")
            for gateway in system.gateways:
                answer = httpx.post(f"{gateway.url}/v1/models/broken:predict", json={"instances": [{"text": "hello"}]})
                assert answer.status_code == 503
            with MixedLoad(system.url):
                first = 'muleteer_jobs_redelivered_total{model="judge", version="1"} == 0'
                wait_until(lambda: prometheus.query(first), 30, "a counter is scraped before it grows")
                kill_a_worker_three_times(system)
                refuse_an_edit(system)
                send_webhooks(system, receiver.url, 2)
                wait_until_seen(prometheus)
            yield Scene(system, prometheus)
