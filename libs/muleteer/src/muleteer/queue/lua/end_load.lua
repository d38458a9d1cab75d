-- Note how loads ended, and what the versions cost.
-- ARGV: pool, worker, seconds that the note of a holder lasts ('' when the worker keeps every version anyway), then for
--       each load: queue, load seconds ('' when it failed), bytes ('' when they are not known), '1' if these are exact.
-- Bytes that are not exact (the load imported libraries as well) do not replace what is known.
for n = 4, #ARGV, 4 do
  local queue, seconds, bytes, exact = ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3]
  local loading, holders = 'muleteer:loading:' .. queue, 'muleteer:holders:' .. queue
  if string.match(redis.call('GET', loading) or '', '^%S+ (.+)$') == ARGV[2] then
    redis.call('DEL', loading)
  end
  if seconds ~= '' then
    local cost = 'muleteer:cost:' .. queue
    redis.call('HSET', cost, 'load_seconds', seconds)
    if bytes ~= '' then
      redis.call(exact == '1' and 'HSET' or 'HSETNX', cost, 'bytes', bytes)
    end
    redis.call('EXPIRE', cost, 2592000)
    redis.call('HDEL', 'muleteer:wanted:' .. ARGV[1], queue)
    if ARGV[3] ~= '' then
      redis.call('SADD', holders, ARGV[2])
      redis.call('EXPIRE', holders, ARGV[3])
    end
  end
end
