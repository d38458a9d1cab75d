-- Let jobs go whose callers went away: one that nobody else is to see is dropped when a worker comes to it.
-- ARGV: ids. A kept job goes on, and so does one that runs: its answer is nearly there.
for _, id in ipairs(ARGV) do
  local key = 'rq:job:' .. id
  local job = redis.call('HMGET', key, 'status', 'keep')
  if job[1] == 'queued' and job[2] ~= '1' then
    redis.call('HSET', key, 'expires_at', '1')
  end
end
