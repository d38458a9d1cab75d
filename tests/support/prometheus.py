"""A real Prometheus for tests: Debian's, with the project's rules, asked through its HTTP API."""

import math
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from muleteer.children import start_child
from muleteer.embedded import free_port
from support.waiting import wait_until

MISSING = "Prometheus is not installed: apt-get install --no-install-recommends prometheus (it carries promtool)."


def binary(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``; skip the test with a clear word where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(MISSING)
    return path


@dataclass(frozen=True)
class Target:
    """One pod that is scraped, with the labels that a PodMonitor gives it."""

    address: str
    component: str
    pod: str
    namespace: str = "shop"

    def config(self) -> dict[str, Any]:
        labels = {"namespace": self.namespace, "pod": self.pod, "container": self.component}
        return {
            "job_name": f"{self.component} {self.pod}",
            "static_configs": [{"targets": [self.address], "labels": labels | {"job": f"muleteer/{self.component}"}}],
        }


class Prometheus:
    """Scrapes ``targets`` and evaluates ``rules`` every second; use as a context manager."""

    def __init__(self, folder: Path, targets: list[Target], rules: Path) -> None:
        self._program = binary("prometheus")
        self._folder, self._port = folder, free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}/api/v1", timeout=30)
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        scrapes = [target.config() for target in targets]
        document = {"global": every, "rule_files": [str(rules)], "scrape_configs": scrapes}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(document))

    def __enter__(self) -> Self:
        options = {
            "config.file": self._folder / "prometheus.yml",
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": f"127.0.0.1:{self._port}",
            "log.level": "warn",
        }
        command = [self._program, *(f"--{name}={value}" for name, value in options.items())]
        log = self._folder / "prometheus.log"
        with log.open("wb") as output:
            self._process = start_child(command, output=output)
        self.started = time.time()
        try:
            wait_until(self._ready, 30, "Prometheus ready")
        except AssertionError as error:
            self.__exit__()
            raise AssertionError(f"{error}\n{log.read_text()[-2000:]}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query now that have a number."""
        data = self._get("query", query=expression)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return [series for series in data["result"] if not math.isnan(float(series["value"][1]))]

    def value(self, expression: str) -> float | None:
        """Return the value of an expression with one series, None while it has none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression} has {len(found)} series"
        return float(found[0]["value"][1]) if found else None

    def query_range(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of a query since the start, every second, that ever had a number."""
        data = self._get("query_range", query=expression, start=self.started, end=time.time(), step=1)
        return [series for series in data["result"] if any(not math.isnan(float(v)) for _, v in series["values"])]

    def label_values(self, selector: str, label: str) -> list[str]:
        """Return the values that a label has in the series of ``selector``."""
        return list(self._get(f"label/{label}/values", **{"match[]": selector}))

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules with their state."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def alerts(self) -> set[str]:
        """Return the names of alerts that are pending or firing."""
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"]}

    def all_up(self) -> bool:
        """Tell whether every target has been scraped."""
        targets = self._get("targets")["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/-/ready", timeout=5).is_success
        except httpx.TransportError:
            return False

    def _get(self, path: str, **parameters: Any) -> Any:
        answer = self._client.get(path, params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]
