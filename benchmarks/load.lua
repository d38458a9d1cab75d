-- wrk's script: send the bodies of a file one after the other, and print the figures as one line of JSON.
-- Arguments: the file of bodies; optionally a file that gets the id of every job that is acknowledged (202).
local requests, sent = {}, 0
local ids

function init(args)
  local headers = {["Content-Type"] = "application/json"}
  if args[2] then
    headers["Prefer"] = "respond-async"
    ids = io.open(args[2], "w")
    ids:setvbuf("line")
    response = note_job
  end
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  sent = sent % #requests + 1
  return requests[sent]
end

function note_job(status, _, body)
  if status == 202 then
    ids:write(body:match('"id":"([^"]+)"'), "\n")
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"p50":%.0f,"p99":%.0f,"bad_statuses":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
