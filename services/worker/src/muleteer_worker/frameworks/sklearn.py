"""scikit-learn: skops by default; joblib and pickle only where the catalog allows them by checksum."""

import hashlib
import importlib
import io
import threading
from pathlib import Path
from typing import Any

from muleteer.errors import ModelLoadError
from muleteer.repository.checksums import member_path
from muleteer.repository.manifest import Manifest
from muleteer_worker.frameworks.forest import without_dispatch
from muleteer_worker.frameworks.inputs import make_encoder
from muleteer_worker.frameworks.libraries import require
from muleteer_worker.frameworks.outputs import make_decoder

_TRUSTED_PACKAGES = ("sklearn", "numpy", "scipy")
_PICKLES = (".joblib", ".pkl", ".pickle")


class _ThreadConfig(threading.local):
    """scikit-learn's configuration of one thread (it keeps one for each).

    Parameters were validated when the model was trained; doing it again costs a single row an eighth of its time.
    """

    configured = False

    def configure(self) -> None:
        require("sklearn", "scikit-learn").set_config(skip_parameter_validation=True)
        self.configured = True


_THREAD = _ThreadConfig()


class SklearnAdapter:
    """A scikit-learn estimator or pipeline."""

    def __init__(self, folder: Path, manifest: Manifest, allow_unsafe: frozenset[str]) -> None:
        self._path = member_path(folder, manifest.artifact)
        self._manifest = manifest
        self._allow_unsafe = allow_unsafe
        self._model: Any = None

    def load(self) -> None:
        """Read the artifact. Raises ModelLoadError (reasons ``unsafe``, ``checksum``, ``library`` or ``load``)."""
        suffix = self._path.suffix.lower()
        if suffix == ".skops":
            model = self._load_skops()
        elif suffix in _PICKLES:
            model = self._load_pickle()
        else:
            raise ModelLoadError(
                f"{self._path.name} must end in .skops, or in {', '.join(_PICKLES)} where the catalog allows it",
                reason="load",
            )
        spec = self._manifest
        if not hasattr(model, spec.output.method):
            raise ModelLoadError(f"{type(model).__name__} has no method {spec.output.method}", reason="load")
        self._encode = make_encoder(spec.input, columns=getattr(model, "feature_names_in_", None))
        self._decode = make_decoder(spec.output, spec.version)
        self._model = without_dispatch(model)
        self._call = getattr(model, spec.output.method)

    def predict(self, instances: list[Any]) -> list[Any]:
        """Return one prediction for each instance."""
        if not _THREAD.configured:
            _THREAD.configure()
        return self._decode(self._call(self._encode(instances)))

    def unload(self) -> None:
        """Let the model's memory go."""
        self._model = self._call = None

    def _load_skops(self) -> Any:
        skops_io = require("skops.io", "skops")
        untrusted = skops_io.get_untrusted_types(file=self._path)
        refused = [name for name in untrusted if not is_trusted(name)]
        if refused:
            raise ModelLoadError(
                f"{self._path.name} holds types from outside scikit-learn, numpy and scipy, which are not loaded: "
                f"{', '.join(refused)}; serve such code as framework python",
                reason="unsafe",
            )
        return skops_io.load(self._path, trusted=untrusted)

    def _load_pickle(self) -> Any:
        content = self._path.read_bytes()
        # The bytes that are checked are the bytes that are unpickled: the file could change between two reads.
        digest = hashlib.sha256(content).hexdigest()
        if digest != self._manifest.sha256:
            raise ModelLoadError(f"{self._path} has sha256 {digest}, not the manifest's", reason="checksum")
        if digest not in self._allow_unsafe:
            raise ModelLoadError(
                f"{self._path.name} is a pickle, which can run any code: save the model with skops, or add {digest} "
                f"to `allow_unsafe` of {self._manifest.name} in the catalog",
                reason="unsafe",
            )
        return require("joblib", "joblib").load(io.BytesIO(content))


def is_trusted(name: str) -> bool:
    """Say whether a type that a skops file names may be made: a class of scikit-learn, numpy or scipy.

    Functions are not: among them are some that run a text as code.
    """
    module, _, attribute = name.rpartition(".")
    parts = module.split(".")
    if parts[0] not in _TRUSTED_PACKAGES or any("test" in part or part == "f2py" for part in parts):
        return False
    try:
        return isinstance(getattr(importlib.import_module(module), attribute, None), type)
    except ImportError:
        return False
