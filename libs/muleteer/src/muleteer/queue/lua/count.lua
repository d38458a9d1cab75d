-- Add to queues' running totals, from which gateways learn how fast they are worked off.
-- ARGV: for each queue: name, jobs, rows, seconds of predict.
for n = 1, #ARGV, 4 do
  local stats = 'muleteer:stats:' .. ARGV[n]
  redis.call('HINCRBY', stats, 'jobs', ARGV[n + 1])
  redis.call('HINCRBY', stats, 'rows', ARGV[n + 2])
  redis.call('HINCRBYFLOAT', stats, 'seconds', ARGV[n + 3])
  redis.call('EXPIRE', stats, 604800)
end
