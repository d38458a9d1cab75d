"""One connection held by one task or thread: what a hot loop calls Redis over, without the pool's bookkeeping.

redis-py spends 40 to 60 µs of Python around a call (pool, retries, events) and redis.asyncio packs commands in Python
(about 1 µs an argument). Here hiredis packs a whole call in C, and several calls travel in one write.
"""

from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError, ResponseError

from muleteer.queue.scripts import Argument, Script

DEMOTED = (ReadOnlyError, MasterDownError)
"""What a server answers that was the primary: a new connection finds the one that is now."""
Call = tuple[Script | str, *tuple[Argument, ...]]
"""A script or a command, and its arguments."""


def _pack(*command: Argument) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub wants a tuple of one
    return packed


class ForgottenScriptError(RedisConnectionError):
    """The server has forgotten the scripts of this connection: as good as a new server."""


class Line:
    """A connection for the use of one thread; made at the first call, made anew after a failure.

    What is sent together arrives together. After an error the answers that were still to come are given up with the
    connection; whether their calls have run is not known, as with any lost connection.
    """

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._connection: AbstractConnection | None = None
        self._known: set[str] = set()
        """Scripts that this connection has sent as text: the server knows them by checksum now."""
        self._unread = 0

    def run(self, script: Script, *arguments: Argument) -> Any:
        """Run a Lua script and return its answer. Raises RedisError; the next call connects anew where needed."""
        try:
            self.send((script, *arguments))
            return self.read()
        except ForgottenScriptError:  # it has not run
            self.send((script, *arguments))
            return self.read()

    def send(self, *calls: Call) -> None:
        """Send calls in one write; ``read`` must then be called once for each."""
        if self._connection is None:
            self._connection = self._pool.get_connection()
        try:
            # Sending connects where needed.
            packed = b"".join([self._packed(call) for call in calls])
            self._connection.send_packed_command([packed], check_health=False)
        except BaseException:
            self._reset()
            raise
        self._unread += len(calls)

    def read(self) -> Any:
        """Return the answer of the next call that was sent. Raises RedisError if the call or the connection failed."""
        if self._connection is None or not self._unread:
            raise RedisConnectionError("No answer is due: the calls were given up with their connection.")
        self._unread -= 1
        try:
            return self._connection.read_response()
        except NoScriptError as error:
            self._reset()
            raise ForgottenScriptError("The server has forgotten its scripts.") from error
        except DEMOTED as error:
            self._reset()
            raise RedisConnectionError(f"The server is no primary any more: {error}") from error
        except ResponseError:
            if self._unread:
                self._reset()
            raise
        except BaseException:
            self._reset()
            raise

    def _packed(self, call: Call) -> bytes:
        script, *arguments = call
        if isinstance(script, str):
            return _pack(script, *arguments)
        if script.sha in self._known:
            return _pack("EVALSHA", script.sha, "0", *arguments)
        self._known.add(script.sha)
        return _pack("EVAL", script.text, "0", *arguments)

    def _reset(self) -> None:
        """Drop the connection, so that no late answer meets the next call."""
        self._known.clear()
        self._unread = 0
        if self._connection is not None:
            self._connection.disconnect()


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
        except DEMOTED as error:
            await connection.disconnect(nowait=True)
            raise RedisConnectionError(f"The server is no primary any more: {error}") from error
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
