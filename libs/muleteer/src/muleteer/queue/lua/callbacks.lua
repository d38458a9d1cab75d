-- Take webhooks that are due. Each is taken for some seconds: a gateway that dies with it leaves it to another.
-- ARGV: most to take, seconds they are taken for. Returns ids.
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local ids = redis.call('ZRANGEBYSCORE', 'muleteer:callbacks', '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(ids) do
  redis.call('ZADD', 'muleteer:callbacks', now + tonumber(ARGV[2]), id)
end
return ids
