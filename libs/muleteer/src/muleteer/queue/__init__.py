"""RQ's data, our claim and finish: the only place that knows Redis keys and Lua."""
