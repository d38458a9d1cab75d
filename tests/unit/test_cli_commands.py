"""The commands as a shell runs them: exit codes, one-line errors, and what is printed."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from muleteer.repository.store import write_manifest

JOB = "0198c1de-7000-7000-8000-000000000001"
FINISHED = {
    "id": JOB,
    "status": "finished",
    "model": "m",
    "version": "1",
    "created_at": "2026-11-21T12:00:00.000000Z",
    "result": {"predictions": [1]},
}
MODEL = {
    "name": "m",
    "route": "/m",
    "aliases": {"champion": "1"},
    "traffic": {"1": 3.0, "2": 1.0},
    "model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}, "workers": 2},
        {"version": "2", "state": "FAILED", "status": {"error_code": "checksum", "error_message": "[x] differs"}},
    ],
}
UNKNOWN = {"title": "Not found", "status": 404, "detail": "There is no model 'x'.", "request_id": "r"}
WRONG = {"title": "Validation failed", "status": 422, "detail": "2 wrong fields", "request_id": "r"}
WRONG_FIELDS = [{"path": "instances.0.text", "message": "3 is no string"}, {"path": "instances.1", "message": "no"}]
ANSWERS: dict[tuple[str, str], tuple[int, Any]] = {
    ("POST", "/v1/models/m:predict"): (200, {"predictions": ["gööd"]}),
    ("POST", "/v1/models/m/versions/2:predict"): (200, {"predictions": [2]}),
    ("POST", "/v1/models/m/labels/async:predict"): (202, FINISHED | {"status": "queued"}),
    ("POST", "/v1/models/x:predict"): (404, UNKNOWN),
    ("POST", "/v1/models/wrong:predict"): (422, WRONG | {"errors": WRONG_FIELDS}),
    ("GET", "/readyz"): (200, {"status": "ready"}),
    ("GET", "/v1/models"): (200, {"models": [{"name": "m", "versions": ["1", "2"], "ready": True}]}),
    ("GET", "/v1/models/m"): (200, MODEL),
    ("GET", f"/v1/jobs/{JOB}"): (200, FINISHED),
    ("GET", f"/v1/jobs/{JOB}?wait=20"): (200, FINISHED),
    ("DELETE", f"/v1/jobs/{JOB}"): (200, FINISHED | {"status": "canceled", "result": None}),
}


class Handler(BaseHTTPRequestHandler):
    """Plays a gateway with fixed answers, and repeats a request's instances in a header."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wanted = f"{self.path} async" if self.headers.get("Prefer") == "respond-async" else self.path
        status, document = ANSWERS.get((self.command, wanted)) or ANSWERS[self.command, self.path]
        if body and status == 200 and json.loads(body)["instances"] == {"echo": True}:
            document = {"predictions": {"echo": dict(self.headers)}}
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    program = "from muleteer.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **environment},
        check=False,
    )


def test_predict_prints_the_predictions_as_json(url: str) -> None:
    done = run("predict", "m", '[{"text": "x"}]', "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ["gööd"]


def test_the_server_can_come_from_the_environment_and_a_version_be_named(url: str) -> None:
    assert json.loads(run("predict", "m", "[1]", "--version", "2", MULETEER_URL=url).stdout) == [2]


def test_instances_can_come_from_standard_input_and_from_a_file(url: str, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"instances": {"echo": true}}')
    for done in (
        run("predict", "m", "-", "--key", "k-1", "--url", url, stdin='{"echo": true}'),
        run("predict", "m", f"@{tmp_path / 'request.json'}", "--key", "k-1", "--url", url),
    ):
        assert json.loads(done.stdout)["echo"]["Idempotency-Key"] == "k-1"


def test_an_async_prediction_prints_only_the_jobs_id_on_standard_output(url: str) -> None:
    done = run("predict", "m", "[1]", "--alias", "async", "--async", "--url", url)
    assert done.stdout == f"{JOB}\n"
    assert f"muleteer jobs wait {JOB}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["m", "[1"], "not JSON"),
        (["m", "3"], "must be a JSON list"),
        (["m", "@/nowhere/at/all"], "cannot be read"),
        (["m", "[1]", "--version", "1", "--alias", "a"], "not both"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], said: str) -> None:
    done = run("predict", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_problem_is_one_line_and_exit_code_1(url: str) -> None:
    done = run("predict", "x", "[1]", "--url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "muleteer: Not found: There is no model 'x'.\n"


def test_wrong_fields_are_named_in_that_line(url: str) -> None:
    done = run("predict", "wrong", "[1]", "--url", url)
    assert done.stderr == "muleteer: Validation failed: instances.0.text: 3 is no string; instances.1: no\n"


def test_a_server_that_is_not_there_is_said_with_what_to_do() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    done = run("models", "--url", f"http://127.0.0.1:{free}")
    assert done.returncode == 1
    assert "muleteer up" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_models_shows_each_versions_state_and_why_one_failed(url: str) -> None:
    for done in (run("models", "--url", url), run("models", "m", "--url", url)):
        assert done.returncode == 0
        _, first, second = done.stdout.splitlines()
        assert first.split() == ["m", "1", "AVAILABLE", "2", "75%", "champion", "/m"]
        assert second.split() == ["m", "2", "FAILED", "0", "25%", "-", "/m", "checksum:", "[x]", "differs"]


def test_jobs_can_be_shown_awaited_and_canceled(url: str) -> None:
    shown = run("jobs", "show", JOB, "--url", url)
    assert "finished" in shown.stdout
    assert "m version 1" in shown.stdout
    assert json.loads(run("jobs", "show", JOB, "--json", "--url", url).stdout)["result"] == {"predictions": [1]}
    assert json.loads(run("jobs", "wait", JOB, "--url", url).stdout) == [1]
    assert run("jobs", "cancel", JOB, "--url", url).stdout == "canceled\n"


READY = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
EXAMPLES = [
    {"instance": 1, "prediction": {"score": 0.5, "label": "up"}, "tolerance": 0.01},
    {"instance": 2, "prediction": {"score": 1, "label": "up"}, "tolerance": 0},
]
RIGHT = [{"score": 0.501, "label": "up"}, {"score": 1.0, "label": "up"}]
WRONG_ROWS = [{"score": 0.6, "label": "up"}, {"score": 1.0, "label": "down"}]


def smoking(name: str, *versions: dict[str, Any], traffic: dict[str, float] | None = None) -> None:
    """Let the server have one more model, which the list of models does not show."""
    ANSWERS["GET", f"/v1/models/{name}"] = (
        200,
        {"name": name, "traffic": traffic or {"1": 1.0}, "model_version_status": versions},
    )


def answering(path: str, rows: list[Any], job_rows: list[Any] | None = None) -> None:
    """Let a prediction route answer these rows, and if it is asked async those."""
    job = f"job-{len(ANSWERS)}"
    ANSWERS["POST", path] = (200, {"predictions": rows})
    ANSWERS["POST", f"{path} async"] = (202, FINISHED | {"id": job, "status": "queued"})
    document = FINISHED | {"id": job, "result": {"predictions": rows if job_rows is None else job_rows}}
    for query in ("", "?wait=1", "?wait=2", "?wait=20"):
        ANSWERS["GET", f"/v1/jobs/{job}{query}"] = (200, document)


def test_smoke_asks_every_version_both_ways_and_compares_with_each_examples_tolerance(url: str) -> None:
    smoking("good", READY | {"version": "1", "examples": EXAMPLES}, READY | {"version": "2", "examples": EXAMPLES[:1]})
    smoking("asleep", READY | {"version": "1", "state": "COLD", "examples": EXAMPLES})
    answering("/v1/models/asleep:predict", RIGHT)
    answering("/v1/models/good:predict", RIGHT)  # the version with all the traffic, as callers ask it
    answering("/v1/models/good/versions/2:predict", RIGHT[:1])
    done = run("smoke", "good", "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("good 1: ok, 2 examples sync and async in ")
    assert second.startswith("good 2: ok, 1 example sync and async in ")
    assert run("smoke", "asleep", "--url", url).stdout.startswith("asleep 1: ok, 2 examples sync and async in ")


def test_smoke_names_every_difference_and_fails(url: str) -> None:
    versions = [READY | {"version": version, "examples": EXAMPLES} for version in ("1", "2")]
    smoking("drifting", *versions, traffic={"1": 0.5, "2": 0.5})
    answering("/v1/models/drifting/versions/1:predict", WRONG_ROWS)
    answering("/v1/models/drifting/versions/2:predict", RIGHT, RIGHT[:1])
    done = run("smoke", "drifting", "--url", url)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "drifting 1: FAILED, sync, example 0: prediction.score: expected 0.5, got 0.6",
        "drifting 1: FAILED, sync, example 1: prediction.label: expected 'up', got 'down'",
        "drifting 1: FAILED, async, example 0: prediction.score: expected 0.5, got 0.6",
        "drifting 1: FAILED, async, example 1: prediction.label: expected 'up', got 'down'",
        f"drifting 2: FAILED, async: 2 predictions are wanted, the answer is {RIGHT[:1]}",
        "2 of 2 versions failed",
    ]


def test_smoke_says_which_version_lists_no_examples(url: str) -> None:
    smoking("bare", READY | {"version": "1"})
    done = run("smoke", "bare", "--url", url)
    assert (done.returncode, done.stdout) == (0, "bare 1: lists no examples, so it was not asked\n")


def test_smoke_waits_for_versions_and_then_tells_their_state_and_reason(url: str) -> None:
    done = run("smoke", "m", "--url", url, "--timeout", "1")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "m 1: lists no examples, so it was not asked",
        "m 2: FAILED, it is FAILED: checksum: [x] differs",
        "1 of 2 versions failed",
    ]


def test_smoke_without_a_server_says_so_within_its_time() -> None:
    done = run("smoke", "--url", "http://127.0.0.1:1", "--timeout", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "was not ready within 1 s" in done.stderr


MODEL_CODE = "class Double:\n    def predict(self, instances):\n        return [2 * x for x in instances]\n"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "double.py").write_text(MODEL_CODE)
    values = {
        "name": "double",
        "version": "1",
        "framework": "python",
        "artifact": "double.py",
        "entrypoint": "double.py:Double",
        "instance_schema": {"type": "number"},
        "examples": [{"instance": 2, "prediction": 4}],
    }
    write_manifest(folder, values)
    return folder


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    rows = [line.rsplit(None) for line in done.stdout.splitlines()[1:]]
    return {row[0]: "ok" if "ok" in row[1:3] else "FAILED" if "FAILED" in row[1:3] else "-" for row in rows}


def test_check_says_ok_to_every_check_of_a_good_version(version: Path) -> None:
    done = run("check", str(version))
    assert done.returncode == 0, done.stderr
    assert set(checks(done).values()) == {"ok"}
    assert "1 of 1 hold" in done.stdout
    assert "no prediction_schema" in done.stdout


def test_check_names_a_changed_artifact(version: Path) -> None:
    (version / "double.py").write_text(MODEL_CODE.replace("2 *", "3 *"))
    done = run("check", str(version))
    assert done.returncode == 1
    assert checks(done)["checksum"] == "FAILED"
    assert checks(done)["loads"] == "-"


def test_check_names_a_golden_example_that_no_longer_holds(version: Path) -> None:
    manifest = version / "model.yaml"
    manifest.write_text(manifest.read_text().replace("prediction: 4", "prediction: 5"))
    done = run("check", str(version))
    assert done.returncode == 1
    assert checks(done) == dict.fromkeys(["manifest", "checksum", "libraries", "loads", "schema"], "ok") | {
        "golden": "FAILED"
    }
    assert "expected 5, got 4" in done.stdout


def test_check_of_a_folder_without_a_manifest_says_so(tmp_path: Path) -> None:
    done = run("check", str(tmp_path))
    assert done.returncode == 1
    assert "is missing" in done.stdout
    assert checks(done)["manifest"] == "FAILED"


def test_push_prints_where_the_version_is_now(version: Path, tmp_path: Path) -> None:
    done = run("push", str(version), str(tmp_path / "models"))
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'models'}/double/1\n")
    assert (tmp_path / "models" / "double" / "1" / "model.yaml").exists()


def test_push_of_another_version_of_the_same_name_is_refused_in_one_line(version: Path, tmp_path: Path) -> None:
    run("push", str(version), str(tmp_path / "models"))
    manifest = version / "model.yaml"
    manifest.write_text(manifest.read_text().replace("tolerance: 1.0e-06", "tolerance: 1.0e-05") + "\n# changed\n")
    done = run("push", str(version), str(tmp_path / "models"))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "versions never change" in done.stderr


def test_up_says_before_anything_starts_that_a_port_is_taken(version: Path, tmp_path: Path) -> None:
    run("push", str(version), str(tmp_path / "models"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        state = tmp_path / "state"
        done = run(
            "up", "--models", str(tmp_path / "models"), "--gateway-port", port, "--state-dir", str(state),
            "--worker-port", "0",
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"muleteer: Port {port} cannot be used (address already in use): choose another with --gateway-port.\n"
    )
    assert not (state / "valkey").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--models", "nowhere.yaml"], 1, "nowhere.yaml does not exist"),
        (["--once"], 2, "--once needs a command"),
        (["--models", "MODELS", "--redis-url", "redis://127.0.0.1:1/0"], 1, "redis://127.0.0.1:1/0 cannot be used"),
        (["--models", "MODELS", "--redis-url", "nonsense"], 1, "nonsense cannot be used"),
    ],
)
def test_up_says_what_is_wrong_with_its_options(
    version: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    run("push", str(version), str(tmp_path / "models"))
    arguments = [str(tmp_path / "models") if word == "MODELS" else word for word in arguments]
    done = run("up", "--gateway-port", "0", "--worker-port", "0", "--state-dir", str(tmp_path / "state"), *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
