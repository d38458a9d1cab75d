-- Count one more failed attempt of a job's webhook. ARGV: id. Returns how many there were; of a job that is gone, many.
local key = 'rq:job:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then
  return 1000000
end
return redis.call('HINCRBY', key, 'callback_attempts', 1)
