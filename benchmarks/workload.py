"""What is sent and what must come back: several hundred different requests for each model, from the example data."""

import importlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

from benchmarks.cases import CASES, FOREST, MODELS, NO_OP, ROOT, TEXT, BenchmarkError, Case
from benchmarks.resident import load_model

EXAMPLES = ROOT / "examples"
REQUESTS = 400


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests of one case, in the order they are sent, over and over."""

    instances: Sequence[dict[str, Any]]
    predictions: Sequence[dict[str, Any]]
    """What the model answers when it is called directly."""
    bodies: Path
    """A file with one request body a line."""


def ensure_models() -> None:
    """Train the models that are not there yet. Raises BenchmarkError when that fails."""
    for case in CASES:
        if (case.folder / "model.yaml").exists():
            continue
        command = [sys.executable, str(EXAMPLES / case.model / "train.py"), "--output", str(MODELS)]
        if subprocess.run(command, check=False).returncode != 0:
            raise BenchmarkError(f"{case.model} could not be trained; see above.")


def make_workload(case: Case, folder: Path, seed: int) -> Workload:
    """Draw a case's requests, ask the model itself for the answers, and write the bodies below ``folder``."""
    instances = _INSTANCES[case.name](seed)
    bodies = folder / f"{case.name}.jsonl"
    bodies.write_bytes(b"\n".join(map(orjson.dumps, instances)) + b"\n")
    return Workload(instances, load_model(case.model, case.folder).predict([dict(i) for i in instances]), bodies)


def _texts(seed: int) -> list[dict[str, Any]]:
    data = _example_module("datasets", EXAMPLES)
    texts = data.read_ground_truth(data.MOVIES).texts
    return [{"text": text} for text in random.Random(seed).sample(texts, REQUESTS)]  # noqa: S311 - which texts to send


def _rides(seed: int) -> list[dict[str, Any]]:
    trips = _example_module("trips", EXAMPLES, EXAMPLES / "ride-duration")
    rides: list[dict[str, Any]] = trips.generate(2 * REQUESTS, seed).records()
    return rides[:REQUESTS]


def _numbers(_seed: int) -> list[dict[str, Any]]:
    return [{"id": number} for number in range(REQUESTS)]


_INSTANCES: Mapping[str, Callable[[int], list[dict[str, Any]]]] = {
    TEXT.name: _texts,
    FOREST.name: _rides,
    NO_OP.name: _numbers,
}


def _example_module(name: str, *folders: Path) -> ModuleType:
    with _importable(folders):
        return importlib.import_module(name)


@contextmanager
def _importable(folders: Sequence[Path]) -> Iterator[None]:
    # The examples are plain folders of scripts, not packages.
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before
