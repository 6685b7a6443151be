-- For wrk: ranges of a fixed size at seeded random places of one blob. Arguments: path, bytes of the blob, bytes of a range, seed.
local path, blob_bytes, range_bytes
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  path = args[1]
  blob_bytes = tonumber(args[2])
  range_bytes = tonumber(args[3])
  math.randomseed(tonumber(args[4]) + number)
end

function request()
  local first = math.random(0, blob_bytes - range_bytes)
  return wrk.format("GET", path, { Range = "bytes=" .. first .. "-" .. (first + range_bytes - 1) })
end

-- One line of JSON; times are microseconds.
function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"microseconds":%d,"failed":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.bytes, summary.duration, failed, latency:percentile(50), latency:percentile(99)))
end
