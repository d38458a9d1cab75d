"""MLflow: any model of the pyfunc flavour."""

import os
from pathlib import Path
from typing import Any

from muleteer.errors import ModelLoadError
from muleteer.repository.checksums import files_below, member_path
from muleteer.repository.manifest import Manifest
from muleteer_worker.frameworks.inputs import make_encoder
from muleteer_worker.frameworks.libraries import require
from muleteer_worker.frameworks.outputs import make_decoder

_PICKLES = (".pkl", ".pickle", ".cloudpickle", ".joblib")


class MlflowAdapter:
    """An MLflow model folder (the one that holds ``MLmodel``), loaded by ``mlflow.pyfunc``.

    Many flavours hold pickles, which can run any code: such a folder is loaded only when the catalog allows its
    checksum.
    """

    def __init__(self, folder: Path, manifest: Manifest, allow_unsafe: frozenset[str]) -> None:
        self._path = member_path(folder, manifest.artifact)
        self._manifest = manifest
        self._allow_unsafe = allow_unsafe

    def load(self) -> None:
        """Load the model. Raises ModelLoadError (reasons ``unsafe``, ``library`` or ``load``)."""
        if not self._path.is_dir():
            raise ModelLoadError(f"{self._path} must be an MLflow model folder", reason="load")
        pickles = [path.name for path in files_below(self._path) if path.suffix.lower() in _PICKLES]
        if pickles and self._manifest.sha256 not in self._allow_unsafe:
            raise ModelLoadError(
                f"{self._path.name} holds pickles ({', '.join(pickles)}), which can run any code: add "
                f"{self._manifest.sha256} to `allow_unsafe` of {self._manifest.name} in the catalog",
                reason="unsafe",
            )
        # A serving process reports to nobody but its operator; MLflow reads this when it is imported.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        model = require("mlflow.pyfunc", "mlflow-skinny", "mlflow").load_model(str(self._path))
        self._encode = make_encoder(self._manifest.input)
        self._decode = make_decoder(self._manifest.output, self._manifest.version)
        self._call = model.predict

    def predict(self, instances: list[Any]) -> list[Any]:
        """Return one prediction for each instance."""
        return self._decode(self._call(self._encode(instances)))

    def unload(self) -> None:
        """Let the model's memory go."""
        self._call = None
