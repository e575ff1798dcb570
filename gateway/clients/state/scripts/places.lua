-- How the queue stands; keeps the places of those who ask.
-- KEYS: queue, until when each place is kept, who waits, how many of whom, when the last ones were served (list).
-- ARGV: lease (ms), window (ms), tickets.
-- Returns the length of the queue, how many were served within the window, then each ticket's place (-1 = it has none).
local queue, untils, who, count = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', untils, '-inf', now)) do
  local whose = cjson.decode(redis.call('HGET', who, gone) or '[]')
  for _, name in ipairs(whose) do
    if redis.call('HINCRBY', count, name, -1) <= 0 then redis.call('HDEL', count, name) end
  end
  redis.call('ZREM', queue, gone)
  redis.call('ZREM', untils, gone)
  redis.call('HDEL', who, gone)
end
local served = 0
for _, at in ipairs(redis.call('LRANGE', KEYS[5], 0, -1)) do
  if tonumber(at) > now - tonumber(ARGV[2]) then served = served + 1 end
end
local answer = {redis.call('ZCARD', queue), served}
for i = 3, #ARGV do
  local place = redis.call('ZRANK', queue, ARGV[i])
  if place then redis.call('ZADD', untils, now + tonumber(ARGV[1]), ARGV[i]) end
  answer[#answer + 1] = place or -1
end
return answer
