"""Typed settings from ``MULETEER_…`` environment variables: what gateway and worker share, and how they load."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis import Redis

from muleteer.errors import SettingsError

PREFIX = "MULETEER_"


class Settings(BaseSettings):
    """Settings that both services read. A field ``redis_url`` is the variable ``MULETEER_REDIS_URL``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey server, redis:// or rediss://")
    catalog: Path = Field(Path("catalog.yaml"), description="The catalog file: which models are served and how")
    cache_dir: Path = Field(Path(".muleteer/cache"), description="Where fetched model versions are kept between starts")
    catalog_poll_seconds: float = Field(1.0, gt=0, description="How often the catalog file is looked at for a change")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text for people")

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: str) -> str:
        try:
            Redis.from_url(value).close()
        except ValueError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return value


S = TypeVar("S", bound=BaseSettings)


def load_settings(settings_class: type[S]) -> S:
    """Read ``settings_class`` from the environment.

    Raises SettingsError with one line that names every wrong variable, its value and what is wanted.
    """
    try:
        return settings_class()
    except ValidationError as error:
        parts = []
        for item in error.errors():
            name = PREFIX + "_".join(str(part) for part in item["loc"]).upper()
            parts.append(f"{name}={item['input']!r}: {item['msg'].removeprefix('Value error, ').lower()}")
        raise SettingsError("; ".join(parts)) from error
