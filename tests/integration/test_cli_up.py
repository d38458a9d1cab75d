"""``muleteer up`` with real services: what it shows, and that nothing is left behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from muleteer.cli.system import LocalSystem, SystemOptions
from muleteer.client import Client
from muleteer.repository.store import write_manifest

MODEL_CODE = "class Times:\n    def predict(self, instances):\n        return [{factor} * x for x in instances]\n"
MULETEER = [sys.executable, "-c", "from muleteer.cli.app import main; main()"]
PREDICT = (
    "from muleteer.client import Client; import os; print(Client(os.environ['MULETEER_URL']).predict('times', [21]))"
)


TIRING = """
class Times:
    calls = 0
    def predict(self, instances):
        self.calls += 1
        return [2 * x if self.calls == 1 else -x for x in instances]
"""


def make_version(repository: Path, version: str, factor: int, predicts: int, code: str = MODEL_CODE) -> Path:
    folder = repository / "times" / version
    folder.mkdir(parents=True)
    (folder / "times.py").write_text(code.format(factor=factor))
    values = {
        "name": "times",
        "version": version,
        "framework": "python",
        "artifact": "times.py",
        "entrypoint": "times.py:Times",
        "instance_schema": {"type": "number"},
        "examples": [{"instance": 1, "prediction": predicts}],
    }
    write_manifest(folder, values)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    make_version(tmp_path / "models", "1", factor=2, predicts=2)
    return tmp_path / "models"


def command(models: Path, *more: str) -> list[str]:
    ports = ["--gateway-port", "0", "--worker-port", "0", "--processes", "1"]
    return [*MULETEER, "up", "--models", str(models), *ports, "--state-dir", str(models.parent / "state"), *more]


def run(models: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(models, *more), capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def running(models: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """Run ``muleteer up`` until it says that it is ready; give it and all its processes."""
    with subprocess.Popen(command(models), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as up:
        try:
            assert up.stdout is not None
            lines: list[str] = []
            while not lines or "Ctrl-C" not in lines[-1]:
                line = up.stdout.readline()
                assert line, (lines, up.stderr.read() if up.stderr else "")
                lines.append(line)
            yield up, psutil.Process(up.pid).children(recursive=True)
        finally:
            up.kill()


def find(processes: list[psutil.Process], module: str) -> psutil.Process:
    return next(process for process in processes if module in process.cmdline())


def assert_all_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []


def test_once_serves_a_folder_runs_the_command_and_stops(models: Path) -> None:
    make_version(models, "10", factor=3, predicts=3)
    done = run(models, "--then", shlex.join([sys.executable, "-c", PREDICT]), "--once")
    assert done.returncode == 0, done.stderr
    assert "[63]" in done.stdout  # 10 is newer than 1
    assert "2 of 2 versions ready" in done.stdout
    assert "times:predict -H 'Content-Type: application/json' -d '{\"instances\": [1]}'" in done.stdout
    assert done.stderr == ""


def test_the_exit_code_of_the_command_is_the_exit_code(models: Path) -> None:
    done = run(models, "--then", shlex.join([sys.executable, "-c", "raise SystemExit(7)"]), "--once")
    assert done.returncode == 7


def test_the_printed_request_asks_the_first_model_with_its_own_example(models: Path) -> None:
    done = run(models, "--then", "cat /dev/null", "--once")
    words = shlex.split(next(line for line in done.stdout.splitlines() if "curl" in line))
    assert words[0] == "curl"
    assert words[1].endswith("/v1/models/times:predict")
    assert json.loads(words[-1]) == {"instances": [1]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(models: Path, number: signal.Signals) -> None:
    with running(models) as (up, processes):
        up.send_signal(number)
        _, errors = up.communicate(timeout=60)
        assert (up.returncode, errors) == (0, "")
        assert_all_gone(processes)


def test_a_killed_worker_is_reported_and_the_rest_stopped(models: Path) -> None:
    with running(models) as (up, processes):
        find(processes, "muleteer_worker").kill()
        _, errors = up.communicate(timeout=60)
        assert up.returncode == 1
        assert "muleteer: The worker was killed by signal 9." in errors
        assert "Traceback" not in errors
        assert_all_gone(processes)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_nothing_outlives_a_kill_of_up_itself(models: Path) -> None:
    with running(models) as (up, processes):
        assert len(processes) >= 4
        os.kill(up.pid, signal.SIGKILL)
        assert_all_gone(processes)


def test_a_version_that_fails_is_named_and_the_others_are_served(models: Path) -> None:
    make_version(models, "2", factor=3, predicts=4)
    (models.parent / "catalog.yaml").write_text(
        "repository: models\nmodels:\n  times:\n    versions: {1: {}, 2: {}}\n    default: 1\n"
    )
    done = run(models.parent / "catalog.yaml", "--then", shlex.join([sys.executable, "-c", PREDICT]), "--once")
    assert done.returncode == 0, done.stderr
    assert "times 2 is not served: " in done.stderr
    assert "expected 4, got 3" in done.stderr
    assert "[42]" in done.stdout


def test_smoke_asks_a_running_system_for_every_version(models: Path) -> None:
    make_version(models, "2", factor=3, predicts=3)
    done = run(models, "--then", shlex.join([*MULETEER, "smoke"]), "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("times ")]
    assert [line.partition(" in ")[0] for line in lines] == [
        "times 1: ok, 1 example sync and async",
        "times 2: ok, 1 example sync and async",
    ]


def test_smoke_finds_a_version_that_no_longer_answers_as_it_did_when_it_was_loaded(models: Path) -> None:
    make_version(models, "2", factor=2, predicts=2, code=TIRING)
    done = run(models, "--then", shlex.join([*MULETEER, "smoke", "times"]), "--once")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "times 1: ok" in done.stdout
    for mode in ("sync", "async"):
        assert f"times 2: FAILED, {mode}, example 0: prediction: expected 2, got -1" in done.stdout
    assert "1 of 2 versions failed" in done.stdout


def test_when_no_version_can_be_served_up_ends_with_the_reason(models: Path) -> None:
    (models / "times" / "1" / "times.py").write_text("class Times: pass\n")
    done = run(models)
    assert done.returncode == 1
    assert "muleteer: No model version is ready: times 1: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_local_system_can_be_used_from_python_and_keeps_jobs_over_a_restart(models: Path, tmp_path: Path) -> None:
    options = SystemOptions(models, gateway_port=0, worker_port=0, processes=1, state_dir=tmp_path / "state")
    with LocalSystem(options) as system, Client(system.url) as client:
        assert client.predict("times", {"a": 1, "b": 2}) == {"a": 2, "b": 4}
        job = client.submit("times", [5], idempotency_key="kept")
        assert client.result(job, 30) == [10]
    with LocalSystem(options) as system, Client(system.url) as client:
        assert client.result(job.id, 30) == [10]
        assert client.submit("times", [5], idempotency_key="kept").id == job.id
