"""The JSON documents that describe jobs."""

from typing import Any

import orjson

from muleteer.queue.jobs import JobView


def new_job_document(job_id: str, model: str, version: str, created_at: str, eta: float | None) -> dict[str, Any]:
    """Return the document of a job that was enqueued just now."""
    document: dict[str, Any] = {
        "id": job_id,
        "status": "queued",
        "model": model,
        "version": version,
        "created_at": created_at,
        "links": _links(job_id),
    }
    if eta is not None:
        document["eta_seconds"] = round(eta, 3)
    return document


def job_document(view: JobView, eta: float | None = None) -> dict[str, Any]:
    """Return a job's document: its state, and its result or error once it has ended."""
    document: dict[str, Any] = {
        "id": view.id,
        "status": view.status,
        "model": view.model,
        "version": view.version,
        "created_at": view.created_at,
        "links": _links(view.id),
    }
    optional = {"started_at": view.started_at, "ended_at": view.ended_at, "deliveries": view.deliveries}
    document |= {name: value for name, value in optional.items() if value}
    if view.position is not None:
        document["position"] = view.position
    if eta is not None and not view.ended:
        document["eta_seconds"] = round(eta, 3)
    if view.predictions is not None:
        predictions: Any = orjson.Fragment(view.predictions)
        if "keys" in view.extra:
            predictions = dict(zip(view.extra["keys"], orjson.loads(view.predictions), strict=True))
        document["result"] = {"predictions": predictions}
    if view.error is not None:
        document["error"] = view.error
    return document


def _links(job_id: str) -> dict[str, str]:
    return {"self": f"/v1/jobs/{job_id}", "events": f"/v1/jobs/{job_id}/events"}
