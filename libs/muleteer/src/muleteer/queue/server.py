"""What the Redis or Valkey server says of itself."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

SECTIONS = ("memory", "clients", "stats", "persistence")
FIELDS = {
    "used_memory": "muleteer_redis_memory_bytes",
    "maxmemory": "muleteer_redis_memory_limit_bytes",
    "connected_clients": "muleteer_redis_clients",
    "total_commands_processed": "muleteer_redis_commands_total",
    "evicted_keys": "muleteer_redis_evicted_keys_total",
    "aof_enabled": "muleteer_redis_aof_enabled",
}
"""INFO's fields, and the metrics they are."""


async def read_figures(connection: Redis) -> dict[str, float]:
    """Return the server's figures by metric name, in one call. Raises RedisError, also where an ACL forbids INFO."""
    return figures_of(await connection.info(*SECTIONS))


def figures_of(info: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that ``info`` holds: a hosted server may keep some to itself."""
    figures = {metric: float(info[field]) for field, metric in FIELDS.items() if field in info}
    if "aof_enabled" in info:
        names = ["rdb_last_bgsave_status"]
        if info["aof_enabled"]:
            names = ["aof_last_write_status", "aof_last_bgrewrite_status"]
        figures["muleteer_redis_persistence_ok"] = float(all(info.get(name) == "ok" for name in names))
    return figures
