"""One connection held by one task: what a hot loop calls Redis over, without the pool's bookkeeping at every call.

redis.asyncio packs commands in Python (about 1 µs an argument); hiredis packs a whole call in C.
"""

from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ResponseError

from muleteer.queue.scripts import Argument, Script


class Line:
    """A connection for the use of one task at a time; made at the first call, made anew after a failure."""

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._connection: AbstractConnection | None = None

    async def call(self, *command: Argument) -> Any:
        """Send one command and return its answer. Raises RedisError; the next call connects anew."""
        if self._connection is None:
            self._connection = await self._pool.get_connection()
        connection = self._connection
        try:
            # Sending connects where needed.
            packed = pack_command(command)  # type: ignore[arg-type]  # its stub wants a tuple of one
            await connection.send_packed_command([packed], check_health=False)
            return await connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            # Also when cancelled: the answer is still to come and must not meet the next command.
            await connection.disconnect(nowait=True)
            raise

    async def run(self, script: Script, *arguments: Argument) -> Any:
        """Run a Lua script by its checksum and return its answer; a server that does not know it is given it."""
        try:
            return await self.call("EVALSHA", script.sha, "0", *arguments)
        except NoScriptError:
            return await self.call("EVAL", script.text, "0", *arguments)

    async def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            await self._pool.release(self._connection)
            self._connection = None
