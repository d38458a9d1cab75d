"""One connection held by one task or thread: what a hot loop calls Redis over, without the pool's bookkeeping.

redis-py spends 40 to 60 µs of Python around a call (pool, retries, events) and redis.asyncio packs commands in Python
(about 1 µs an argument). Here hiredis packs a whole call in C, and several commands travel in one write.
"""

from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.connection import AbstractConnection
from redis.exceptions import NoScriptError, ResponseError

from muleteer.queue.scripts import Argument, Script

ScriptCall = tuple[Script, Sequence[Argument]]


def _pack(*command: Argument) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub wants a tuple of one
    return packed


class Line:
    """A connection for the use of one thread; made at the first call, made anew after a failure."""

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._connection: AbstractConnection | None = None

    def run(self, script: Script, *arguments: Argument) -> Any:
        """Run a Lua script and return its answer. Raises RedisError; the next call connects anew."""
        return self.run_all([(script, arguments)])[-1]

    def run_all(self, calls: Sequence[ScriptCall], *, first: Sequence[Argument] = ()) -> list[Any]:
        """Run scripts, after the command ``first`` if there is one, in one round trip; return all answers.

        A script that the server does not know is given to it and run then. Raises RedisError for the first that failed.
        """
        packed = [_pack(*first)] if first else []
        packed += [_pack("EVALSHA", script.sha, "0", *arguments) for script, arguments in calls]
        answers = self._exchange(b"".join(packed), len(packed))
        offset = len(answers) - len(calls)
        for n, (script, arguments) in enumerate(calls):
            if isinstance(answers[offset + n], NoScriptError):
                answers[offset + n] = self._exchange(_pack("EVAL", script.text, "0", *arguments), 1)[0]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send commands and read all their answers; errors the server answers with are among them."""
        if self._connection is None:
            self._connection = self._pool.get_connection()
        connection = self._connection
        try:
            # Sending connects where needed.
            connection.send_packed_command([packed], check_health=False)
            return [_read(connection) for _ in range(count)]
        except BaseException:
            # The rest of the answers is still to come and must not meet the next command.
            connection.disconnect()
            raise


def _read(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


class AsyncLine:
    """A connection for the use of one task; made at the first call, made anew after a failure."""

    def __init__(self, client: AsyncRedis) -> None:
        self._pool = client.connection_pool
        self._connection: AsyncConnection | None = None

    async def call(self, *command: Argument) -> Any:
        """Send one command and return its answer. Raises RedisError; the next call connects anew."""
        if self._connection is None:
            self._connection = await self._pool.get_connection()
        connection = self._connection
        try:
            # Sending connects where needed.
            await connection.send_packed_command([_pack(*command)], check_health=False)
            return await connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            # Also when cancelled: the answer is still to come and must not meet the next command.
            await connection.disconnect(nowait=True)
            raise

    async def run(self, script: Script, *arguments: Argument) -> Any:
        """Run a Lua script and return its answer; a server that does not know it is given it."""
        try:
            return await self.call("EVALSHA", script.sha, "0", *arguments)
        except NoScriptError:
            return await self.call("EVAL", script.text, "0", *arguments)
