"""What both services do before they start: wait for Redis, and end with an exit code that says why they could not."""

import logging
import time
from collections.abc import Callable

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from muleteer.errors import MuleteerError
from muleteer.queue.connection import connect

logger = logging.getLogger(__name__)

EXIT_WRONG_SETTING = 78
"""sysexits.h EX_CONFIG: a setting or the catalog is wrong; starting again will not help."""
EXIT_NO_REDIS = 69
"""sysexits.h EX_UNAVAILABLE: Redis could not be reached in time."""
OLDEST_REDIS = (7, 0)
"""BLMPOP, which reads many replies in one call, came with Redis 7.0; every Valkey has it."""


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


class RedisUnreachableError(MuleteerError):
    """Redis did not answer within the time there is to start."""

    exit_code = EXIT_NO_REDIS


def wait_for_redis(url: str, seconds: float, pause: Callable[[float], bool] = _sleep) -> bool:
    """Return True once Redis answers, False when ``pause`` ended the waiting.

    ``pause`` sleeps for some seconds and tells whether to go on. Raises RedisUnreachableError after ``seconds``, or at
    once when Redis refuses the password or is too old.
    """
    deadline, delay, said = time.monotonic() + seconds, 0.05, False
    connection = connect(url)
    try:
        while True:
            try:
                _check_version(connection.info("server"))
            except NoPermissionError as error:
                # It answers and knows this user. What it forbids beyond INFO shows itself soon.
                logger.warning("Redis does not tell its version, 7.0 or Valkey is needed: %s", error)
                return True
            except AuthenticationError as error:
                raise RedisUnreachableError(
                    "Redis refuses the credentials in MULETEER_REDIS_URL, or MULETEER_REDIS_USERNAME and "
                    f"MULETEER_REDIS_PASSWORD: {error}"
                ) from error
            except (RedisError, OSError) as error:
                if time.monotonic() + delay > deadline:
                    raise RedisUnreachableError(
                        f"Redis could not be reached in {seconds:g} s (MULETEER_REDIS_URL): {error}"
                    ) from error
                if not said:
                    logger.warning("Redis does not answer yet, trying for %g s: %s", seconds, error)
                    said = True
                if not pause(delay):
                    return False
                delay = min(delay * 2, 1.0)
            else:
                return True
    finally:
        connection.close()


def _check_version(info: dict[str, object]) -> None:
    if "valkey_version" in info:
        return
    version = tuple(int(part) for part in str(info.get("redis_version", "0.0")).split(".")[:2])
    if version < OLDEST_REDIS:
        raise RedisUnreachableError(f"Redis {info.get('redis_version')} is too old: 7.0 or Valkey is needed.")
