"""Connections to Redis or Valkey as the queue needs them: no socket timeout and no blind retry.

redis-py 8 by default gives a call up after 5 s and repeats it up to 10 times. A repeated enqueue, claim or finish
could run twice, and a blocking pop outlives any such timeout, so both are off here: the caller decides what is
repeated.
A peer that vanished without a word is noticed by TCP keepalive instead.
"""

import socket
from collections.abc import Iterable
from typing import Any

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

CONNECT_TIMEOUT_SECONDS = 5.0
KEEPALIVE = {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}
"""Seconds until the first probe, between probes, and probes without answer: a dead peer is known after 11 s."""


class _NoticesReset(AbstractConnection):
    """A connection that was reset while nothing was sent: uvloop raises RuntimeError when it is written to.

    redis-py passes that on as it is. It is a lost connection like any other, and callers are to see it as one.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:  # redis-py has given the connection up by now
            raise RedisConnectionError(f"The connection was lost: {error}") from error


class _Connection(_NoticesReset, Connection):
    pass


class _SSLConnection(_NoticesReset, SSLConnection):
    pass


class _UnixDomainSocketConnection(_NoticesReset, UnixDomainSocketConnection):
    pass


_CLASSES: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _Connection,
    SSLConnection: _SSLConnection,
    UnixDomainSocketConnection: _UnixDomainSocketConnection,
}


def _options(url: str, answer_seconds: float | None = None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": answer_seconds,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "protocol": 2,
    }
    if not url.startswith("unix"):
        options |= {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
    return options


def connect(url: str) -> Redis:
    """Return a client for one process (threads each take their own); no connection is made yet."""
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(url))


def connect_async(url: str, connections: int = 64, answer_seconds: float | None = None) -> AsyncRedis:
    """Return an asyncio client; no connection is made yet. Callers beyond ``connections`` wait for a free one.

    ``answer_seconds`` limits the wait for an answer: only for calls that may be repeated or given up.
    """
    options = _options(url, answer_seconds) | {"retry": AsyncRetry(NoBackoff(), 0)}
    pool = BlockingConnectionPool.from_url(url, max_connections=connections, timeout=10, **options)
    pool.connection_class = _CLASSES[pool.connection_class]
    return AsyncRedis.from_pool(pool)
