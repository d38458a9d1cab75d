"""What the subjects that are compared with read from their environment, ``BENCH_…``."""

from pathlib import Path

from pydantic import BaseModel
from pydantic_settings import BaseSettings, SettingsConfigDict


class SubjectSettings(BaseSettings):
    """The orders of one subject's process."""

    model_config = SettingsConfigDict(env_prefix="BENCH_", frozen=True)

    model: str
    folder: Path
    ready_dir: Path
    """Where each process puts a file once it can serve."""
    port: int = 0
    processes: int = 1
    redis_url: str = ""


class Text(BaseModel):
    """A request of the text model."""

    text: str


class Ride(BaseModel):
    """A request of the forest."""

    PULocationID: int
    DOLocationID: int
    trip_distance: float
