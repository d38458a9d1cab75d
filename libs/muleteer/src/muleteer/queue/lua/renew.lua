-- Move the end of the leases that this execution still holds.
-- ARGV: queue, execution id, lease seconds, guard seconds, then job ids. Returns how many are still held.
local now = redis.call('TIME')
local ends = tonumber(now[1]) + tonumber(now[2]) / 1000000 + tonumber(ARGV[3]) + tonumber(ARGV[4])
local wip, held = 'rq:wip:' .. ARGV[1], 0
for n = 5, #ARGV do
  local member = ARGV[n] .. ':' .. ARGV[2]
  if redis.call('ZSCORE', wip, member) then
    redis.call('ZADD', wip, 'XX', string.format('%.6f', ends), member)
    held = held + 1
  end
end
return held
