"""Structured logs: one JSON object a line, with the request and job they belong to."""

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

FIELDS = ("request_id", "job_id", "model", "version")
"""Names that log calls pass in ``extra`` to tie a line to a request, a job or a model version."""


class TextFormatter(logging.Formatter):
    """Lines for people: the message, and behind it what the record is tied to."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line, with the record's request, job, model and version where it has them."""
        ties = [f"{field}={getattr(record, field)}" for field in FIELDS if getattr(record, field, "")]
        return super().formatMessage(record) + (f" [{' '.join(ties)}]" if ties else "")


def configure_logging(service: str, level: str = "info", style: Literal["json", "text"] = "json") -> None:
    """Send every log record to standard error, as JSON lines or as text for people."""
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(
            JsonFormatter(
                "{levelname}{name}{message}",
                style="{",
                timestamp=True,
                rename_fields={"levelname": "level", "name": "logger"},
                static_fields={"service": service},
            )
        )
    else:
        handler.setFormatter(TextFormatter(f"%(asctime)s {service} %(levelname)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "uvicorn.error", "uvicorn.access", "botocore", "aiobotocore", "s3fs"):
        logging.getLogger(noisy).setLevel("WARNING")
