-- Say that a worker is alive. ARGV: pool, worker, seconds it counts as alive without another word.
local now = redis.call('TIME')
local key = 'muleteer:workers:' .. ARGV[1]
local seconds = tonumber(now[1])
redis.call('ZADD', key, seconds + tonumber(ARGV[3]), ARGV[2])
redis.call('ZREMRANGEBYSCORE', key, '-inf', seconds)
return redis.call('ZCARD', key)
