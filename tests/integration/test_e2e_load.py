"""The load that the cluster tests put into a pod, here against a system of processes: it must see every failure."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.models import write_catalog, write_version
from support.services import System
from support.waiting import wait_until

SCRIPT = Path(__file__).parents[1] / "e2e" / "load.py"


class RunningLoad:
    """The script as a process, and the last line that it printed."""

    def __init__(self, folder: Path, url: str, answer: Any) -> None:
        self._stop, self._output = folder / "stop", folder / "load.log"
        requests = folder / "requests.json"
        body = {"instances": [{"text": "a text"}]}
        requests.write_text(json.dumps([{"path": "/v1/models/echo:predict", "body": body, "answer": answer}]))
        command = [
            sys.executable,
            str(SCRIPT),
            str(requests),
            "--url",
            url,
            "--callers",
            "4",
            "--stop",
            str(self._stop),
        ]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output)

    def seen(self) -> dict[str, Any]:
        lines = self._output.read_text().splitlines()
        return json.loads(lines[-1]) if lines else {"answered": 0, "failed": 0}

    def wait_for(self, what: str, number: int) -> None:
        wait_until(lambda: self.seen()[what] >= number, what=f"{number} {what}")

    def stop(self) -> tuple[int, dict[str, Any]]:
        self._stop.touch()
        code = self._process.wait(30)
        return code, self.seen()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("load")
    write_version(folder / "models", "echo")
    with System(folder, write_catalog(folder / "catalog.yaml", {"echo": {"versions": {"1": {}}}})) as running:
        running.add_gateway()
        running.add_worker()
        yield running.wait_ready()


def test_right_answers_are_counted_until_the_file_appears(system: System, tmp_path: Path) -> None:
    load = RunningLoad(tmp_path, system.url, {"predictions": [{"echo": "a text"}]})
    load.wait_for("answered", 50)
    code, seen = load.stop()
    assert (code, seen["failed"], seen["failures"], seen["done"]) == (0, 0, [], True)
    assert seen["versions"] == {"1": seen["answered"]}


def test_a_wrong_answer_is_a_failure_that_shows_it(system: System, tmp_path: Path) -> None:
    load = RunningLoad(tmp_path, system.url, {"predictions": [{"echo": "another text"}]})
    load.wait_for("failed", 1)
    code, seen = load.stop()
    assert (code, seen["failed"]) == (1, seen["answered"])
    assert "another answer than expected" in seen["failures"][0]
    assert "a text" in seen["failures"][0]


def test_a_gateway_that_is_away_is_a_failure_and_is_not_asked_again_for_the_same_request(
    system: System, tmp_path: Path
) -> None:
    doomed = system.add_gateway().wait_ready()
    load = RunningLoad(tmp_path, doomed.url, {"predictions": [{"echo": "a text"}]})
    load.wait_for("answered", 50)
    doomed.kill_all()
    load.wait_for("failed", 10)
    code, seen = load.stop()
    assert code == 1
    assert seen["answered"] == seen["failed"] + seen["versions"]["1"]
    assert "Error" in seen["failures"][-1]
