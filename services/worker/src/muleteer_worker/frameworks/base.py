"""What every framework's adapter can do, and which adapter serves a manifest."""

import contextlib
import importlib
from pathlib import Path
from typing import Any, Protocol, cast

from muleteer.repository.manifest import Manifest

_ADAPTERS = {
    "sklearn": "muleteer_worker.frameworks.sklearn:SklearnAdapter",
    "onnx": "muleteer_worker.frameworks.onnx:OnnxAdapter",
    "mlflow": "muleteer_worker.frameworks.mlflow:MlflowAdapter",
    "python": "muleteer_worker.frameworks.python:PythonAdapter",
}

_LIBRARIES = {"sklearn": "sklearn", "onnx": "onnxruntime", "mlflow": "mlflow.pyfunc"}


class Adapter(Protocol):
    """One model version behind one framework."""

    def load(self) -> None:
        """Make the model resident. Raises ModelLoadError, or whatever the framework raises."""

    def predict(self, instances: list[Any]) -> list[Any]:
        """Return one JSON-able prediction for each instance, in order.

        Raises ValidationFailedError when an instance lacks what the model needs, PredictionFailedError when an answer
        is not a prediction, and whatever the model itself raises.
        """

    def unload(self) -> None:
        """Let the model's memory go."""


def make_adapter(folder: Path, manifest: Manifest, allow_unsafe: frozenset[str] = frozenset()) -> Adapter:
    """Return the adapter that serves a version folder; nothing is loaded yet.

    ``allow_unsafe`` holds the checksums of artifacts that may be unpickled.
    """
    module, _, name = _ADAPTERS[manifest.framework].partition(":")
    # A framework's module is imported when it is first needed: a pool of one framework pays for no other.
    adapter_class = getattr(importlib.import_module(module), name)
    return cast("Adapter", adapter_class(folder, manifest, allow_unsafe))


def import_libraries(manifest: Manifest) -> None:
    """Import what a framework is made of: large, and not part of any one version.

    What is missing is left to the adapter, which says so when it loads.
    """
    names = [_LIBRARIES.get(manifest.framework, "")]
    if manifest.artifact.endswith(".skops"):
        names.append("skops.io")
    for name in filter(None, names):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
