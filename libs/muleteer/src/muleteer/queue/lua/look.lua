-- Look at one job, and in the same step keep it and/or ask for its answer.
-- ARGV: id, gateway that wants the answer ('' for none), '1' to keep the job beyond its first waiter.
-- Returns false when there is no such job, else
--   {position in the queue or -1, values of its hash (see jobs.py), {newest result's field, value, ...} or {}}.
local id, gateway, keep = ARGV[1], ARGV[2], ARGV[3]
local key = 'rq:job:' .. id
local head = redis.call('HMGET', key, 'status', 'reply_to', 'origin', 'lane')
local status = head[1]
if not status then
  return false
end
local open = status == 'queued' or status == 'started'
if open and keep == '1' then
  redis.call('HSET', key, 'keep', '1', 'expires_at', '')
end
if open and gateway ~= '' then
  local reply_to = head[2] or ''
  if not string.find(',' .. reply_to .. ',', ',' .. gateway .. ',', 1, true) then
    redis.call('HSET', key, 'reply_to', reply_to == '' and gateway or reply_to .. ',' .. gateway)
  end
end
local position = -1
if status == 'queued' then
  local lane = head[4] and head[4] ~= '' and head[4] or head[3]
  local found = redis.call('LPOS', 'rq:queue:' .. lane, id, 'MAXLEN', 100000)
  position = found or -1
end
local fields = redis.call('HMGET', key, 'status', 'model', 'version', 'created_at', 'started_at', 'ended_at', 'rows',
  'deliveries', 'error', 'extra', 'timing', 'keep')
local result = {}
if status == 'finished' or status == 'failed' then
  local newest = redis.call('XREVRANGE', 'rq:results:' .. id, '+', '-', 'COUNT', 1)
  if newest[1] then
    result = newest[1][2]
  end
end
return {position, fields, result}
