-- Say that launches are watched at a replica that does not run them.  KEYS: launches.  ARGV: for how long (ms).
local time = redis.call('TIME')
local until_then = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
for _, launch in ipairs(KEYS) do
  if redis.call('EXISTS', launch) == 1 then redis.call('HSET', launch, 'watched', until_then) end
end
