"""Typed settings from ``MULETEER_…`` environment variables: what gateway and worker share, and how they load."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from muleteer.errors import SettingsError
from muleteer.redis_url import check_url, with_ca, with_credentials, without_secrets

PREFIX = "MULETEER_"


class RedisSettings(BaseSettings):
    """Where Redis is and how to get in. A field ``redis_url`` is the variable ``MULETEER_REDIS_URL``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="Redis or Valkey server, redis:// or rediss://"
    )
    redis_username: SecretStr = Field(SecretStr(""), description="User for a URL without one; empty: the default user")
    redis_password: SecretStr = Field(SecretStr(""), description="Password for a URL without one, as it is")
    redis_ca: Path | None = Field(
        None, description="File of the certificates (PEM) that sign the server's; for rediss://. Empty: the system's"
    )

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: str) -> str:
        check_url(value)
        return value

    @field_validator("redis_ca", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        _ = self.redis
        return self

    @cached_property
    def redis(self) -> str:
        """The URL to connect to, with user, password and certificates."""
        url = with_credentials(
            self.redis_url, self.redis_username.get_secret_value(), self.redis_password.get_secret_value()
        )
        return with_ca(url, self.redis_ca) if self.redis_ca is not None else url


class Settings(RedisSettings):
    """Settings that both services read."""

    catalog: Path = Field(Path("catalog.yaml"), description="The catalog file: which models are served and how")
    cache_dir: Path = Field(Path(".muleteer/cache"), description="Where fetched model versions are kept between starts")
    catalog_poll_seconds: float = Field(1.0, gt=0, description="How often the catalog file is looked at for a change")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text for people")


S = TypeVar("S", bound=BaseSettings)


def load_settings(settings_class: type[S], **given: Any) -> S:
    """Read ``settings_class`` from the environment; what is ``given`` counts before it.

    Raises SettingsError with one line that names every wrong variable, its value and what is wanted.
    """
    try:
        return settings_class(**given)
    except ValidationError as error:
        parts = []
        for item in error.errors():
            message = item["msg"].removeprefix("Value error, ")
            if not item["loc"]:  # settings that do not go together: the message names them
                parts.append(message)
                continue
            name = PREFIX + "_".join(str(part) for part in item["loc"]).upper()
            value = item["input"]
            shown = without_secrets(value) if isinstance(value, str) else value
            parts.append(f"{name}={shown!r}: {message[:1].lower()}{message[1:]}")
        raise SettingsError("; ".join(parts)) from error
