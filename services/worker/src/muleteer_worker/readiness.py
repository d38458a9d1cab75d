"""Making a model version ready: fetched, checked, loaded, proved by its golden examples and warmed up."""

import copy
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs

from muleteer.errors import ModelLoadError, PredictionFailedError, RepositoryError
from muleteer.repository.golden import difference
from muleteer.repository.manifest import Manifest, read_manifest
from muleteer.repository.store import evict_version, fetch_version, verify_checksums
from muleteer_worker.frameworks import Adapter, import_libraries, make_adapter
from muleteer_worker.frameworks.libraries import check_libraries
from muleteer_worker.memory import Growth, Measure

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A model version that is resident and has proved itself."""

    model: str
    version: str
    manifest: Manifest
    adapter: Adapter = field(repr=False)
    load_seconds: float
    growth: Growth | None = None
    """What loading and warming it up has added to the process's memory; None where that cannot be measured."""

    def predict(self, instances: list[Any]) -> list[Any]:
        """Return one prediction for each instance.

        Raises PredictionFailedError when the model answers more or fewer, and whatever the model raises.
        """
        predictions = self.adapter.predict(instances)
        if len(predictions) != len(instances):
            raise PredictionFailedError(
                f"The model answered {len(predictions)} predictions for {len(instances)} instances."
            )
        return predictions

    def unload(self) -> None:
        """Let the model's memory go."""
        self.adapter.unload()


def prepare(
    model: str, version: str, uri: str, cache_dir: Path, allow_unsafe: frozenset[str], *, tidy: bool = False
) -> LoadedVersion:
    """Make a version ready to take traffic and return it.

    ``tidy`` has the process give free memory back first, so that what the version takes is measured well.
    Raises ModelLoadError, always with one line and a reason: ``repository``, ``manifest``, ``checksum``, ``library``,
    ``unsafe``, ``load``, ``schema`` or ``golden``.
    """
    started = time.monotonic()
    try:
        folder, manifest = _checked_folder(uri, cache_dir)
    except RepositoryError as error:
        raise ModelLoadError(error.message, reason="repository") from error
    if (manifest.name, manifest.version) != (model, version):
        raise ModelLoadError(
            f"{uri} holds {manifest.name} {manifest.version}, but the catalog says {model} {version}", reason="manifest"
        )
    check_libraries(manifest)
    adapter = make_adapter(folder, manifest, allow_unsafe)
    import_libraries(manifest)
    measure = Measure(tidy=tidy)
    _load(adapter, manifest)
    loaded = LoadedVersion(model, version, manifest, adapter, 0.0)
    try:
        _prove(loaded)
    except BaseException:
        _give_up(adapter)
        raise
    load_seconds = time.monotonic() - started
    return LoadedVersion(model, version, manifest, adapter, load_seconds, measure.growth())


def _checked_folder(uri: str, cache_dir: Path) -> tuple[Path, Manifest]:
    """Return the version's local folder and manifest, checksums verified; a damaged cached copy is fetched again."""
    folder = fetch_version(uri, cache_dir)
    try:
        manifest = read_manifest(folder)
        verify_checksums(folder, manifest)
    except ModelLoadError:
        if not evict_version(folder, cache_dir):
            raise
        folder = fetch_version(uri, cache_dir)
        manifest = read_manifest(folder)
        verify_checksums(folder, manifest)
    return folder, manifest


def _load(adapter: Adapter, manifest: Manifest) -> None:
    try:
        adapter.load()
    except ModelLoadError:
        _give_up(adapter)
        raise
    except (Exception, SystemExit) as error:  # a model's code can raise anything, or try to end the process
        _give_up(adapter)
        raise ModelLoadError(
            f"{manifest.name} {manifest.version} cannot be loaded: {_line(error)}", reason="load"
        ) from error


def _give_up(adapter: Adapter) -> None:
    """Unload a version that did not become ready; why it did not matters more than a failing unload."""
    try:
        adapter.unload()
    except Exception:  # a model's own unload can raise anything, and the first error is being reported
        log.warning("A version that failed to load could not be unloaded either", exc_info=True)


def _prove(loaded: LoadedVersion) -> None:
    """Predict every golden example alone, then all of them as one batch, which is also the warm-up."""
    manifest = loaded.manifest
    _check_schemas(manifest)
    for index in range(len(manifest.examples)):
        _compare(loaded, [index], f"golden example {index}")
    if len(manifest.examples) > 1:
        _compare(loaded, list(range(len(manifest.examples))), "all golden examples as one batch")


def _compare(loaded: LoadedVersion, indexes: list[int], what: str) -> None:
    manifest = loaded.manifest
    examples = [manifest.examples[index] for index in indexes]
    where = f"{manifest.name} {manifest.version}: {what}"
    # Copies, because a model may change the instances it is given.
    instances = [copy.deepcopy(example.instance) for example in examples]
    try:
        predictions = loaded.predict(instances)
    except (Exception, SystemExit) as error:  # a model's code can raise anything, or try to end the process
        raise ModelLoadError(f"{where}: predict raised {_line(error)}", reason="golden") from error
    for index, example, prediction in zip(indexes, examples, predictions, strict=True):
        line = difference(example.prediction, prediction, example.tolerance)
        if line:
            inside = f" (example {index})" if len(indexes) > 1 else ""
            raise ModelLoadError(f"{where}{inside}: {line}", reason="golden")


def _check_schemas(manifest: Manifest) -> None:
    """Check that both schemas are schemas, and that the golden examples fit them."""
    for member in ("instance", "prediction"):
        name = f"{member}_schema"
        schema = getattr(manifest, name)
        if not schema:
            continue
        try:
            validator = jsonschema_rs.validator_for(schema)
        except (ValueError, jsonschema_rs.ValidationError) as error:
            raise ModelLoadError(
                f"{manifest.name} {manifest.version}: {name} is not a JSON Schema: {_line(error)}", reason="schema"
            ) from error
        for index, example in enumerate(manifest.examples):
            misfit = next(iter(validator.iter_errors(getattr(example, member))), None)
            if misfit is not None:
                place = ".".join([member, *map(str, misfit.instance_path)])
                raise ModelLoadError(
                    f"{manifest.name} {manifest.version}: golden example {index} does not fit {name}: "
                    f"{place}: {misfit.message}",
                    reason="schema",
                )


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
