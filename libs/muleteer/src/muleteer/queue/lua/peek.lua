-- Say how each job stands, for a gateway that has waited a while. ARGV: ids. Returns statuses, '' for a job that is gone.
local out = {}
for n, id in ipairs(ARGV) do
  out[n] = redis.call('HGET', 'rq:job:' .. id, 'status') or ''
end
return out
