"""The systems that are measured, each set up at its best, and how they are started."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cases import BenchmarkError
from benchmarks.peers.models_served import PeerModel
from benchmarks.peers.wire import Protocol
from muleteer.catalog.model import Catalog, ModelEntry, VersionEntry
from muleteer.cli.folder_catalog import write_catalog

APPS = "benchmarks.peers.apps"
MULETEER = "muleteer"
RAY = "ray"
OWN_ENVIRONMENT = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Where and with what a system is started."""

    model: PeerModel
    bin: Path
    """The folder of its environment's programs."""
    folder: Path
    """Where it may keep files; short, because Unix sockets lie below it."""
    port: int
    worker_port: int


Command = Callable[[Start], list[str]]


@dataclass(frozen=True, slots=True)
class Subject:
    """One system, one row of the table."""

    name: str
    title: str
    about: str
    """Its settings, in a few words."""
    command: Command
    environment: str = OWN_ENVIRONMENT
    """Which environment below ``.muleteer/peers``; the project's own by default."""
    protocol: Protocol = "plain"
    route: str = "/predict"
    """``{model}`` becomes the model's name."""
    variables: Mapping[str, str] = field(default_factory=dict)
    worker_word: str = "worker"
    """What is killed in the kill row, as the system calls it."""
    once: bool = False
    """Measured in the first round only: it is far behind and slow to measure."""


def _module(name: str) -> Command:
    return lambda start: [str(start.bin / "python"), "-m", f"{APPS}.{name}"]


def _muleteer(start: Start) -> list[str]:
    entry = ModelEntry(versions={"1": VersionEntry()}, route="/predict")
    catalog = start.folder / "catalog.yaml"
    write_catalog(Catalog(repository=str(start.model.repository), models={start.model.model: entry}), catalog)
    options = {
        "--models": catalog,
        "--gateway-port": start.port,
        "--worker-port": start.worker_port,
        "--processes": 1,
        "--state-dir": start.folder,
    }
    return [str(start.bin / "muleteer"), "up", *(str(part) for pair in options.items() for part in pair)]


def _bentoml(start: Start) -> list[str]:
    serve = [str(start.bin / "bentoml"), "serve", f"{APPS}.bento_app:Model"]
    return [*serve, "--host", "127.0.0.1", "--port", str(start.port)]


def _mlserver(start: Start) -> list[str]:
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": start.port,
        "grpc_port": start.port + 1,
        "metrics_port": start.port + 2,
        "metrics_dir": str(start.folder / "metrics"),
        "environments_dir": str(start.folder / "environments"),
        "parallel_workers": MLSERVER_WORKERS,
        "gzip_enabled": False,
    }
    model = {
        "name": start.model.model,
        "implementation": f"{APPS}.mlserver_runtime.Model",
        "max_batch_size": 64,
        "max_batch_time": 0.005,
        "parameters": {"version": "1"},
    }
    folder = start.folder / "served"
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(start.bin / "mlserver"), "start", str(folder)]


MLSERVER_WORKERS = 1
RAY_AT_ITS_BEST = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
}

SUBJECTS = (
    Subject(
        MULETEER, "Muleteer", "`muleteer up --processes 1`, its own Valkey", _muleteer, worker_word="worker process"
    ),
    Subject(
        "fastapi1",
        "FastAPI, 1 process",
        "the model in an `async def` endpoint; uvloop, httptools; restarted when it dies",
        _module("fastapi_app"),
        variables={"BENCH_PROCESSES": "1"},
        worker_word="the process",
    ),
    Subject(
        "fastapi2",
        "FastAPI, 2 processes",
        "the same, `uvicorn --workers 2`",
        _module("fastapi_app"),
        variables={"BENCH_PROCESSES": "2"},
        worker_word="one of 2 processes",
    ),
    Subject(
        "rq",
        "stock RQ",
        "`enqueue` and `latest_result`, a thread for each request, one resident SimpleWorker, replaced when it dies",
        _module("rq_system"),
        worker_word="SimpleWorker",
    ),
    Subject(
        RAY,
        "Ray Serve 2.60, HAProxy",
        "throughput-optimized, HAProxy with 1 thread, 2 replicas, `@serve.batch(64, 2 ms)`, 1000 ongoing requests",
        _module("ray_app"),
        environment="ray",
        variables=RAY_AT_ITS_BEST,
        worker_word="one of 2 replicas",
    ),
    Subject(
        "ray-proxy",
        "Ray Serve 2.60, default proxy",
        "the same application without those settings: its Python proxy",
        _module("ray_app"),
        environment="ray",
        worker_word="one of 2 replicas",
        once=True,
    ),
    Subject(
        "bentoml",
        "BentoML 1.4",
        "batchable (64), 2 workers, no access log, no metrics",
        _bentoml,
        environment="bentoml",
        protocol="list",
        worker_word="one of 2 workers",
    ),
    Subject(
        "litserve",
        "LitServe 0.2",
        "batch of 64 within 10 ms, zmq (`fast_queue`), 1 inference worker, 2 HTTP servers, `restart_workers`",
        _module("litserve_app"),
        environment="litserve",
        variables={"BENCH_WORKERS": "1", "BENCH_SERVERS": "2", "BENCH_BATCH_TIMEOUT": "0.01"},
        worker_word="inference worker",
    ),
    Subject(
        "mlserver",
        "MLServer 1.7",
        "adaptive batching (64, 5 ms), a runtime of its own, V2 protocol, no access log",
        _mlserver,
        environment="mlserver",
        protocol="v2",
        route="/v2/models/{model}/infer",
        worker_word="inference worker",
    ),
)


def find_subject(name: str) -> Subject:
    """Return the subject of a name. Raises BenchmarkError when there is none."""
    for subject in SUBJECTS:
        if subject.name == name:
            return subject
    raise BenchmarkError(f"there is no subject {name!r}: known are {', '.join(one.name for one in SUBJECTS)}")
