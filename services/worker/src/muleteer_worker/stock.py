"""What a stock RQ worker calls to run a job: correct, but one job at a time and without batching."""

from functools import cache
from typing import Any

import orjson
from rq import get_current_job

from muleteer.catalog.source import read_catalog
from muleteer.errors import NotFoundError, PredictionFailedError
from muleteer.settings import load_settings
from muleteer_worker.readiness import LoadedVersion, prepare
from muleteer_worker.settings import WorkerSettings


def predict() -> list[Any]:
    """Return the predictions for the current RQ job's instances.

    The version is made ready from the catalog in ``MULETEER_CATALOG`` and kept for the life of the process. Raises
    PredictionFailedError outside of an RQ job or for a job without instances, and whatever loading or predicting
    raises: RQ stores it as the job's failure.
    """
    job = get_current_job()
    if job is None:
        raise PredictionFailedError("muleteer_worker.stock.predict is to be called by an RQ worker, for a job.")
    instances, model, version = job.connection.hmget(job.key, "input", "model", "version")
    if instances is None or model is None or version is None:
        raise PredictionFailedError(f"Job {job.id} is no Muleteer prediction: it lacks input, model or version.")
    return _version(_text(model), _text(version)).predict(orjson.loads(instances))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@cache
def _version(model: str, version: str) -> LoadedVersion:
    settings = load_settings(WorkerSettings)
    catalog = read_catalog(settings.catalog)
    entry = catalog.model(model)
    if version not in entry.versions:
        raise NotFoundError(f"The catalog {settings.catalog} has no version {version!r} of model {model!r}.")
    return prepare(model, version, catalog.version_uri(model, version), settings.cache_dir, entry.allow_unsafe)
