-- Where some stand in the queue, whose places are kept by this.
-- KEYS: queue, until when each place is kept, when the last ones were served.
-- ARGV: lease (ms), window (ms), tickets.
-- Returns the length of the queue, how many were served within the window, then each ticket's place (-1 = it has none).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local served = 0
for _, at in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
  if tonumber(at) > now - tonumber(ARGV[2]) then served = served + 1 end
end
local answer = {redis.call('ZCARD', KEYS[1]), served}
for i = 3, #ARGV do
  local place = redis.call('ZRANK', KEYS[1], ARGV[i])
  if place then redis.call('ZADD', KEYS[2], now + tonumber(ARGV[1]), ARGV[i]) end
  answer[#answer + 1] = place or -1
end
return answer
