"""What every ``train.py`` has in common: its command line, its version folder and the proof that it can be served."""

import argparse
import hashlib
import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets import DataError

from muleteer.errors import MuleteerError
from muleteer.repository.store import write_manifest
from muleteer_worker.readiness import prepare

EXAMPLES = Path(__file__).resolve().parent
SEED = 7
"""Of every split and of every model that draws random numbers: training twice gives the same model."""
HELD_OUT = 0.2
"""Share of the data that training never sees and the figures come from."""
LIBRARIES = ("numpy", "onnx", "scikit-learn", "skl2onnx", "skops", "snowballstemmer")
"""Distributions whose version can change what training writes."""


def run(description: str, train: Callable[[Path, Path | None], None], data_help: str) -> None:
    """Read the command line of a ``train.py`` and call ``train(output, data)``; end with one line if it cannot work."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True, help="model repository: gets <model>/<version>/")
    parser.add_argument("--data", type=Path, help=data_help)
    arguments = parser.parse_args()
    try:
        train(arguments.output, arguments.data)
    except (DataError, MuleteerError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).parent.name}: {error}")


def fingerprint(example: str, data: Path | None = None) -> str:
    """Return the sha256 of all that a training depends on: sources, versions of libraries and a data file."""
    digest = hashlib.sha256()
    sources = [*(EXAMPLES / example).glob("*.py"), *(EXAMPLES / example).glob("*.txt")]
    shared = [EXAMPLES / name for name in ("datasets.py", "training.py", "requirements-data.txt")]
    for path in [*sorted(sources), *shared, *([data] if data else [])]:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for name in LIBRARIES:
        digest.update(f"{name}={importlib.metadata.version(name)}\n".encode())
    return digest.hexdigest()


@contextmanager
def version_folder(output: Path, model: str, version: str) -> Iterator[Path]:
    """Yield an empty folder, which becomes ``<output>/<model>/<version>`` if nothing is raised.

    A training that fails leaves the version that was there as it was.
    """
    parent = output / model
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{version}-", dir=parent) as temporary:
        new, old, target = Path(temporary, "new"), Path(temporary, "old"), parent / version
        new.mkdir()
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)


def finish(folder: Path, values: dict[str, Any], examples: list[dict[str, Any]], data: Path | None = None) -> None:
    """Write ``model.yaml`` with ``examples`` as golden examples, and make the version ready as a worker does.

    ``examples`` hold what the trained model itself predicts; that they come out again proves that the artifact and
    the way it is served mean the same. Raises ModelLoadError when they do not.
    """
    name, version = values["name"], values["version"]
    parameters = {**values.get("parameters", {}), "trained_from": fingerprint(name, data)}
    write_manifest(folder, {**values, "examples": examples, "parameters": parameters})
    ready = prepare(name, version, str(folder), folder, frozenset())
    ready.unload()
    print(f"{name} {version}: ready in {ready.load_seconds:.2f} s, {len(examples)} golden examples hold", flush=True)


def copy_code(folder: Path, *sources: Path) -> None:
    """Copy model code into a version folder."""
    for source in sources:
        shutil.copyfile(source, folder / source.name)
