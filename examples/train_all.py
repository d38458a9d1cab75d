"""Train every example into one model repository, two at a time; what is there already and still holds is skipped."""

import argparse
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasets import ROOT, DataError, fetch_sdist
from training import EXAMPLES, fingerprint

from muleteer.errors import ModelLoadError
from muleteer.repository.checksums import verify_checksums
from muleteer.repository.manifest import read_manifest

VERSIONS = {"movie-sentiment": ("1", "2"), "ride-duration": ("1",), "tweet-sentiment": ("1",), "fancy": ("1",)}
"""Each example and the versions that it writes; the slowest first."""
SHOWN = ("balanced_accuracy", "mae_minutes", "rmse_minutes")
"""Metrics that a summary line shows."""
PARALLEL = 2
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Set to 1: trainings that run side by side would only wait for each other's threads."""


@dataclass(frozen=True, slots=True)
class Training:
    """How the training of one example ended."""

    example: str
    seconds: float
    returncode: int
    output: str


def is_current(output: Path, example: str) -> bool:
    """Say whether all versions of an example are there, undamaged and trained from the sources as they are now."""
    wanted = fingerprint(example)
    for version in VERSIONS[example]:
        folder = output / example / version
        try:
            manifest = read_manifest(folder)
            verify_checksums(folder, manifest)
        except ModelLoadError:
            return False
        if manifest.parameters.get("trained_from") != wanted:
            return False
    return True


def describe(output: Path, example: str) -> str:
    """Return the figures that an example's versions keep, as one line."""
    parts = []
    for version in VERSIONS[example]:
        metrics = read_manifest(output / example / version).metrics
        figures = [f"{name} {value:.4g}" for name, value in metrics.items() if name in SHOWN]
        parts.append(f"version {version}" + (f" ({', '.join(figures)})" if figures else ""))
    return ", ".join(parts)


def train(output: Path, example: str) -> Training:
    """Run an example's ``train.py`` in a process of its own."""
    started = time.monotonic()
    command = [sys.executable, str(EXAMPLES / example / "train.py"), "--output", str(output)]
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    result = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return Training(example, time.monotonic() - started, result.returncode, result.stdout)


@contextmanager
def only_one(output: Path) -> Iterator[None]:
    """Keep a second run into the same repository waiting until this one is done."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def train_missing(output: Path) -> bool:
    """Train what is missing or out of date, report on all, and say whether everything is there now."""
    missing = [example for example in VERSIONS if not is_current(output, example)]
    for example in VERSIONS:
        if example not in missing:
            print(f"{example:16}  there already: {describe(output, example)}", flush=True)
    if not missing:
        return True
    started = time.monotonic()
    fetch_sdist()
    print(f"{'data':16}  {time.monotonic() - started:4.1f} s  tweets and movie-review snippets at hand", flush=True)
    print(f"{'training':16}  {', '.join(missing)} ...", flush=True)
    succeeded = True
    with ThreadPoolExecutor(PARALLEL) as pool:
        for done in as_completed([pool.submit(train, output, example) for example in missing]):
            training = done.result()
            if training.returncode == 0:
                summary = describe(output, training.example)
                print(f"{training.example:16}  {training.seconds:4.1f} s  {summary}", flush=True)
            else:
                succeeded = False
                print(f"{training.example:16}  {training.seconds:4.1f} s  failed:\n{training.output}", flush=True)
    print(f"{'all':16}  {time.monotonic() - started:4.1f} s", flush=True)
    return succeeded


def main() -> None:
    """Train all examples; end with 1 if one could not be trained."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / ".muleteer" / "models", help="model repository")
    output = parser.parse_args().output.resolve()
    try:
        with only_one(output):
            succeeded = train_missing(output)
    except (DataError, OSError) as error:
        sys.exit(f"train_all: {error}")
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
