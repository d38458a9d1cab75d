-- Have a version loaded though no job waits for it, and wake a worker to do so. ARGV: pool, queue.
redis.call('HSETNX', 'muleteer:wanted:' .. ARGV[1], ARGV[2], redis.call('TIME')[1])
if redis.call('LLEN', 'muleteer:bell:' .. ARGV[1]) == 0 then
  redis.call('RPUSH', 'muleteer:bell:' .. ARGV[1], '')
end
redis.call('EXPIRE', 'muleteer:wanted:' .. ARGV[1], 600)
