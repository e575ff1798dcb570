-- Leave the queue.
-- KEYS: queue, until when each place is kept, who waits, how many of whom, when the last ones were served (list).
-- ARGV: ticket, whether it was served (1|0), how many times of these are kept.
local queue, untils, who, count, served = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
if redis.call('ZREM', queue, ARGV[1]) == 0 then return 0 end
redis.call('ZREM', untils, ARGV[1])
local whose = cjson.decode(redis.call('HGET', who, ARGV[1]) or '[]')
redis.call('HDEL', who, ARGV[1])
for _, name in ipairs(whose) do
  if redis.call('HINCRBY', count, name, -1) <= 0 then redis.call('HDEL', count, name) end
end
if ARGV[2] == '1' then
  local time = redis.call('TIME')
  redis.call('LPUSH', served, time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('LTRIM', served, 0, tonumber(ARGV[3]) - 1)
  redis.call('PEXPIRE', served, 3600000)
end
return 1
