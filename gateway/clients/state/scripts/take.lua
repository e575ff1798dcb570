-- Take one of a bucket (generic cell rate algorithm).  KEYS: when it would be full again (ms).
-- ARGV: interval (ms), burst.
-- Returns the milliseconds to wait ('0' = taken), how many are left, in how many milliseconds it is full.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
-- No more than full: what a clock said that was ahead does not bar anybody for long.
local before = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now), now + burst * interval)
local wait = before + interval - burst * interval - now
if wait > 0 then return {tostring(wait), 0, tostring(before - now)} end
local full_at = before + interval
redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', math.max(1, math.ceil(full_at - now)))
return {'0', math.floor((burst * interval - (full_at - now)) / interval + 0.001), tostring(full_at - now)}
