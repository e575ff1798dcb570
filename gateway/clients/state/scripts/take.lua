-- Take one of a bucket (generic cell rate algorithm).  KEYS: when it would be full again (ms).
-- ARGV: interval (ms), burst.  Returns the milliseconds to wait; 0 = taken.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local interval = tonumber(ARGV[1])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + interval
local wait = full_at - tonumber(ARGV[2]) * interval - now
if wait > 0 then return tostring(wait) end
redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', math.max(1, math.ceil(full_at - now)))
return '0'
