-- Share what batches of a model version cost: workers' fits are blended, the newest weighs most.
-- ARGV: for each queue: name, seconds a batch, seconds a row. Returns the blended pairs.
local WEIGHT = 0.3
local out = {}
local now = redis.call('TIME')[1]
for n = 1, #ARGV, 3 do
  local key = 'muleteer:cost:' .. ARGV[n]
  local known = redis.call('HMGET', key, 'a', 'b')
  for at, name in ipairs({'a', 'b'}) do
    local mine, theirs = tonumber(ARGV[n + at]), tonumber(known[at] or '')
    local blended = string.format('%.9g', theirs and theirs + WEIGHT * (mine - theirs) or mine)
    redis.call('HSET', key, name, blended)
    out[#out + 1] = blended
  end
  redis.call('HSET', key, 'at', now)
  redis.call('EXPIRE', key, 2592000)
end
return out
