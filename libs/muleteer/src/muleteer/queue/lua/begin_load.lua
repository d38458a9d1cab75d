-- Let one worker of a pool at a time begin to load a version.
-- ARGV: queue, pool, worker, seconds that the note lasts, seconds of another worker's load after which this one joins.
-- Returns 1 when this worker is to load, else 0.
local key = 'muleteer:loading:' .. ARGV[1]
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local since, owner = string.match(redis.call('GET', key) or '', '^(%S+) (.+)$')
if owner and owner ~= ARGV[3] and now - tonumber(since) <= tonumber(ARGV[5]) then
  local ends = redis.call('ZSCORE', 'muleteer:workers:' .. ARGV[2], owner)
  if ends and tonumber(ends) > now then
    return 0
  end
end
redis.call('SET', key, string.format('%.3f %s', now, ARGV[3]), 'EX', ARGV[4])
return 1
