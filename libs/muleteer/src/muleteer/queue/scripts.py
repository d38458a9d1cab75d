"""The Lua scripts, called by checksum; a server that does not know one yet (new or restarted) is given it.

redis-py's own ``Script`` objects ask ``SCRIPT EXISTS`` first in a pipeline: one round trip more for every call.
"""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError

Argument = str | bytes | int | float


class Script:
    """One Lua script: its text and the checksum by which the server knows it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (files("muleteer.queue") / "lua" / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def call_async(self, connection: AsyncRedis, *arguments: Argument) -> Any:
        """Run the script on an asyncio client and return its answer."""
        try:
            return await connection.execute_command("EVALSHA", self.sha, 0, *arguments)
        except NoScriptError:
            return await connection.execute_command("EVAL", self.text, 0, *arguments)


@cache
def script(name: str) -> Script:
    """Return the script ``lua/<name>.lua``, read once a process."""
    return Script(name)
